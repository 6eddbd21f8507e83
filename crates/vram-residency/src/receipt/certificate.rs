//! An operator's word that a signing key is a worker's.

use serde::{Deserialize, Serialize};

use super::ReceiptError;
use super::wire::{Encoder, PublicKey, Signature};
use crate::clock::Timestamp;
use crate::key::{KeyError, SigningKey, VerifyingKey};
use crate::shard::WorkerId;

const MAGIC: &[u8; 8] = b"VRAMCERT";
const VERSION: u16 = 1;

/// Says that a key signs for a worker during a span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    operator_key: PublicKey,
    worker_key: PublicKey,
    worker_id: WorkerId,
    not_before: Timestamp,
    not_after: Timestamp,
    signature: Signature,
}

impl Certificate {
    /// Certifies `worker_key` for seals of `worker_id` from `not_before` to
    /// `not_after`, both included.
    ///
    /// # Errors
    /// [`KeyError`] when the operator's key cannot sign.
    pub fn issue(
        operator: &SigningKey,
        worker_key: &VerifyingKey,
        worker_id: WorkerId,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, KeyError> {
        let mut certificate = Self {
            operator_key: PublicKey(operator.public().clone()),
            worker_key: PublicKey(worker_key.clone()),
            worker_id,
            not_before,
            not_after,
            signature: Signature([0; 64]),
        };
        certificate.signature = Signature(operator.sign(&certificate.message())?);
        Ok(certificate)
    }

    /// Who certifies.
    #[must_use]
    pub const fn operator(&self) -> &VerifyingKey {
        &self.operator_key.0
    }

    /// The worker.
    #[must_use]
    pub const fn worker_id(&self) -> &WorkerId {
        &self.worker_id
    }

    /// Whether the operator signed it.
    pub(super) fn check(&self) -> Result<(), ReceiptError> {
        if self.operator().verifies(&self.message(), &self.signature.0) {
            return Ok(());
        }
        Err(ReceiptError::Certificate)
    }

    /// Reads a certificate. It is believed only with what it certifies.
    ///
    /// # Errors
    /// [`ReceiptError::Format`].
    pub fn from_json(text: &str) -> Result<Self, ReceiptError> {
        super::read(text, super::MAX_RECEIPT_BYTES)
    }

    /// The certificate as one line of JSON.
    ///
    /// # Errors
    /// [`ReceiptError::Format`], which no field of a certificate can cause.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        super::write(self)
    }

    /// Whether it speaks of this key, worker and time.
    pub(super) fn covers(
        &self,
        key: &VerifyingKey,
        worker: &WorkerId,
        at: Timestamp,
    ) -> Result<(), ReceiptError> {
        let scope = |reason| Err(ReceiptError::Scope { reason });
        if self.worker_key.0 != *key {
            return scope("it certifies another key");
        }
        if self.worker_id != *worker {
            return scope("it certifies another worker");
        }
        if at < self.not_before || at > self.not_after {
            return scope("it was signed outside the certified time");
        }
        Ok(())
    }

    /// Whether it has not ended at this time.
    pub(super) fn lasts(&self, now: Timestamp) -> Result<(), ReceiptError> {
        if now > self.not_after {
            let reason = "it has ended, and an answer to this nonce is newer";
            return Err(ReceiptError::Scope { reason });
        }
        Ok(())
    }

    fn message(&self) -> Vec<u8> {
        let mut out = Encoder::new(MAGIC, VERSION);
        out.raw(self.operator_key.0.as_bytes())
            .raw(self.worker_key.0.as_bytes())
            .text(self.worker_id.as_str().as_bytes())
            .raw(&self.not_before.nanos().to_le_bytes())
            .raw(&self.not_after.nanos().to_le_bytes());
        out.finish()
    }
}
