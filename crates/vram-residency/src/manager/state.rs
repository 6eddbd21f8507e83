//! Running or stopped (requirement: WORKER-4122).

use serde::Serialize;

use super::VramManager;
use crate::audit::{Body, Text};
use crate::error::{Misuse, Result};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Whether leases are granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunState {
    /// Leases are granted.
    Running,
    /// Leases on every shard are refused; seal, verify, repair and free go on.
    Stopped {
        /// Why.
        reason: String,
    },
}

pub(super) struct StateCell(Mutex<Inner>);

struct Inner {
    now: RunState,
    /// How often somebody stopped it.
    stops: u64,
    /// Somebody is recording that it runs again: a stop is news to the log.
    resuming: bool,
}

/// The stops that a resumption ends.
#[derive(Clone, Copy)]
pub(super) struct Stops(u64);

impl StateCell {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Inner {
            now: RunState::Running,
            stops: 0,
            resuming: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self) -> RunState {
        self.lock().now.clone()
    }

    /// Stops; false when it was stopped already, and is to stay so.
    pub(super) fn stop(&self, reason: &str) -> bool {
        let mut state = self.lock();
        state.stops = state.stops.saturating_add(1);
        let news = state.resuming || state.now == RunState::Running;
        if news {
            let reason = Text::new(reason).as_str().to_owned();
            state.now = RunState::Stopped { reason };
            state.resuming = false;
        }
        news
    }

    /// The stops so far, which a resumption is about to end; none while it runs.
    fn begin_resuming(&self) -> Option<Stops> {
        let mut state = self.lock();
        if state.now == RunState::Running {
            return None;
        }
        state.resuming = true;
        Some(Stops(state.stops))
    }

    /// Runs again, if the resumption was recorded and nobody stopped it since.
    fn end_resuming(&self, ended: Stops, recorded: bool) {
        let mut state = self.lock();
        if state.stops == ended.0 {
            state.resuming = false;
            if recorded {
                state.now = RunState::Running;
            }
        }
    }

    /// Refuses while stopped.
    pub(super) fn running(&self) -> Result<(), Misuse> {
        match self.get() {
            RunState::Running => Ok(()),
            RunState::Stopped { reason } => Err(Misuse::Stopped { reason }),
        }
    }
}

impl VramManager {
    /// Whether leases are granted.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.inner.state.get()
    }

    /// Refuses leases from now on. A failed verification does this by itself.
    ///
    /// # Errors
    /// [`crate::audit::AuditError`] in `required` mode; the manager is stopped anyway.
    pub fn stop(&self, reason: &str) -> Result<()> {
        if self.inner.state.stop(reason) {
            let reason = Text::new(reason);
            self.emit(None, Body::ManagerStopped { reason })?;
        }
        Ok(())
    }

    /// Grants leases again: the operator's explicit decision, recorded before
    /// it takes effect. Quarantined shards stay barred, and a stop that happens
    /// while it is recorded counts.
    ///
    /// # Errors
    /// [`crate::audit::AuditError`] in `required` mode, and [`Misuse::Stopped`]
    /// after such a stop; the manager stays stopped.
    pub fn resume(&self, reason: &str) -> Result<()> {
        let state = &self.inner.state;
        let Some(stops) = state.begin_resuming() else {
            return Ok(());
        };
        let reason = Text::new(reason);
        let recorded = self.emit(None, Body::ManagerResumed { reason });
        state.end_resuming(stops, recorded.is_ok());
        recorded?;
        let running = state.running();
        if let Err(Misuse::Stopped { reason }) = &running {
            // Recorded before or after the resumption: now it is the last word.
            let reason = Text::new(reason);
            self.emit(None, Body::ManagerStopped { reason })?;
        }
        Ok(running?)
    }

    /// Records every loss that was not recorded yet, whichever call met it.
    pub(super) fn record_losses(&self) {
        for slot in &self.inner.slots {
            let device = slot.ledger.device();
            let Some(fault) = device.lost().filter(|_| device.report_once()) else {
                continue;
            };
            let gpu_device = slot.info().ordinal;
            let reason = Text::new(&fault.to_string());
            // The error itself reaches the caller; a lost record is counted.
            let _ = self.emit(None, Body::DeviceLost { gpu_device, reason });
            let _ = self.stop(&format!("device {gpu_device} is lost"));
        }
    }
}
