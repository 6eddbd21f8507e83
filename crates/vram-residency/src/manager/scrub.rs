//! The background scrubber: keyed checks of whatever was checked longest ago,
//! at a rate that leaves the memory to its users (requirement: PM-8, POL-5).

use std::time::Duration;

use tracing::field::Empty;
use tracing::{debug, debug_span};

use super::keyed::Span;
use super::verify::seal_ran_out;
use super::{RunState, VramManager};
use crate::device::UPLOAD_ALIGN;
use crate::error::{Error, Misuse, Result};
use crate::shard::{Resident, ShardId};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::trace;

/// Time between two steps of the background thread.
const TICK: Duration = Duration::from_millis(100);
/// Nanoseconds until a shard is tried again whose key is retired or whose seal is
/// too old: it stays so, and once a minute is noise enough. No other failure waits
/// longer.
const PAUSE: u64 = 60_000_000_000;
/// Nanoseconds until a shard is tried again whose check failed twice in a row.
const RETRY: u64 = 1_000_000_000;

/// Nanoseconds until a shard is tried again whose check failed so often in a row
/// and told nothing: one failure may be gone by the next turn, more of them wait
/// twice as long each.
fn retry_after(failures: u64) -> u64 {
    let Some(doublings) = failures.checked_sub(2) else {
        return 0;
    };
    let doublings = u32::try_from(doublings).unwrap_or(u32::MAX);
    RETRY
        .saturating_mul(2_u64.saturating_pow(doublings))
        .min(PAUSE)
}

/// What one step of scrubbing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubStep {
    /// The shard that was checked.
    pub shard_id: ShardId,
    /// Bytes of the model that were checked.
    pub bytes: u64,
    /// Bytes that were read for it: a tree pass comes after one that makes new
    /// references, so it reads the shard twice, and a second opinion more.
    pub read: u64,
}

impl VramManager {
    /// Checks at most `max_bytes` (at least one 1 MiB segment) of the shard that
    /// was scrubbed longest ago: tag, age, witnesses, and segments in secret
    /// order. A tree pass that is due reads the whole shard, whatever
    /// `max_bytes` says: that of `Policy::anchor_passes`, and that of
    /// `Policy::anchor_age` once every segment was visited since the last.
    ///
    /// A shard that looked bad in a check that could not be finished has every
    /// other turn until it is settled. One that cannot be checked because its key
    /// is retired or its seal of the wrong date waits a minute; one whose check
    /// fails otherwise, as when its device does not answer, is tried again at its
    /// next turn, and if that fails, too, after 1 s, 2 s, 4 s and so on, at most a
    /// minute, by the manager's clock. One that somebody verifies, repairs or moves
    /// just now is passed over and keeps its turn;
    /// [`super::DeviceMetrics::oldest_scrub_nanos`] says how long the oldest one has
    /// waited. `None` when there is nothing to check now.
    ///
    /// # Errors
    /// As [`VramManager::verify_sealed`]; a failure condemns the shard as usual.
    pub fn scrub_step(&self, max_bytes: u64) -> Result<Option<ScrubStep>> {
        self.scrub_counted(max_bytes, &mut 0)
    }

    /// The same; `read` grows by what was read, also for a step that fails.
    fn scrub_counted(&self, max_bytes: u64, read: &mut u64) -> Result<Option<ScrubStep>> {
        let span = debug_span!(
            "scrub",
            max_bytes,
            shard_id = Empty,
            gpu_device = Empty,
            bytes = Empty,
            correlation_id = self.request_id()
        );
        trace::operation(&span, || {
            let step = self.scrub_oldest(max_bytes, read, &span)?;
            if let Some(step) = &step {
                span.record("bytes", step.bytes);
            }
            Ok(step)
        })
    }

    fn scrub_oldest(
        &self,
        max_bytes: u64,
        read: &mut u64,
        span: &tracing::Span,
    ) -> Result<Option<ScrubStep>> {
        let mut busy = Vec::new();
        loop {
            let Some(resident) = self.whose_turn(&busy) else {
                return Ok(None);
            };
            let Some(_one_at_a_time) = resident.try_verifying() else {
                // The others do not wait for it, and it keeps its turn.
                busy.push(Arc::clone(&resident));
                continue;
            };
            if resident.is_quarantined() {
                // By a check that ended just now.
                continue;
            }
            span.record(
                "shard_id",
                tracing::field::display(&resident.record().shard_id),
            );
            span.record("gpu_device", resident.record().gpu_device);
            let before = resident.bytes_read();
            let answer = self.scrub_resident(&resident, (max_bytes / UPLOAD_ALIGN).max(1));
            let step = self.inner.scrub_steps.fetch_add(1, Ordering::Relaxed);
            resident.set_scrubbed(step.saturating_add(1));
            let cost = resident.bytes_read().saturating_sub(before);
            *read = read.saturating_add(cost);
            match answer {
                Ok(bytes) => {
                    resident.scrub_passed(self.inner.clock.monotonic());
                    return Ok(Some(ScrubStep {
                        shard_id: resident.record().shard_id.clone(),
                        bytes,
                        read: cost,
                    }));
                }
                Err(Error::Misuse(Misuse::NotSealed)) if resident.doubts() == 0 => {}
                Err(error) => {
                    let failures = resident.scrub_failed();
                    // Nothing was read, and nothing will be under such a seal.
                    let wait = match seal_ran_out(&error) {
                        true => PAUSE,
                        false => retry_after(failures),
                    };
                    let now = self.inner.clock.monotonic();
                    resident.scrub_after(now.saturating_add(wait));
                    self.inner.counters.verification_failed();
                    self.condemn(&resident, &error);
                    return Err(error);
                }
            }
        }
    }

    /// The shard that was scrubbed longest ago, but for those that are `busy`. One in
    /// doubt comes first, but not twice in a row, or the others would never be looked
    /// at.
    fn whose_turn(&self, busy: &[Arc<Resident>]) -> Option<Arc<Resident>> {
        let now = self.inner.clock.monotonic();
        let mut waiting = self.inner.registry.all();
        waiting.retain(|r| r.is_held() && !r.is_quarantined() && r.may_be_scrubbed(now, PAUSE));
        waiting.retain(|r| !busy.iter().any(|busy| Arc::ptr_eq(busy, r)));
        let in_doubt = waiting.iter().filter(|resident| resident.doubts() > 0);
        let in_doubt = in_doubt.min_by_key(|resident| resident.scrubbed());
        let last = &self.inner.scrubbed_in_doubt;
        let in_doubt = in_doubt.filter(|_| !last.load(Ordering::Relaxed));
        last.store(in_doubt.is_some(), Ordering::Relaxed);
        let oldest = || waiting.iter().min_by_key(|resident| resident.scrubbed());
        in_doubt.or_else(oldest).cloned()
    }

    fn scrub_resident(&self, resident: &Arc<Resident>, segments: u64) -> Result<u64> {
        let slot = self.slot_of(resident)?;
        let _ = self.ask_about(slot, resident)?;
        Ok(self
            .check_keyed(slot, resident, Span::Segments(segments))?
            .bytes)
    }
}

/// A thread that scrubs until it is dropped. Pausable; rests while the manager is
/// stopped, as a failed verification or a lost device makes it, for then nothing
/// is leased that scrubbing could protect. What cannot be checked waits as
/// [`VramManager::scrub_step`] says.
#[must_use = "dropping a scrubber stops it"]
pub struct Scrubber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    paused: AtomicBool,
    bytes: AtomicU64,
    failures: AtomicU64,
    failure: Mutex<Option<Error>>,
}

impl Shared {
    fn has_ended(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A later failure hides no finding that nobody has asked for yet.
    fn keep(&self, error: Error) {
        let mut kept = lock(&self.failure);
        *kept = Some(match kept.take() {
            Some(before) => error.graver(before),
            None => error,
        });
    }

    /// Asked before every step: one that was not begun is not taken.
    fn may_go_on(&self, manager: &VramManager) -> bool {
        let paused = self.paused.load(Ordering::SeqCst);
        !self.has_ended() && !paused && manager.state() == RunState::Running
    }
}

impl Scrubber {
    /// Starts scrubbing at about `bytes_per_second`.
    ///
    /// # Errors
    /// [`std::io::Error`] when no thread can be had.
    pub fn start(manager: &VramManager, bytes_per_second: u64) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let manager = VramManager {
            request: None,
            ..manager.clone()
        };
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("vram-scrubber".to_owned());
        let thread = thread.spawn(move || run(&manager, &theirs, bytes_per_second))?;
        debug!(bytes_per_second, "the scrubber starts");
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Stops checking until [`Scrubber::resume`]; a step under way is ended.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        debug!("the scrubber pauses");
    }

    /// Goes on.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
        debug!("the scrubber goes on");
    }

    /// Bytes checked so far.
    #[must_use]
    pub fn bytes_checked(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// The gravest failure since it was last asked for, once: what was found and
    /// where.
    #[must_use]
    pub fn take_failure(&self) -> Option<Error> {
        lock(&self.shared.failure).take()
    }

    /// Ends it once the step under way is done; the gravest failure that nobody took. A
    /// sink that is called in that step ends it, too, and is not waited for: what that
    /// step found is in the records only, and the manager lives until it is done.
    #[must_use = "it may be what the scrubber was there for"]
    pub fn end(mut self) -> Option<Error> {
        self.join();
        self.take_failure()
    }

    fn join(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A sink that is called on that thread may end it: nobody waits for itself.
            if thread.thread().id() == thread::current().id() {
                return;
            }
            thread.thread().unpark();
            let _ = thread.join();
            debug!(bytes = self.bytes_checked(), "the scrubber ended");
        }
    }

    /// Steps that failed; each was recorded and handled by the manager.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::SeqCst)
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.join();
    }
}

/// A lock is poisoned only by a thread that died; what it guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What may be read: thousandths of a byte, so that slow rates count too. A step
/// of 1 MiB can cost several ticks, and a tree pass that was due many: the debt
/// is paid off before the next step.
struct Credit {
    thousandths: i128,
    bytes_per_second: u64,
}

impl Credit {
    const fn new(bytes_per_second: u64) -> Self {
        Self {
            thousandths: 0,
            bytes_per_second,
        }
    }

    /// What one [`TICK`] adds; no more is saved up than a second's worth, or a
    /// step where that is more.
    fn tick(&mut self) {
        let second = i128::from(self.bytes_per_second).saturating_mul(1000);
        let ms = i128::try_from(TICK.as_millis()).unwrap_or(1);
        let more = i128::from(self.bytes_per_second).saturating_mul(ms);
        let step = i128::from(UPLOAD_ALIGN).saturating_mul(1000);
        let most = second.max(step.saturating_add(more));
        self.thousandths = self.thousandths.saturating_add(more).min(most);
    }

    /// Bytes of the next step, when one can be paid.
    fn step(&self) -> Option<u64> {
        let bytes = u64::try_from(self.thousandths.max(0) / 1000).unwrap_or(u64::MAX);
        (bytes >= UPLOAD_ALIGN).then_some(bytes)
    }

    /// A step that read so many bytes; each costs 1 MiB at least.
    fn spend(&mut self, bytes: u64) {
        let cost = i128::from(bytes.max(UPLOAD_ALIGN)).saturating_mul(1000);
        self.thousandths = self.thousandths.saturating_sub(cost);
    }
}

fn run(manager: &VramManager, shared: &Shared, bytes_per_second: u64) {
    let mut credit = Credit::new(bytes_per_second);
    while !shared.has_ended() {
        thread::park_timeout(TICK);
        if shared.may_go_on(manager) {
            credit.tick();
            use_up(&mut credit, manager, shared);
        }
    }
}

/// Steps while they can be paid, there is something to check, and nobody says no.
fn use_up(credit: &mut Credit, manager: &VramManager, shared: &Shared) {
    while let Some(bytes) = credit.step().filter(|_| shared.may_go_on(manager)) {
        let mut read = 0;
        match manager.scrub_counted(bytes, &mut read) {
            Ok(Some(step)) => {
                credit.spend(read);
                shared.bytes.fetch_add(step.bytes, Ordering::SeqCst);
            }
            Ok(None) => return,
            Err(error) => {
                credit.spend(read);
                // First: who sees the count may ask for it.
                shared.keep(error);
                shared.failures.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock, SystemClock, Timestamp};
    use crate::device::DeviceError;
    use crate::key::RootKey;
    use crate::policy::Policy;
    use crate::sim::SimDevice;
    use crate::{SealRequest, SealedShard};

    const LEN: u64 = 3 * UPLOAD_ALIGN;

    /// A manager that holds one shard of 3 MiB.
    fn manager(policy: Policy, clock: impl Clock + 'static) -> (VramManager, SealedShard) {
        manager_on(&SimDevice::new(16 << 20), policy, Arc::new(clock))
    }

    fn manager_on(
        device: &SimDevice,
        policy: Policy,
        clock: Arc<dyn Clock>,
    ) -> (VramManager, SealedShard) {
        let manager = VramManager::builder()
            .device(device.clone())
            .key(RootKey::from_token(&test_listener::secret()).unwrap())
            .policy(policy)
            .clock(clock)
            .build()
            .unwrap();
        let bytes = vec![7; usize::try_from(LEN).unwrap()];
        let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
        (manager, shard)
    }

    fn credit(bytes: u64) -> Credit {
        Credit {
            thousandths: i128::from(bytes).saturating_mul(1000),
            bytes_per_second: bytes,
        }
    }

    /// Pauses the scrubber whenever it is asked for the time: in every step.
    struct Pausing(Arc<Shared>);

    impl Clock for Pausing {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(0)
        }

        fn monotonic(&self) -> u64 {
            let shared = Arc::clone(&self.0);
            let scrubber = std::mem::ManuallyDrop::new(Scrubber {
                shared,
                thread: None,
            });
            scrubber.pause();
            0
        }
    }

    // requirement: PM-8
    #[test]
    fn a_pause_ends_the_step_under_way_and_lets_no_other_begin() {
        let shared = Arc::new(Shared::default());
        let (manager, shard) = manager(Policy::default(), Pausing(Arc::clone(&shared)));
        let checked = || shared.bytes.load(Ordering::SeqCst);
        let mut all = credit(100 * LEN);
        use_up(&mut all, &manager, &shared);
        assert_eq!(checked(), 0, "sealing took the time, too");
        for step in 1..=3 {
            shared.paused.store(false, Ordering::SeqCst);
            use_up(&mut all, &manager, &shared);
            assert_eq!(checked(), step * LEN);
        }
        drop(shard);
    }

    /// A tree pass reads everything twice, and a segment for the CPU.
    // requirement: PM-8
    #[test]
    fn what_steps_read_is_what_they_cost() {
        let policy = Policy {
            anchor_passes: 0,
            ..Policy::default()
        };
        let (manager, shard) = manager(policy, SystemClock::new());
        let shared = Shared::default();
        let mut some = credit(10 << 20);
        use_up(&mut some, &manager, &shared);
        // 7 MiB each: the second is paid off later.
        assert_eq!(shared.bytes.load(Ordering::SeqCst), 2 * LEN);
        assert_eq!(some.thousandths, -(4 << 20) * 1000);
        drop(shard);
    }

    /// A check that fails at once has read nothing: it costs the least, and the others
    /// need not wait until it is paid off.
    // requirement: PM-8
    #[test]
    fn a_check_that_read_nothing_costs_no_more_than_a_segment() {
        use crate::sim::Op;
        for (op, mib) in [(Op::KeyedTags, 1), (Op::Read, 3), (Op::BlockDigests, 4)] {
            let policy = Policy {
                anchor_passes: 0,
                ..Policy::default()
            };
            let device = SimDevice::new(16 << 20);
            let (manager, shard) = manager_on(&device, policy, Arc::new(SystemClock::new()));
            let away = DeviceError::Unsupported { what: "scripted" };
            device.fail(op, 1, away);
            let (shared, mut some) = (Shared::default(), credit(10 << 20));
            use_up(&mut some, &manager, &shared);
            assert_eq!(shared.failures.load(Ordering::SeqCst), 1);
            assert_eq!(some.thousandths, ((10 - mib) << 20) * 1000, "{op:?}");
            drop(shard);
        }
    }

    /// What somebody else checks is passed by and keeps its turn; how long it waits shows.
    // requirement: PM-8
    #[test]
    fn the_scrubber_waits_for_no_other_check() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1)));
        let device = SimDevice::new(16 << 20);
        let policy = Policy::default();
        let (manager, first) = manager_on(&device, policy, clock.clone());
        let second = manager.seal(SealRequest::bytes(&[8; 5000])).unwrap();
        let turn = || manager.scrub_step(LEN).unwrap().map(|step| step.shard_id);
        let age = || manager.metrics().devices[0].oldest_scrub_nanos;
        let (one, two) = (first.resident().unwrap(), second.resident().unwrap());
        {
            let _busy = one.verifying();
            for _ in 0..3 {
                clock.advance(10);
                assert_eq!(turn().as_ref(), Some(second.id()));
            }
            let _both = two.verifying();
            assert_eq!(turn(), None, "nobody is waited for");
            assert_eq!(age(), Some(30), "since the first was sealed");
        }
        assert_eq!(turn().as_ref(), Some(first.id()), "it is the oldest still");
        assert_eq!(age(), Some(0));
        clock.advance(10);
        let waits = match turn().as_ref() == Some(first.id()) {
            true => two,
            false => one,
        };
        assert_eq!(age(), Some(10));
        waits.quarantine();
        assert_eq!(age(), Some(0), "what is condemned waits for no turn");
    }

    /// Ends the scrubber at the first failure, as a worker that shuts down does.
    #[derive(Default)]
    struct Ending {
        scrubber: Mutex<Option<Scrubber>>,
        told: Mutex<Vec<&'static str>>,
    }

    impl crate::audit::Sink for Ending {
        fn record(&self, event: &crate::audit::Event) -> Result<(), crate::audit::AuditError> {
            use crate::audit::Body;
            let name = match event.body {
                Body::SealVerificationFailed { .. } => "failed",
                Body::ManagerStopped { .. } => "stopped",
                _ => return Ok(()),
            };
            // Nobody waits for its thread with the lock: that may be in here, too.
            let scrubber = lock(&self.scrubber).take();
            drop(scrubber);
            lock(&self.told).push(name);
            Ok(())
        }

        fn flush(&self) -> Result<(), crate::audit::AuditError> {
            Ok(())
        }
    }

    /// On its own thread: nobody waits for itself, and what is due is still recorded.
    // requirement: PM-8, AU-3
    #[test]
    fn a_scrubber_can_be_dropped_in_its_own_step() {
        let device = SimDevice::new(16 << 20);
        let sink = Arc::new(Ending::default());
        let manager = VramManager::builder()
            .device(device.clone())
            .key(RootKey::from_token(&test_listener::secret()).unwrap())
            .sink(sink.clone())
            .build()
            .unwrap();
        let shard = manager.seal(SealRequest::bytes(&[7; 5000])).unwrap();
        let scrubber = Scrubber::start(&manager, 1 << 40).unwrap();
        let shared = Arc::clone(&scrubber.shared);
        scrubber.pause();
        *lock(&sink.scrubber) = Some(scrubber);
        device.flip_bit(device.buffers()[0], 5, 1).unwrap();
        shared.paused.store(false, Ordering::SeqCst);
        // The step counts its failure after all of it was recorded.
        loop {
            // Looked at first: a thread that has ended has counted before.
            let lives = Arc::strong_count(&shared) > 1;
            if shared.failures.load(Ordering::SeqCst) != 0 {
                break;
            }
            assert!(lives, "its thread has died");
            thread::yield_now();
        }
        assert_eq!(*lock(&sink.told), ["failed", "stopped"]);
        assert!(shared.has_ended() && lock(&sink.scrubber).is_none());
        drop(shard);
    }

    /// What was found is not hidden behind what failed after it.
    #[test]
    fn a_later_failure_hides_no_finding() {
        use crate::error::VerifyError;
        let shared = Shared::default();
        let shard_id: ShardId = "shard".parse().unwrap();
        let away = || DeviceError::Unsupported { what: "scripted" }.into();
        shared.keep(away());
        shared.keep(VerifyError::NotHeld { shard_id }.into());
        shared.keep(away());
        let kept = lock(&shared.failure).take();
        assert!(matches!(kept, Some(Error::Verify(_))));
    }

    /// Bytes read in so many ticks by steps that take `cost` of what they are offered.
    fn read(rate: u64, ticks: u64, cost: impl Fn(u64) -> u64) -> u64 {
        let (mut credit, mut total) = (Credit::new(rate), 0_u64);
        for _ in 0..ticks {
            credit.tick();
            while let Some(offered) = credit.step() {
                let bytes = cost(offered);
                credit.spend(bytes);
                total = total.saturating_add(bytes);
            }
        }
        total
    }

    // requirement: PM-8
    #[test]
    fn the_rate_is_kept_whatever_steps_cost() {
        const HOUR: u64 = 36_000;
        for rate in [1, 999, 1000, 300_000, 1 << 20, 50 << 20, 7 << 30] {
            let allowed = rate * HOUR / 10;
            // Segments one by one, all that is offered, and trees of 5 GiB.
            for bytes in [UPLOAD_ALIGN, 5 << 30] {
                let total = read(rate, HOUR, |_| bytes);
                assert!(total <= allowed + bytes, "{rate}: {total} of {allowed}");
                let idle = allowed.saturating_sub(total);
                assert!(idle <= bytes.max(rate), "{rate}: {total} of {allowed}");
            }
            let total = read(rate, HOUR, |offered| offered);
            assert!(total <= allowed, "{rate}: {total} of {allowed}");
        }
    }

    // requirement: PM-8
    #[test]
    fn a_check_that_fails_on_and_on_is_tried_less_and_less_and_once_a_minute() {
        let seconds = |failures| retry_after(failures) / RETRY;
        let waits: Vec<u64> = (0..12).map(seconds).collect();
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(retry_after(u64::MAX), PAUSE);
    }

    #[test]
    fn no_more_than_a_second_is_saved_up() {
        let mut credit = Credit::new(10 << 20);
        (0..1000).for_each(|_| credit.tick());
        assert_eq!(credit.step(), Some(10 << 20));
        let mut slow = Credit::new(1000);
        (0..20_000).for_each(|_| slow.tick());
        assert_eq!(slow.step(), Some(UPLOAD_ALIGN + 100));
    }
}
