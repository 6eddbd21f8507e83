//! Atomic admission and the counters behind it.

use std::fmt;

use super::{Capacity, Sharing};
use crate::audit::{AuditError, Body, Recorder, Text};
use crate::device::{Allocated, Checked, Device, DeviceError};
use crate::error::{Error, InsufficientVram};
use crate::policy::{Admitted, AdmittedSize};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Counters {
    used: u64,
    /// Part of `used` that the device has not handed out yet.
    reserved: u64,
    stranded: u64,
    holders: u64,
}

/// Budget of one device. Counters sit behind a lock that is never held during
/// I/O; admissions are serialised by a second one, so that the driver's answer
/// and the counters describe the same moment.
pub(crate) struct Ledger {
    device: Arc<Checked>,
    total: u64,
    headroom: u64,
    counters: Mutex<Counters>,
    admission: Mutex<()>,
}

impl Ledger {
    pub(crate) fn new(device: Arc<Checked>, budget: Option<u64>, sharing: Sharing) -> Self {
        let size = device.info().total_bytes;
        Self {
            total: budget.map_or(size, |budget| budget.min(size)),
            headroom: sharing.headroom(size),
            device,
            counters: Mutex::new(Counters::default()),
            admission: Mutex::new(()),
        }
    }

    pub(crate) fn device(&self) -> &Arc<Checked> {
        &self.device
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admission(&self) -> MutexGuard<'_, ()> {
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The budget now.
    pub(crate) fn capacity(&self) -> Capacity {
        let counters = self.counters();
        let free = self
            .total
            .saturating_sub(counters.used)
            .saturating_sub(counters.stranded);
        Capacity {
            ordinal: self.device.info().ordinal,
            total: self.total,
            used: counters.used,
            reserved: counters.reserved,
            stranded: counters.stranded,
            free,
            headroom: self.headroom,
            available: free.saturating_sub(self.headroom),
            holders: counters.holders,
        }
    }

    /// Takes room for `size` bytes or refuses (requirement: CAP-9, GC-1, GC-3). The
    /// reservation gives the room back when it is dropped.
    ///
    /// # Errors
    /// [`InsufficientVram`], or the driver's failure to say what is free.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        _admitted: Admitted,
        size: AdmittedSize,
    ) -> Result<Reservation, Error> {
        let _one_at_a_time = self.admission();
        let needed = self.needed(size)?;
        let mut counters = self.counters();
        counters.used = counters.used.saturating_add(needed);
        counters.reserved = counters.reserved.saturating_add(needed);
        counters.holders = counters.holders.saturating_add(1);
        Ok(Reservation {
            ledger: Arc::clone(self),
            bytes: needed,
            requested: size.bytes(),
            recorder: None,
        })
    }

    /// Whether [`Ledger::reserve`] would say yes now; takes nothing.
    ///
    /// # Errors
    /// As [`Ledger::reserve`].
    pub(crate) fn admissible(&self, size: AdmittedSize) -> Result<(), Error> {
        let _one_at_a_time = self.admission();
        self.needed(size).map(drop)
    }

    /// Bytes that `size` takes here, if there is room for them. The caller holds
    /// the admission lock.
    fn needed(&self, size: AdmittedSize) -> Result<u64, Error> {
        let driver_free = self.device.memory()?.free;
        let granularity = self.device.info().granularity.max(1);
        let needed = size
            .bytes()
            .checked_next_multiple_of(granularity)
            .unwrap_or(u64::MAX);
        let capacity = self.capacity();
        // Reserved bytes are not yet missing from the driver's figure.
        let elsewhere = capacity.reserved.saturating_add(self.headroom);
        let available = capacity
            .available
            .min(driver_free.saturating_sub(elsewhere));
        if needed > available {
            return Err(InsufficientVram {
                ordinal: capacity.ordinal,
                needed,
                available,
                total: capacity.total,
                used: capacity.used,
                shards: capacity.holders,
                stranded: capacity.stranded,
                headroom: self.headroom,
                driver_free,
            }
            .into());
        }
        Ok(needed)
    }

    /// The device gave `granted` bytes for a reservation of `reserved`. A device
    /// that gives more than was asked for is charged with it as far as the budget
    /// goes, so that the sum holds; returns the bytes charged.
    fn commit(&self, reserved: u64, granted: u64) -> u64 {
        let mut counters = self.counters();
        counters.reserved = counters.reserved.saturating_sub(reserved);
        let others = counters.used.saturating_sub(reserved);
        let room = self.total.saturating_sub(others);
        let charged = granted.min(room.saturating_sub(counters.stranded));
        counters.used = others.saturating_add(charged);
        charged
    }

    fn release_reservation(&self, bytes: u64) {
        let _ = self.commit(bytes, 0);
        self.drop_holder();
    }

    /// The device took the `charged` bytes of an allocation back, except for
    /// `stranded` of them.
    pub(super) fn release(&self, charged: u64, stranded: u64) {
        let mut counters = self.counters();
        counters.used = counters.used.saturating_sub(charged);
        // More than was charged cannot be missing from the budget.
        let stranded = stranded.min(charged);
        counters.stranded = counters.stranded.saturating_add(stranded);
        drop(counters);
        self.drop_holder();
    }

    fn drop_holder(&self) {
        let mut counters = self.counters();
        counters.holders = counters.holders.saturating_sub(1);
    }
}

/// Room in the budget that nobody else gets. Dropping it gives it back
/// (requirement: TY-9, GC-6).
#[must_use = "dropping a reservation gives the room back"]
pub struct Reservation {
    ledger: Arc<Ledger>,
    bytes: u64,
    requested: u64,
    /// Where its release is recorded; none for those that become a shard, whose
    /// memory has events of its own.
    recorder: Option<(Arc<Recorder>, Option<Text>)>,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("gpu_device", &self.ledger.device.info().ordinal)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Reservation {
    /// Records a reservation of the caller's own, now and when it ends.
    pub(crate) fn recorded(
        mut self,
        recorder: &Arc<Recorder>,
        correlation_id: Option<Text>,
    ) -> Result<Self, AuditError> {
        let capacity = self.ledger.capacity();
        let body = Body::VramReserved {
            reserved_bytes: self.bytes,
            available_bytes: capacity.available,
            used_bytes: capacity.used,
            gpu_device: capacity.ordinal,
        };
        recorder.emit_for(correlation_id.as_ref(), body)?;
        self.recorder = Some((Arc::clone(recorder), correlation_id));
        Ok(self)
    }

    /// Bytes held, rounded up to the device's granularity.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Turns the room into device memory.
    pub(super) fn take(mut self) -> Result<Taken, DeviceError> {
        let ledger = Arc::clone(&self.ledger);
        let admission = ledger.admission();
        let allocated = ledger.device.allocate(self.requested)?;
        let charged = ledger.commit(self.bytes, allocated.granted);
        // The room belongs to the allocation now; dropping `self` gives nothing back.
        self.bytes = 0;
        drop(admission);
        // Less than was asked for would be written past its end.
        let right = allocated.granted >= self.requested && charged == allocated.granted;
        Ok(Taken {
            ledger,
            allocated,
            charged,
            right,
        })
    }
}

/// What a device gave for a reservation.
pub(super) struct Taken {
    pub(super) ledger: Arc<Ledger>,
    pub(super) allocated: Allocated,
    /// Bytes of the budget that it took.
    pub(super) charged: u64,
    /// It gave what was asked for and what the budget holds.
    pub(super) right: bool,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        self.ledger.release_reservation(self.bytes);
        if let Some((recorder, correlation_id)) = &self.recorder {
            let capacity = self.ledger.capacity();
            let body = Body::VramReservationReleased {
                freed_bytes: self.bytes,
                remaining_used: capacity.used,
                gpu_device: capacity.ordinal,
            };
            // Nobody is left to tell; a lost event is counted.
            let _ = recorder.emit_for(correlation_id.as_ref(), body);
        }
    }
}
