//! Leases: a verification, or a recent one that the policy lets count again.

use std::sync::Arc;
use std::time::Duration;

use super::VramManager;
use crate::error::{Result, VerifyError};
use crate::seal;
use crate::shard::{Lease, Resident, SealedShard};
use crate::verify::{Mode, Verified};

impl VramManager {
    /// Verifies the shard and grants access for one execution
    /// (requirement: WORKER-4121, CI-007).
    ///
    /// Concurrent leases share one verification when the policy's
    /// `max_lease_age` allows it; the lease says so.
    ///
    /// # Errors
    /// [`crate::error::Misuse::Stopped`], [`VerifyError`] or a device failure.
    pub fn lease(&self, shard: &SealedShard, mode: Mode) -> Result<Lease> {
        self.inner.state.running()?;
        let resident = self.own(shard)?;
        let verified = {
            let _one_at_a_time = resident.verifying();
            match self.recent(resident, mode) {
                Some(verified) => verified,
                None => self.verify_resident(resident, mode)?,
            }
        };
        self.grant(resident, verified)
    }

    /// A verification of at least this mode that is young enough.
    fn recent(&self, resident: &Resident, mode: Mode) -> Option<Verified> {
        let limit: Duration = self.inner.policy.max_lease_age?;
        let stamp = resident.last().filter(|_| !resident.is_quarantined())?;
        // Keys retire and seals grow old in between; both cost next to nothing.
        let keys = &self.slot_of(resident).ok()?.keys;
        seal::authenticate(resident.record(), &keys.accepted()).ok()?;
        self.check_age(resident.record()).ok()?;
        let age = self.inner.clock.monotonic().saturating_sub(stamp.monotonic);
        let young = u128::from(age) <= limit.as_nanos();
        let enough = stamp.verification.mode.covers(mode);
        (young && enough).then(|| Verified::reuse(&stamp.verification, age))
    }

    fn grant(&self, resident: &Arc<Resident>, verified: Verified) -> Result<Lease> {
        let device = Arc::clone(self.slot_of(resident)?.ledger.device());
        let held = resident.hold()?;
        let extent = held.allocation()?.extent();
        resident.add_lease(&held);
        let export = self
            .inner
            .policy
            .admit_export(crate::device::Device::info(device.as_ref()));
        let lease = Lease::new(Arc::clone(resident), device, extent, verified, export.ok())?;
        // A failure may have struck since the verification: the quarantine is
        // set before the manager stops, and both are looked at after the count.
        if resident.is_quarantined() {
            let shard_id = resident.record().shard_id.clone();
            return Err(VerifyError::Quarantined { shard_id }.into());
        }
        // The same for a handle that was given up since.
        if resident.handles() == 0 {
            return Err(crate::error::Misuse::NotSealed.into());
        }
        self.inner.state.running()?;
        self.inner.counters.leased();
        Ok(lease)
    }
}
