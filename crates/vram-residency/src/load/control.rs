//! Progress, cancellation and deadlines of a load.

use std::sync::Arc;
use std::time::Duration;

use super::{LoadError, Staging};
use crate::clock::Clock;
use crate::error::Error;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that have reached the device.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// The same for all files of a group; of a single shard, the two above.
    pub all_done: u64,
    /// Bytes of all files of a group.
    pub all_total: u64,
}

/// How far all members of a group are together.
#[derive(Debug, Default)]
pub(crate) struct Overall {
    done: AtomicU64,
    total: AtomicU64,
}

impl Overall {
    /// A member of `bytes` joins.
    pub(crate) fn join(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A member of `bytes` leaves: its load failed.
    pub(crate) fn leave(&self, bytes: u64) {
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What a failed load had done no longer counts.
    pub(crate) fn take_back(&self, done: u64) {
        self.done.fetch_sub(done, Ordering::Relaxed);
    }
}

/// What the members of a group share while they are loaded.
pub(crate) struct Together {
    pub(crate) overall: Arc<Overall>,
    /// Ends the loads in flight when another member failed.
    pub(crate) halt: CancelToken,
    pub(crate) staging: Staging,
}

/// Called from the reader threads after each chunk.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// Cancels loads from anywhere. Clones share the switch.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    cancelled: Arc<AtomicBool>,
    parent: Option<Arc<CancelToken>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A token of its own that is cancelled with this one, too: for loads that
    /// end together when one of them fails, and with the command in any case.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            cancelled: Arc::default(),
            parent: Some(Arc::new(self.clone())),
        }
    }

    /// Cancels every load that holds a clone of this token or of a child of it.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let parent = self.parent.as_deref();
        self.cancelled.load(Ordering::Acquire) || parent.is_some_and(Self::is_cancelled)
    }
}

/// The controls of one load.
pub(crate) struct Control {
    pub(crate) cancel: CancelToken,
    pub(crate) progress: Option<ProgressFn>,
    pub(crate) clock: Arc<dyn Clock>,
    timeout: Option<Duration>,
    /// Time that it took until it last paused.
    spent: Duration,
    /// Monotonic nanoseconds; known while its time runs.
    started: Option<u64>,
    done: Arc<AtomicU64>,
    total: u64,
    staging: Staging,
    together: Option<Together>,
}

impl Control {
    pub(crate) fn new(
        cancel: CancelToken,
        progress: Option<ProgressFn>,
        clock: Arc<dyn Clock>,
        timeout: Option<Duration>,
        total: u64,
    ) -> Self {
        Self {
            cancel,
            progress,
            clock,
            timeout,
            spent: Duration::ZERO,
            started: None,
            done: Arc::default(),
            total,
            staging: Staging::default(),
            together: None,
        }
    }

    /// The same after some time was spent on it already, beside others
    /// with which it shares the staging memory.
    pub(crate) fn joining(self, spent: Duration, staging: Staging) -> Self {
        Self {
            spent,
            staging,
            ..self
        }
    }

    /// Its time runs from now on, until [`Control::pause`]: waiting for the
    /// other members of a group does not count.
    pub(crate) fn start(&mut self) {
        self.started = Some(self.clock.monotonic());
    }

    /// It waits for its turn.
    pub(crate) fn pause(&mut self) {
        self.spent = self.spent();
        self.started = None;
    }

    /// Time that it took so far.
    pub(crate) fn spent(&self) -> Duration {
        let now = |started| self.clock.monotonic().saturating_sub(started);
        let running = self.started.map_or(0, now);
        self.spent.saturating_add(Duration::from_nanos(running))
    }

    /// Makes this the load of a group's member. Gives the count of its bytes.
    pub(crate) fn join(&mut self, together: Together) -> Arc<AtomicU64> {
        self.together = Some(together);
        Arc::clone(&self.done)
    }

    /// The staging memory that it may use, beside others.
    pub(crate) fn staging(&self) -> &Staging {
        let together = self.together.as_ref();
        together.map_or(&self.staging, |together| &together.staging)
    }

    fn is_cancelled(&self) -> bool {
        let halted = |together: &Together| together.halt.is_cancelled();
        self.cancel.is_cancelled() || self.together.as_ref().is_some_and(halted)
    }

    /// Whether the load may go on.
    pub(crate) fn check(&self, name: &str) -> Result<(), LoadError> {
        if self.is_cancelled() {
            return Err(LoadError::Cancelled {
                name: name.to_owned(),
            });
        }
        if self.timeout.is_some_and(|timeout| self.spent() > timeout) {
            return Err(LoadError::Deadline {
                name: name.to_owned(),
            });
        }
        Ok(())
    }

    /// The error of a load that failed to read: of one that was cancelled, that it
    /// was, and not what came of it.
    pub(crate) fn told(&self, name: &str, error: Error) -> Error {
        if matches!(error, Error::Load(_)) && self.is_cancelled() {
            let name = name.to_owned();
            return LoadError::Cancelled { name }.into();
        }
        error
    }

    pub(crate) fn advance(&self, bytes: u64) {
        let add = |count: &AtomicU64| count.fetch_add(bytes, Ordering::Relaxed);
        let done = add(&self.done).saturating_add(bytes);
        let (all_done, all_total) = match &self.together {
            Some(Together { overall, .. }) => (
                add(&overall.done).saturating_add(bytes),
                overall.total.load(Ordering::Relaxed),
            ),
            None => (done, self.total),
        };
        if let Some(progress) = &self.progress {
            progress(Progress {
                done,
                total: self.total,
                all_done,
                all_total,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    #[test]
    fn a_child_is_cancelled_with_its_parent_and_not_the_other_way() {
        let parent = CancelToken::new();
        let (one, other) = (parent.child(), parent.child());
        one.clone().cancel();
        assert!(one.is_cancelled() && one.child().is_cancelled());
        assert!(!parent.is_cancelled() && !other.is_cancelled());
        parent.cancel();
        assert!(other.is_cancelled());
    }

    // requirement: ER-8
    #[test]
    fn time_runs_while_a_file_is_worked_on_and_not_while_it_waits() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(0)));
        let timeout = Some(Duration::from_nanos(37));
        let control = Control::new(CancelToken::new(), None, clock.clone(), timeout, 0);
        let mut control = control.joining(Duration::from_nanos(7), Staging::default());
        for _ in 0..3 {
            control.start();
            clock.advance(10);
            control.check("").unwrap();
            control.pause();
            clock.advance(1000);
            control.check("").unwrap();
        }
        control.start();
        clock.advance(1);
        let late = control.check("model");
        assert!(matches!(late, Err(LoadError::Deadline { name }) if name == "model"));
    }
}
