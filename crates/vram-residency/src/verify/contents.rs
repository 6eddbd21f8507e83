//! Contents against the seal: measure on the device, locate damage, and get a
//! second opinion before a shard is condemned.

use std::borrow::Cow;

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
    /// Every byte is as sealed; something else may have erred.
    Intact(Contents, Faults),
    /// Not as sealed.
    Damaged(FileDigest, Damage),
}

/// What erred while the contents were as sealed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Blocks that the first answer of the checker was wrong about.
    pub(crate) checker: u64,
    /// The host's memory: block hashes to keep from now on, and how many of those
    /// that were kept are not the sealed ones.
    pub(crate) kept: Option<(Vec<BlockHash>, u64)>,
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
/// starts as zeros, and one that is not written is an error: it proves nothing,
/// for the contents or against them.
pub(crate) fn measure(device: &dyn Device, extent: Extent) -> Result<Vec<BlockHash>, DeviceError> {
    let count = extent.len.div_ceil(BLOCK_BYTES as u64);
    let size = usize::try_from(count).unwrap_or(usize::MAX);
    let requested = count.saturating_mul(32);
    let mut out = Vec::new();
    out.try_reserve_exact(size)
        .map_err(|_| DeviceError::HostOutOfMemory { requested })?;
    out.resize(size, [0; 32]);
    device.block_digests(extent, 0..count, &mut out)?;
    match out.contains(&BlockHash::default()) {
        true => Err(DeviceError::NoResult { op: "block hashes" }),
        false => Ok(out),
    }
}

/// A check of every byte of a shard against the sealed digest.
pub(crate) struct Check<'a> {
    pub(crate) device: &'a dyn Device,
    pub(crate) extent: Extent,
    /// Block hashes kept in host memory; no authority, the digest is.
    pub(crate) level0: &'a [BlockHash],
    pub(crate) sealed: FileDigest,
    pub(crate) tensors: &'a TensorTable,
    /// Bytes of the shard that the device read for it so far.
    pub(crate) read: u64,
}

impl Check<'_> {
    /// Where the device hashes the tree itself, its root is enough: block hashes
    /// are asked for only to find the damage. The ones kept in host memory are
    /// then not looked at, which is why whoever uses them holds them against the
    /// seal.
    pub(crate) fn run(&mut self) -> Result<Outcome, Unfinished> {
        let root = self.device.tree_root(self.extent)?;
        if root.is_some() {
            self.reads(self.extent.len);
        }
        let as_sealed = root.map(|root| self.digest(&root).ct_eq(&self.sealed));
        if as_sealed == Some(true) {
            return Ok(Outcome::Intact(Contents(()), Faults::default()));
        }
        // Where the device's own tree was wrong, any block may have been why.
        let any = self.level0.len() as u64;
        match self.by_blocks() {
            Ok(Outcome::Intact(intact, faults)) if as_sealed.is_some() => {
                let faults = Faults {
                    checker: any,
                    ..faults
                };
                Ok(Outcome::Intact(intact, faults))
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
        let (actual, suspects) = self.compare()?;
        let as_sealed = actual.ct_eq(&self.sealed);
        if as_sealed && suspects.is_empty() {
            return Ok(Outcome::Intact(Contents(()), Faults::default()));
        }
        // Only hashes that the seal vouches for tell a bad block.
        let opinion = match self.is_sealed(self.level0) {
            true => self.second_opinion(actual, &self.or_all(&suspects)),
            false => self.opinion_without_hashes(as_sealed, &suspects),
        };
        opinion.map_err(|error| Unfinished {
            error,
            suspect_blocks: self.or_all(&suspects).len() as u64,
        })
    }

    /// Where something is wrong and no block differs, any may be bad.
    fn or_all<'s>(&self, suspects: &'s [u64]) -> Cow<'s, [u64]> {
        match suspects {
            [] => (0..self.level0.len() as u64).collect(),
            some => Cow::Borrowed(some),
        }
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
            let faults = Faults {
                checker: suspects.len() as u64,
                kept: None,
            };
            return Ok(Outcome::Intact(Contents(()), faults));
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
    /// What is bad then is known of the whole only: a block that differs from a
    /// kept hash may be as sealed, and the hash not.
    fn opinion_without_hashes(
        &mut self,
        as_sealed: bool,
        first: &[u64],
    ) -> Result<Outcome, DeviceError> {
        let level0 = self.level0;
        let suspects = |measured: &[BlockHash]| -> Vec<u64> {
            differing((0..).zip(measured.iter().zip(level0))).collect()
        };
        let mut measured = self.measure()?;
        let mut differ = suspects(&measured);
        // The answer that was not as sealed, if one of the first two was not.
        let mut outvoted = (!as_sealed).then_some(Cow::Borrowed(first));
        if as_sealed && !self.is_sealed(&measured) {
            measured = self.measure()?;
            outvoted = Some(Cow::Owned(std::mem::replace(
                &mut differ,
                suspects(&measured),
            )));
        }
        if self.is_sealed(&measured) {
            let wrong = differ.len() as u64;
            // Its digest was wrong, so some block was.
            let erred = |answer: Cow<'_, [u64]>| in_one_only(&answer, &differ).max(1);
            let faults = Faults {
                checker: outvoted.map_or(0, erred),
                kept: Some((measured, wrong)),
            };
            return Ok(Outcome::Intact(Contents(()), faults));
        }
        let look = self.look_again(&measured, &self.or_all(&differ))?;
        let damage = Damage {
            blocks: None,
            runs: Vec::new(),
            tensors: Vec::new(),
            read_back: look.read,
            confirmed: look.read.saturating_sub(look.differ),
        };
        Ok(Outcome::Damaged(self.digest(&root(&measured)), damage))
    }

    /// The digest of what the device holds, and the blocks that differ from the
    /// kept hashes. Goes window by window, so that a check takes no second set of
    /// block hashes (requirement: PF-11). Each window starts as zeros: a hash that is
    /// not written makes its block suspect and hides no other.
    fn compare(&mut self) -> Result<(FileDigest, Vec<u64>), Unfinished> {
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
            let before = first.saturating_mul(BLOCK_BYTES as u64);
            let here = kept.len().saturating_mul(BLOCK_BYTES) as u64;
            self.reads(self.extent.len.saturating_sub(before).min(here));
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
            self.device.read(self.extent, offset, out)?;
            self.reads(len as u64);
            let index = usize::try_from(*block).unwrap_or(usize::MAX);
            let differs = hash_block(out).ok().as_ref() != expected.get(index);
            look.read = look.read.saturating_add(1);
            look.differ = look.differ.saturating_add(u64::from(differs));
        }
        Ok(look)
    }

    fn measure(&mut self) -> Result<Vec<BlockHash>, DeviceError> {
        let measured = measure(self.device, self.extent)?;
        self.reads(self.extent.len);
        Ok(measured)
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

/// How many blocks stand in one of two sorted lists and not in the other.
fn in_one_only(one: &[u64], other: &[u64]) -> u64 {
    let missing = |from: &[u64], of: &[u64]| {
        let missing = of.iter().filter(|block| from.binary_search(block).is_err());
        missing.count() as u64
    };
    missing(one, other).saturating_add(missing(other, one))
}

/// What the CPU found in suspect blocks.
#[derive(Default)]
struct Look {
    /// Blocks that were read back.
    read: u64,
    /// Those of them that do not have the expected hash.
    differ: u64,
}

/// Blocks in ascending order as runs of (first block, count).
pub(crate) fn runs_of(blocks: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some((first, count)) if first.saturating_add(*count) == block => {
                *count = count.saturating_add(1);
            }
            _ => runs.push((block, 1)),
        }
    }
    runs
}

/// Blocks as runs, the tensors they belong to, and what the CPU said.
fn describe(suspects: &[u64], tensors: &TensorTable, read_back: u64, confirmed: u64) -> Damage {
    let mut runs = runs_of(suspects.iter().copied());
    let blocks = runs.iter().map(|(_, count)| *count).sum();
    runs.truncate(Damage::MAX_RUNS);
    let block_bytes = BLOCK_BYTES as u64;
    let mut names: Vec<String> = Vec::new();
    for (first, count) in &runs {
        let start = first.saturating_mul(block_bytes);
        let end = start.saturating_add(count.saturating_mul(block_bytes));
        for tensor in tensors.which_tensors(start..end) {
            if names.len() < Damage::MAX_TENSORS
                && names.last().map(String::as_str) != Some(&*tensor.name)
            {
                names.push(tensor.name.to_string());
            }
        }
    }
    Damage {
        blocks: Some(blocks),
        runs,
        tensors: names,
        read_back,
        confirmed,
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::device;
    use crate::sync::atomic::{AtomicU64, Ordering};
    use crate::verify::forward::forward;

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

    /// Leaves the hashes of some blocks unwritten, so many times.
    struct Forgetful {
        sim: SimDevice,
        forgets: &'static [usize],
        times: AtomicU64,
    }

    impl Device for Forgetful {
        fn info(&self) -> &device::DeviceInfo {
            self.sim.info()
        }

        fn block_digests(
            &self,
            extent: Extent,
            blocks: Range<u64>,
            out: &mut [BlockHash],
        ) -> Result<(), DeviceError> {
            self.sim.block_digests(extent, blocks, out)?;
            if self.times.load(Ordering::SeqCst) > 0 {
                self.times.fetch_sub(1, Ordering::SeqCst);
                self.forgets.iter().for_each(|i| out[*i] = [0; 32]);
            }
            Ok(())
        }

        forward!(sim: facts memory allocate free protect witness address upload read write fill);
        forward!(sim: keyed_tags copy_to as_any close);
    }

    /// A hash that was not written hides no damage, and condemns nothing.
    // requirement: DG-2
    #[test]
    fn every_hash_is_judged_by_itself() {
        let answer = |forgets, times, damaged| {
            let (sim, extent) = holding(&[7; LEN]);
            let good = measure(&sim, extent).unwrap();
            let sealed = file_digest(&root(&good), extent.len);
            if damaged {
                sim.flip_bit(extent.buffer, 4096, 1).unwrap();
            }
            let times = AtomicU64::new(times);
            let device = Forgetful {
                sim,
                forgets,
                times,
            };
            ran(&device, extent, &good, sealed).0
        };
        for forgets in [&[3][..], &[0, 1, 2, 3, 4, 5]] {
            let Ok(Outcome::Damaged(_, damage)) = answer(forgets, 1, true) else {
                panic!("the damage of block 1 is hidden")
            };
            assert_eq!(damage.confirmed, 1);
            let once = answer(forgets, 1, false).unwrap();
            assert!(matches!(once, Outcome::Intact(_, faults)
                if faults.checker == forgets.len() as u64));
            let Err(never) = answer(forgets, 9, false) else {
                panic!("it proves nothing, and nothing against the shard")
            };
            assert_eq!(never.suspect_blocks, forgets.len() as u64);
            assert!(matches!(never.error, DeviceError::NoResult { .. }));
        }
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
            Outcome::Intact(
                _,
                Faults {
                    checker: 0,
                    kept: None
                }
            )
        ));
        let mut bad = good.clone();
        bad[1][3] ^= 1;
        bad[5][0] ^= 0x80;
        let (answer, read) = ran(&device, extent, &bad, sealed);
        match answer.unwrap() {
            Outcome::Intact(_, Faults { checker, kept }) => {
                assert_eq!((checker, kept), (0, Some((good, 2))));
            }
            Outcome::Damaged(..) => panic!("condemned for what the host forgot"),
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
        assert_eq!(damage.blocks, None, "where, nobody can tell");
        // The CPU found every block to be what the device had measured.
        assert_eq!((damage.read_back, damage.confirmed), (6, 6));
    }

    /// One block is bad and another one's kept hash: neither is told from the other,
    /// so none is named.
    #[test]
    fn damage_beside_a_kept_hash_that_went_bad_cannot_be_located() {
        let (device, extent) = holding(&[7; LEN]);
        let good = measure(&device, extent).unwrap();
        let sealed = file_digest(&root(&good), extent.len);
        device.flip_bit(extent.buffer, 4096, 2).unwrap();
        let mut stale = good.clone();
        stale[3][0] ^= 1;
        let Outcome::Damaged(actual, damage) = check(&device, extent, &stale, sealed) else {
            panic!("other bytes were believed")
        };
        let now = measure(&device, extent).unwrap();
        assert_eq!(actual, file_digest(&root(&now), extent.len));
        assert_eq!((damage.blocks, damage.first_offset()), (None, None));
        assert!(damage.runs.is_empty() && damage.tensors.is_empty());
        // The CPU looked at the two that differ, and saw what the device did.
        assert_eq!((damage.read_back, damage.confirmed), (2, 2));
    }

    /// Nobody could look again: what looked bad is told, and what was read; a call
    /// that failed read nothing.
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
        assert_eq!(unfinished(&good), (0, 0), "nothing was read");
        // The read-back, the second run after it, and that for hashes that went bad.
        err_once(&device, 4096);
        device.fail(Op::Read, 1, scripted());
        assert_eq!(unfinished(&good), (1, BYTES));
        err_once(&device, 4096);
        device.fail(Op::BlockDigests, 2, scripted());
        assert_eq!(unfinished(&good), (1, BYTES + 4096));
        device.fail(Op::BlockDigests, 2, scripted());
        assert_eq!(unfinished(&stale), (1, BYTES));
        let (answer, read) = ran(&device, extent, &good, sealed);
        assert!(matches!(answer, Ok(Outcome::Intact(..))));
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
        let (answer, read) = ran(&device, extent, &good, sealed);
        assert_eq!(answer.err().unwrap().suspect_blocks, 1);
        assert_eq!(read, (WINDOW * BLOCK_BYTES) as u64, "the first window");
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
            // It was outvoted by the first answer and the third, and that is told.
            Outcome::Intact(_, Faults { checker, kept }) => {
                assert_eq!((checker, kept), (1, Some((good, 1))));
            }
            Outcome::Damaged(..) => panic!("condemned for what the checker did"),
        }
    }

    /// The checker erred about one block, and the host forgot another: both are told.
    #[test]
    fn a_checker_that_errs_first_over_bad_hashes_is_told_beside_them() {
        let (device, extent) = holding(&[7; LEN]);
        let good = measure(&device, extent).unwrap();
        let sealed = file_digest(&root(&good), extent.len);
        let mut stale = good.clone();
        stale[3][0] ^= 1;
        err_once(&device, 4096);
        let Outcome::Intact(_, faults) = check(&device, extent, &stale, sealed) else {
            panic!("condemned for what the checker did")
        };
        assert_eq!(
            faults,
            Faults {
                checker: 1,
                kept: Some((good, 1))
            }
        );
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
            // Both erred, each about that block.
            Outcome::Intact(_, Faults { checker, kept }) => {
                assert_eq!((checker, kept), (1, Some((good, 1))));
            }
            Outcome::Damaged(..) => panic!("condemned without a second opinion"),
        }
    }
}
