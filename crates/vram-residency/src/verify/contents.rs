//! Contents against the seal: measure on the device, locate damage, and get a
//! second opinion before a shard is condemned.

use vram_digest::{BLOCK_BYTES, BlockHash, FileDigest, file_digest, hash_block, hash_blocks, root};
use zeroize::Zeroizing;

use super::Contents;
use crate::device::{Device, DeviceError, Extent};
use crate::error::Damage;
use crate::format::TensorTable;

/// Blocks whose hashes are in memory at once, besides the ones that are kept:
/// 64 MiB of the model, and whole nodes of the tree.
const WINDOW: usize = 16_384;

/// Suspect blocks that the second opinion reads back at most.
const MAX_READ_BACK: usize = 1024;

/// What a check of all bytes found.
pub(crate) enum Outcome {
    /// Every byte is as sealed.
    Intact(Contents),
    /// As sealed, but the first answer of the checker was wrong: that many
    /// blocks looked bad and are not.
    CheckerFault(Contents, u64),
    /// As sealed; the block hashes kept in host memory are not, and are replaced.
    StaleHashes(Contents, Vec<BlockHash>, u64),
    /// Not as sealed.
    Damaged(FileDigest, Damage),
}

/// SHA-256 of every block of the extent, measured on the device. The output
/// starts as zeros, so a computation that does nothing cannot pass.
pub(crate) fn measure(device: &dyn Device, extent: Extent) -> Result<Vec<BlockHash>, DeviceError> {
    let count = extent.len.div_ceil(BLOCK_BYTES as u64);
    let size = usize::try_from(count).unwrap_or(usize::MAX);
    let requested = count.saturating_mul(32);
    let mut out = Vec::new();
    out.try_reserve_exact(size)
        .map_err(|_| DeviceError::HostOutOfMemory { requested })?;
    out.resize(size, [0; 32]);
    device.block_digests(extent, 0..count, &mut out)?;
    Ok(out)
}

/// Checks every byte of the extent against the sealed digest.
///
/// Where the device hashes the tree itself, its root is enough: block hashes
/// are asked for only to find the damage. The ones kept in host memory are then
/// not looked at, which is why whoever uses them holds them against the seal.
pub(crate) fn check_all(
    device: &dyn Device,
    extent: Extent,
    level0: &[BlockHash],
    sealed: FileDigest,
    tensors: &TensorTable,
) -> Result<Outcome, DeviceError> {
    let root = device.tree_root(extent)?;
    let as_sealed = root.map(|root| file_digest(&root, extent.len).ct_eq(&sealed));
    if as_sealed == Some(true) {
        return Ok(Outcome::Intact(Contents(())));
    }
    let outcome = check_blocks(device, extent, level0, sealed, tensors)?;
    Ok(match outcome {
        // The device's own tree was wrong: any block may have been why.
        Outcome::Intact(intact) if as_sealed == Some(false) => {
            Outcome::CheckerFault(intact, level0.len() as u64)
        }
        outcome => outcome,
    })
}

/// The same by all block hashes.
fn check_blocks(
    device: &dyn Device,
    extent: Extent,
    level0: &[BlockHash],
    sealed: FileDigest,
    tensors: &TensorTable,
) -> Result<Outcome, DeviceError> {
    let (actual, suspects) = compare(device, extent, level0)?;
    if actual.ct_eq(&sealed) {
        if suspects.is_empty() {
            return Ok(Outcome::Intact(Contents(())));
        }
        let measured = measure(device, extent)?;
        if file_digest(&root(&measured), extent.len).ct_eq(&sealed) {
            let count = suspects.len() as u64;
            return Ok(Outcome::StaleHashes(Contents(()), measured, count));
        }
    }
    let look = look_again(device, extent, level0, &suspects)?;
    if look.differ == 0 {
        let again = measure(device, extent)?;
        if file_digest(&root(&again), extent.len).ct_eq(&sealed) {
            // With no block to suspect, any of them may have been why.
            let count = match suspects.len() {
                0 => level0.len() as u64,
                count => count as u64,
            };
            return Ok(if again == level0 {
                Outcome::CheckerFault(Contents(()), count)
            } else {
                Outcome::StaleHashes(Contents(()), again, count)
            });
        }
    }
    let damage = describe(&suspects, level0.len(), tensors);
    Ok(Outcome::Damaged(actual, look.noted_in(damage)))
}

/// The digest of what the device holds, and the blocks that differ from the
/// kept hashes. Goes window by window, so that a check takes no second set of
/// block hashes (requirement: PF-11). Each window starts as zeros, so a
/// computation that does nothing cannot pass.
fn compare(
    device: &dyn Device,
    extent: Extent,
    level0: &[BlockHash],
) -> Result<(FileDigest, Vec<u64>), DeviceError> {
    let mut window = vec![BlockHash::default(); WINDOW.min(level0.len())];
    let (mut parents, mut suspects) = (Vec::new(), Vec::new());
    let mut first = 0_u64;
    for kept in level0.chunks(WINDOW) {
        window.truncate(kept.len());
        window.fill(BlockHash::default());
        let next = first.saturating_add(kept.len() as u64);
        device.block_digests(extent, first..next, &mut window)?;
        let pairs = (first..).zip(window.iter().zip(kept));
        suspects.extend(pairs.filter(|(_, (a, b))| a != b).map(|(block, _)| block));
        let nodes = window.as_flattened();
        let done = parents.len();
        parents.resize(
            nodes.len().div_ceil(BLOCK_BYTES).saturating_add(done),
            BlockHash::default(),
        );
        // The lengths agree by construction; nothing is hidden.
        let _ = hash_blocks(nodes, parents.get_mut(done..).unwrap_or_default());
        first = next;
    }
    // One block is the tree's root itself.
    let root = match level0.len() {
        1 => window.first().copied().unwrap_or_default(),
        _ => root(&parents),
    };
    Ok((file_digest(&root, extent.len), suspects))
}

/// What the CPU found in suspect blocks.
#[derive(Default)]
struct Look {
    /// Blocks that were read back.
    read: u64,
    /// Those of them that are not as sealed.
    differ: u64,
}

impl Look {
    /// Both answers stay on record.
    fn noted_in(self, damage: Damage) -> Damage {
        Damage {
            read_back: self.read,
            confirmed: self.differ,
            ..damage
        }
    }
}

/// Reads suspect blocks back and hashes them on the CPU: an independent path.
/// Of very many it takes some all over the shard: it decides only whether the
/// device is asked once more, and that second run covers every byte.
fn look_again(
    device: &dyn Device,
    extent: Extent,
    level0: &[BlockHash],
    suspects: &[u64],
) -> Result<Look, DeviceError> {
    let mut bytes = Zeroizing::new(vec![0_u8; BLOCK_BYTES]);
    let mut look = Look::default();
    let step = suspects.len().div_ceil(MAX_READ_BACK).max(1);
    for block in suspects.iter().step_by(step) {
        let offset = block.saturating_mul(BLOCK_BYTES as u64);
        let len = extent.len.saturating_sub(offset).min(BLOCK_BYTES as u64);
        let len = usize::try_from(len).unwrap_or(BLOCK_BYTES);
        let out = bytes.get_mut(..len).unwrap_or_default();
        device.read(extent, offset, out)?;
        let index = usize::try_from(*block).unwrap_or(usize::MAX);
        let differs = hash_block(out).ok().as_ref() != level0.get(index);
        look.read = look.read.saturating_add(1);
        look.differ = look.differ.saturating_add(u64::from(differs));
    }
    Ok(look)
}

/// Blocks as runs, and the tensors they belong to. With no suspect block the
/// kept hashes were changed together with the contents: all blocks are bad.
fn describe(suspects: &[u64], total: usize, tensors: &TensorTable) -> Damage {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for block in suspects {
        match runs.last_mut() {
            Some((first, count)) if first.saturating_add(*count) == *block => {
                *count = count.saturating_add(1);
            }
            _ => runs.push((*block, 1)),
        }
    }
    if runs.is_empty() {
        runs.push((0, total as u64));
    }
    let blocks = runs.iter().map(|(_, count)| *count).sum();
    runs.truncate(Damage::MAX_RUNS);
    let block_bytes = BLOCK_BYTES as u64;
    let mut names: Vec<String> = Vec::new();
    for (first, count) in &runs {
        let start = first.saturating_mul(block_bytes);
        let end = start.saturating_add(count.saturating_mul(block_bytes));
        for tensor in tensors.which_tensors(start..end) {
            if names.len() < Damage::MAX_TENSORS && names.last() != Some(&tensor.name) {
                names.push(tensor.name.clone());
            }
        }
    }
    Damage {
        blocks,
        runs,
        tensors: names,
        read_back: 0,
        confirmed: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Flip, Moment, SimDevice};

    const LEN: usize = 5 * BLOCK_BYTES + 17;

    /// A device that holds `bytes`, and where.
    fn holding(bytes: &[u8]) -> (SimDevice, Extent) {
        let device = SimDevice::new(1 << 20);
        let buffer = device.allocate(bytes.len() as u64).unwrap().id;
        let extent = Extent {
            buffer,
            start: 0,
            len: bytes.len() as u64,
        };
        device.write(extent, 0, bytes).unwrap();
        (device, extent)
    }

    fn check(
        device: &SimDevice,
        extent: Extent,
        kept: &[BlockHash],
        sealed: FileDigest,
    ) -> Outcome {
        check_all(device, extent, kept, sealed, &TensorTable::default()).unwrap()
    }

    /// The hashes in host memory are no authority: the digest is.
    #[test]
    fn kept_hashes_that_went_bad_condemn_nothing_and_are_replaced() {
        let (device, extent) = holding(&[7; LEN]);
        let good = measure(&device, extent).unwrap();
        let sealed = file_digest(&root(&good), extent.len);
        assert!(matches!(
            check(&device, extent, &good, sealed),
            Outcome::Intact(_)
        ));
        let mut bad = good.clone();
        bad[1][3] ^= 1;
        bad[5][0] ^= 0x80;
        match check(&device, extent, &bad, sealed) {
            Outcome::StaleHashes(_, measured, suspects) => {
                assert_eq!((measured, suspects), (good, 2));
            }
            _ => panic!("condemned for what the host forgot"),
        }
    }

    /// Contents and kept hashes changed alike: the digest still tells.
    #[test]
    fn hashes_changed_with_the_contents_hide_nothing() {
        let (device, extent) = holding(&[7; LEN]);
        let sealed = file_digest(&root(&measure(&device, extent).unwrap()), extent.len);
        let (other, there) = holding(&[8; LEN]);
        let kept = measure(&other, there).unwrap();
        let Outcome::Damaged(actual, damage) = check(&other, there, &kept, sealed) else {
            panic!("other bytes were believed")
        };
        assert_ne!(actual, sealed);
        assert_eq!(damage.blocks, kept.len() as u64);
        assert_eq!((damage.read_back, damage.confirmed), (0, 0));
    }

    /// The kept hashes went wrong in the way in which the checker erred once:
    /// no block is suspect, and still nobody is condemned unasked.
    #[test]
    fn a_digest_without_a_suspect_block_gets_a_second_opinion_too() {
        let (device, extent) = holding(&[7; LEN]);
        let good = measure(&device, extent).unwrap();
        let sealed = file_digest(&root(&good), extent.len);
        let flip = |moment| {
            device.flip_at(Flip {
                moment,
                offset: 4096,
                bit: 2,
            });
        };
        let buffer = extent.buffer;
        device.flip_bit(buffer, 4096, 2).unwrap();
        let kept = measure(&device, extent).unwrap();
        device.flip_bit(buffer, 4096, 2).unwrap();
        flip(Moment::BeforeCheck);
        flip(Moment::AfterCheck);
        match check(&device, extent, &kept, sealed) {
            Outcome::StaleHashes(_, measured, suspects) => {
                assert_eq!((measured, suspects), (good, 6));
            }
            _ => panic!("condemned without a second opinion"),
        }
    }
}
