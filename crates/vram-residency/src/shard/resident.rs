//! A sealed shard's inner state, shared by its handles and leases.

use vram_digest::BlockHash;

use super::{Claim, Condemned, Filled};
use crate::audit::Text;
use crate::capacity::Allocation;
use crate::device::Witness;
use crate::error::{Answer, Error, Misuse};
use crate::format::TensorTable;
use crate::seal::Record;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use crate::verify::{Mode, Rolling, Verification};

/// Owns the memory of one shard. The lock around it is held for reading while
/// the memory is used or leased out, and for writing to take it away.
pub(crate) struct Resident {
    record: Arc<Record>,
    tensors: TensorTable,
    claim: Arc<Claim>,
    /// Monotonic time of the seal.
    since: u64,
    memory: RwLock<Option<Allocation>>,
    /// What `memory` says, without its lock: to ask must never wait for I/O.
    held: AtomicBool,
    level0: Mutex<Arc<Vec<BlockHash>>>,
    handles: AtomicU64,
    leases: AtomicU64,
    /// The last handle was dropped: whoever holds the last lease frees the memory.
    abandoned: AtomicBool,
    /// What passed, the newest last: none that a newer one stands for.
    stamps: Mutex<Vec<Stamp>>,
    proved: AtomicBool,
    witnessed: Mutex<Option<Witness>>,
    /// Blocks that looked bad in a check that could not be finished; 0 is none.
    doubts: AtomicU64,
    /// As many of them as a checker of the shard told.
    suspects: AtomicU64,
    /// What the checkers said that left them in doubt.
    answers: Mutex<Vec<Answer>>,
    rolling: Mutex<Option<Rolling>>,
    bytes_read: AtomicU64,
    /// Which step of the scrubber was its last; 0 before the first.
    scrubbed: AtomicU64,
    /// Monotonic time of its last check that passed, or of the seal.
    scrubbed_at: AtomicU64,
    /// Monotonic time before which the scrubber does not come again.
    scrub_after: AtomicU64,
    /// Steps of the scrubber in a row that failed and settled nothing.
    scrub_failures: AtomicU64,
    verifying: Mutex<()>,
}

/// A verification that passed, and when by the monotonic clock it began.
#[derive(Clone)]
pub(crate) struct Stamp {
    pub(crate) verification: Verification,
    pub(crate) monotonic: u64,
}

/// Proof that the memory is there and stays while this value lives.
pub(crate) struct Held<'r>(RwLockReadGuard<'r, Option<Allocation>>);

impl Held<'_> {
    pub(crate) fn allocation(&self) -> Result<&Allocation, Misuse> {
        self.0.as_ref().ok_or(Misuse::NotSealed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Resident {
    /// Takes over the memory of a shard that was filled, and sealed `since`.
    pub(crate) fn new(
        filled: Filled,
        record: Record,
        tensors: TensorTable,
        rolling: Option<Rolling>,
        since: u64,
    ) -> Arc<Self> {
        let resident = Arc::new(Self {
            record: Arc::new(record),
            tensors,
            since,
            memory: RwLock::new(Some(filled.allocation)),
            held: AtomicBool::new(true),
            level0: Mutex::new(Arc::new(filled.tree.into_level0())),
            handles: AtomicU64::new(0),
            leases: AtomicU64::new(0),
            abandoned: AtomicBool::new(false),
            stamps: Mutex::default(),
            proved: AtomicBool::new(false),
            witnessed: Mutex::new(None),
            doubts: AtomicU64::new(0),
            suspects: AtomicU64::new(0),
            answers: Mutex::default(),
            rolling: Mutex::new(rolling),
            bytes_read: AtomicU64::new(0),
            scrubbed: AtomicU64::new(0),
            scrubbed_at: AtomicU64::new(since),
            scrub_after: AtomicU64::new(0),
            scrub_failures: AtomicU64::new(0),
            verifying: Mutex::new(()),
            claim: filled.claim,
        });
        resident.claim.set(&resident);
        resident
    }

    pub(crate) const fn record(&self) -> &Arc<Record> {
        &self.record
    }

    pub(crate) const fn since(&self) -> u64 {
        self.since
    }

    pub(crate) const fn tensors(&self) -> &TensorTable {
        &self.tensors
    }

    pub(crate) const fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    pub(crate) fn level0(&self) -> Arc<Vec<BlockHash>> {
        Arc::clone(&lock(&self.level0))
    }

    /// Replaces block hashes that were damaged in host memory.
    pub(crate) fn set_level0(&self, level0: Vec<BlockHash>) {
        *lock(&self.level0) = Arc::new(level0);
    }

    /// Keeps the memory in place while it is used.
    pub(crate) fn hold(&self) -> Result<Held<'_>, Misuse> {
        let held = Held(self.memory.read().unwrap_or_else(PoisonError::into_inner));
        held.allocation()?;
        Ok(held)
    }

    /// Whether the memory is still there; never waits.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// Runs one verification at a time, so that concurrent leases share it.
    pub(crate) fn verifying(&self) -> MutexGuard<'_, ()> {
        lock(&self.verifying)
    }

    /// The same without waiting; `None` while somebody verifies, repairs or moves
    /// the shard.
    pub(crate) fn try_verifying(&self) -> Option<MutexGuard<'_, ()>> {
        match self.verifying.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The last one that proves all that `mode` would.
    pub(crate) fn last_that_covers(&self, mode: Mode) -> Option<Stamp> {
        let stamps = lock(&self.stamps);
        let mut newest_first = stamps.iter().rev();
        let covers = |stamp: &&Stamp| stamp.verification.mode.covers(mode);
        newest_first.find(covers).cloned()
    }

    /// Keeps a verification that passed, beside older ones that prove more: a check
    /// of less does not make them any older.
    pub(crate) fn stamp(&self, stamp: Stamp) {
        let verification = &stamp.verification;
        if verification.bytes_checked == verification.bytes_total {
            self.proved.store(true, Ordering::SeqCst);
        }
        let mode = verification.mode;
        let mut stamps = lock(&self.stamps);
        stamps.retain(|old| !mode.stands_for(old.verification.mode));
        stamps.push(stamp);
    }

    /// What the driver said of the memory in the check under way, or the last one.
    pub(crate) fn witnessed(&self) -> Option<Witness> {
        *lock(&self.witnessed)
    }

    pub(crate) fn set_witnessed(&self, now: Option<Witness>) {
        *lock(&self.witnessed) = now;
    }

    /// Whether one verification read every byte since the shard was sealed, and
    /// none condemned it after that.
    pub(crate) fn is_proved(&self) -> bool {
        self.proved.load(Ordering::SeqCst)
    }

    /// What was verified before counts no more.
    fn forget_verifications(&self) {
        self.proved.store(false, Ordering::SeqCst);
        lock(&self.stamps).clear();
    }

    pub(crate) fn scrubbed(&self) -> u64 {
        self.scrubbed.load(Ordering::Relaxed)
    }

    pub(crate) fn set_scrubbed(&self, step: u64) {
        self.scrubbed.store(step, Ordering::Relaxed);
    }

    /// The scrubber could check the shard, at that monotonic time.
    pub(crate) fn scrub_passed(&self, now: u64) {
        self.scrub_failures.store(0, Ordering::Relaxed);
        self.scrubbed_at.store(now, Ordering::Relaxed);
    }

    /// When it last could; before that, when the shard was sealed.
    pub(crate) fn scrubbed_at(&self) -> u64 {
        self.scrubbed_at.load(Ordering::Relaxed)
    }

    /// The scrubber could not; how often in a row now.
    pub(crate) fn scrub_failed(&self) -> u64 {
        let before = self.scrub_failures.fetch_add(1, Ordering::Relaxed);
        before.saturating_add(1)
    }

    /// Whether a shard that could not be checked may be tried again. A time
    /// further off than `pause` was set by a clock that has gone back since.
    pub(crate) fn may_be_scrubbed(&self, now: u64, pause: u64) -> bool {
        let left = self.scrub_after.load(Ordering::Relaxed).saturating_sub(now);
        left == 0 || left > pause
    }

    pub(crate) fn scrub_after(&self, then: u64) {
        self.scrub_after.store(then, Ordering::Relaxed);
    }

    /// Takes the state of keyed checks out for a pass. A pass that fails half
    /// way does not put it back: its key is spent.
    pub(crate) fn take_rolling(&self) -> Option<Rolling> {
        lock(&self.rolling).take()
    }

    pub(crate) fn set_rolling(&self, rolling: Option<Rolling>) {
        *lock(&self.rolling) = rolling;
    }

    /// So many blocks looked bad, as these answers say, and nobody can tell yet who
    /// erred. Whatever was verified before does not count until a tree pass has been
    /// passed. The first answers are kept until then.
    pub(crate) fn doubt(&self, blocks: u64, said: impl IntoIterator<Item = Answer>) {
        if blocks > 0 {
            let mut answers = lock(&self.answers);
            answers.extend(said);
            answers.truncate(Answer::MAX_KEPT);
            drop(answers);
            self.suspects.fetch_max(blocks, Ordering::SeqCst);
            self.doubts.fetch_max(blocks, Ordering::SeqCst);
            self.set_rolling(None);
        }
    }

    /// A copy of the shard did not arrive as sealed, and whether that was the source,
    /// the way or the target nobody can tell yet: the same, but no checker erred where
    /// the source turns out to be good.
    pub(crate) fn doubt_as_source(&self) {
        self.doubts.fetch_max(1, Ordering::SeqCst);
        self.set_rolling(None);
    }

    /// Blocks that are in doubt.
    pub(crate) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::SeqCst)
    }

    /// The answers that left the shard in doubt.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        lock(&self.answers).clone()
    }

    /// The same, for the check that settles it, either way.
    pub(crate) fn take_answers(&self) -> Vec<Answer> {
        std::mem::take(&mut *lock(&self.answers))
    }

    /// A tree pass found every byte to be as sealed, at that monotonic time; how many
    /// blocks a checker was wrong about before. None of a condemned shard: that was bad
    /// and is good again.
    pub(crate) fn settle(&self, now: u64) -> u64 {
        self.doubts.store(0, Ordering::SeqCst);
        let outvoted = self.suspects.swap(0, Ordering::SeqCst);
        if let Some(rolling) = lock(&self.rolling).as_mut() {
            rolling.anchored_at = now;
        }
        match self.is_quarantined() {
            true => 0,
            false => outvoted,
        }
    }

    /// Bytes that the device read for checks of the contents, however they ended.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    pub(crate) fn count_read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        self.claim.is_quarantined()
    }

    /// Bars the shard from leases; what was verified before counts no more.
    pub(crate) fn quarantine(&self) {
        self.claim.quarantine();
        self.forget_verifications();
    }

    pub(crate) fn condemned(&self) -> Condemned {
        self.claim.condemned()
    }

    /// Only a repair may call this, after a full verification that began when
    /// the shard stood condemned so. False when it was condemned again since.
    pub(crate) fn acquit(&self, of: Condemned) -> bool {
        self.claim.acquit(of)
    }

    pub(crate) fn leases(&self) -> u64 {
        self.leases.load(Ordering::SeqCst)
    }

    /// Counts a lease. `_held` proves that the memory cannot be taken away
    /// between the verification and the count.
    pub(crate) fn add_lease(&self, _held: &Held<'_>) {
        self.leases.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a lease; the last one of a shard that nobody owns any more frees it.
    pub(crate) fn drop_lease(&self) {
        let last = self.leases.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.abandoned.load(Ordering::SeqCst) {
            let _ = self.free(None);
        }
    }

    /// Frees the memory of a shard whose last handle was dropped, or leaves that to the
    /// last lease: whichever of the two comes later sees what the other did.
    ///
    /// # Errors
    /// [`Misuse::Busy`] where it is left to a lease, else as [`Allocation::free`].
    pub(crate) fn abandon(&self, request: Option<&Text>) -> Result<(), Error> {
        self.abandoned.store(true, Ordering::SeqCst);
        self.free(request)
    }

    pub(crate) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::SeqCst);
    }

    /// Adds a handle to a shard that still has one; a last handle that is being
    /// dropped takes the memory with it.
    pub(crate) fn share(&self) -> bool {
        let one_more = |handles: u64| handles.checked_add(1).filter(|_| handles > 0);
        self.handles
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .is_ok()
    }

    /// Handles that share the shard.
    pub(crate) fn handles(&self) -> u64 {
        self.handles.load(Ordering::SeqCst)
    }

    /// Gives up the only handle; false where there are others.
    pub(crate) fn drop_only_handle(&self) -> bool {
        let only = self
            .handles
            .compare_exchange(1, 0, Ordering::SeqCst, Ordering::SeqCst);
        only.is_ok()
    }

    /// Gives up one handle; true for the last.
    pub(crate) fn drop_handle(&self) -> bool {
        self.handles.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Takes the memory away from every user: waits for verifications in
    /// progress and refuses while leases are out.
    pub(crate) fn take(&self) -> Result<Allocation, Misuse> {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        match self.leases() {
            0 => {
                self.held.store(false, Ordering::SeqCst);
                memory.take().ok_or(Misuse::NotSealed)
            }
            leases => {
                let shard_id = self.record.shard_id.clone();
                Err(Misuse::Busy { shard_id, leases })
            }
        }
    }

    /// Runs `work` while nobody else uses the memory; the same rules as `take`.
    pub(crate) fn exclusively<R>(
        &self,
        work: impl FnOnce(&Allocation) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        let allocation = memory.as_ref().ok_or(Misuse::NotSealed)?;
        match self.leases() {
            0 => work(allocation),
            leases => {
                let shard_id = self.record.shard_id.clone();
                Err(Misuse::Busy { shard_id, leases }.into())
            }
        }
    }

    /// Frees the memory now.
    pub(crate) fn free(&self, request: Option<&Text>) -> Result<(), Error> {
        self.take()?.free(request)
    }
}
