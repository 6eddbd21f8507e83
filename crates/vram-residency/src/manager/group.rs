//! Models of several shards: all sealed or none (requirement: API-F17, PM-1, PM-3).

use super::VramManager;
use crate::error::{InputError, Result};
use crate::load::SealRequest;
use crate::random::bytes;
use crate::seal::{GroupId, ShardPosition};
use crate::shard::{SealedGroup, SealedShard};
use crate::verify::{Mode, Verified};

impl VramManager {
    /// Seals the shards of one model, in the order given, each on the device
    /// its request names. If one fails, those before it are freed again.
    ///
    /// # Errors
    /// The first member's error; nothing is left on any device.
    pub fn seal_group(&self, requests: Vec<SealRequest<'_>>) -> Result<SealedGroup> {
        let total = u32::try_from(requests.len())
            .ok()
            .filter(|total| *total > 0);
        let total = total.ok_or(InputError::Group("a group has at least one shard"))?;
        let group = GroupId::from_bytes(bytes(self.inner.random.as_ref())?);
        let mut checked = Vec::with_capacity(requests.len());
        for (index, request) in (0..total).zip(requests) {
            if request.dedupe {
                return Err(InputError::Group("members cannot be deduplicated").into());
            }
            let position = ShardPosition::new(index, total)?;
            checked.push(self.check(request, Some((group, position)))?);
        }
        // Dropping what was sealed so far frees it when a later one fails.
        let shards = checked
            .into_iter()
            .map(|request| self.seal_checked(request));
        Ok(SealedGroup::new(
            group,
            shards.collect::<Result<Vec<SealedShard>>>()?,
        ))
    }

    /// Verifies every member, in parallel over devices, and returns their
    /// proofs in order.
    ///
    /// # Errors
    /// The first failed member's error. By default the others are quarantined
    /// with it; the policy can isolate it instead.
    pub fn verify_group(&self, group: &SealedGroup, mode: Mode) -> Result<Vec<Verified>> {
        let answers: Vec<Result<Verified>> = std::thread::scope(|scope| {
            let verify = |shard| scope.spawn(move || self.verify_sealed(shard, mode));
            let threads: Vec<_> = group.shards().iter().map(verify).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Verified>>| {
                let died = crate::error::Error::Internal("a verification thread died");
                thread.join().unwrap_or(Err(died))
            };
            threads.into_iter().map(join).collect()
        });
        answers.into_iter().collect()
    }

    /// Whether every member is held, verified at least once since it was
    /// sealed, and not quarantined (requirement: WORKER-4230, PM-1).
    #[must_use]
    pub fn group_ready(&self, group: &SealedGroup) -> bool {
        let ready = |shard: &SealedShard| {
            let resident = shard.resident();
            resident.is_ok_and(|resident| {
                resident.is_held() && !resident.is_quarantined() && resident.last().is_some()
            })
        };
        group.shards().iter().all(ready)
    }
}
