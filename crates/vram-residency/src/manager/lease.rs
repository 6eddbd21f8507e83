//! Leases: a verification, or a recent one that the policy lets count again.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug_span;

use super::VramManager;
use crate::audit::{Body, Text};
use crate::error::{Error, Misuse, Result, VerifyError};
use crate::seal;
use crate::shard::{Lease, LeasedMemory, Resident, SealedShard};
use crate::trace;
use crate::verify::{Mode, Verified};

impl VramManager {
    /// Verifies the shard and grants access for one execution
    /// (requirement: WORKER-4121, CI-007).
    ///
    /// Concurrent leases share one verification when the policy's
    /// `max_lease_age` allows it; the lease says so (requirement: PM-5, PM-6).
    ///
    /// A lease that is granted leaves one event, its verification's or
    /// `lease.reused`; ending it leaves none, for nothing about the shard
    /// changes. A refused one leaves the failed verification's or
    /// `lease.refused`.
    ///
    /// # Errors
    /// [`Misuse::Stopped`], [`VerifyError`] or a device failure.
    pub fn lease(&self, shard: &SealedShard, mode: Mode) -> Result<Lease> {
        let span = debug_span!(
            "lease",
            shard_id = %shard.id(),
            gpu_device = shard.record().gpu_device,
            %mode,
            correlation_id = self.request_id()
        );
        trace::operation(&span, || self.verified_lease(shard, mode))
    }

    fn verified_lease(&self, shard: &SealedShard, mode: Mode) -> Result<Lease> {
        let resident = self.own(shard)?;
        if let Err(error) = self.inner.state.running() {
            return self.refused(resident, error.into());
        }
        let asked = self.inner.clock.monotonic();
        let granted = {
            // Until the lease is counted: no check raises a doubt in between.
            let _one_at_a_time = resident.verifying();
            let verified = match self.recent(resident, mode, asked) {
                Some(verified) => self.reused(resident, verified)?,
                None => self.verify_resident(resident, mode)?,
            };
            self.grant(resident, verified)
        };
        let granted = self.lost_is_recorded(granted);
        granted.or_else(|error| self.refused(resident, error))
    }

    /// Records that an earlier verification counts again.
    fn reused(&self, resident: &Resident, verified: Verified) -> Result<Verified> {
        let verification = verified.verification();
        let body = Body::LeaseReused {
            shard_id: resident.record().shard_id.clone(),
            gpu_device: verification.gpu_device,
            mode: Text::new(&verification.mode.to_string()),
            age_nanos: verification.age_nanos,
        };
        self.emit(None, body)?;
        Ok(verified)
    }

    /// Records a refusal, unless it is the caller's own freed handle.
    fn refused(&self, resident: &Resident, error: Error) -> Result<Lease> {
        if !error.is_refusal() || matches!(error, Error::Misuse(Misuse::Stopped { .. })) {
            let record = resident.record();
            let body = Body::LeaseRefused {
                shard_id: record.shard_id.clone(),
                gpu_device: record.gpu_device,
                code: error.code(),
                reason: Text::new(&error.to_string()),
            };
            self.tell(None, body);
        }
        Err(error)
    }

    /// The last verification of at least this mode, if it is young enough, or began
    /// after it was asked for: those who wait for a check do not all make their own.
    fn recent(&self, resident: &Resident, mode: Mode, asked: u64) -> Option<Verified> {
        let limit: Duration = self.inner.policy.max_lease_age?;
        let barred = resident.is_quarantined() || resident.doubts() > 0;
        let stamp = resident.last_that_covers(mode).filter(|_| !barred)?;
        // Keys retire and seals grow old in between; both cost next to nothing.
        let keys = &self.slot_of(resident).ok()?.keys;
        seal::authenticate(resident.record(), &keys.accepted()).ok()?;
        self.check_age(resident).ok()?;
        // A clock that went back says nothing about ages.
        let age = self.inner.clock.monotonic().checked_sub(stamp.monotonic)?;
        let young = u128::from(age) <= limit.as_nanos() || stamp.monotonic >= asked;
        young.then(|| Verified::reuse(&stamp.verification, age))
    }

    fn grant(&self, resident: &Arc<Resident>, verified: Verified) -> Result<Lease> {
        let device = Arc::clone(self.slot_of(resident)?.ledger.device());
        let held = resident.hold()?;
        let extent = held.allocation()?.extent();
        resident.add_lease(&held);
        // The count keeps the memory now. A lease that is refused below may be the last of
        // a shard that nobody owns any more, and frees it.
        drop(held);
        let export = self
            .inner
            .policy
            .admit_export(crate::device::Device::info(device.as_ref()));
        let resident = Arc::clone(resident);
        let memory = LeasedMemory { device, extent };
        let lease = Lease::new(resident, memory, verified, export.ok(), self.clone())?;
        let resident = lease.resident();
        // A failure may have struck since the verification: the quarantine is
        // set before the manager stops, and both are looked at after the count.
        if resident.is_quarantined() {
            let shard_id = resident.record().shard_id.clone();
            return Err(VerifyError::Quarantined { shard_id }.into());
        }
        // The same for a handle that was given up since.
        if resident.handles() == 0 {
            return Err(Misuse::NotSealed.into());
        }
        self.inner.state.running()?;
        self.inner.counters.leased();
        Ok(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::key::RootKey;
    use crate::policy::Policy;
    use crate::sim::SimDevice;
    use crate::{SealRequest, VramManager};

    /// A check may take longer than verifications may be old: those who had asked for one
    /// before it began share it, and later ones do not.
    // requirement: PM-5, PM-6
    #[test]
    fn a_check_that_began_after_a_lease_was_asked_for_is_as_good_as_its_own() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1)));
        let manager = VramManager::builder()
            .device(SimDevice::new(1 << 20))
            .clock(clock.clone())
            .policy(Policy {
                max_lease_age: Some(Duration::from_nanos(10)),
                ..Policy::default()
            })
            .key(RootKey::from_token(&test_listener::secret()).unwrap())
            .build()
            .unwrap();
        clock.advance(100);
        let shard = manager.seal(SealRequest::bytes(&[7; 5000])).unwrap();
        let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
        let resident = manager.own(&shard).unwrap();
        let began = resident.last_that_covers(Mode::Full).unwrap().monotonic;
        let reused = |asked| manager.recent(resident, Mode::Full, asked).is_some();
        clock.advance(10);
        assert!(reused(u64::MAX), "young enough for anybody");
        clock.advance(1);
        assert_eq!([began, began + 1].map(reused), [true, false]);
    }
}
