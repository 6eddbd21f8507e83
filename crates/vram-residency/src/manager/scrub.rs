//! The background scrubber: keyed checks of whatever was checked longest ago,
//! at a rate that leaves the memory to its users (requirement: PM-8, POL-5).

use std::time::Duration;

use tracing::field::Empty;
use tracing::{debug, debug_span};

use super::keyed::Span;
use super::{RunState, VramManager};
use crate::device::UPLOAD_ALIGN;
use crate::error::{Error, Result};
use crate::seal;
use crate::shard::{Resident, ShardId};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::trace;

/// Time between two steps of the background thread.
const TICK: Duration = Duration::from_millis(100);

/// What one step of scrubbing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubStep {
    /// The shard that was checked.
    pub shard_id: ShardId,
    /// Bytes that were read and checked.
    pub bytes: u64,
}

impl VramManager {
    /// Checks at most `max_bytes` (at least one 1 MiB segment) of the shard that
    /// was scrubbed longest ago: tag, witnesses, and segments in secret order. A
    /// tree pass that is due (`Policy::anchor_passes`) reads the whole shard.
    /// `None` when there is nothing to check.
    ///
    /// # Errors
    /// As [`VramManager::verify_sealed`]; a failure condemns the shard as usual.
    pub fn scrub_step(&self, max_bytes: u64) -> Result<Option<ScrubStep>> {
        let span = debug_span!("scrub", max_bytes, shard_id = Empty, bytes = Empty);
        trace::operation(&span, || {
            let step = self.scrub_oldest(max_bytes)?;
            if let Some(step) = &step {
                span.record("shard_id", tracing::field::display(&step.shard_id));
                span.record("bytes", step.bytes);
            }
            Ok(step)
        })
    }

    fn scrub_oldest(&self, max_bytes: u64) -> Result<Option<ScrubStep>> {
        let waiting = self.inner.registry.all().into_iter();
        let waiting = waiting.filter(|r| r.is_held() && !r.is_quarantined());
        let Some(resident) = waiting.min_by_key(|resident| resident.scrubbed_at()) else {
            return Ok(None);
        };
        let _one_at_a_time = resident.verifying();
        let answer = self.scrub_resident(&resident, (max_bytes / UPLOAD_ALIGN).max(1));
        resident.set_scrubbed_at(self.inner.clock.monotonic());
        match answer {
            Ok(bytes) => {
                let shard_id = resident.record().shard_id.clone();
                Ok(Some(ScrubStep { shard_id, bytes }))
            }
            Err(error @ Error::Misuse(_)) => Err(error),
            Err(error) => {
                self.inner.counters.verification_failed();
                self.condemn(&resident, &error)?;
                Err(error)
            }
        }
    }

    fn scrub_resident(&self, resident: &Arc<Resident>, segments: u64) -> Result<u64> {
        let slot = self.slot_of(resident)?;
        let tag = seal::authenticate(resident.record(), &slot.keys.accepted())?;
        self.witness_again(slot, resident, &tag)?;
        Ok(self
            .check_keyed(slot, resident, Span::Segments(segments))?
            .bytes)
    }
}

/// A thread that scrubs until it is dropped. Pausable; ends by itself when the
/// manager stops, as a failed verification or a lost device makes it do.
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

impl Scrubber {
    /// Starts scrubbing at about `bytes_per_second`.
    ///
    /// # Errors
    /// [`std::io::Error`] when no thread can be had.
    pub fn start(manager: &VramManager, bytes_per_second: u64) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (manager, theirs) = (manager.clone(), Arc::clone(&shared));
        let thread = thread::Builder::new().name("vram-scrubber".to_owned());
        let thread = thread.spawn(move || run(&manager, &theirs, bytes_per_second))?;
        debug!(bytes_per_second, "the scrubber starts");
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Stops checking until [`Scrubber::resume`].
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

    /// The last failure, once: what was found and where.
    #[must_use]
    pub fn take_failure(&self) -> Option<Error> {
        lock(&self.shared.failure).take()
    }

    /// Steps that failed; each was recorded and handled by the manager.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::SeqCst)
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
            debug!(bytes = self.bytes_checked(), "the scrubber ended");
        }
    }
}

/// A lock is poisoned only by a thread that died; what it guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(manager: &VramManager, shared: &Shared, bytes_per_second: u64) {
    let per_second = u64::try_from(TICK.as_millis()).unwrap_or(1);
    let per_tick = (bytes_per_second / 1000).saturating_mul(per_second);
    // What a tick may spend. A step of 1 MiB can cost several ticks, and a tree
    // pass that was due many: the debt is paid off before the next step.
    let mut credit = 0_i128;
    while !shared.stop.load(Ordering::SeqCst) {
        thread::park_timeout(TICK);
        if shared.paused.load(Ordering::SeqCst) {
            continue;
        }
        let most = i128::from(bytes_per_second.max(UPLOAD_ALIGN));
        credit = credit.saturating_add(i128::from(per_tick)).min(most);
        while credit >= i128::from(UPLOAD_ALIGN) && !shared.stop.load(Ordering::SeqCst) {
            match manager.scrub_step(u64::try_from(credit).unwrap_or(u64::MAX)) {
                Ok(Some(step)) => {
                    shared.bytes.fetch_add(step.bytes, Ordering::SeqCst);
                    credit = credit.saturating_sub(i128::from(step.bytes.max(UPLOAD_ALIGN)));
                }
                Ok(None) => break,
                Err(error) => {
                    // First: who sees the count may ask for it.
                    *lock(&shared.failure) = Some(error);
                    shared.failures.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
        }
        // A failure or a lost device stopped the manager: nothing is leased
        // that scrubbing could protect.
        if manager.state() != RunState::Running {
            return;
        }
    }
}
