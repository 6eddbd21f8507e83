//! Progress, cancellation and deadlines of a load.

use std::sync::Arc;
use std::time::Duration;

use super::LoadError;
use crate::clock::Clock;
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
    /// Loads that run at the same time and share the staging memory.
    pub(crate) at_once: usize,
}

/// Called from the reader threads after each chunk.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// Cancels loads from anywhere. Clones share the switch.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels every load that holds a clone of this token.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The controls of one load.
pub(crate) struct Control {
    pub(crate) cancel: CancelToken,
    pub(crate) progress: Option<ProgressFn>,
    pub(crate) clock: Arc<dyn Clock>,
    timeout: Option<Duration>,
    /// Monotonic nanoseconds; known once the load starts.
    deadline: Option<u64>,
    done: Arc<AtomicU64>,
    total: u64,
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
            deadline: None,
            done: Arc::default(),
            total,
            together: None,
        }
    }

    /// The load starts, and its time with it: waiting for the other members of
    /// a group does not count.
    pub(crate) fn start(&mut self) {
        let after = |timeout: Duration| {
            let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            self.clock.monotonic().saturating_add(nanos)
        };
        self.deadline = self.timeout.map(after);
    }

    /// Makes this the load of a group's member. Gives the count of its bytes.
    pub(crate) fn join(&mut self, together: Together) -> Arc<AtomicU64> {
        self.together = Some(together);
        Arc::clone(&self.done)
    }

    /// Loads that share the staging memory with this one, itself included.
    pub(crate) fn at_once(&self) -> usize {
        self.together
            .as_ref()
            .map_or(1, |together| together.at_once)
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
        if self
            .deadline
            .is_some_and(|deadline| self.clock.monotonic() > deadline)
        {
            return Err(LoadError::Deadline {
                name: name.to_owned(),
            });
        }
        Ok(())
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
