//! Contents against the seal: measure on the device, locate damage, and get a
//! second opinion before a shard is condemned.

use vram_digest::{BLOCK_BYTES, BlockHash, FileDigest, file_digest, hash_block, hash_blocks, root};
use zeroize::Zeroizing;

use super::Contents;
use super::suspects::{Look, Suspects, describe, in_first_only};
use crate::device::{Device, DeviceError, Extent};
use crate::error::{Answer, Checker, Damage};
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
    /// What was said so far, whoever said it.
    pub(crate) answers: Vec<Answer>,
}

impl Check<'_> {
    /// Where the device hashes the tree itself, its root is enough: block hashes
    /// are asked for only to find the damage. The ones kept in host memory are
    /// then not looked at, which is why whoever uses them holds them against the
    /// seal.
    pub(crate) fn run(&mut self) -> Result<Outcome, Unfinished> {
        let Some(root) = self.device.tree_root(self.extent)? else {
            return self.by_blocks();
        };
        self.reads(self.extent.len);
        let digest = self.digest(&root);
        // Where the device's own tree is wrong, any block may be why.
        let any = self.blocks();
        let as_sealed = digest.ct_eq(&self.sealed);
        let bad = if as_sealed { 0 } else { any };
        let answer = Answer::new(Checker::Tree, any, [(0, bad)]).with_digest(digest);
        self.answers.push(answer);
        if as_sealed {
            return Ok(Outcome::Intact(Contents(()), Faults::default()));
        }
        match self.by_blocks() {
            Ok(Outcome::Intact(intact, faults)) => {
                let faults = Faults {
                    checker: any,
                    ..faults
                };
                Ok(Outcome::Intact(intact, faults))
            }
            Err(Unfinished { error, .. }) => Err(Unfinished {
                error,
                suspect_blocks: any,
            }),
            damaged => damaged,
        }
    }

    /// The same by all block hashes.
    fn by_blocks(&mut self) -> Result<Outcome, Unfinished> {
        let (actual, suspects) = self.compare()?;
        let as_sealed = actual.ct_eq(&self.sealed);
        if as_sealed && suspects.is_empty() {
            return Ok(Outcome::Intact(Contents(()), Faults::default()));
        }
        let bad = self.or_any(&suspects);
        // Only hashes that the seal vouches for tell a bad block.
        let opinion = match self.is_sealed(self.level0) {
            true => self.second_opinion(actual, &bad),
            false => self.opinion_without_hashes(as_sealed, &suspects.blocks()),
        };
        opinion.map_err(|unfinished| Unfinished {
            suspect_blocks: unfinished.suspect_blocks.max(bad.len()),
            ..unfinished
        })
    }

    /// Where something is wrong and no block differs, any may be bad.
    fn or_any(&self, suspects: &Suspects) -> Suspects {
        match suspects.is_empty() {
            true => Suspects::any(self.blocks()),
            false => suspects.clone(),
        }
    }

    /// The CPU looks at the suspect blocks; if it finds none bad, the device is
    /// asked once more.
    fn second_opinion(
        &mut self,
        actual: FileDigest,
        suspects: &Suspects,
    ) -> Result<Outcome, Unfinished> {
        let first = suspects.blocks();
        let look = self.look_again(self.level0, suspects)?;
        if !look.differ.is_empty() {
            return Ok(Outcome::Damaged(actual, self.describe(&first, &look)));
        }
        let (again, suspects) = self.compare()?;
        if again.ct_eq(&self.sealed) {
            let faults = Faults {
                checker: first.len() as u64,
                kept: None,
            };
            return Ok(Outcome::Intact(Contents(()), faults));
        }
        // The second run may blame other blocks than the first did.
        let look = self.look_again(self.level0, &suspects)?;
        // What the device left undone twice proves nothing, where nothing else differs.
        if look.differ.is_empty() && suspects.are_unwritten() {
            return Err(DeviceError::NoResult { op: "block hashes" }.into());
        }
        let second = suspects.blocks();
        let mut damage = self.describe(&second, &look);
        let withdrawn = in_first_only(&first, &second);
        damage.withdrawn = damage.withdrawn.saturating_add(withdrawn);
        Ok(Outcome::Damaged(again, damage))
    }

    /// The same when the kept hashes are wrong themselves: the device is asked
    /// again, and where that speaks against a good first answer, a third time.
    /// What is bad then is known of the whole only: a block that differs from a
    /// kept hash may be as sealed, and the hash not.
    fn opinion_without_hashes(
        &mut self,
        as_sealed: bool,
        first: &[u64],
    ) -> Result<Outcome, Unfinished> {
        let (mut measured, mut differ) = self.measure()?;
        // The answer that was not as sealed, if one of the first two was not.
        let mut outvoted = (!as_sealed).then(|| first.to_vec());
        if as_sealed && !self.is_sealed(&measured) {
            outvoted = Some(differ.blocks());
            (measured, differ) = self.measure()?;
        }
        if self.is_sealed(&measured) {
            let differ = differ.blocks();
            // Its digest was wrong, so some block was.
            let erred = |answer: Vec<u64>| {
                let either = in_first_only(&answer, &differ);
                either
                    .saturating_add(in_first_only(&differ, &answer))
                    .max(1)
            };
            let faults = Faults {
                checker: outvoted.map_or(0, erred),
                kept: Some((measured, differ.len() as u64)),
            };
            return Ok(Outcome::Intact(Contents(()), faults));
        }
        let look = self.look_again(&measured, &self.or_any(&differ))?;
        let damage = Damage {
            blocks: None,
            confirmed: look.read.saturating_sub(look.differ.len() as u64),
            ..self.describe(&[], &look)
        };
        Ok(Outcome::Damaged(self.digest(&root(&measured)), damage))
    }

    /// The digest of what the device holds, and the blocks that differ from the
    /// kept hashes. Goes window by window, so that a check takes no second set of
    /// block hashes (requirement: PF-11). Each window starts as zeros: a hash that is
    /// not written makes its block suspect and hides no other.
    fn compare(&mut self) -> Result<(FileDigest, Suspects), Unfinished> {
        let level0 = self.level0;
        let mut window = vec![BlockHash::default(); WINDOW.min(level0.len())];
        let (mut parents, mut suspects) = (Vec::new(), Suspects::default());
        let mut first = 0_u64;
        for kept in level0.chunks(WINDOW) {
            window.truncate(kept.len());
            window.fill(BlockHash::default());
            let next = first.saturating_add(kept.len() as u64);
            let measured = self
                .device
                .block_digests(self.extent, first..next, &mut window);
            if let Err(error) = measured {
                return Err(self.half_way(first, &suspects, error));
            }
            let before = first.saturating_mul(BLOCK_BYTES as u64);
            let here = kept.len().saturating_mul(BLOCK_BYTES) as u64;
            self.reads(self.extent.len.saturating_sub(before).min(here));
            suspects.add(first, &window, kept);
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
        let digest = self.digest(&root);
        self.says(first, &suspects, Some(digest));
        Ok((digest, suspects))
    }

    /// What was found before the device failed is told.
    fn half_way(&mut self, looked_at: u64, found: &Suspects, error: DeviceError) -> Unfinished {
        if !found.is_empty() {
            self.says(looked_at, found, None);
        }
        Unfinished {
            error,
            suspect_blocks: found.len(),
        }
    }

    /// Reads suspect blocks back and hashes them on the CPU: an independent path.
    /// Of very many it takes some all over the shard: where it finds nothing, the
    /// device is asked once more, and that second run covers every byte.
    fn look_again(
        &mut self,
        expected: &[BlockHash],
        suspects: &Suspects,
    ) -> Result<Look, DeviceError> {
        let mut bytes = Zeroizing::new(vec![0_u8; BLOCK_BYTES]);
        let mut look = Look::default();
        for block in suspects.some(MAX_READ_BACK) {
            let offset = block.saturating_mul(BLOCK_BYTES as u64);
            let len = self.extent.len.saturating_sub(offset);
            let len = usize::try_from(len).map_or(BLOCK_BYTES, |len| len.min(BLOCK_BYTES));
            let out = bytes.get_mut(..len).unwrap_or_default();
            self.device.read(self.extent, offset, out)?;
            self.reads(len as u64);
            let index = usize::try_from(block).unwrap_or(usize::MAX);
            look.read = look.read.saturating_add(1);
            if hash_block(out).ok().as_ref() != expected.get(index) {
                look.differ.push(block);
            }
        }
        let answer = Answer::of_blocks(Checker::Cpu, look.read, &look.differ);
        self.answers.push(answer);
        Ok(look)
    }

    /// All block hashes, and the blocks that differ from the kept ones.
    fn measure(&mut self) -> Result<(Vec<BlockHash>, Suspects), DeviceError> {
        let measured = measure(self.device, self.extent)?;
        self.reads(self.extent.len);
        let suspects = Suspects::of(&measured, self.level0);
        let digest = self.digest(&root(&measured));
        self.says(self.blocks(), &suspects, Some(digest));
        Ok((measured, suspects))
    }

    /// What the device's block hashes say.
    fn says(&mut self, looked_at: u64, bad: &Suspects, digest: Option<FileDigest>) {
        let answer = Answer::of_blocks(Checker::Blocks, looked_at, &bad.blocks());
        self.answers.push(match digest {
            Some(digest) => answer.with_digest(digest),
            None => answer,
        });
    }

    fn describe(&self, suspects: &[u64], look: &Look) -> Damage {
        describe(suspects, self.tensors, look)
    }

    /// Blocks of the shard.
    const fn blocks(&self) -> u64 {
        self.level0.len() as u64
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
            answers: Vec::new(),
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

    /// Leaves the hashes of some blocks unwritten, so many times, and has a wrong one of
    /// another each time.
    struct Forgetful {
        sim: SimDevice,
        forgets: Vec<usize>,
        times: AtomicU64,
        errs: Option<usize>,
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
            if let Some(hash) = self.errs.and_then(|block| out.get_mut(block)) {
                hash[0] ^= 1;
            }
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
        let answer = |forgets: &[usize], times, damaged| {
            let (sim, extent) = holding(&[7; LEN]);
            let good = measure(&sim, extent).unwrap();
            let sealed = file_digest(&root(&good), extent.len);
            if damaged {
                sim.flip_bit(extent.buffer, 4096, 1).unwrap();
            }
            let times = AtomicU64::new(times);
            let device = Forgetful {
                sim,
                forgets: forgets.to_vec(),
                times,
                errs: None,
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

    /// The second opinion looks first at what the device said, not at what it left unsaid,
    /// and a hash that is missing there hides no mismatch either.
    // requirement: DG-2
    #[test]
    fn an_unwritten_hash_hides_nothing_from_the_second_opinion() {
        const BLOCKS: usize = 2 * MAX_READ_BACK;
        let answer = |forgets: Vec<usize>, errs, damaged: bool| {
            let sim = SimDevice::new(16 << 20);
            let (sim, extent) = held_by(sim, &vec![7; BLOCKS * BLOCK_BYTES]);
            let good = measure(&sim, extent).unwrap();
            let sealed = file_digest(&root(&good), extent.len);
            if damaged {
                sim.flip_bit(extent.buffer, 1001 * 4096, 1).unwrap();
            }
            let device = Forgetful {
                sim,
                forgets,
                times: AtomicU64::new(u64::MAX),
                errs,
            };
            ran(&device, extent, &good, sealed).0
        };
        // More than the CPU looks at, and the one that is bad.
        let most: Vec<usize> = (0..BLOCKS).filter(|block| *block != 1001).collect();
        let Ok(Outcome::Damaged(_, damage)) = answer(most.clone(), None, true) else {
            panic!("the damage is hidden")
        };
        assert_eq!((damage.confirmed, damage.blocks), (1, Some(2048)));
        // A device that says the same of one block twice stands against the CPU.
        let Ok(Outcome::Damaged(_, damage)) = answer(vec![3], Some(4), false) else {
            panic!("what the device said twice is hidden")
        };
        assert_eq!((damage.confirmed, damage.runs), (0, vec![(3, 2)]));
        let Err(unfinished) = answer(most, None, false) else {
            panic!("it proves nothing, and nothing against the shard")
        };
        assert!(matches!(unfinished.error, DeviceError::NoResult { .. }));
        assert_eq!(unfinished.suspect_blocks, 2047);
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
        assert_eq!(damage.withdrawn, 1, "the first block is good");
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

    /// A device that fails before it has answered has said nothing about the memory.
    #[test]
    fn a_failure_before_anything_was_found_is_no_answer() {
        let (device, extent) = holding(&[7; LEN]);
        let good = measure(&device, extent).unwrap();
        device.fail(Op::BlockDigests, 1, scripted());
        let mut check = Check {
            device: &device,
            extent,
            level0: &good,
            sealed: file_digest(&root(&good), extent.len),
            tensors: &TensorTable::default(),
            read: 0,
            answers: Vec::new(),
        };
        assert!(check.run().is_err());
        assert_eq!(check.answers, []);
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
