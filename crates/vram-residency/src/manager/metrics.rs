//! Counters and gauges as plain values (requirement: API-F37, TY-5, OB-2, OB-3).

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::{RunState, VramManager};
use crate::capacity::Capacity;
use crate::device::{DeviceKind, Uuid};

#[derive(Default)]
pub(super) struct Counters {
    seal_attempts: AtomicU64,
    sealed: AtomicU64,
    refused: AtomicU64,
    verified: AtomicU64,
    verification_failures: AtomicU64,
    leases: AtomicU64,
    freed: AtomicU64,
    migrated: AtomicU64,
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
    refused => refused,
    verified => verified,
    verification_failed => verification_failures,
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
    /// Nanoseconds since the oldest last verification of a shard on it; absent
    /// when none was verified yet.
    pub oldest_verification_nanos: Option<u64>,
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
    /// Verifications that passed.
    pub verify_operations_total: u64,
    /// Verifications that failed.
    pub verify_failures_total: u64,
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
            verify_operations_total: load(&counters.verified),
            verify_failures_total: load(&counters.verification_failures),
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
        let oldest = here
            .iter()
            .filter_map(|r| r.last())
            .map(|stamp| stamp.monotonic)
            .min();
        DeviceMetrics {
            device_uuid: info.uuid,
            device_kind: info.kind,
            utilization_percent: capacity.used as f64 * 100.0 / capacity.total.max(1) as f64,
            capacity,
            shards: here.len() as u64,
            leases: here.iter().map(|r| r.leases()).sum(),
            quarantined: here.iter().filter(|r| r.is_quarantined()).count() as u64,
            oldest_verification_nanos: oldest.map(|at| now.saturating_sub(at)),
        }
    }
}
