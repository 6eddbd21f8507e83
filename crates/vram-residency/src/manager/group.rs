//! Models of several shards: all sealed or none (requirement: API-F17, PM-1, PM-3).

use tracing::info_span;

use super::VramManager;
use crate::error::{Result, all_or_gravest};
use crate::load::SealRequest;
use crate::shard::{SealedGroup, SealedShard};
use crate::sync::{AtOnce, each};
use crate::trace;
use crate::verify::{Mode, Verified};

impl VramManager {
    /// Seals the shards of one model, each on the device its request names:
    /// those of one device in the order given, several devices at the same
    /// time. If one fails, the others are freed again; [`VramManager::group_load`]
    /// keeps them.
    ///
    /// # Errors
    /// The first failed member's error; nothing is left on any device.
    pub fn seal_group(&self, requests: Vec<SealRequest<'_>>) -> Result<SealedGroup> {
        let mut load = self.group_load(requests)?;
        load.run_or_halt()?;
        load.finish()
    }

    /// Verifies every member, in parallel over devices, and returns their
    /// proofs in order.
    ///
    /// # Errors
    /// The gravest ([`crate::error::Gravity`]) of the failed members' errors, of
    /// equal ones the first in the group's order. By default the others are
    /// quarantined with a member whose bytes are bad; the policy can isolate it
    /// instead.
    pub fn verify_group(&self, group: &SealedGroup, mode: Mode) -> Result<Vec<Verified>> {
        let (members, correlation_id) = (group.shards().len(), self.request_id());
        let span = info_span!("verify_group", members, %mode, correlation_id);
        trace::operation(&span, || self.verify_members(group, mode))
    }

    fn verify_members(&self, group: &SealedGroup, mode: Mode) -> Result<Vec<Verified>> {
        let device = |shard: &SealedShard| shard.record().gpu_device;
        let verify = |shard: &SealedShard| self.verify_sealed(shard, mode);
        all_or_gravest(each(group.shards(), AtOnce::DEVICES, device, verify))
    }

    /// Whether every member is held, not quarantined, and was verified since it
    /// was sealed in a mode that reads every byte (requirement: WORKER-4230,
    /// PM-1).
    #[must_use]
    pub fn group_ready(&self, group: &SealedGroup) -> bool {
        let ready = |shard: &SealedShard| {
            let resident = shard.resident();
            resident.is_ok_and(|resident| {
                resident.is_held()
                    && !resident.is_quarantined()
                    && resident.is_proved()
                    && resident.doubts() == 0
            })
        };
        group.shards().iter().all(ready)
    }
}
