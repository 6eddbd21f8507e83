//! Moving a shard to another device: verified on arrival, source scrubbed only
//! then, rolled back on any failure (requirement: API-F30, PM-4).

use std::sync::Arc;

use tracing::info_span;

use super::VramManager;
use super::seal::Identity;
use crate::audit::Body;
use crate::capacity::Allocation;
use crate::device::Device;
use crate::error::{Error, InputError, Misuse, Result, VerifyError};
use crate::shard::{Resident, SealedGroup, SealedShard};
use crate::trace;
use crate::verify::Mode;

impl VramManager {
    /// Moves a shard. The new handle has the same id and contents, a new seal,
    /// and reports the target; the old handle becomes inert.
    ///
    /// # Errors
    /// [`Misuse::Busy`] while leases are out, [`Misuse::Shared`] while other
    /// handles share the shard, [`crate::policy::PolicyError::SealAge`] of a seal
    /// that the new one would make young again, and every error of sealing. The
    /// source is then as before, unless it turned out to be damaged.
    pub fn migrate_shard(&self, shard: &SealedShard, ordinal: u32) -> Result<SealedShard> {
        let from_device = shard.record().gpu_device;
        let span = info_span!(
            "migrate",
            shard_id = %shard.id(),
            gpu_device = from_device,
            to_device = ordinal,
            correlation_id = self.request_id()
        );
        trace::operation(&span, || self.move_shard(shard, ordinal))
    }

    fn move_shard(&self, shard: &SealedShard, ordinal: u32) -> Result<SealedShard> {
        let resident = Arc::clone(self.own(shard)?);
        let target = self.slot(ordinal)?;
        let from_device = resident.record().gpu_device;
        self.usable(self.slot_of(&resident)?, &resident)?;
        self.young_enough(&resident)?;
        // Retired first, so that nobody leases or moves it meanwhile.
        if !shard.retire_alone()? {
            let shard_id = resident.record().shard_id.clone();
            return Err(Misuse::Shared { shard_id }.into());
        }
        let arrived = {
            // For the scrubber, which passes by what it would have to wait for.
            let _one_at_a_time = resident.verifying();
            resident
                .exclusively(|allocation| self.arrive(&resident, allocation, target))
                .inspect_err(|error| {
                    // Before anybody can lease it again: the source may be what is bad.
                    if matches!(error, Error::Verify(_)) {
                        resident.doubt_as_source();
                    }
                })
        };
        let moved = arrived
            .and_then(|moved| match resident.is_quarantined() {
                // Its group failed while it was on its way.
                true => {
                    let shard_id = resident.record().shard_id.clone();
                    Err(VerifyError::Quarantined { shard_id }.into())
                }
                false => Ok(moved),
            })
            .and_then(|moved| {
                let shard_id = resident.record().shard_id.clone();
                let body = Body::ShardMigrated {
                    shard_id,
                    from_device,
                    to_device: ordinal,
                };
                // A move that cannot be recorded is undone: `moved` drops here, and the
                // id points at the source before it does, so that a group that fails
                // finds its member.
                let recorded = self.emit(None, body);
                recorded.inspect_err(|_| resident.claim().set(&resident))?;
                Ok(moved)
            });
        let moved = match moved {
            Ok(moved) => moved,
            Err(error) => {
                shard.reinstate();
                return Err(self.migration_failed(&resident, ordinal, error));
            }
        };
        // The new shard stands; a source that cannot be scrubbed is stranded
        // and recorded, and does not undo the move.
        // A lease that is being refused meanwhile frees it when it goes.
        let _ = self.lost_is_recorded(resident.abandon(self.request.as_ref()));
        self.inner.counters.migrated();
        Ok(moved)
    }

    /// Moves one member of a group; the group holds its new handle afterwards,
    /// and its record names the new device.
    ///
    /// # Errors
    /// [`InputError::Group`] when there is no such member, else as
    /// [`VramManager::migrate_shard`]: the group is then as before.
    pub fn migrate_member(&self, group: &mut SealedGroup, index: u32, ordinal: u32) -> Result<()> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let member = group.shards().get(at);
        let member = member.ok_or(InputError::Group("there is no member with that index"))?;
        let moved = self.migrate_shard(member, ordinal)?;
        group.put(at, moved);
        Ok(())
    }

    /// Refuses a seal that a verification would refuse for its date.
    fn young_enough(&self, resident: &Resident) -> Result<()> {
        let young = self.check_age(resident).map_err(Error::from);
        young.inspect_err(|error| self.record_failure(resident.record(), error))
    }

    /// Copies to the target, measures there, compares and seals.
    fn arrive(
        &self,
        resident: &Resident,
        source: &Allocation,
        target: &super::DeviceSlot,
    ) -> Result<SealedShard> {
        let record = resident.record();
        let extent = source.extent();
        let claim = Arc::clone(resident.claim());
        let filling = self.take_room(target, extent.len, extent.start, claim, None)?;
        let from = source.device().as_ref() as &dyn Device;
        let filled = filling.copy_from(from, extent);
        let filled = filled.and_then(|filled| Ok(filled.agreed(Some(record.digest))?));
        let filled = self.lost_is_recorded(filled)?;
        let filled = filled
            .expect(Some(record.digest), None)?
            .with_content(record.content_sha256);
        let identity = Identity {
            id: record.shard_id.clone(),
            model_ref: record.model_ref.clone(),
            position: record.position,
            group: record.group,
        };
        self.seal_filled(target, filled, identity, resident.tensors().clone(), None)
    }

    /// The target is clean again; if the contents were wrong on arrival, the
    /// source is verified to find out whose fault it was.
    fn migration_failed(&self, resident: &Arc<Resident>, to_device: u32, error: Error) -> Error {
        if matches!(
            error,
            Error::Misuse(Misuse::Busy { .. } | Misuse::NotSealed)
        ) {
            return error;
        }
        // The id points at the source again, should the target have had it.
        resident.claim().set(resident);
        let record = resident.record();
        let body = Body::ShardMigrationFailed {
            shard_id: record.shard_id.clone(),
            from_device: record.gpu_device,
            to_device,
            reason: crate::audit::Text::new(&error.to_string()),
        };
        self.tell(None, body);
        if !matches!(error, Error::Verify(_)) {
            return error;
        }
        let _one_at_a_time = resident.verifying();
        match self.verify_resident(resident, Mode::Full) {
            Ok(_) => error,
            // Where both are bad, the source was first.
            Err(of_the_source) => of_the_source.graver(error),
        }
    }
}
