//! The facade: it sequences the other modules and computes nothing itself.

mod attest;
mod builder;
mod export;
mod failure;
mod free;
mod group;
mod group_load;
mod hashes;
mod keyed;
mod keys;
mod lease;
mod metrics;
mod migrate;
mod plan;
mod read_back;
mod repair;
mod scrub;
mod seal;
mod state;
mod verify;

use std::sync::Arc;

use tracing::{Level, trace};

pub use builder::VramManagerBuilder;
pub use group_load::GroupLoad;
pub use metrics::{DeviceMetrics, VramMetrics};
pub use repair::Repaired;
pub use scrub::{ScrubStep, Scrubber};
pub use state::RunState;

use crate::audit::{AuditError, Body, Recorder, Text};
use crate::capacity::{Capacity, Ledger, Reservation};
use crate::clock::Clock;
use crate::device::{Device, DeviceError, DeviceInfo, MemoryInfo};
use crate::error::{Error, InputError, Misuse, Result};
use crate::key::Salt;
use crate::policy::{Admitted, Policy, PolicyError};
use crate::random::Random;
use crate::seal::{InstanceId, Record};
use crate::shard::{Registry, Resident, SealedShard, ShardId, WorkerId};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::trace::Began;
use failure::About;
use keys::KeyRing;
use metrics::Counters;
use state::StateCell;

/// Owns the devices and sequences every operation on them
/// (requirement: API-F41, WORKER-4100).
///
/// `Send + Sync`; every method takes `&self`, and work on one shard never
/// blocks another. Clones share one manager.
#[derive(Clone)]
pub struct VramManager {
    inner: Arc<Inner>,
    /// The request that this handle works for: its events carry the id.
    request: Option<Text>,
}

struct Inner {
    slots: Vec<DeviceSlot>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    recorder: Arc<Recorder>,
    registry: Arc<Registry>,
    worker_id: WorkerId,
    salt: Salt,
    instance: InstanceId,
    sequence: AtomicU64,
    /// Steps of scrubbing so far.
    scrub_steps: AtomicU64,
    /// Whether the last turn of the scrubber was out of turn, for a shard in doubt.
    scrubbed_in_doubt: AtomicBool,
    /// Held while the keys of all devices change together.
    changing_keys: Mutex<()>,
    state: StateCell,
    counters: Counters,
}

/// One device with its budget and its keys.
struct DeviceSlot {
    ledger: Arc<Ledger>,
    admitted: Admitted,
    keys: KeyRing,
}

impl DeviceSlot {
    fn info(&self) -> &DeviceInfo {
        self.ledger.device().info()
    }
}

impl VramManager {
    /// Starts a manager: `VramManager::builder().device(..).key(..).build()?`.
    /// There is no other constructor and no built-in key (requirement: API-F1).
    pub fn builder() -> VramManagerBuilder {
        VramManagerBuilder::new()
    }

    /// A handle of the same manager whose every event and span carries this
    /// correlation id, cleaned and cut like all text in events: for the operations of
    /// one request (requirement: AU-17). A [`SealRequest`] may name another one; a
    /// [`Scrubber`] works for no request.
    ///
    /// [`SealRequest`]: crate::SealRequest
    #[must_use]
    pub fn for_request(&self, correlation_id: &str) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            request: Some(Text::new(correlation_id)),
        }
    }

    /// What spans say of it.
    fn request_id(&self) -> Option<&str> {
        self.request.as_ref().map(Text::as_str)
    }

    /// Facts about each device, in the order they were added.
    #[must_use]
    pub fn devices(&self) -> Vec<&DeviceInfo> {
        self.inner.slots.iter().map(DeviceSlot::info).collect()
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// This start of this manager, as bound into every seal.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.inner.instance
    }

    /// The managed budget of one device. Never waits for I/O.
    ///
    /// # Errors
    /// [`InputError::NoSuchDevice`] (requirement: IV-002).
    pub fn capacity(&self, ordinal: u32) -> Result<Capacity> {
        let began = Began::at(Level::TRACE);
        let capacity = self.slot(ordinal)?.ledger.capacity();
        let (used, free) = (capacity.used, capacity.free);
        trace!(
            gpu_device = ordinal,
            correlation_id = self.request_id(),
            nanos = began.nanos(),
            used,
            free,
            "the budget was asked for"
        );
        Ok(capacity)
    }

    /// Free and total bytes of one device as its driver reports them, other
    /// processes included (requirement: API-F32 as corrected by its section 2).
    ///
    /// # Errors
    /// [`InputError::NoSuchDevice`] or a [`DeviceError`].
    pub fn driver_memory(&self, ordinal: u32) -> Result<MemoryInfo> {
        let answer = self.slot(ordinal)?.ledger.device().memory();
        let answer = answer.map_err(Error::from);
        self.recorded("driver_memory", About::device(ordinal), answer)
    }

    /// Managed budget of all devices in bytes.
    #[must_use]
    pub fn total_vram(&self) -> u64 {
        self.sum(|capacity| capacity.total)
    }

    /// Bytes held by shards and reservations on all devices.
    #[must_use]
    pub fn used_vram(&self) -> u64 {
        self.sum(|capacity| capacity.used)
    }

    /// Free budget of all devices, headroom not yet taken off.
    #[must_use]
    pub fn available_vram(&self) -> u64 {
        self.sum(|capacity| capacity.free)
    }

    /// Free budget of all devices less their headroom (requirement: API-F34).
    #[must_use]
    pub fn effective_available_vram(&self) -> u64 {
        self.sum(|capacity| capacity.available)
    }

    fn sum(&self, figure: impl Fn(Capacity) -> u64) -> u64 {
        let figures = self
            .inner
            .slots
            .iter()
            .map(|slot| figure(slot.ledger.capacity()));
        figures.fold(0, u64::saturating_add)
    }

    /// Whether `bytes` would be admitted on a device now (requirement: API-F35).
    /// A question: it takes nothing, not even for a moment, and its answer is as
    /// old as the moment it was given.
    ///
    /// # Errors
    /// [`InputError::NoSuchDevice`], [`InputError::ModelSize`] or a [`DeviceError`].
    pub fn can_admit(&self, ordinal: u32, bytes: u64) -> Result<bool> {
        let slot = self.slot(ordinal)?;
        let size = self.inner.policy.admit_size(bytes)?;
        match slot.ledger.admissible(size) {
            Ok(_) => Ok(true),
            Err(Error::InsufficientVram(_)) => Ok(false),
            Err(error) => self.recorded("can_admit", About::device(ordinal), Err(error)),
        }
    }

    /// Takes room out of the budget for a use of the caller's own (KV cache,
    /// workspace) until the reservation is dropped (requirement: API-F35). Both
    /// are recorded, and so is a refusal (requirement: AU-4, AU-5, AU-6).
    ///
    /// # Errors
    /// [`crate::error::InsufficientVram`], [`InputError`] or a [`DeviceError`].
    pub fn reserve(&self, ordinal: u32, bytes: u64) -> Result<Reservation> {
        let slot = self.slot(ordinal)?;
        let size = self.inner.policy.admit_size(bytes)?;
        let attempt = self.inner.counters.attempt();
        let reserved = self.lost_is_recorded(slot.ledger.reserve(slot.admitted, size));
        drop(attempt);
        match reserved {
            // One that cannot be recorded is given back again.
            Ok(reservation) => {
                let request = self.request.clone();
                Ok(reservation.recorded(&self.inner.recorder, request)?)
            }
            Err(error) => {
                self.room_refused(slot, size.bytes(), None, &error);
                Err(error)
            }
        }
    }

    /// Numbers seals and attestations; none repeats.
    fn next_sequence(&self) -> u64 {
        self.inner.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// The record of a sealed shard (requirement: API-F23).
    #[must_use]
    pub fn get_shard(&self, id: &ShardId) -> Option<Record> {
        let resident = self.inner.registry.get(id)?;
        resident
            .is_held()
            .then(|| resident.record().as_ref().clone())
    }

    /// Records of every sealed shard, in no particular order.
    #[must_use]
    pub fn shards(&self) -> Vec<Record> {
        let held = self
            .inner
            .registry
            .all()
            .into_iter()
            .filter(|resident| resident.is_held());
        held.map(|resident| resident.record().as_ref().clone())
            .collect()
    }

    /// Asks every device for its facts again and checks them against the policy
    /// (requirement: POL-3, POL-5). A device that does not pass any more stops the
    /// manager: its shards may not be where they were sealed.
    ///
    /// # Errors
    /// [`PolicyError`] of the first device that fails, or its [`DeviceError`]; it
    /// is recorded.
    pub fn enforce_vram_only_policy(&self) -> Result<()> {
        for slot in &self.inner.slots {
            self.facts_now("enforce_policy", slot)?;
        }
        Ok(())
    }

    /// What a device says of itself now, for `operation`, held against the
    /// policy; what fails is recorded. A violation stops the manager
    /// (requirement: POL-3, AU-7).
    fn facts_now(&self, operation: &'static str, slot: &DeviceSlot) -> Result<DeviceInfo> {
        let facts = slot.ledger.device().facts().map_err(Error::from);
        let about = About::device(slot.info().ordinal);
        let facts = self.recorded(operation, about, facts)?;
        if let Err(error) = self.admit_again(slot, &facts) {
            self.tell(
                None,
                Body::policy_violation(&error, None, &facts, "worker_stopped"),
            );
            // The verdict is told whatever the log does.
            let _ = self.stop(&error.to_string());
            return Err(error.into());
        }
        Ok(facts)
    }

    /// Whether every device passes the policy now (requirement: POL-4, API-F36).
    #[must_use]
    pub fn is_vram_only(&self) -> bool {
        let mut slots = self.inner.slots.iter();
        slots.all(|slot| self.passes(slot).unwrap_or(false))
    }

    /// Whether one device passes the policy now (requirement: POL-4, API-F36).
    ///
    /// # Errors
    /// [`InputError::NoSuchDevice`], or a [`DeviceError`].
    pub fn is_policy_enforced(&self, ordinal: u32) -> Result<bool> {
        Ok(self.passes(self.slot(ordinal)?)?)
    }

    fn passes(&self, slot: &DeviceSlot) -> Result<bool, DeviceError> {
        let facts = self.watched(slot.ledger.device().facts())?;
        Ok(self.admit_again(slot, &facts).is_ok())
    }

    /// Facts told now are held against the policy, and must be those of the
    /// device that was admitted at the start.
    fn admit_again(&self, slot: &DeviceSlot, now: &DeviceInfo) -> Result<(), PolicyError> {
        let then = slot.info();
        if (now.kind, now.uuid) != (then.kind, then.uuid) {
            return Err(PolicyError::Device {
                ordinal: then.ordinal,
                name: now.name.clone(),
                reason: "it is another device than at the start; restart".to_owned(),
            });
        }
        self.inner.policy.admit_device(now).map(drop)
    }

    /// Makes every recorded event durable.
    ///
    /// # Errors
    /// [`AuditError`] of the first sink that fails.
    pub fn flush_audit(&self) -> Result<(), AuditError> {
        self.inner.recorder.flush()
    }

    /// The slot of an ordinal.
    fn slot(&self, ordinal: u32) -> Result<&DeviceSlot, InputError> {
        let mut slots = self.inner.slots.iter();
        slots
            .find(|slot| slot.info().ordinal == ordinal)
            .ok_or_else(|| {
                let known = self
                    .inner
                    .slots
                    .iter()
                    .map(|slot| slot.info().ordinal.to_string());
                InputError::NoSuchDevice {
                    ordinal,
                    known: known.collect::<Vec<_>>().join(", "),
                }
            })
    }

    /// The first device: where requests go that name none.
    fn first_slot(&self) -> Result<&DeviceSlot> {
        self.inner
            .slots
            .first()
            .ok_or(Error::Internal("a manager without devices"))
    }

    /// The shard behind a handle, if it is one of ours.
    fn own<'s>(&self, shard: &'s SealedShard) -> Result<&'s Arc<Resident>, Misuse> {
        let resident = shard.resident()?;
        if resident.record().instance != self.inner.instance {
            return Err(Misuse::ForeignShard);
        }
        Ok(resident)
    }

    /// Records an event of the request that is named, or of this handle's.
    fn emit(&self, correlation_id: Option<&Text>, body: Body) -> Result<(), AuditError> {
        let correlation_id = correlation_id.or(self.request.as_ref());
        self.inner.recorder.emit_for(correlation_id, body)
    }

    /// Records a failure. Where the log does not take it, that is counted
    /// ([`VramMetrics::audit_emit_failures_total`]), and the caller is told the failure
    /// all the same: no full disk hides what was found out about the bytes.
    fn tell(&self, correlation_id: Option<&Text>, body: Body) {
        let _ = self.emit(correlation_id, body);
    }

    /// Records a policy violation and hands the error back.
    fn policy_violation(
        &self,
        slot: &DeviceSlot,
        about: About,
        error: PolicyError,
        action: &'static str,
    ) -> Error {
        let body = Body::policy_violation(&error, about.shard_id, slot.info(), action);
        self.tell(about.correlation_id.as_ref(), body);
        error.into()
    }

    /// Passes a device's answer on; a loss is recorded and stops the manager
    /// (requirement: CO-2).
    fn watched<T>(&self, answer: Result<T, DeviceError>) -> Result<T, DeviceError> {
        if let Err(error) = &answer
            && error.is_loss()
        {
            self.record_losses();
        }
        answer
    }
}
