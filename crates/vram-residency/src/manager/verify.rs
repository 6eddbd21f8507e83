//! Verifying, and what follows a failure.

use std::sync::Arc;
use std::time::Duration;

use tracing::info_span;

use super::keyed::{Checked, Span};
use super::{DeviceSlot, VramManager};
use crate::audit::{Body, Text};
use crate::device::{Device, DeviceError, Witness};
use crate::error::{Answer, Damage, Error, InputError, Result, Said, VerifyError};
use crate::policy::{ConfirmedMemory, OnFailure, OnGroupFailure, PolicyError};
use crate::seal::{self, Authentic, Record};
use crate::shard::{Resident, SealedShard, ShardId, Stamp};
use crate::trace;
use crate::verify::{Check, Contents, Mode, Outcome, Verification, Verified};

impl VramManager {
    /// Checks a shard in VRAM against its seal: tag, driver's witnesses, and
    /// as much of the contents as `mode` says (requirement: API-F19, DG-2).
    ///
    /// # Errors
    /// [`VerifyError`]: the shard is quarantined and, unless the policy says
    /// isolate, the manager stopped. [`DeviceError`]: nothing was proved.
    pub fn verify_sealed(&self, shard: &SealedShard, mode: Mode) -> Result<Verified> {
        let resident = self.own(shard)?;
        let _one_at_a_time = resident.verifying();
        self.verify_resident(resident, mode)
    }

    /// The boolean form: `Ok(false)` for a failed verification, an error when
    /// nothing could be proved (requirement: API-F20).
    ///
    /// # Errors
    /// Every error but those that condemn a shard: also of a seal whose key is retired
    /// or whose date is wrong.
    pub fn verify_shard_integrity(&self, shard: &SealedShard) -> Result<bool> {
        match self.verify_sealed(shard, Mode::Full) {
            Ok(_) => Ok(true),
            Err(error) if condemns(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Checks a record from outside: its tag first, then that this manager
    /// holds exactly that shard, then the shard itself.
    ///
    /// # Errors
    /// As [`VramManager::verify_sealed`]; a forged or replayed record harms no
    /// shard, but is recorded as a failed verification.
    pub fn verify_record(&self, record: &Record, mode: Mode) -> Result<Verified> {
        let found = self.find(record);
        let resident = found.inspect_err(|error| self.record_failure(record, error))?;
        let _one_at_a_time = resident.verifying();
        self.verify_resident(&resident, mode)
    }

    /// Tag, then ownership.
    fn find(&self, record: &Record) -> Result<Arc<Resident>> {
        let not_held = || VerifyError::NotHeld {
            shard_id: record.shard_id.clone(),
        };
        let slot = self.slot(record.gpu_device).map_err(|_| not_held())?;
        seal::authenticate(record, &slot.keys.accepted())?;
        let resident = self
            .inner
            .registry
            .get(&record.shard_id)
            .ok_or_else(not_held)?;
        // The same id may have been used again since: every field must agree.
        if resident.record().as_ref() != record || !resident.is_held() {
            return Err(not_held().into());
        }
        Ok(resident)
    }

    /// The one way to a [`Verified`]. The caller holds `resident.verifying()`.
    pub(super) fn verify_resident(&self, resident: &Arc<Resident>, mode: Mode) -> Result<Verified> {
        self.not_quarantined(resident)?;
        self.verify_even_quarantined(resident, mode)
    }

    /// The same for a repair, which asks whether the quarantine may end.
    pub(super) fn verify_even_quarantined(
        &self,
        resident: &Arc<Resident>,
        mode: Mode,
    ) -> Result<Verified> {
        let record = resident.record();
        let (shard_id, gpu_device) = (&record.shard_id, record.gpu_device);
        let correlation_id = self.request_id();
        let span = info_span!("verify", %shard_id, gpu_device, %mode, correlation_id);
        trace::operation(&span, || self.prove_and_record(resident, mode))
    }

    fn prove_and_record(&self, resident: &Arc<Resident>, mode: Mode) -> Result<Verified> {
        let answer = self.prove(resident, mode);
        match &answer {
            Ok((verified, began)) => {
                let verification = verified.verification();
                let body = Body::SealVerified {
                    shard_id: resident.record().shard_id.clone(),
                    gpu_device: verification.gpu_device,
                    result: Text::new("pass"),
                    mode: Text::new(&verification.mode.to_string()),
                    bytes_checked: verification.bytes_checked,
                    nanos: verification.nanos,
                };
                self.emit(None, body)?;
                self.inner.counters.verified(verification.nanos);
                // Only now: what could not be recorded must not be reused.
                resident.stamp(Stamp {
                    verification: verification.clone(),
                    monotonic: *began,
                });
            }
            // Freed meanwhile: nothing failed, unless something had looked bad by then.
            Err(Error::Misuse(_)) if resident.doubts() == 0 => {}
            Err(error) => {
                self.inner.counters.verification_failed();
                self.condemn(resident, error);
            }
        }
        answer.map(|(verified, _)| verified)
    }

    /// The proof, and when by the monotonic clock its making began: no byte was read
    /// before.
    fn prove(&self, resident: &Arc<Resident>, mode: Mode) -> Result<(Verified, u64)> {
        let record = resident.record();
        let slot = self.slot(record.gpu_device)?;
        let started = self.inner.clock.monotonic();
        // What looked bad is looked at, whatever was asked for.
        let mode = match mode {
            Mode::TagOnly if resident.doubts() > 0 => Mode::Full,
            mode => mode,
        };
        let (tag, memory) = self.ask_about(slot, resident)?;
        let checked = match mode {
            Mode::Full => self
                .check_contents(slot, resident)
                .map(|contents| Checked {
                    contents,
                    bytes: record.vram_bytes,
                    passes: 1,
                })?,
            Mode::Keyed => self.check_keyed(slot, resident, Span::All)?,
            Mode::Sweep { budget } => {
                self.check_keyed(slot, resident, Span::Time(budget, started))?
            }
            Mode::TagOnly => Checked {
                contents: Contents::not_asked_for(),
                bytes: 0,
                passes: 0,
            },
        };
        let ended = self.inner.clock.monotonic();
        let verification = Verification {
            mode,
            bytes_checked: checked.bytes,
            bytes_total: record.vram_bytes,
            passes_to_cover: checked.passes,
            at: self.inner.clock.now(),
            nanos: ended.saturating_sub(started),
            age_nanos: 0,
            reused: false,
            device_kind: record.device_kind,
            gpu_device: record.gpu_device,
            device_uuid: record.device_uuid,
            witness: memory.witness(),
        };
        let verified = Verified::new(&tag, memory, &checked.contents, verification);
        Ok((verified, started))
    }

    /// What every check asks before it reads a byte: the seal's tag and age, and the
    /// driver. What that said in an earlier check counts no more.
    pub(super) fn ask_about<'r>(
        &self,
        slot: &DeviceSlot,
        resident: &'r Resident,
    ) -> Result<(Authentic<'r>, ConfirmedMemory)> {
        resident.set_witnessed(None);
        let tag = seal::authenticate(resident.record(), &slot.keys.accepted())?;
        self.check_age(resident)?;
        let memory = self.witness_again(slot, resident, &tag)?;
        Ok((tag, memory))
    }

    /// Asks the driver again and compares with what the seal says
    /// (requirement: M0-W-1012, POL-5, PM-12).
    pub(super) fn witness_again(
        &self,
        slot: &DeviceSlot,
        resident: &Resident,
        tag: &Authentic<'_>,
    ) -> Result<ConfirmedMemory> {
        let device = slot.ledger.device();
        let held = resident.hold()?;
        let buffer = held.allocation()?.extent().buffer;
        let now = device.witness(buffer);
        // Before anything is recorded: a sink may free the shard.
        drop(held);
        let now = self.watched(now)?;
        resident.set_witnessed(Some(now));
        let changed = |what| VerifyError::Witness {
            shard_id: tag.record().shard_id.clone(),
            what,
        };
        let sealed = tag.record().witness;
        for (same, what) in [
            (now.memory == sealed.memory, "where the memory lies"),
            (
                now.managed == sealed.managed,
                "whether the memory is managed",
            ),
            (
                now.host_pointer == sealed.host_pointer,
                "whether the host can reach the memory",
            ),
            (
                now.ordinal == sealed.ordinal,
                "the device that holds the memory",
            ),
            (
                now.pinned_on_device == sealed.pinned_on_device,
                "the allocation's properties",
            ),
            (
                now.protection == sealed.protection,
                "the protection of the mapping",
            ),
        ] {
            if !same {
                return Err(changed(what).into());
            }
        }
        Ok(self.inner.policy.admit_memory(device.info(), now)?)
    }

    /// Seals can be limited in age, and in how far they are dated ahead. The age
    /// is what either clock says: one that is set back makes no seal younger
    /// (requirement: DG-6, PM-7).
    pub(super) fn check_age(&self, resident: &Resident) -> Result<(), PolicyError> {
        let (policy, clock) = (&self.inner.policy, &self.inner.clock);
        let sealed = resident.record().sealed_at.nanos();
        let now = clock.now().nanos();
        let held = clock.monotonic().saturating_sub(resident.since());
        let age = now.saturating_sub(sealed).max(held);
        let over = |nanos: u64, limit: Option<Duration>| {
            let limit = limit.filter(|limit| u128::from(nanos) > limit.as_nanos())?;
            Some((nanos / 1_000_000_000, limit.as_secs()))
        };
        if let Some((age_s, max_s)) = over(age, policy.max_seal_age) {
            return Err(PolicyError::SealAge { age_s, max_s });
        }
        match over(sealed.saturating_sub(now), policy.max_clock_skew) {
            Some((ahead_s, max_s)) => Err(PolicyError::SealDate { ahead_s, max_s }),
            None => Ok(()),
        }
    }

    pub(super) fn check_contents(
        &self,
        slot: &DeviceSlot,
        resident: &Resident,
    ) -> Result<Contents> {
        let record = resident.record();
        let device = slot.ledger.device().as_ref();
        let held = resident.hold()?;
        let mut check = Check {
            device,
            extent: held.allocation()?.extent(),
            level0: &resident.level0(),
            sealed: record.digest,
            tensors: resident.tensors(),
            read: 0,
            answers: Vec::new(),
        };
        let outcome = check.run();
        let said = check.answers;
        resident.count_read(check.read);
        // Before anything is recorded: a sink may free the shard.
        drop(held);
        let outcome = match outcome {
            Ok(outcome) => Ok(outcome),
            Err(unfinished) => {
                resident.doubt(unfinished.suspect_blocks, said.iter().cloned());
                Err(unfinished.error)
            }
        };
        let outcome = self.watched(outcome)?;
        let mut answers = resident.take_answers();
        answers.extend(said);
        let (contents, faults) = match outcome {
            Outcome::Intact(contents, faults) => (contents, faults),
            Outcome::Damaged(actual, damage) => {
                let damage = Damage { answers, ..damage };
                return Err(VerifyError::Contents {
                    shard_id: record.shard_id.clone(),
                    expected: record.digest,
                    actual,
                    damage: Box::new(damage),
                }
                .into());
            }
        };
        // What looked bad to an earlier check, too: the tree has outvoted it.
        let outvoted = resident.settle(self.inner.clock.monotonic());
        if let Some((measured, wrong)) = faults.kept {
            self.replace_hashes(resident, measured, wrong)?;
        }
        match faults.checker.max(outvoted) {
            0 => {}
            blocks => {
                let fault = self.checker_fault(record, blocks, answers);
                self.emit(None, fault)?;
            }
        }
        Ok(contents)
    }

    /// Counts that a checker erred, not the memory, and says so for the record.
    fn checker_fault(&self, record: &Record, suspect_blocks: u64, answers: Vec<Answer>) -> Body {
        self.inner.counters.checker_erred();
        Body::CheckerFault {
            shard_id: record.shard_id.clone(),
            gpu_device: record.gpu_device,
            suspect_blocks,
            answers,
        }
    }

    /// After a failure: every effect first (quarantine, group, stop), then the
    /// records, so that a sink that fails cannot keep a shard usable
    /// (requirement: WORKER-4122, WORKER-4161, OP-5), nor what was found from whoever
    /// asked. A seal of the wrong date or a retired key is refused and proves nothing
    /// against the shard.
    pub(super) fn condemn(&self, resident: &Arc<Resident>, error: &Error) {
        let record = resident.record();
        if seal_ran_out(error) {
            return self.record_failure(record, error);
        }
        if !condemns(error) {
            return match resident.doubts() {
                0 => self.record_failure(record, error),
                blocks => self.record_doubt(resident, error, blocks),
            };
        }
        resident.quarantine();
        let others = self.fail_group(resident);
        let stops = self.inner.policy.on_failure == OnFailure::Stop;
        let reason = format!("shard {} failed its verification", record.shard_id);
        let stopped = stops && self.inner.state.stop(&reason);
        self.record_condemned(resident, error);
        if let Error::Verify(VerifyError::Contents { damage, .. }) = error
            && damage.withdrawn > 0
        {
            let answers = damage.answers.clone();
            self.tell(None, self.checker_fault(record, damage.withdrawn, answers));
        }
        for shard_id in others {
            let because_of = record.shard_id.clone();
            let body = Body::ShardQuarantined {
                shard_id,
                because_of,
            };
            self.tell(None, body);
        }
        if stopped {
            let reason = Text::new(&reason);
            let body = Body::ManagerStopped { reason };
            self.tell(None, body);
        }
    }

    /// Other members of a group fail with one of them (requirement: PM-3).
    fn fail_group(&self, failed: &Arc<Resident>) -> Vec<ShardId> {
        let Some(group) = failed.record().group else {
            return Vec::new();
        };
        if self.inner.policy.on_group_failure == OnGroupFailure::IsolateMember {
            return Vec::new();
        }
        let mut others = self.inner.registry.all();
        others.retain(|other| {
            let member = other.record().group == Some(group) && !Arc::ptr_eq(other, failed);
            let news = member && !other.is_quarantined();
            if member {
                // Again if need be: a repair under way must not end it.
                other.quarantine();
            }
            news
        });
        others
            .iter()
            .map(|other| other.record().shard_id.clone())
            .collect()
    }

    /// The tag of a shard that is about to be copied or repaired; a failure is
    /// recorded as a failed verification (requirement: AU-3).
    pub(super) fn authentic(&self, slot: &DeviceSlot, resident: &Resident) -> Result<()> {
        let record = resident.record();
        let answer = seal::authenticate(record, &slot.keys.accepted()).map(drop);
        answer.inspect_err(|error| self.record_failure(record, error))
    }

    /// The same, and that it is not quarantined.
    pub(super) fn usable(&self, slot: &DeviceSlot, resident: &Resident) -> Result<()> {
        self.authentic(slot, resident)?;
        self.not_quarantined(resident)
    }

    /// Refuses a quarantined shard and records the attempt.
    pub(super) fn not_quarantined(&self, resident: &Resident) -> Result<()> {
        if !resident.is_quarantined() {
            return Ok(());
        }
        let shard_id = resident.record().shard_id.clone();
        let error = VerifyError::Quarantined { shard_id }.into();
        self.record_failure(resident.record(), &error);
        Err(error)
    }

    /// Every failed verification is recorded, whatever the reason
    /// (requirement: AU-3).
    pub(super) fn record_failure(&self, record: &Record, error: &Error) {
        self.record_failed(record, error, Failed::with(error));
    }

    /// The same of a shard that is condemned, with what the driver said of its
    /// memory, if it was asked.
    fn record_condemned(&self, resident: &Resident, error: &Error) {
        let failed = Failed {
            witness: resident.witnessed(),
            ..Failed::with(error)
        };
        self.record_failed(resident.record(), error, failed);
    }

    /// The same of a check that found something and could not be finished.
    fn record_doubt(&self, resident: &Resident, error: &Error, blocks: u64) {
        let answers = resident.answers();
        // Where a copy arrived as other bytes, nobody has looked at the shard yet.
        let said = match answers.as_slice() {
            [] => String::new(),
            answers => format!(" ({})", Said(answers)),
        };
        let details = format!(
            "up to {blocks} blocks of 4 KiB looked bad, and whether they are could not be told: {error}{said}"
        );
        let failed = Failed {
            reason: "unsettled",
            details,
            answers,
            ..Failed::with(error)
        };
        self.record_failed(resident.record(), error, failed);
    }

    fn record_failed(&self, record: &Record, error: &Error, failed: Failed) {
        self.inner.counters.recorded_failure(failed.reason);
        let (actual_digest, damage) = match error {
            Error::Verify(VerifyError::Contents { actual, damage, .. }) => {
                (actual.to_string(), Some(Box::new(damage.for_log())))
            }
            _ => (String::new(), None),
        };
        let body = Body::SealVerificationFailed {
            shard_id: record.shard_id.clone(),
            gpu_device: record.gpu_device,
            reason: Text::new(failed.reason),
            expected_digest: record.digest.to_string(),
            actual_digest,
            damage,
            answers: failed.answers,
            sealed_witness: failed.witness.map(|_| record.witness),
            witness: failed.witness,
            details: Text::new(&failed.details),
        };
        self.tell(None, body);
    }

    /// The slot that holds a shard.
    pub(super) fn slot_of(&self, resident: &Resident) -> Result<&DeviceSlot, InputError> {
        self.slot(resident.record().gpu_device)
    }
}

/// A failed verification, as an event tells it.
struct Failed {
    reason: &'static str,
    details: String,
    witness: Option<Witness>,
    answers: Vec<Answer>,
}

impl Failed {
    /// As the error says.
    fn with(error: &Error) -> Self {
        let answers = match error {
            Error::Verify(VerifyError::Contents { damage, .. }) => damage.answers.clone(),
            _ => Vec::new(),
        };
        Self {
            reason: reason(error),
            details: error.to_string(),
            witness: None,
            answers,
        }
    }
}

/// What an event calls a failure.
const fn reason(error: &Error) -> &'static str {
    match error {
        Error::Verify(VerifyError::Tag { .. }) => "tag_mismatch",
        Error::Verify(VerifyError::UnknownKey { .. }) => "unknown_key",
        Error::Verify(VerifyError::NotHeld { .. }) => "not_held",
        Error::Verify(VerifyError::Contents { .. }) => "digest_mismatch",
        Error::Verify(VerifyError::Witness { .. }) | Error::Policy(PolicyError::Memory { .. }) => {
            "witness_changed"
        }
        Error::Verify(VerifyError::Quarantined { .. }) => "quarantined",
        Error::Policy(PolicyError::SealAge { .. }) => "seal_too_old",
        Error::Policy(PolicyError::SealDate { .. }) => "seal_too_new",
        Error::Device(DeviceError::Lost { .. }) => "device_lost",
        Error::Device(_) | Error::Free(_) => "device_error",
        Error::Misuse(_) => "not_sealed",
        Error::Key(_) => "key_error",
        Error::Random(_) => "random_error",
        Error::Audit(_) => "audit_error",
        _ => "internal_error",
    }
}

/// Whether the failure of a verification proves something against the shard.
const fn condemns(error: &Error) -> bool {
    matches!(error, Error::Verify(_) | Error::Policy(_)) && !seal_ran_out(error)
}

/// Whether only the seal counts no more, which proves nothing against the shard:
/// its key is retired, or it is of the wrong date.
pub(super) const fn seal_ran_out(error: &Error) -> bool {
    matches!(
        error,
        Error::Verify(VerifyError::UnknownKey { .. })
            | Error::Policy(PolicyError::SealAge { .. } | PolicyError::SealDate { .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditError;
    use crate::device::FreeError;
    use crate::error::Misuse;
    use crate::key::KeyError;
    use crate::random::RandomError;

    /// Events and metrics count by these words.
    #[test]
    fn a_failure_is_called_what_the_event_says() {
        let lost = DeviceError::Lost {
            op: "test",
            code: 700,
            text: "gone".to_owned(),
        };
        let other = || DeviceError::Unsupported { what: "test" };
        let stranded = FreeError {
            stranded: 1,
            source: other(),
        };
        let unwritten = AuditError {
            reason: "test".to_owned(),
        };
        let (age_s, ahead_s, max_s) = (2, 2, 1);
        let errors: [(Error, &str); 11] = [
            (
                PolicyError::Memory { reason: "test" }.into(),
                "witness_changed",
            ),
            (PolicyError::SealAge { age_s, max_s }.into(), "seal_too_old"),
            (
                PolicyError::SealDate { ahead_s, max_s }.into(),
                "seal_too_new",
            ),
            (lost.into(), "device_lost"),
            (other().into(), "device_error"),
            (stranded.into(), "device_error"),
            (Misuse::NotSealed.into(), "not_sealed"),
            (KeyError::Entropy.into(), "key_error"),
            (RandomError::new("test").into(), "random_error"),
            (unwritten.into(), "audit_error"),
            (Error::Internal("test"), "internal_error"),
        ];
        for (error, word) in errors {
            assert_eq!(reason(&error), word, "{error}");
        }
    }
}
