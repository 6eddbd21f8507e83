//! Asking whether a model fits before it is read.

use super::VramManager;
use super::failure::About;
use super::metrics::INSUFFICIENT;
use crate::audit::{Body, Text};
use crate::capacity::plan::{
    Plan, PlanDevice, PlanPart, PlanResident, plan, plan_ranks, plan_spread,
};
use crate::device::Device;
use crate::error::{Error, Result};

impl VramManager {
    /// Answers where `parts` would go now, with `reserve` bytes of each device
    /// set aside for context and KV cache. Nothing is taken, read or freed; a
    /// dry run names the shards that would have to go. Leased shards cannot go.
    ///
    /// # Errors
    /// [`crate::error::InputError::SourceSize`] for a part of a size that the policy does not
    /// let seal; [`crate::device::DeviceError`] when a driver does not say what
    /// is free.
    pub fn plan(&self, parts: &[PlanPart], reserve: u64) -> Result<Plan> {
        self.admit_parts(parts)?;
        Ok(plan(&self.plan_devices(reserve)?, parts))
    }

    /// The same for parts that are to be loaded now, spread so that several
    /// devices load at the same time. A load that does not fit is recorded as
    /// refused, by every device, and counted once.
    ///
    /// requirement: AU-5
    ///
    /// # Errors
    /// As [`VramManager::plan`].
    pub fn plan_spread(&self, parts: &[PlanPart], reserve: u64) -> Result<Plan> {
        self.admit_parts(parts)?;
        let devices = self.plan_devices(reserve)?;
        let plan = plan_spread(&devices, parts);
        if !plan.fits {
            self.inner.counters.refused_for(INSUFFICIENT);
            let bytes = plan.placements.iter().map(|placement| placement.bytes);
            let requested_bytes = bytes.fold(0, u64::saturating_add);
            for device in &devices {
                let body = Body::VramAllocationFailed {
                    requested_bytes,
                    available_bytes: device.available,
                    reason: Text::new(INSUFFICIENT),
                    gpu_device: device.ordinal,
                };
                self.tell(None, body);
            }
        }
        Ok(plan)
    }

    /// The same for the ranks of a tensor-parallel model, each of which needs a
    /// device of its own; [`crate::capacity::ranks::rank_bytes`] says how large
    /// they are (requirement: PM-1). The policy bounds a file and so no rank,
    /// which may be held in many.
    ///
    /// # Errors
    /// As [`VramManager::plan`], of sizes for a rank of no bytes only.
    pub fn plan_ranks(&self, ranks: &[PlanPart], reserve: u64) -> Result<Plan> {
        self.admit_parts(ranks.iter().filter(|rank| rank.bytes == 0))?;
        Ok(plan_ranks(&self.plan_devices(reserve)?, ranks))
    }

    /// Whether the policy admits parts of these sizes, as it does when they are
    /// sealed.
    fn admit_parts<'p>(&self, parts: impl IntoIterator<Item = &'p PlanPart>) -> Result<()> {
        for part in parts {
            let admitted = self.inner.policy.admit_size(part.bytes);
            admitted.map_err(|error| error.of_source(&part.name))?;
        }
        Ok(())
    }

    fn plan_devices(&self, reserve: u64) -> Result<Vec<PlanDevice>> {
        let slots = self.inner.slots.iter();
        let devices = slots.map(|slot| {
            let capacity = slot.ledger.capacity();
            let driver = slot.ledger.device().memory().map_err(Error::from);
            let driver = self.recorded("plan", About::device(capacity.ordinal), driver)?;
            // As admission counts: reserved bytes are not yet missing from the
            // driver's figure.
            let elsewhere = capacity.reserved.saturating_add(capacity.headroom);
            let available = driver.free.saturating_sub(elsewhere);
            Ok(PlanDevice {
                ordinal: capacity.ordinal,
                available: capacity.available.min(available),
                granularity: slot.info().granularity,
                reserve,
                resident: self.could_go(capacity.ordinal),
            })
        });
        devices.collect()
    }

    fn could_go(&self, ordinal: u32) -> Vec<PlanResident> {
        let residents = self.inner.registry.all().into_iter();
        let residents = residents
            .filter(|resident| resident.record().gpu_device == ordinal && resident.leases() == 0);
        let shards = residents.filter_map(|resident| {
            let held = resident.hold().ok()?;
            Some(PlanResident {
                shard_id: resident.record().shard_id.to_string(),
                bytes: held.allocation().ok()?.granted(),
                sealed_at: resident.record().sealed_at,
            })
        });
        shards.collect()
    }
}
