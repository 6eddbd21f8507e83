//! Running or stopped (requirement: WORKER-4122).

use serde::Serialize;

use super::VramManager;
use crate::audit::{Body, Text};
use crate::error::{Misuse, Result};
use crate::sync::{Mutex, PoisonError};

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

pub(super) struct StateCell(Mutex<RunState>);

impl StateCell {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(RunState::Running))
    }

    pub(super) fn get(&self) -> RunState {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sets the state; false when it was of that kind already.
    fn set(&self, state: RunState) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = std::mem::discriminant(&*now) != std::mem::discriminant(&state);
        if changed {
            *now = state;
        }
        changed
    }

    /// Stops; false when it was stopped already.
    pub(super) fn stop(&self, reason: &str) -> bool {
        let reason = Text::new(reason).as_str().to_owned();
        self.set(RunState::Stopped { reason })
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
    /// it takes effect. Quarantined shards stay barred.
    ///
    /// # Errors
    /// [`crate::audit::AuditError`] in `required` mode; the manager stays stopped.
    pub fn resume(&self, reason: &str) -> Result<()> {
        if self.state() != RunState::Running {
            self.emit(
                None,
                Body::ManagerResumed {
                    reason: Text::new(reason),
                },
            )?;
            self.inner.state.set(RunState::Running);
        }
        Ok(())
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
