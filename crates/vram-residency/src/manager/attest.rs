//! Attestation: a tagged statement of facts measured now, for a verifier's
//! nonce (requirement: API-F22, VP-006). It proves what this process measured
//! and signed, to whoever can check the tag; see `docs/threat-model.md`.

use serde::Serialize;
use tracing::info_span;

use super::failure::About;
use super::{DeviceSlot, VramManager};
use crate::audit::{Body, Text};
use crate::device::{DeviceInfo, MemoryInfo};
use crate::error::{Error, Result, VerifyError};
use crate::key::SealTag;
use crate::receipt::{Attested, DeviceFacts, Facts, Measured, Nonce, Receipt, Signer};
use crate::seal::{Authentic, Record, authenticate};
use crate::shard::SealedShard;
use crate::trace;
use crate::verify::{Mode, Verification};

/// Separates attestation tags from seal tags under the same key.
const LABEL: &[u8] = b"VRAMATTEST\x01\0";

/// Facts measured for one attestation. The tag covers every other field.
#[derive(Debug, Clone, Serialize)]
pub struct Attestation {
    /// Always `vram-residency/attestation/v1`.
    pub schema: &'static str,
    /// The verifier's nonce, hex; absent when none was given.
    pub nonce: Option<String>,
    /// The shard's record, its own tag included.
    pub record: Record,
    /// The full verification made for this attestation.
    pub verification: Verification,
    /// The device.
    pub device: DeviceInfo,
    /// Device memory as the driver reports it.
    pub memory: MemoryInfo,
    /// Counts seals and attestations of this manager: it never repeats.
    pub sequence: u64,
    /// The newest checkpoint of the audit log, which covers the verification
    /// that this rests on; absent without a log, and where `AuditMode::BestEffort`
    /// went on without one that gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// HMAC-SHA256 under the shard's sealing key.
    pub tag: SealTag,
}

/// What is measured for an attestation of either kind, after the nonce is known.
struct Answers {
    record: Record,
    verification: Verification,
    device: DeviceInfo,
    memory: MemoryInfo,
    sequence: u64,
    checkpoint: Option<String>,
}

impl VramManager {
    /// Verifies the shard in full and states what was measured: the facts of
    /// [`VramManager::measure_residency`], under the sealing key. It is recorded
    /// and numbered as those are.
    ///
    /// # Errors
    /// [`crate::error::InputError::Nonce`], or as [`VramManager::measure_residency`];
    /// [`VerifyError::UnknownKey`] also when the shard's key is retired while
    /// this runs.
    pub fn attest_vram_residency(
        &self,
        shard: &SealedShard,
        nonce: Option<&[u8]>,
    ) -> Result<Attestation> {
        let span = info_span!("attest", shard_id = %shard.id());
        trace::operation(&span, || self.attest(shard, nonce))
    }

    fn attest(&self, shard: &SealedShard, nonce: Option<&[u8]>) -> Result<Attestation> {
        let nonce = nonce.map(Nonce::new).transpose()?;
        let answers = self.measure_now(shard, nonce.as_ref())?;
        let about = About::shard(&answers.record);
        let slot = self.slot(answers.record.gpu_device)?;
        let attestation = Attestation {
            schema: "vram-residency/attestation/v1",
            nonce: nonce.map(String::from),
            record: answers.record,
            verification: answers.verification,
            device: answers.device,
            memory: answers.memory,
            sequence: answers.sequence,
            checkpoint: answers.checkpoint,
            tag: SealTag::from_bytes([0; 32]),
        };
        let attestation = self.recorded("attest", about, tagged(slot, attestation))?;
        self.still_stands(shard)?;
        Ok(attestation)
    }

    /// What was measured of a shard is told only where nothing is held against it by
    /// now: it may have been condemned, with its group or by another check, or have
    /// looked bad in one that could not be finished.
    fn still_stands(&self, shard: &SealedShard) -> Result<()> {
        let resident = self.own(shard)?;
        self.not_quarantined(resident)?;
        if resident.doubts() > 0 {
            let _ = self.verify_sealed(shard, Mode::Full)?;
        }
        Ok(())
    }

    /// The record of a shard, its tag checked: what a receipt is signed over. It
    /// looks at no memory.
    ///
    /// # Errors
    /// As [`crate::seal::authenticate`]; recorded as a failed verification.
    pub fn authenticate<'s>(&self, shard: &'s SealedShard) -> Result<Authentic<'s>> {
        let record = shard.record();
        let slot = self.slot(record.gpu_device)?;
        let answer = authenticate(record, &slot.keys.accepted());
        if let Err(error) = &answer {
            self.record_failure(record, error);
        }
        answer
    }

    /// Signs a receipt of a shard (requirement: VP-006). It is recorded before it is
    /// handed out, and so is a refusal to sign.
    ///
    /// # Errors
    /// As [`VramManager::authenticate`] and [`Receipt::sign`].
    pub fn issue_receipt(&self, shard: &SealedShard, signer: &Signer<'_>) -> Result<Receipt> {
        let record = shard.record();
        let signed = Receipt::sign(&self.authenticate(shard)?, signer);
        let signed = signed.map_err(Error::from);
        let receipt = self.recorded("issue_receipt", About::shard(record), signed)?;
        let body = Body::ReceiptIssued {
            shard_id: record.shard_id.clone(),
            gpu_device: record.gpu_device,
            sequence: record.sequence,
            key_id: receipt.key_id(),
        };
        self.emit(None, body)?;
        Ok(receipt)
    }

    /// Measures a shard for a verifier's nonce and signs the answer
    /// (requirement: VP-006). A refusal to sign is recorded.
    ///
    /// # Errors
    /// As [`VramManager::measure_residency`] and [`Measured::sign`].
    pub fn answer(
        &self,
        shard: &SealedShard,
        nonce: &Nonce,
        signer: &Signer<'_>,
    ) -> Result<Attested> {
        let measured = self.measure_residency(shard, nonce)?;
        let signed = measured.sign(signer).map_err(Error::from);
        let signed = self.recorded("answer", About::shard(shard.record()), signed)?;
        self.still_stands(shard)?;
        Ok(signed)
    }

    /// Measures, after `nonce` is known, everything that a verifier wants to know
    /// of a shard: the digest of its bytes in VRAM (a full verification), what the
    /// driver says about memory and device, and the newest checkpoint of the audit
    /// log. Sign it with [`Measured::sign`]; anybody with the public key can check
    /// the answer (requirement: VP-006, API-F22).
    ///
    /// # Errors
    /// As [`VramManager::verify_sealed`], also where the shard is condemned while this
    /// runs; [`crate::audit::AuditError`] in `required` mode when the log cannot be made
    /// durable.
    pub fn measure_residency(&self, shard: &SealedShard, nonce: &Nonce) -> Result<Measured> {
        let span = info_span!("attest", shard_id = %shard.id());
        let answers = trace::operation(&span, || self.measure_now(shard, Some(nonce)))?;
        Ok(Measured::new(self.facts(nonce, answers)))
    }

    fn measure_now(&self, shard: &SealedShard, nonce: Option<&Nonce>) -> Result<Answers> {
        let verification = self.verify_sealed(shard, Mode::Full)?.into_verification();
        let record = shard.record().clone();
        let slot = self.slot(record.gpu_device)?;
        let device = self.facts_now("attest", slot)?;
        let memory = self.driver_memory(record.gpu_device)?;
        let sequence = self.next_sequence();
        self.emit(
            None,
            Body::VramAttested {
                shard_id: record.shard_id.clone(),
                gpu_device: record.gpu_device,
                nonce: nonce.map(|nonce| Text::new(&nonce.to_string())),
                sequence,
            },
        )?;
        let checkpoint = self.inner.recorder.checkpoint()?;
        self.still_stands(shard)?;
        Ok(Answers {
            record,
            verification,
            device,
            memory,
            sequence,
            checkpoint,
        })
    }

    fn facts(&self, nonce: &Nonce, answers: Answers) -> Facts {
        let (record, verification) = (answers.record, answers.verification);
        Facts {
            nonce: nonce.clone(),
            digest: record.digest,
            bytes_checked: verification.bytes_checked,
            measured_at: verification.at,
            sequence: answers.sequence,
            instance: self.instance(),
            witness: verification.witness,
            device: device_facts(&answers.device, answers.memory),
            checkpoint: answers.checkpoint,
            record,
        }
    }
}

fn device_facts(info: &DeviceInfo, memory: MemoryInfo) -> DeviceFacts {
    DeviceFacts {
        kind: info.kind,
        ordinal: info.ordinal,
        uuid: info.uuid,
        name: info.name.clone(),
        driver: info.driver.clone(),
        free_bytes: memory.free,
        total_bytes: memory.total,
    }
}

/// Tags an attestation with the key of its record.
fn tagged(slot: &DeviceSlot, mut attestation: Attestation) -> Result<Attestation> {
    let keys = slot.keys.accepted();
    let record = &attestation.record;
    let key = keys.iter().find(|key| key.id() == record.key_id);
    let key = key.ok_or_else(|| VerifyError::UnknownKey {
        shard_id: record.shard_id.clone(),
        key_id: record.key_id.to_string(),
    })?;
    attestation.tag = key.tag(&attestation.statement()?)?;
    Ok(attestation)
}

impl Attestation {
    /// The bytes that the tag covers: a label, and this value's JSON with a
    /// zero tag. Field order is the declaration's, so equal facts give equal bytes.
    ///
    /// # Errors
    /// [`Error::Internal`], which no field of an attestation can cause.
    pub fn statement(&self) -> Result<Vec<u8>> {
        let blank = Self {
            tag: SealTag::from_bytes([0; 32]),
            ..self.clone()
        };
        let json = serde_json::to_vec(&blank);
        let json = json.map_err(|_| Error::Internal("an attestation did not serialise"))?;
        Ok([LABEL, json.as_slice()].concat())
    }
}
