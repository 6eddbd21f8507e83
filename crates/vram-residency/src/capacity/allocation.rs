//! Device memory with an owner: dropping it scrubs, frees and records.

use std::sync::Arc;

use super::{Ledger, Reservation};
use crate::audit::{AuditError, Body, Recorder, Text};
use crate::device::{BufferId, Checked, Device, DeviceError, Extent, FreeError};
use crate::error::Error;
use crate::shard::ShardId;

/// Memory taken for one shard. Exactly one owner; `Drop` gives it back
/// (requirement: TY-7).
pub(crate) struct Allocation {
    ledger: Arc<Ledger>,
    recorder: Arc<Recorder>,
    shard_id: ShardId,
    /// Of the request that it was taken for.
    correlation_id: Option<Text>,
    buffer: BufferId,
    /// Bytes that the device gave, all of them in the budget.
    granted: u64,
    extent: Extent,
    released: bool,
}

impl Allocation {
    /// Takes the reserved room from the device; the shard of `len` bytes lies
    /// at byte `start` of it. A device that gives less than was asked for, or
    /// more than the budget holds, gets it back.
    pub(crate) fn take(
        reservation: Reservation,
        recorder: Arc<Recorder>,
        (shard_id, correlation_id): (ShardId, Option<Text>),
        start: u64,
        len: u64,
    ) -> Result<Self, DeviceError> {
        let taken = reservation.take()?;
        let buffer = taken.allocated.id;
        let allocation = Self {
            ledger: taken.ledger,
            recorder,
            shard_id,
            correlation_id,
            buffer,
            granted: taken.charged,
            extent: Extent { buffer, start, len },
            released: false,
        };
        if taken.right {
            return Ok(allocation);
        }
        drop(allocation);
        Err(DeviceError::NoResult { op: "allocate" })
    }

    pub(crate) const fn extent(&self) -> Extent {
        self.extent
    }

    pub(crate) const fn granted(&self) -> u64 {
        self.granted
    }

    pub(crate) fn device(&self) -> &Arc<Checked> {
        self.ledger.device()
    }

    /// Scrubs and frees now, so that the caller learns of a failure: of the
    /// memory first, else of the record. The event is of `request`, or of the one that
    /// took the memory.
    pub(crate) fn free(mut self, request: Option<&Text>) -> Result<(), Error> {
        if let Some(id) = request {
            self.correlation_id = Some(id.clone());
        }
        let (freed, recorded) = self.release();
        freed?;
        Ok(recorded?)
    }

    /// Frees once; the ledger and the log learn of it either way.
    fn release(&mut self) -> (Result<(), FreeError>, Result<(), AuditError>) {
        if std::mem::replace(&mut self.released, true) {
            return (Ok(()), Ok(()));
        }
        let freed = self.ledger.device().free(self.buffer);
        let stranded = freed.as_ref().err().map_or(0, |error| error.stranded);
        self.ledger.release(self.granted, stranded);
        let capacity = self.ledger.capacity();
        let shard_id = self.shard_id.clone();
        let body = match &freed {
            Ok(()) => Body::VramDeallocated {
                shard_id,
                freed_bytes: self.granted,
                remaining_used: capacity.used,
                gpu_device: capacity.ordinal,
            },
            Err(error) => Body::VramStranded {
                shard_id,
                stranded_bytes: error.stranded,
                gpu_device: capacity.ordinal,
                reason: Text::new(&error.source.to_string()),
            },
        };
        let recorded = self.recorder.emit_for(self.correlation_id.as_ref(), body);
        (freed, recorded)
    }
}

impl Drop for Allocation {
    /// Never panics; what could not be freed is in the ledger and the log
    /// (requirement: MS-004, MS-005, API-F27).
    fn drop(&mut self) {
        let _ = self.release();
    }
}
