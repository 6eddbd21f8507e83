//! The hash kernels on a lane: stage tables and keys, queue, take results.
//!
//! Staging writes the lane's host block and therefore comes before queueing.
//! Results are poisoned before a launch, so that a kernel that silently did not
//! run, or not for all, is found out instead of answering with what lay there
//! before. What is poison still is zeros to whoever asked.

use std::ops::Range;

use vram_digest::{BLOCK_BYTES, BlockHash, HASH_BYTES, nh};
use vram_residency::device::DeviceError;

use super::convert::out_of_range;
use super::kernels::{Kernels, TableRef};
use super::lane::{BLOCK_TABLE, CHECK, GROUP_TABLE, KEYS, Lane, RECORD_BYTES, TAG_TABLE};
use crate::sys::CuDevicePtr;

/// What every byte of the results is set to before a launch.
const POISON: u8 = 0xa5;

/// A run of device bytes.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) at: CuDevicePtr,
    pub(crate) len: u64,
}

impl Run {
    /// Units of `bytes` bytes that the run has or begins.
    pub(crate) const fn items(self, bytes: usize) -> u64 {
        self.len.div_ceil(bytes as u64)
    }
}

/// A staged launch: its records and items, and which part of the room takes
/// the results.
pub(crate) struct Staged {
    /// What [`Lane::queue_control`] has to bring to the device.
    control: Range<usize>,
    entries: usize,
    items: u64,
    results: Range<usize>,
    keys: usize,
}

impl Staged {
    /// The results within the room.
    pub(crate) const fn results(&self) -> &Range<usize> {
        &self.results
    }
}

impl Lane {
    /// Stages SHA-256 of the 4 KiB blocks of `run`; the hashes will start the room.
    pub(crate) fn stage_hashes(&mut self, run: Run) -> Result<Staged, DeviceError> {
        let items = run.items(BLOCK_BYTES);
        let results = self.results_range(0, items, HASH_BYTES)?;
        self.poison_host(&results)?;
        self.stage_blocks(BLOCK_TABLE, run, results)
    }

    /// Stages SHA-256 of the 4 KiB blocks of `run`, then of each group of 128
    /// of those hashes: two levels of a tree. The groups' hashes come behind
    /// the blocks' in the room.
    pub(crate) fn stage_groups(&mut self, run: Run) -> Result<(Staged, Staged), DeviceError> {
        let blocks = self.results_range(0, run.items(BLOCK_BYTES), HASH_BYTES)?;
        let hashes = Run {
            at: self.device_at(self.room_at()),
            len: blocks.len() as u64,
        };
        let groups = hashes.items(BLOCK_BYTES);
        let groups = self.results_range(blocks.end, groups, HASH_BYTES)?;
        self.poison_host(&groups)?;
        let blocks = self.stage_blocks(BLOCK_TABLE, run, blocks)?;
        Ok((blocks, self.stage_blocks(GROUP_TABLE, hashes, groups)?))
    }

    /// Writes the record of a block-hash launch.
    fn stage_blocks(
        &mut self,
        control: Range<usize>,
        run: Run,
        results: Range<usize>,
    ) -> Result<Staged, DeviceError> {
        let output = self.device_at(self.room_at().saturating_add(results.start));
        let place = self.stage(control.clone())?;
        put_words(place, [run.at.0, run.len, 0, output.0]);
        Ok(Staged {
            control,
            entries: 1,
            items: run.items(BLOCK_BYTES),
            results,
            keys: 0,
        })
    }

    /// Stages tags of the 1 MiB segments of each run under one or two keys; the
    /// tags will lie `at` bytes into the room.
    pub(crate) fn stage_tags(
        &mut self,
        runs: &[Run],
        keys: &[&nh::Key],
        at: usize,
    ) -> Result<Staged, DeviceError> {
        if runs.len() > self.runs() {
            return Err(out_of_range(0, runs.len() as u64, self.runs() as u64));
        }
        let each = nh::TAG_BYTES.saturating_mul(keys.len());
        let output = self.device_at(self.room_at().saturating_add(at));
        let table = TAG_TABLE..self.room_at();
        let mut first = 0_u64;
        for (place, run) in self.stage(table)?.chunks_exact_mut(RECORD_BYTES).zip(runs) {
            let to = output.0.saturating_add(first.saturating_mul(each as u64));
            put_words(place, [run.at.0, run.len, first, to]);
            first = first.saturating_add(run.items(nh::SEGMENT_BYTES));
        }
        let results = self.results_range(at, first, each)?;
        self.poison_host(&results)?;
        let places = self.stage_keys()?.chunks_exact_mut(nh::KEY_BYTES);
        for (place, key) in places.zip(keys) {
            place.copy_from_slice(key.as_bytes());
        }
        let records = runs.len().saturating_mul(RECORD_BYTES);
        Ok(Staged {
            // The keys lie directly before the table.
            control: KEYS.start..TAG_TABLE.saturating_add(records),
            entries: runs.len(),
            items: first,
            results,
            keys: keys.len(),
        })
    }

    /// Queues one copy of the records and keys of all `staged` launches: the
    /// engine that copies them is the one that copies weights, and each copy
    /// costs it microseconds.
    pub(crate) fn queue_control(&mut self, staged: &[&Staged]) -> Result<(), DeviceError> {
        let start = staged.iter().map(|staged| staged.control.start).min();
        let end = staged.iter().map(|staged| staged.control.end).max();
        match (start, end) {
            (Some(start), Some(end)) => self.send(start..end),
            _ => Ok(()),
        }
    }

    /// Queues what [`Self::stage_hashes`] or [`Self::stage_groups`] staged,
    /// behind its control.
    ///
    /// # Safety
    /// The staged run stays allocated until this lane has waited.
    pub(crate) unsafe fn queue_hashes(
        &mut self,
        kernels: &Kernels,
        staged: &Staged,
    ) -> Result<(), DeviceError> {
        self.poison(&staged.results)?;
        self.mark_busy();
        let table = TableRef {
            at: self.device_at(staged.control.start),
            entries: 1,
            items: staged.items,
        };
        // SAFETY: as this method's contract; table and output are the lane's own,
        // and `results_range` made room for every item's hash.
        unsafe { kernels.hash_blocks(self.stream(), table) }
    }

    /// Queues what [`Self::stage_tags`] staged, behind its control, and wipes
    /// the keys from the device behind it.
    ///
    /// # Safety
    /// The staged runs stay allocated until this lane has waited.
    pub(crate) unsafe fn queue_tags(
        &mut self,
        kernels: &Kernels,
        staged: &Staged,
    ) -> Result<(), DeviceError> {
        let key = self.device_at(KEYS.start);
        self.poison(&staged.results)?;
        self.mark_busy();
        let entries = u32::try_from(staged.entries).unwrap_or(u32::MAX);
        let table = TableRef {
            at: self.device_at(TAG_TABLE),
            entries,
            items: staged.items,
        };
        let second = self.device_at(KEYS.start.saturating_add(nh::KEY_BYTES));
        let second = (staged.keys > 1).then_some(second);
        // SAFETY: as this method's contract; table, keys (16-byte aligned, 1088
        // bytes each) and output are the lane's own, and `results_range` made
        // room for every item's tags.
        let launched = unsafe { kernels.tag_segments(self.stream(), table, key, second) };
        // Even when the launch failed. What fails before or here is made up for
        // when the lane settles, which it does after every error.
        launched.and(self.wipe_device_keys())
    }

    /// Queues the copy of results to the host.
    pub(crate) fn queue_results(&mut self, results: &Range<usize>) -> Result<(), DeviceError> {
        self.fetch_room(results)
    }

    /// Has the driver load every kernel, and waits.
    pub(crate) fn rehearse(&mut self, kernels: &Kernels) -> Result<(), DeviceError> {
        self.wipe_device_keys()?;
        let key = self.device_at(KEYS.start);
        self.mark_busy();
        // SAFETY: the lane's own device block, which the lane keeps until it has
        // waited: next.
        unsafe { kernels.rehearse(self.stream(), key) }?;
        self.wait()
    }

    /// Counts the bytes of `run` that differ from `value`, and finds the first;
    /// waits for the answer.
    ///
    /// # Safety
    /// The run stays allocated until this lane has waited.
    pub(crate) unsafe fn check(
        &mut self,
        kernels: &Kernels,
        run: Run,
        value: u8,
    ) -> Result<(u64, u64), DeviceError> {
        put_words(self.stage(CHECK)?, [0, u64::MAX]);
        let result = self.device_at(CHECK.start);
        self.send(CHECK)?;
        self.mark_busy();
        // SAFETY: as this method's contract; the result is the lane's own and
        // 8-byte aligned.
        unsafe { kernels.check(self.stream(), (run.at, run.len), value, result) }?;
        // SAFETY: the lane's own device block.
        unsafe { self.dtoh(CHECK, result) }?;
        match self.fetched(CHECK)?.as_chunks::<8>().0 {
            [count, first] => Ok((u64::from_le_bytes(*count), u64::from_le_bytes(*first))),
            other => Err(out_of_range(0, 2, other.len() as u64)),
        }
    }

    /// Hashes that a waited-for launch left `at` bytes into the room; zeros for each
    /// that it did not write.
    pub(crate) fn take_hashes(
        &mut self,
        at: usize,
        out: &mut [BlockHash],
    ) -> Result<(), DeviceError> {
        let end = at.saturating_add(out.len().saturating_mul(HASH_BYTES));
        let bytes = self.results(end)?.get(at..).unwrap_or_default();
        for (place, hash) in out.iter_mut().zip(bytes.as_chunks().0) {
            *place = written(*hash);
        }
        Ok(())
    }

    /// The same for tags.
    pub(crate) fn take_tags(&mut self, at: usize, out: &mut [nh::Tag]) -> Result<(), DeviceError> {
        let end = at.saturating_add(out.len().saturating_mul(nh::TAG_BYTES));
        let bytes = self.results(end)?.get(at..).unwrap_or_default();
        for (place, tag) in out.iter_mut().zip(bytes.as_chunks().0) {
            *place = nh::Tag::from_bytes(written(*tag));
        }
        Ok(())
    }

    /// The part of the room that `items` results of `each` bytes take from `at`.
    fn results_range(
        &self,
        at: usize,
        items: u64,
        each: usize,
    ) -> Result<Range<usize>, DeviceError> {
        let len = items.saturating_mul(each as u64);
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| at.checked_add(len));
        match end.filter(|end| *end <= self.room()) {
            Some(end) => Ok(at..end),
            None => Err(out_of_range(at as u64, len, self.room() as u64)),
        }
    }

    /// Poisons results on the host, so that those that were not fetched are
    /// found out.
    fn poison_host(&mut self, results: &Range<usize>) -> Result<(), DeviceError> {
        let room = self.room_at();
        let place = room.saturating_add(results.start)..room.saturating_add(results.end);
        self.stage(place)?.fill(POISON);
        Ok(())
    }

    fn poison(&mut self, results: &Range<usize>) -> Result<(), DeviceError> {
        let at = self.device_at(self.room_at().saturating_add(results.start));
        // SAFETY: within the lane's own device block: `results_range` checked it.
        unsafe { self.fill(at, POISON, results.len()) }
    }
}

/// A result, or zeros in the place of one that is poison still.
fn written<const N: usize>(result: [u8; N]) -> [u8; N] {
    if result == [POISON; N] {
        return [0; N];
    }
    result
}

/// Writes little-endian words at the start of `place`.
fn put_words<const N: usize>(place: &mut [u8], words: [u64; N]) {
    for (place, word) in place.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}
