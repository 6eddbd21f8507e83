//! Progress, cancellation and deadlines of a load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::LoadError;
use crate::clock::Clock;

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that have reached the device.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
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
    /// Monotonic nanoseconds.
    pub(crate) deadline: Option<u64>,
    done: AtomicU64,
    total: u64,
}

impl Control {
    pub(crate) fn new(
        cancel: CancelToken,
        progress: Option<ProgressFn>,
        clock: Arc<dyn Clock>,
        deadline: Option<u64>,
        total: u64,
    ) -> Self {
        Self {
            cancel,
            progress,
            clock,
            deadline,
            done: AtomicU64::new(0),
            total,
        }
    }

    /// Whether the load may go on.
    pub(crate) fn check(&self, name: &str) -> Result<(), LoadError> {
        if self.cancel.is_cancelled() {
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
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        if let Some(progress) = &self.progress {
            progress(Progress {
                done: before.saturating_add(bytes),
                total: self.total,
            });
        }
    }
}
