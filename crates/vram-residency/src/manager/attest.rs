//! Attestation: a tagged or signed statement of facts measured now, for a
//! verifier's nonce (requirement: API-F22, VP-006). It proves what this process
//! measured and said, to whoever can check that; see `docs/threat-model.md`.

use tracing::{Span, info_span};

use super::failure::About;
use super::{DeviceSlot, VramManager};
use crate::audit::{Body, Text};
use crate::device::{DeviceInfo, MemoryInfo};
use crate::error::{Error, Result, VerifyError};
use crate::receipt::{Attested, DeviceFacts, Facts, Measured, Nonce, Receipt, Signer, Tagged};
use crate::seal::{Authentic, authenticate};
use crate::shard::SealedShard;
use crate::trace;
use crate::verify::Mode;

impl VramManager {
    /// Verifies the shard in full and states what was measured: the facts of
    /// [`VramManager::measure_residency`], tagged under the sealing key. Who has that
    /// key checks it anywhere ([`Tagged::check`]). It is recorded and numbered as
    /// those are.
    ///
    /// # Errors
    /// [`crate::error::InputError::Nonce`], or as [`VramManager::measure_residency`];
    /// [`VerifyError::UnknownKey`] also when the shard's key is retired while
    /// this runs.
    pub fn attest_vram_residency(
        &self,
        shard: &SealedShard,
        nonce: Option<&[u8]>,
    ) -> Result<Tagged> {
        trace::operation(&self.span_of_attest(shard), || self.attest(shard, nonce))
    }

    fn attest(&self, shard: &SealedShard, nonce: Option<&[u8]>) -> Result<Tagged> {
        let nonce = nonce.map(Nonce::new).transpose()?;
        let facts = self.measure_now(shard, nonce)?;
        let about = About::shard(&facts.record);
        let slot = self.slot(facts.record.gpu_device)?;
        let tagged = self.recorded("attest", about, tagged(slot, facts))?;
        self.still_stands(shard)?;
        Ok(tagged)
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
        trace::operation(&self.span_of_sign(shard), || self.receipt(shard, signer))
    }

    fn receipt(&self, shard: &SealedShard, signer: &Signer<'_>) -> Result<Receipt> {
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
        let signed = trace::operation(&self.span_of_sign(shard), || {
            let signed = measured.sign(signer).map_err(Error::from);
            self.recorded("answer", About::shard(shard.record()), signed)
        })?;
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
        let measure = || self.measure_now(shard, Some(nonce.clone()));
        let facts = trace::operation(&self.span_of_attest(shard), measure)?;
        Ok(Measured::new(facts))
    }

    fn span_of_attest(&self, shard: &SealedShard) -> Span {
        info_span!(
            "attest",
            shard_id = %shard.id(),
            gpu_device = shard.record().gpu_device,
            correlation_id = self.request_id()
        )
    }

    /// A signature is made in it.
    fn span_of_sign(&self, shard: &SealedShard) -> Span {
        info_span!(
            "sign",
            shard_id = %shard.id(),
            gpu_device = shard.record().gpu_device,
            correlation_id = self.request_id()
        )
    }

    fn measure_now(&self, shard: &SealedShard, nonce: Option<Nonce>) -> Result<Facts> {
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
                nonce: nonce.as_ref().map(|one| Text::new(&one.to_string())),
                sequence,
            },
        )?;
        let checkpoint = self.inner.recorder.checkpoint()?;
        self.still_stands(shard)?;
        Ok(Facts {
            nonce,
            digest: record.digest,
            bytes_checked: verification.bytes_checked,
            measured_at: verification.at,
            sequence,
            instance: self.instance(),
            witness: verification.witness,
            device: device_facts(&device, memory),
            checkpoint,
            record,
        })
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

/// Tags facts with the key of their record.
fn tagged(slot: &DeviceSlot, facts: Facts) -> Result<Tagged> {
    let keys = slot.keys.accepted();
    let record = &facts.record;
    let key = keys.iter().find(|key| key.id() == record.key_id);
    let key = key.ok_or_else(|| VerifyError::UnknownKey {
        shard_id: record.shard_id.clone(),
        key_id: record.key_id.to_string(),
    })?;
    Ok(Tagged::new(facts, key.as_ref())?)
}
