//! Receipts: a seal that anybody can check who has a public key.
//!
//! The tag of a record is symmetric: who can check it can make it. A receipt
//! adds an Ed25519 signature (RFC 8032) by the worker's signing key over the
//! same statement, so that it can be checked on any machine. It proves what the
//! worker said that it measured when it sealed, not what is in VRAM now.
//!
//! The signed bytes are little-endian, without padding; `text` is a 32-bit
//! length and the bytes:
//!
//! | field of a receipt | encoding |
//! |---|---|
//! | magic | 8 bytes `VRAMRCPT` |
//! | version | u16, now 1 |
//! | public key of the signer | 32 bytes |
//! | seal statement | text |
//! | seal tag | 32 bytes |
//!
//! | field of a certificate | encoding |
//! |---|---|
//! | magic | 8 bytes `VRAMCERT` |
//! | version | u16, now 1 |
//! | public key of the operator | 32 bytes |
//! | public key of the worker | 32 bytes |
//! | worker id | text |
//! | not before, not after | u64, u64 nanoseconds since the epoch |

mod certificate;
mod wire;

pub use certificate::Certificate;

use serde::{Deserialize, Serialize};
use vram_digest::FileDigest;

use crate::device::DeviceKind;
use crate::key::{KeyError, KeyId, SigningKey, VerifyingKey};
use crate::seal::{Authentic, Record};
use wire::{Encoder, PublicKey, Signature};

/// Value of the `schema` field.
pub const RECEIPT_SCHEMA: &str = "vram-residency/receipt/v1";
/// Longest receipt that is read, in bytes.
pub const MAX_RECEIPT_BYTES: usize = 128 << 10;

const MAGIC: &[u8; 8] = b"VRAMRCPT";
const VERSION: u16 = 1;

/// A record, signed. Untrusted until [`Receipt::check`] said yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    schema: String,
    record: Record,
    key_id: KeyId,
    public_key: PublicKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate>,
    signature: Signature,
}

/// A receipt that cannot be made or is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The text is no receipt.
    #[error("not a receipt: {reason}")]
    Format {
        /// What is wrong.
        reason: String,
    },
    /// Neither the signer nor who certified it is trusted.
    #[error("the receipt is signed by key {key_id}, which no trusted key is or certifies")]
    Untrusted {
        /// The signer.
        key_id: KeyId,
    },
    /// The signature is not the signer's over this record.
    #[error("the receipt's signature is wrong: it was changed after it was signed")]
    Signature,
    /// The certificate is not the operator's.
    #[error("the certificate's signature is wrong")]
    Certificate,
    /// The certificate is for another worker or another time.
    #[error("the certificate does not cover this receipt: {reason}")]
    Scope {
        /// What it does not cover.
        reason: &'static str,
    },
    /// A simulated device proves nothing about a GPU.
    #[error("the receipt is of a simulated device; accept it only where that is meant")]
    Simulated,
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What a receipt is checked against.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust<'a> {
    /// Keys of workers, or of operators who certify workers.
    pub keys: &'a [VerifyingKey],
    /// Accept receipts of simulated devices: for tests, never in production.
    pub simulated: bool,
}

/// Proof that a receipt was checked; only [`Receipt::check`] makes it.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'r> {
    receipt: &'r Receipt,
}

impl<'r> Checked<'r> {
    /// What was sealed.
    #[must_use]
    pub const fn record(&self) -> &'r Record {
        &self.receipt.record
    }

    /// The worker's signing key.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.receipt.key_id
    }

    /// Who certified that key, if it was believed through its certificate or
    /// carries one.
    #[must_use]
    pub const fn certificate(&self) -> Option<&'r Certificate> {
        self.receipt.certificate.as_ref()
    }

    /// Whether a file of this digest and length is the one that was sealed.
    #[must_use]
    pub fn describes(&self, digest: &FileDigest, len: u64) -> bool {
        self.record().digest == *digest && self.record().vram_bytes == len
    }
}

impl Receipt {
    /// Signs a record whose tag was checked.
    ///
    /// # Errors
    /// [`ReceiptError::Scope`] when `certificate` is not for this key, worker
    /// and time; [`ReceiptError::Key`].
    pub fn sign(
        record: &Authentic<'_>,
        key: &SigningKey,
        certificate: Option<Certificate>,
    ) -> Result<Self, ReceiptError> {
        let record = record.record().clone();
        if let Some(certificate) = &certificate {
            certificate.covers(key.public(), &record)?;
        }
        let signature = key.sign(&message(&record, key.public()))?;
        Ok(Self {
            schema: RECEIPT_SCHEMA.to_owned(),
            record,
            key_id: key.public().id(),
            public_key: PublicKey(key.public().clone()),
            certificate,
            signature: Signature(signature),
        })
    }

    /// Reads a receipt. Unknown fields, other schemas and oversized texts are
    /// refused.
    ///
    /// # Errors
    /// [`ReceiptError::Format`].
    pub fn from_json(text: &str) -> Result<Self, ReceiptError> {
        let format = |reason: String| ReceiptError::Format { reason };
        if text.len() > MAX_RECEIPT_BYTES {
            let len = text.len();
            return Err(format(format!(
                "{len} bytes, the limit is {MAX_RECEIPT_BYTES}"
            )));
        }
        let receipt: Self =
            serde_json::from_str(text).map_err(|error| format(error.to_string()))?;
        if receipt.schema != RECEIPT_SCHEMA {
            return Err(format(format!(
                "unknown schema; this version reads {RECEIPT_SCHEMA}"
            )));
        }
        let record = &receipt.record;
        if record.position.is_some_and(|at| at.index >= at.total) {
            return Err(format("a shard's index is not below its total".to_owned()));
        }
        Ok(receipt)
    }

    /// The receipt as one line of JSON.
    ///
    /// # Errors
    /// [`ReceiptError::Format`], which no field of a receipt can cause.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        serde_json::to_string(self).map_err(|error| ReceiptError::Format {
            reason: error.to_string(),
        })
    }

    /// Checks signature, signer, certificate and device kind.
    ///
    /// # Errors
    /// [`ReceiptError`] saying which of them is not believed.
    pub fn check(&self, trust: &Trust<'_>) -> Result<Checked<'_>, ReceiptError> {
        let key = &self.public_key.0;
        let trusts = |key: &VerifyingKey| trust.keys.contains(key);
        let certified = self.certificate.as_ref();
        let certified = certified.is_some_and(|c| trusts(c.operator()));
        if self.key_id != key.id() || !(trusts(key) || certified) {
            return Err(ReceiptError::Untrusted {
                key_id: self.key_id,
            });
        }
        if let Some(certificate) = &self.certificate {
            certificate.check()?;
            certificate.covers(key, &self.record)?;
        }
        if !key.verifies(&message(&self.record, key), &self.signature.0) {
            return Err(ReceiptError::Signature);
        }
        if !self.record.sealed {
            let reason = "it says that nothing was sealed".to_owned();
            return Err(ReceiptError::Format { reason });
        }
        if self.record.device_kind == DeviceKind::Simulated && !trust.simulated {
            return Err(ReceiptError::Simulated);
        }
        Ok(Checked { receipt: self })
    }
}

/// The bytes that a worker signs.
fn message(record: &Record, key: &VerifyingKey) -> Vec<u8> {
    let mut out = Encoder::new(MAGIC, VERSION);
    out.raw(key.as_bytes())
        .text(&record.statement())
        .raw(record.tag.as_bytes());
    out.finish()
}
