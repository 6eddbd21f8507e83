//! Models of several shards: all sealed or none (requirement: API-F17, PM-1, PM-3).

use super::VramManager;
use crate::error::Result;
use crate::load::SealRequest;
use crate::shard::{SealedGroup, SealedShard};
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
