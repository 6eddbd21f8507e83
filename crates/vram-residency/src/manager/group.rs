//! Models of several shards: all sealed or none (requirement: API-F17, PM-1, PM-3).

use tracing::{Span, info_span};

use super::VramManager;
use super::failure::About;
use crate::error::{Error, Result};
use crate::load::SealRequest;
use crate::shard::{SealedGroup, SealedShard};
use crate::sync::{Mutex, PoisonError, one_more, thread};
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
    /// The first failed member's error. By default the others are quarantined
    /// with it; the policy can isolate it instead.
    pub fn verify_group(&self, group: &SealedGroup, mode: Mode) -> Result<Vec<Verified>> {
        let span = info_span!("verify_group", members = group.shards().len(), %mode);
        trace::operation(&span, || self.verify_members(group, mode))
    }

    fn verify_members(&self, group: &SealedGroup, mode: Mode) -> Result<Vec<Verified>> {
        let span = Span::current();
        let shards = group.shards();
        let mut ordinals: Vec<u32> = shards.iter().map(|s| s.record().gpu_device).collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        let answers: Vec<Mutex<Option<Result<Verified>>>> =
            shards.iter().map(|_| Mutex::new(None)).collect();
        let verify_on = &|ordinal: u32| {
            for (shard, answer) in shards.iter().zip(&answers) {
                if shard.record().gpu_device == ordinal {
                    let verified = self.verify_sealed(shard, mode);
                    *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(verified);
                }
            }
        };
        thread::scope(|scope| {
            for ordinal in ordinals {
                let span = span.clone();
                let work = move || span.in_scope(|| verify_on(ordinal));
                if !one_more(scope, work) {
                    verify_on(ordinal);
                }
            }
        });
        let taken = answers.into_iter().map(|answer| {
            let answer = answer.into_inner().unwrap_or_else(PoisonError::into_inner);
            answer.unwrap_or_else(|| {
                let error = Error::Internal("a group member was not verified");
                self.recorded("verify_group", About::default(), Err(error))
            })
        });
        taken.collect()
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
