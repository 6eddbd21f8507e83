//! Counters and gauges as plain values (requirement: API-F37, TY-5, OB-2, OB-3).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::{RunState, VramManager};
use crate::capacity::Capacity;
use crate::device::{DeviceError, DeviceKind, Uuid};
use crate::error::Error;
use crate::verify::Mode;

#[derive(Default)]
pub(super) struct Counters {
    seal_attempts: AtomicU64,
    sealed: AtomicU64,
    refused: AtomicU64,
    verified: AtomicU64,
    verification_failures: AtomicU64,
    checker_faults: AtomicU64,
    leases: AtomicU64,
    freed: AtomicU64,
    migrated: AtomicU64,
    allocation_attempts: AtomicU64,
    concurrent_attempts: AtomicU64,
    allocating: AtomicU64,
    verify_nanos: AtomicU64,
    refusals: Reasons,
    failures: Reasons,
}

/// Counts by reason; touched only when something goes wrong.
#[derive(Default)]
struct Reasons(Mutex<BTreeMap<&'static str, u64>>);

impl Reasons {
    fn count(&self, reason: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    fn get(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone()
    }
}

/// A request for memory under way.
pub(super) struct Attempt<'c>(&'c AtomicU64);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why memory is refused that is not there.
pub(super) const INSUFFICIENT: &str = "insufficient_vram";

impl Counters {
    /// Counts a request for memory until it ends, and whether it began while
    /// another was under way (requirement: OB-3).
    pub(super) fn attempt(&self) -> Attempt<'_> {
        self.allocation_attempts.fetch_add(1, Ordering::Relaxed);
        if self.allocating.fetch_add(1, Ordering::Relaxed) > 0 {
            self.concurrent_attempts.fetch_add(1, Ordering::Relaxed);
        }
        Attempt(&self.allocating)
    }

    /// Memory was refused for this reason.
    pub(super) fn refused(&self, error: &Error) {
        self.refused_for(match error {
            Error::InsufficientVram(_) => INSUFFICIENT,
            Error::Device(DeviceError::OutOfMemory { .. }) => "device_out_of_memory",
            Error::Device(DeviceError::Lost { .. }) => "device_lost",
            Error::Device(_) | Error::Free(_) => "device_error",
            _ => "other",
        });
    }

    /// The same where no single request was refused.
    pub(super) fn refused_for(&self, reason: &'static str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.refusals.count(reason);
    }

    /// A failed verification was recorded with this reason.
    pub(super) fn recorded_failure(&self, reason: &'static str) {
        self.failures.count(reason);
    }

    /// A verification that passed took this long.
    pub(super) fn verified(&self, nanos: u64) {
        self.verified.fetch_add(1, Ordering::Relaxed);
        self.verify_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

macro_rules! counter {
    ($($method:ident => $field:ident),* $(,)?) => {
        impl Counters {
            $(pub(super) fn $method(&self) {
                self.$field.fetch_add(1, Ordering::Relaxed);
            })*
        }
    };
}

counter! {
    seal_attempts => seal_attempts,
    sealed => sealed,
    verification_failed => verification_failures,
    checker_erred => checker_faults,
    leased => leases,
    freed => freed,
    migrated => migrated,
}

/// Gauges of one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceMetrics {
    /// Device identity.
    pub device_uuid: Uuid,
    /// GPU or simulator.
    pub device_kind: DeviceKind,
    /// The managed budget.
    pub capacity: Capacity,
    /// Used share of the budget, 0.0 to 100.0.
    pub utilization_percent: f64,
    /// Shards sealed on it now.
    pub shards: u64,
    /// Leases on them that are out.
    pub leases: u64,
    /// Shards that failed a verification.
    pub quarantined: u64,
    /// Nanoseconds since the oldest last verification of a shard on it that was asked
    /// to read every byte (`Full`, `Keyed`): a check of less makes nothing fresh.
    /// Absent while one has had none, or has failed since.
    pub oldest_verification_nanos: Option<u64>,
    /// Nanoseconds since the scrubber last checked the shard on it that it checked
    /// longest ago, from the seal on where it never did; absent without shards.
    pub oldest_scrub_nanos: Option<u64>,
}

/// Everything countable about a manager.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VramMetrics {
    /// Leases granted or refused now.
    pub state: RunState,
    /// One entry a device.
    pub devices: Vec<DeviceMetrics>,
    /// Seals that were begun.
    pub seal_attempts_total: u64,
    /// Seals that were made.
    pub seal_operations_total: u64,
    /// Requests for memory that were refused.
    pub allocation_failures_total: u64,
    /// The same by reason: `insufficient_vram`, `device_out_of_memory`,
    /// `device_lost`, `device_error` or `other` (requirement: OB-3).
    pub allocation_failures_by_reason: BTreeMap<&'static str, u64>,
    /// Requests for memory.
    pub allocation_attempts_total: u64,
    /// Those that began while another was under way (requirement: OB-3).
    pub concurrent_allocation_attempts_total: u64,
    /// Verifications that passed.
    pub verify_operations_total: u64,
    /// Verifications that failed.
    pub verify_failures_total: u64,
    /// Failed verifications that were recorded, by the reason of the event
    /// `seal.verification_failed`: also those of records, and attempts on
    /// quarantined shards (requirement: OB-2).
    pub verify_failures_by_reason: BTreeMap<&'static str, u64>,
    /// Answers of a checker that others outvoted, as `seal.checker_fault` records
    /// them.
    pub checker_faults_total: u64,
    /// Nanoseconds that the passed verifications took together.
    pub verify_nanos_total: u64,
    /// Leases granted.
    pub leases_total: u64,
    /// Shards freed on request.
    pub deallocations_total: u64,
    /// Shards moved.
    pub migrations_total: u64,
    /// Events that a sink refused (requirement: AU-13).
    pub audit_emit_failures_total: u64,
    /// Critical ones among them.
    pub audit_critical_emit_failures_total: u64,
}

impl VramManager {
    /// A snapshot of every counter and gauge.
    #[must_use]
    pub fn metrics(&self) -> VramMetrics {
        let counters = &self.inner.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (emit_failures, critical) = self.inner.recorder.losses();
        VramMetrics {
            state: self.state(),
            devices: self
                .inner
                .slots
                .iter()
                .map(|slot| self.device_metrics(slot))
                .collect(),
            seal_attempts_total: load(&counters.seal_attempts),
            seal_operations_total: load(&counters.sealed),
            allocation_failures_total: load(&counters.refused),
            allocation_failures_by_reason: counters.refusals.get(),
            allocation_attempts_total: load(&counters.allocation_attempts),
            concurrent_allocation_attempts_total: load(&counters.concurrent_attempts),
            verify_operations_total: load(&counters.verified),
            verify_failures_total: load(&counters.verification_failures),
            verify_failures_by_reason: counters.failures.get(),
            checker_faults_total: load(&counters.checker_faults),
            verify_nanos_total: load(&counters.verify_nanos),
            leases_total: load(&counters.leases),
            deallocations_total: load(&counters.freed),
            migrations_total: load(&counters.migrated),
            audit_emit_failures_total: emit_failures,
            audit_critical_emit_failures_total: critical,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    fn device_metrics(&self, slot: &super::DeviceSlot) -> DeviceMetrics {
        let info = slot.info();
        let capacity = slot.ledger.capacity();
        let all = self.inner.registry.all().into_iter();
        let here = |r: &std::sync::Arc<crate::shard::Resident>| {
            r.record().gpu_device == info.ordinal && r.is_held()
        };
        let here: Vec<_> = all.filter(here).collect();
        let now = self.inner.clock.monotonic();
        // Where one has none, there is no such time: nobody knows how old it is.
        // What is in doubt has none either, until the tree has told.
        let last = here.iter().map(|r| match r.doubts() {
            0 => r.last_that_covers(Mode::Keyed),
            _ => None,
        });
        let oldest = last.map(|stamp| stamp.map(|stamp| stamp.monotonic)).min();
        let oldest = oldest.flatten();
        // What stands condemned is scrubbed no more.
        let scrubbed = here.iter().filter(|r| !r.is_quarantined());
        let scrubbed = scrubbed.map(|r| r.scrubbed_at()).min();
        DeviceMetrics {
            device_uuid: info.uuid,
            device_kind: info.kind,
            utilization_percent: capacity.used as f64 * 100.0 / capacity.total.max(1) as f64,
            capacity,
            shards: here.len() as u64,
            leases: here.iter().map(|r| r.leases()).sum(),
            quarantined: here.iter().filter(|r| r.is_quarantined()).count() as u64,
            oldest_verification_nanos: oldest.map(|at| now.saturating_sub(at)),
            oldest_scrub_nanos: scrubbed.map(|at| now.saturating_sub(at)),
        }
    }
}
