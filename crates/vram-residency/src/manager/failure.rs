//! Records what fails without an event of its own, so that no failure is silent
//! (requirement: AU-5, AU-7).

use super::metrics::INSUFFICIENT;
use super::{DeviceSlot, VramManager};
use crate::audit::{Body, Recorder, Text};
use crate::error::{Error, Result};
use crate::policy::PolicyError;
use crate::seal::Record;
use crate::shard::ShardId;

/// What a failed operation was about, as far as that is known.
#[derive(Default)]
pub(super) struct About {
    pub(super) shard_id: Option<ShardId>,
    gpu_device: Option<u32>,
    pub(super) correlation_id: Option<Text>,
}

impl About {
    pub(super) fn shard(record: &Record) -> Self {
        Self {
            shard_id: Some(record.shard_id.clone()),
            gpu_device: Some(record.gpu_device),
            correlation_id: None,
        }
    }

    pub(super) fn device(ordinal: u32) -> Self {
        Self {
            gpu_device: Some(ordinal),
            ..Self::default()
        }
    }

    pub(super) fn seal(shard_id: &ShardId, correlation_id: Option<&Text>) -> Self {
        Self {
            shard_id: Some(shard_id.clone()),
            ..Self::request(correlation_id.cloned())
        }
    }

    pub(super) fn request(correlation_id: Option<Text>) -> Self {
        Self {
            correlation_id,
            ..Self::default()
        }
    }
}

/// Passes the answer of a builder on; what failed is recorded. A device that the
/// policy does not admit has an event already.
pub(super) fn started<T>(
    recorder: &Recorder,
    request: Option<&Text>,
    answer: Result<T>,
) -> Result<T> {
    if let Err(error) = &answer
        && !error.is_refusal()
        && !matches!(error, Error::Policy(_))
    {
        // As `VramManager::tell`.
        let body = Body::operation_failed("build", None, None, error);
        let _ = recorder.emit_for(request, body);
    }
    answer
}

impl VramManager {
    /// Passes an answer on; a failure is recorded, and so is a device lost with
    /// it. For failures that have no other event.
    pub(super) fn recorded<T>(
        &self,
        operation: &'static str,
        about: About,
        answer: Result<T>,
    ) -> Result<T> {
        let answer = self.lost_is_recorded(answer);
        if let Err(error) = &answer
            && !error.is_refusal()
        {
            let (shard_id, gpu_device) = (about.shard_id, about.gpu_device);
            let body = Body::operation_failed(operation, shard_id, gpu_device, error);
            self.tell(about.correlation_id.as_ref(), body);
        }
        answer
    }

    /// Passes a policy's answer on; a violation is recorded with what was done
    /// about it (requirement: AU-7, WORKER-4163).
    pub(super) fn permitted<T>(
        &self,
        slot: &DeviceSlot,
        record: &Record,
        answer: Result<T, PolicyError>,
    ) -> Result<T> {
        let about = || About::shard(record);
        answer.map_err(|error| self.policy_violation(slot, about(), error, "refused"))
    }

    /// Records a refused request for room (requirement: AU-5).
    pub(super) fn room_refused(
        &self,
        slot: &DeviceSlot,
        requested_bytes: u64,
        correlation_id: Option<&Text>,
        error: &Error,
    ) {
        self.inner.counters.refused(error);
        let capacity = slot.ledger.capacity();
        let reason = match error {
            Error::InsufficientVram(_) => INSUFFICIENT.to_owned(),
            other => other.to_string(),
        };
        let body = Body::VramAllocationFailed {
            requested_bytes,
            available_bytes: capacity.available,
            reason: Text::new(&reason),
            gpu_device: capacity.ordinal,
        };
        self.tell(correlation_id, body);
    }
}
