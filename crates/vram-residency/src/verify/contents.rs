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

/// A check that the device did not let end.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) error: DeviceError,
    /// Blocks that looked bad before, and that nobody could look at again.
    pub(crate) suspect_blocks: u64,
}

impl From<DeviceError> for Unfinished {
    fn from(error: DeviceError) -> Self {
        Self {
            error,
            suspect_blocks: 0,
        }
    }
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

/// A check of every byte of a shard against the sealed digest.
pub(crate) struct Check<'a> {
    pub(crate) device: &'a dyn Device,
    pub(crate) extent: Extent,
    /// Block hashes kept in host memory; no authority, the digest is.
    pub(crate) level0: &'a [BlockHash],
    pub(crate) sealed: FileDigest,
    pub(crate) tensors: &'a TensorTable,
    /// Bytes of the shard that were read for it so far.
    pub(crate) read: u64,
}

impl Check<'_> {
    /// Where the device hashes the tree itself, its root is enough: block hashes
    /// are asked for only to find the damage. The ones kept in host memory are
    /// then not looked at, which is why whoever uses them holds them against the
    /// seal.
    pub(crate) fn run(&mut self) -> Result<Outcome, Unfinished> {
        let root = self.device.tree_root(self.extent);
        if !matches!(root, Ok(None)) {
            self.reads(self.extent.len);
        }
        let as_sealed = root?.map(|root| self.digest(&root).ct_eq(&self.sealed));
        if as_sealed == Some(true) {
            return Ok(Outcome::Intact(Contents(())));
        }
        // Where the device's own tree was wrong, any block may have been why.
        let any = self.level0.len() as u64;
        match self.by_blocks() {
            Ok(Outcome::Intact(intact)) if as_sealed.is_some() => {
                Ok(Outcome::CheckerFault(intact, any))
            }
            Err(Unfinished { error, .. }) if as_sealed.is_some() => Err(Unfinished {
                error,
                suspect_blocks: any,
            }),
            outcome => outcome,
        }
    }

    /// The same by all block hashes.
    fn by_blocks(&mut self) -> Result<Outcome, Unfinished> {
        let (actual, mut suspects) = self.compare()?;
        let as_sealed = actual.ct_eq(&self.sealed);
        if as_sealed && suspects.is_empty() {
            return Ok(Outcome::Intact(Contents(())));
        }
        // Only hashes that the seal vouches for tell a bad block.
        let vouched = self.is_sealed(self.level0);
        if suspects.is_empty() {
            suspects = (0..self.level0.len() as u64).collect();
        }
        let opinion = match vouched {
            true => self.second_opinion(actual, &suspects),
            false => self.opinion_without_hashes(as_sealed),
        };
        opinion.map_err(|error| Unfinished {
            error,
            suspect_blocks: suspects.len() as u64,
        })
    }

    /// The CPU looks at the suspect blocks; if it finds none bad, the device is
    /// asked once more.
    fn second_opinion(
        &mut self,
        actual: FileDigest,
        suspects: &[u64],
    ) -> Result<Outcome, DeviceError> {
        let look = self.look_again(self.level0, suspects)?;
        if look.differ > 0 {
            let damage = describe(suspects, self.tensors, look.read, look.differ);
            return Ok(Outcome::Damaged(actual, damage));
        }
        let again = self.measure()?;
        if self.is_sealed(&again) {
            let count = suspects.len() as u64;
            return Ok(Outcome::CheckerFault(Contents(()), count));
        }
        // The second run may blame other blocks than the first did.
        let pairs = (0..).zip(again.iter().zip(self.level0));
        let suspects: Vec<u64> = differing(pairs).collect();
        let look = self.look_again(self.level0, &suspects)?;
        let damage = describe(&suspects, self.tensors, look.read, look.differ);
        Ok(Outcome::Damaged(self.digest(&root(&again)), damage))
    }

    /// The same when the kept hashes are wrong themselves: the device is asked
    /// again, and where that speaks against a good first answer, a third time.
    fn opinion_without_hashes(&mut self, as_sealed: bool) -> Result<Outcome, DeviceError> {
        let mut measured = self.measure()?;
        if as_sealed && !self.is_sealed(&measured) {
            measured = self.measure()?;
        }
        let pairs = (0..).zip(measured.iter().zip(self.level0));
        let mut suspects: Vec<u64> = differing(pairs).collect();
        if self.is_sealed(&measured) {
            let count = suspects.len() as u64;
            return Ok(Outcome::StaleHashes(Contents(()), measured, count));
        }
        if suspects.is_empty() {
            // The kept hashes were changed together with the contents.
            suspects = (0..self.level0.len() as u64).collect();
        }
        let look = self.look_again(&measured, &suspects)?;
        let confirmed = look.read.saturating_sub(look.differ);
        let damage = describe(&suspects, self.tensors, look.read, confirmed);
        Ok(Outcome::Damaged(self.digest(&root(&measured)), damage))
    }

    /// The digest of what the device holds, and the blocks that differ from the
    /// kept hashes. Goes window by window, so that a check takes no second set of
    /// block hashes (requirement: PF-11). Each window starts as zeros, so a
    /// computation that does nothing cannot pass.
    fn compare(&mut self) -> Result<(FileDigest, Vec<u64>), Unfinished> {
        self.reads(self.extent.len);
        let level0 = self.level0;
        let mut window = vec![BlockHash::default(); WINDOW.min(level0.len())];
        let (mut parents, mut suspects) = (Vec::new(), Vec::new());
        let mut first = 0_u64;
        for kept in level0.chunks(WINDOW) {
            window.truncate(kept.len());
            window.fill(BlockHash::default());
            let next = first.saturating_add(kept.len() as u64);
            let measured = self
                .device
                .block_digests(self.extent, first..next, &mut window);
            measured.map_err(|error| Unfinished {
                error,
                suspect_blocks: suspects.len() as u64,
            })?;
            suspects.extend(differing((first..).zip(window.iter().zip(kept))));
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
        Ok((self.digest(&root), suspects))
    }

    /// Reads suspect blocks back and hashes them on the CPU: an independent path.
    /// Of very many it takes some all over the shard: where it finds nothing, the
    /// device is asked once more, and that second run covers every byte.
    fn look_again(
        &mut self,
        expected: &[BlockHash],
        suspects: &[u64],
    ) -> Result<Look, DeviceError> {
        let mut bytes = Zeroizing::new(vec![0_u8; BLOCK_BYTES]);
        let mut look = Look::default();
        let step = suspects.len().div_ceil(MAX_READ_BACK).max(1);
        for block in suspects.iter().step_by(step) {
            let offset = block.saturating_mul(BLOCK_BYTES as u64);
            let len = self.extent.len.saturating_sub(offset);
            let len = usize::try_from(len).map_or(BLOCK_BYTES, |len| len.min(BLOCK_BYTES));
            let out = bytes.get_mut(..len).unwrap_or_default();
            self.reads(len as u64);
            self.device.read(self.extent, offset, out)?;
            let index = usize::try_from(*block).unwrap_or(usize::MAX);
            let differs = hash_block(out).ok().as_ref() != expected.get(index);
            look.read = look.read.saturating_add(1);
            look.differ = look.differ.saturating_add(u64::from(differs));
        }
        Ok(look)
    }

    fn measure(&mut self) -> Result<Vec<BlockHash>, DeviceError> {
        self.reads(self.extent.len);
        measure(self.device, self.extent)
    }

    fn digest(&self, root: &BlockHash) -> FileDigest {
        file_digest(root, self.extent.len)
    }

    /// Whether these are the block hashes of what was sealed.
    fn is_sealed(&self, level0: &[BlockHash]) -> bool {
        self.digest(&root(level0)).ct_eq(&self.sealed)
    }

    const fn reads(&mut self, bytes: u64) {
        self.read = self.read.saturating_add(bytes);
    }
}

/// Blocks whose two hashes are not the same.
fn differing<'h>(
    pairs: impl Iterator<Item = (u64, (&'h BlockHash, &'h BlockHash))>,
) -> impl Iterator<Item = u64> {
    let differ = pairs.filter(|(_, (one, other))| one != other);
    differ.map(|(block, _)| block)
}

/// What the CPU found in suspect blocks.
#[derive(Default)]
struct Look {
    /// Blocks that were read back.
    read: u64,
    /// Those of them that do not have the expected hash.
    differ: u64,
}

/// Blocks as runs, the tensors they belong to, and what the CPU said.
fn describe(suspects: &[u64], tensors: &TensorTable, read_back: u64, confirmed: u64) -> Damage {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for block in suspects {
        match runs.last_mut() {
            Some((first, count)) if first.saturating_add(*count) == *block => {
                *count = count.saturating_add(1);
            }
            _ => runs.push((*block, 1)),
        }
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
        read_back,
        confirmed,
    }
}

#[cfg(test)]
#[path = "../../tests/common/forward.rs"]
mod forward;

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::forward::forward;
    use super::*;
    use crate::device;
    use crate::sync::atomic::{AtomicU64, Ordering};

    use crate::sim::{Flip, Moment, Op, SimDevice, SimOptions};

    const LEN: usize = 5 * BLOCK_BYTES + 17;

    /// A device that holds `bytes`, and where.
    fn holding(bytes: &[u8]) -> (SimDevice, Extent) {
        held_by(SimDevice::new(1 << 20), bytes)
    }

    fn held_by(device: SimDevice, bytes: &[u8]) -> (SimDevice, Extent) {
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
        device: &dyn Device,
        extent: Extent,
        kept: &[BlockHash],
        sealed: FileDigest,
    ) -> Outcome {
        ran(device, extent, kept, sealed).0.unwrap()
    }

    /// What a check found, and what it read.
    fn ran(
        device: &dyn Device,
        extent: Extent,
        kept: &[BlockHash],
        sealed: FileDigest,
    ) -> (Result<Outcome, Unfinished>, u64) {
        let mut check = Check {
            device,
            extent,
            level0: kept,
            sealed,
            tensors: &TensorTable::default(),
            read: 0,
        };
        (check.run(), check.read)
    }

    /// Flips a bit for the next computation of the device only.
    fn err_once(device: &SimDevice, offset: u64) {
        for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
            device.flip_at(Flip {
                moment,
                offset,
                bit: 2,
            });
        }
    }

    /// Flips a bit for its second computation of block hashes only.
    struct ErrsAtTheSecond {
        sim: SimDevice,
        calls: AtomicU64,
    }

    impl Device for ErrsAtTheSecond {
        fn info(&self) -> &device::DeviceInfo {
            self.sim.info()
        }

        fn block_digests(
            &self,
            extent: Extent,
            blocks: Range<u64>,
            out: &mut [BlockHash],
        ) -> Result<(), DeviceError> {
            if self.calls.fetch_add(1, Ordering::SeqCst) == 1 {
                err_once(&self.sim, 4096);
            }
            self.sim.block_digests(extent, blocks, out)
        }

        forward!(sim: facts memory allocate free protect witness address upload read write fill);
        forward!(sim: keyed_tags copy_to as_any close);
    }

    fn scripted() -> DeviceError {
        DeviceError::Unsupported { what: "scripted" }
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
        let (answer, read) = ran(&device, extent, &bad, sealed);
        match answer.unwrap() {
            Outcome::StaleHashes(_, measured, suspects) => {
                assert_eq!((measured, suspects), (good, 2));
            }
            _ => panic!("condemned for what the host forgot"),
        }
        assert_eq!(read, 2 * extent.len, "two good answers agree");
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
        // The CPU found every block to be what the device had measured.
        assert_eq!((damage.read_back, damage.confirmed), (6, 6));
    }

    /// Nobody could look again: what looked bad is told, and what was read.
    #[test]
    fn a_second_opinion_that_fails_leaves_the_first_one_standing() {
        const BYTES: u64 = LEN as u64;
        let (device, extent) = holding(&[7; LEN]);
        let good = measure(&device, extent).unwrap();
        let sealed = file_digest(&root(&good), extent.len);
        let mut stale = good.clone();
        stale[3][0] ^= 1;
        let unfinished = |kept: &[BlockHash]| {
            let (answer, read) = ran(&device, extent, kept, sealed);
            (answer.err().unwrap().suspect_blocks, read)
        };
        // Nothing was found before the failure.
        device.fail(Op::BlockDigests, 1, scripted());
        assert_eq!(unfinished(&good), (0, BYTES));
        // The read-back, the second run after it, and that for hashes that went bad.
        err_once(&device, 4096);
        device.fail(Op::Read, 1, scripted());
        assert_eq!(unfinished(&good), (1, BYTES + 4096));
        err_once(&device, 4096);
        device.fail(Op::BlockDigests, 2, scripted());
        assert_eq!(unfinished(&good), (1, 2 * BYTES + 4096));
        device.fail(Op::BlockDigests, 2, scripted());
        assert_eq!(unfinished(&stale), (1, 2 * BYTES));
        let (answer, read) = ran(&device, extent, &good, sealed);
        assert!(matches!(answer, Ok(Outcome::Intact(_))));
        assert_eq!(read, BYTES);
    }

    /// The CPU acquitted what the first run blamed; the second blames another.
    #[test]
    fn the_block_that_the_second_run_finds_is_the_one_that_is_named() {
        let (device, extent) = holding(&[7; LEN]);
        let good = measure(&device, extent).unwrap();
        let sealed = file_digest(&root(&good), extent.len);
        err_once(&device, 4096);
        device.flip_at(Flip {
            moment: Moment::AfterCheck,
            offset: 3 * 4096,
            bit: 1,
        });
        let Outcome::Damaged(actual, damage) = check(&device, extent, &good, sealed) else {
            panic!("other bytes were believed")
        };
        let now = measure(&device, extent).unwrap();
        assert_eq!(actual, file_digest(&root(&now), extent.len));
        assert_eq!((damage.runs, damage.confirmed), (vec![(3, 1)], 1));
    }

    /// The device's own tree was wrong; which block is to blame nobody could ask.
    #[test]
    fn a_tree_that_differs_puts_every_block_in_doubt() {
        let device = SimDevice::with_options(SimOptions::new(1 << 20).hash_trees());
        let (device, extent) = held_by(device, &[7; LEN]);
        let good = measure(&device, extent).unwrap();
        let sealed = file_digest(&root(&good), extent.len);
        device.flip_bit(extent.buffer, 5, 1).unwrap();
        device.fail(Op::BlockDigests, 2, scripted());
        let (answer, _) = ran(&device, extent, &good, sealed);
        assert_eq!(answer.err().unwrap().suspect_blocks, 6);
    }

    /// What one window showed is told although the next could not be measured.
    #[test]
    fn a_failure_half_way_hides_nothing_that_was_found_before() {
        let device = SimDevice::new(128 << 20);
        let len = (WINDOW * BLOCK_BYTES) as u64 + 1;
        let buffer = device.allocate(len).unwrap().id;
        let extent = Extent {
            buffer,
            start: 0,
            len,
        };
        let good = measure(&device, extent).unwrap();
        let sealed = file_digest(&root(&good), len);
        device.flip_bit(buffer, 5, 1).unwrap();
        device.fail(Op::BlockDigests, 2, scripted());
        let (answer, _) = ran(&device, extent, &good, sealed);
        assert_eq!(answer.err().unwrap().suspect_blocks, 1);
    }

    /// The first answer was good: one bad answer afterwards is outvoted, and no
    /// block is held against hashes that are known to be wrong.
    #[test]
    fn a_checker_that_errs_once_over_bad_hashes_condemns_nothing() {
        let (device, extent) = holding(&[7; LEN]);
        let good = measure(&device, extent).unwrap();
        let sealed = file_digest(&root(&good), extent.len);
        let mut stale = good.clone();
        stale[3][0] ^= 1;
        let device = ErrsAtTheSecond {
            sim: device,
            calls: AtomicU64::new(0),
        };
        match check(&device, extent, &stale, sealed) {
            Outcome::StaleHashes(_, measured, suspects) => {
                assert_eq!((measured, suspects), (good, 1));
            }
            _ => panic!("condemned for what the checker did"),
        }
    }

    /// The kept hashes went wrong in the way in which the checker erred once:
    /// no block is suspect, and still nobody is condemned unasked.
    #[test]
    fn a_digest_without_a_suspect_block_gets_a_second_opinion_too() {
        let (device, extent) = holding(&[7; LEN]);
        let good = measure(&device, extent).unwrap();
        let sealed = file_digest(&root(&good), extent.len);
        let buffer = extent.buffer;
        device.flip_bit(buffer, 4096, 2).unwrap();
        let kept = measure(&device, extent).unwrap();
        device.flip_bit(buffer, 4096, 2).unwrap();
        err_once(&device, 4096);
        match check(&device, extent, &kept, sealed) {
            Outcome::StaleHashes(_, measured, suspects) => {
                assert_eq!((measured, suspects), (good, 1));
            }
            _ => panic!("condemned without a second opinion"),
        }
    }
}
