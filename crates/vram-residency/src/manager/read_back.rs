//! Reads a shard back on all cores: threads read and hash one run of blocks each,
//! and the caller, who does the same in between, gets the good ones in file order.
//! No more than two runs a core are in memory.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;

use tracing::Span;
use vram_digest::{BLOCK_BYTES, BlockHash, hash_blocks};
use zeroize::Zeroizing;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::shard::Resident;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError, one_more, thread};

/// Bytes read back at a time: a multiple of the block size.
pub(super) const RUN_BYTES: u64 = 1 << 20;
/// One digest block.
const BLOCK: u64 = BLOCK_BYTES as u64;
/// No more threads help than that, as with loads.
const MAX_THREADS: usize = 16;

/// The memory of one run, lent to one after the other and wiped in the end.
type Bytes = Zeroizing<Vec<u8>>;

/// What a run turned out to be.
enum Run {
    /// Each of its blocks is as sealed.
    Good(Bytes),
    /// The first of its blocks that is not.
    Bad(u64),
}

/// What is to be read, and from where.
pub(super) struct ReadBack<'a> {
    pub(super) device: &'a dyn Device,
    pub(super) resident: &'a Resident,
    /// Hashes that the seal vouches for.
    pub(super) level0: &'a [BlockHash],
}

impl ReadBack<'_> {
    /// Gives `sink` the bytes of `range`, each after its whole block was checked;
    /// stops at the first bad block and names it. Whatever else ends it, a bad block
    /// that any thread read is what comes of it.
    pub(super) fn copy_out(
        &self,
        range: &Range<u64>,
        threads: NonZeroUsize,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<u64>> {
        let first = (range.start / BLOCK).saturating_mul(BLOCK);
        let runs = range.end.saturating_sub(first).div_ceil(RUN_BYTES);
        let runs = usize::try_from(runs).unwrap_or(usize::MAX);
        let threads = threads.get().min(MAX_THREADS).min(runs).max(1);
        let queue = Queue::new(first..range.end, threads.saturating_mul(2));
        let handed_over = thread::scope(|scope| {
            // However it ends, nobody is to wait for it.
            let _end = EndOnDrop(&queue);
            for _ in 1..threads {
                let (queue, span) = (&queue, Span::current());
                let work = move || span.in_scope(|| self.help(queue));
                // Without another thread the caller does its work.
                let _ = one_more(scope, work);
            }
            self.hand_over(range, &queue, sink)
        });
        handed_over.or_else(|error| queue.first_bad().map_or(Err(error), |bad| Ok(Some(bad))))
    }

    /// Takes runs until there are no more.
    fn help(&self, queue: &Queue) {
        // The caller would wait for a run that a panic took along.
        let _end = EndOnPanic(queue);
        while let Some((at, bytes)) = queue.take() {
            queue.put(at, self.run(at, bytes));
        }
    }

    /// Hands the runs on in order, and works on one itself where the next is not
    /// there yet.
    fn hand_over(
        &self,
        range: &Range<u64>,
        queue: &Queue,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<u64>> {
        let mut at = queue.first;
        while at < range.end {
            let bytes = match queue.get(at) {
                Next::Ready(run) => match run? {
                    Run::Good(bytes) => bytes,
                    Run::Bad(block) => return Ok(Some(block)),
                },
                Next::Work(at, bytes) => {
                    queue.put(at, self.run(at, bytes));
                    continue;
                }
                Next::Ended => return Err(Error::Internal("a thread that reads back died")),
            };
            let place = |offset: u64| {
                let place = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
                place.min(bytes.len())
            };
            sink(
                bytes
                    .get(place(range.start)..place(range.end))
                    .unwrap_or_default(),
            )?;
            at = at.saturating_add(RUN_BYTES);
            queue.give_back(bytes);
        }
        Ok(None)
    }

    /// Reads one run of blocks and checks each.
    fn run(&self, at: u64, mut bytes: Bytes) -> Result<Run> {
        let left = self.resident.record().vram_bytes.saturating_sub(at);
        bytes.resize(
            usize::try_from(RUN_BYTES.min(left)).unwrap_or(usize::MAX),
            0,
        );
        // Held for the copy only: the caller's writer may take its time, or free
        // the shard.
        let held = self.resident.hold()?;
        let extent = held.allocation()?.extent();
        let read = self.device.read(extent, at, &mut bytes);
        drop(held);
        read?;
        let mut hashes = vec![BlockHash::default(); bytes.len().div_ceil(BLOCK_BYTES)];
        hash_blocks(&bytes, &mut hashes)
            .map_err(|_| Error::Internal("a run and its hashes differ in number"))?;
        let first = usize::try_from(at / BLOCK).unwrap_or(usize::MAX);
        let sealed = self.level0.get(first..).unwrap_or_default();
        // A block without a hash is as bad as one with another.
        let good = |(place, hash): (usize, &BlockHash)| sealed.get(place) == Some(hash);
        match hashes.iter().enumerate().position(|block| !good(block)) {
            None => Ok(Run::Good(bytes)),
            Some(bad) => Ok(Run::Bad((at / BLOCK).saturating_add(bad as u64))),
        }
    }
}

/// What the caller finds when it wants a run.
enum Next {
    Ready(Result<Run>),
    /// Not there yet; meanwhile this one is to be done.
    Work(u64, Bytes),
    /// It will never be there.
    Ended,
}

/// The runs: which are taken, which are done, and the memory for them.
struct Queue {
    first: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Runs that nobody has taken yet.
    left: Range<u64>,
    done: BTreeMap<u64, Result<Run>>,
    /// Memory that is not lent.
    free: Vec<Bytes>,
    ended: bool,
}

impl State {
    fn take(&mut self) -> Option<(u64, Bytes)> {
        if self.ended || self.left.is_empty() {
            return None;
        }
        let bytes = self.free.pop()?;
        let at = self.left.start;
        self.left.start = at.saturating_add(RUN_BYTES);
        Some((at, bytes))
    }
}

impl Queue {
    /// Of the runs of `range`, `most` at a time.
    fn new(range: Range<u64>, most: usize) -> Self {
        let first = range.start;
        let state = State {
            left: range,
            done: BTreeMap::new(),
            free: (0..most).map(|_| Bytes::default()).collect(),
            ended: false,
        };
        Self {
            first,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'q>(&self, state: MutexGuard<'q, State>) -> MutexGuard<'q, State> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    /// The next run, once there is memory for it; `None` when none is left.
    fn take(&self) -> Option<(u64, Bytes)> {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.take() {
                return Some(work);
            }
            if state.ended || state.left.is_empty() {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// The run at `at`, or another one to work on. Whoever calls it goes from the
    /// first to the last, so a run that nobody took finds memory that is not lent.
    fn get(&self, at: u64) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(run) = state.done.remove(&at) {
                return Next::Ready(run);
            }
            if state.ended {
                return Next::Ended;
            }
            if let Some((at, bytes)) = state.take() {
                return Next::Work(at, bytes);
            }
            state = self.wait(state);
        }
    }

    fn put(&self, at: u64, run: Result<Run>) {
        let mut state = self.lock();
        if !matches!(run, Ok(Run::Good(_))) {
            // It goes no further than here; what is before it was taken already.
            state.left.start = state.left.end;
        }
        state.done.insert(at, run);
        self.changed.notify_all();
    }

    /// The first bad block of the runs that were read and not handed over.
    fn first_bad(&self) -> Option<u64> {
        let state = self.lock();
        state.done.values().find_map(|run| match run {
            Ok(Run::Bad(block)) => Some(*block),
            _ => None,
        })
    }

    fn give_back(&self, bytes: Bytes) {
        self.lock().free.push(bytes);
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

/// The caller is done, or its sink panicked: nobody takes another run.
struct EndOnDrop<'q>(&'q Queue);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct EndOnPanic<'q>(&'q Queue);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::key::RootKey;
    use crate::sim::SimDevice;
    use crate::verify::forward::forward;
    use crate::{SealRequest, SealedShard, VramManager, device};

    const LEN: usize = 7 * (1 << 20) + 100;

    fn sealed() -> (SimDevice, VramManager, SealedShard, Vec<u8>) {
        let device = SimDevice::new(16 << 20);
        let manager = VramManager::builder()
            .device(device.clone())
            .key(RootKey::from_token(&test_listener::secret()).unwrap())
            .build()
            .unwrap();
        let bytes: Vec<u8> = (0..=250).cycle().take(LEN).collect();
        let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
        (device, manager, shard, bytes)
    }

    fn copy_out(
        device: &dyn Device,
        shard: &SealedShard,
        range: &Range<u64>,
        threads: usize,
    ) -> (Result<Option<u64>>, Vec<u8>) {
        let resident = shard.resident().unwrap();
        let read_back = ReadBack {
            device,
            resident,
            level0: &resident.level0(),
        };
        let mut out = Vec::new();
        let threads = NonZeroUsize::new(threads).unwrap();
        let answer = read_back.copy_out(range, threads, &mut |bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        });
        (answer, out)
    }

    // requirement: API-F24
    #[test]
    fn any_number_of_threads_gives_the_bytes_in_order() {
        let (device, _manager, shard, bytes) = sealed();
        for threads in [1, 2, 3, 8, 100] {
            for range in [0..LEN, 5..6, 4095..3 << 20, (1 << 20) + 1..LEN - 1, 9..9] {
                let wanted = range.start as u64..range.end as u64;
                let (answer, out) = copy_out(&device, &shard, &wanted, threads);
                assert_eq!(answer.unwrap(), None);
                assert!(out == bytes[range.clone()], "{threads} threads, {range:?}");
            }
        }
    }

    // requirement: API-F24, DG-7
    #[test]
    fn nothing_from_the_first_bad_run_on_is_handed_over() {
        let (device, _manager, shard, bytes) = sealed();
        for (run, block) in [(6, 1536), (3, 768 + 255), (0, 2)] {
            let offset = block * 4096 + 17;
            device.flip_bit(device.buffers()[0], offset, 3).unwrap();
            for threads in [1, 2, 5] {
                let (answer, out) = copy_out(&device, &shard, &(0..LEN as u64), threads);
                assert_eq!(answer.unwrap(), Some(block), "{threads} threads");
                assert!(out == bytes[..run << 20], "{threads} threads");
            }
        }
        let resident = shard.resident().unwrap();
        let read_back = ReadBack {
            device: &device,
            resident,
            level0: &resident.level0()[..1],
        };
        let one = NonZeroUsize::MIN;
        let answer = read_back.copy_out(&(0..8192), one, &mut |_| Ok(()));
        assert_eq!(answer.unwrap(), Some(1), "no hash vouches for it");
    }

    /// The first read waits for another one.
    struct Together {
        sim: SimDevice,
        reads: std::sync::Mutex<u64>,
        more: std::sync::Condvar,
    }

    impl Device for Together {
        fn info(&self) -> &device::DeviceInfo {
            self.sim.info()
        }

        fn read(
            &self,
            extent: device::Extent,
            offset: u64,
            out: &mut [u8],
        ) -> Result<(), device::DeviceError> {
            let mut reads = self.reads.lock().unwrap();
            *reads = reads.saturating_add(1);
            self.more.notify_all();
            let minute = Duration::from_secs(60);
            let alone = |reads: &mut u64| *reads < 2;
            let (_reads, late) = self.more.wait_timeout_while(reads, minute, alone).unwrap();
            assert!(!late.timed_out(), "nobody else reads");
            self.sim.read(extent, offset, out)
        }

        forward!(sim: facts memory allocate free protect witness address upload write fill);
        forward!(sim: keyed_tags block_digests copy_to as_any close);
    }

    // requirement: API-F24
    #[test]
    fn two_threads_read_at_once() {
        let (sim, _manager, shard, bytes) = sealed();
        let device = Together {
            sim,
            reads: 0.into(),
            more: std::sync::Condvar::new(),
        };
        let (answer, out) = copy_out(&device, &shard, &(0..LEN as u64), 2);
        assert_eq!(answer.unwrap(), None);
        assert!(out == bytes);
    }

    /// The writer fails while another thread reads what is bad: that is what is told.
    // requirement: API-F24, DG-7
    #[test]
    fn a_bad_block_that_was_read_is_not_lost_with_the_writer() {
        let (sim, _manager, shard, _) = sealed();
        sim.flip_bit(sim.buffers()[0], (1 << 20) + 17, 3).unwrap();
        let device = Together {
            sim,
            reads: 0.into(),
            more: std::sync::Condvar::new(),
        };
        let resident = shard.resident().unwrap();
        let read_back = ReadBack {
            device: &device,
            resident,
            level0: &resident.level0(),
        };
        let two = NonZeroUsize::MIN.saturating_add(1);
        // The first run comes after both of the first two were begun.
        let full = || Err(Error::Internal("the disk is full"));
        let answer = read_back.copy_out(&(0..LEN as u64), two, &mut |_| full());
        assert_eq!(answer.unwrap(), Some(256));
        let answer = read_back.copy_out(&(0..1 << 20), two, &mut |_| full());
        assert!(matches!(answer, Err(Error::Internal(_))), "nothing bad");
    }

    // requirement: PF-11
    #[test]
    fn no_more_runs_are_in_memory_than_were_said() {
        let queue = Queue::new(0..10 * RUN_BYTES, 2);
        let take = || queue.lock().take().map(|(at, _)| at / RUN_BYTES);
        assert_eq!([take(), take(), take()], [Some(0), Some(1), None]);
        queue.give_back(Bytes::default());
        assert_eq!([take(), take()], [Some(2), None]);
        queue.give_back(Bytes::default());
        queue.put(0, Ok(Run::Bad(0)));
        assert_eq!(take(), None, "nothing comes after what is bad");
        queue.end();
        assert!(matches!(queue.get(0), Next::Ready(Ok(Run::Bad(0)))));
        assert!(matches!(queue.get(RUN_BYTES), Next::Ended));
    }
}
