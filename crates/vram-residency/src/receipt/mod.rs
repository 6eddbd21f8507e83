//! Receipts and attestations: what anybody can check who has a public key.
//!
//! The tag of a record is symmetric: who can check it can make it. A receipt
//! adds an Ed25519 signature (RFC 8032) by the worker's signing key over the
//! same statement, so that it can be checked on any machine. It proves what the
//! worker said that it measured when it sealed, not what is in VRAM now; that is
//! what an attestation answers, for a nonce of the verifier's: [`Attested`] to
//! anybody, [`Tagged`] to who has the sealing key. A key in
//! production scope signs for no simulated device (requirement: VP-006).
//!
//! The signed bytes are little-endian, without padding; `text` is a 32-bit
//! length and the bytes, `option` one byte 0, or 1 and the value. The table
//! stands in `docs/design.md`; vectors and an independent implementation in
//! `testdata/receipt_vectors.json` and `testdata/receipt_reference.py`.

mod attested;
mod certificate;
mod revocation;
mod set;
mod tagged;
mod trust;
pub(crate) mod wire;

pub use attested::{
    ATTESTED_SCHEMA, Answered, Attested, DeviceFacts, Facts, MAX_NONCE_BYTES, MIN_NONCE_BYTES,
    Measured, Nonce,
};
pub use certificate::Certificate;
pub use revocation::{REVOCATIONS_SCHEMA, REVOCATIONS_SKEW, Revocations};
pub use set::{SetFault, check_set};
pub use tagged::{TAGGED_SCHEMA, Tagged};
pub use trust::{Signer, Trust};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vram_digest::FileDigest;

use crate::audit::Text;
use crate::clock::Timestamp;
use crate::device::DeviceKind;
use crate::key::{KeyError, KeyId, VerifyingKey};
use crate::seal::{Authentic, Record, refuse_lists};
use trust::{Signed, Subject};
use wire::Encoder;

/// Value of the `schema` field.
pub const RECEIPT_SCHEMA: &str = "vram-residency/receipt/v1";
/// Longest receipt, attestation or certificate that is read, in bytes.
pub const MAX_RECEIPT_BYTES: usize = 128 << 10;
/// Longest list of revoked keys that is read or made, in bytes: some 55,000 keys.
pub const MAX_REVOCATIONS_BYTES: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"VRAMRCPT";
const VERSION: u16 = 1;

/// A record, signed. Untrusted until [`Receipt::check`] said yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    schema: String,
    record: Record,
    signed: Signed,
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
    #[error("it is signed by key {key_id}, which no trusted key is or certifies")]
    Untrusted {
        /// The signer.
        key_id: KeyId,
    },
    /// The signature is not the signer's over this record.
    #[error("the signature is wrong: it was changed after it was signed")]
    Signature,
    /// The tag is not the sealing key's over these facts.
    #[error("the tag is wrong: it was changed after it was tagged, or nobody with the key made it")]
    Tag,
    /// The certificate is not the operator's.
    #[error("the certificate's signature is wrong")]
    Certificate,
    /// The certificate is for another worker or another time.
    #[error("the certificate does not cover this: {reason}")]
    Scope {
        /// What it does not cover.
        reason: &'static str,
    },
    /// The key is on a revocation list.
    #[error("key {key_id} was revoked")]
    Revoked {
        /// The key.
        key_id: KeyId,
    },
    /// A revocation list that is not the newest that was seen.
    #[error("the list was issued at {issued}; one of {seen} was believed already")]
    Stale {
        /// Time of this list.
        issued: Timestamp,
        /// Time of the list that was seen.
        seen: Timestamp,
    },
    /// A revocation list from a time that has not come.
    #[error("the list was issued at {issued}, and it is only {now} here")]
    Early {
        /// Time of this list.
        issued: Timestamp,
        /// Time of the verifier.
        now: Timestamp,
    },
    /// A revocation list that leaves out what one revoked that was seen.
    #[error("the list leaves out key {key_id}, which the list that was believed last revokes")]
    Unrevoked {
        /// The key.
        key_id: KeyId,
    },
    /// Receipts that do not belong together as they are.
    #[error("the receipts do not belong together: {0}")]
    Set(#[from] SetFault),
    /// It is signed, and no honest worker signs that.
    #[error("it contradicts itself: {reason}")]
    Contradiction {
        /// What does not fit.
        reason: &'static str,
    },
    /// The attestation answers another nonce: it may be an old one.
    #[error("the attestation does not answer this nonce")]
    Nonce,
    /// A simulated device proves nothing about a GPU.
    #[error("it speaks of a simulated device; accept it only where that is meant")]
    Simulated,
    /// A production key signs for no simulated device.
    #[error("a key in production scope does not sign for a simulated device")]
    Production,
    /// A key cannot sign, or a provider cannot name its secret, which a list may revoke.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Proof that a receipt was checked; only [`Receipt::check`] makes it.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'r> {
    receipt: &'r Receipt,
    certificate: Option<&'r Certificate>,
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
        self.receipt.signed.key_id
    }

    /// Who certified that key, if that is somebody who is trusted.
    #[must_use]
    pub const fn certificate(&self) -> Option<&'r Certificate> {
        self.certificate
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
    /// [`ReceiptError::Production`] for a simulated device under a production
    /// key, [`ReceiptError::Scope`] when the certificate is not for this key,
    /// worker and time; [`ReceiptError::Key`].
    pub fn sign(record: &Authentic<'_>, signer: &Signer<'_>) -> Result<Self, ReceiptError> {
        let record = record.record().clone();
        let kind = [record.device_kind];
        let signed = signer.sign(&subject(&record, &kind), |key| message(&record, key))?;
        Ok(Self {
            schema: RECEIPT_SCHEMA.to_owned(),
            record,
            signed,
        })
    }

    /// Reads a receipt. Unknown fields, other schemas and oversized texts are
    /// refused.
    ///
    /// # Errors
    /// [`ReceiptError::Format`].
    pub fn from_json(text: &str) -> Result<Self, ReceiptError> {
        let receipt: Self = read(text, MAX_RECEIPT_BYTES)?;
        check_schema(&receipt.schema, RECEIPT_SCHEMA)?;
        let record = &receipt.record;
        if record.position.is_some_and(|at| at.index >= at.total) {
            let reason = "a shard's index is not below its total".to_owned();
            return Err(ReceiptError::Format { reason });
        }
        Ok(receipt)
    }

    /// The worker's signing key, as it names itself.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.signed.key_id
    }

    /// The receipt as one line of JSON.
    ///
    /// # Errors
    /// [`ReceiptError::Format`], which no field of a receipt can cause.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        write(self)
    }

    /// Checks signature, signer, revocations, certificate and device kind.
    ///
    /// # Errors
    /// [`ReceiptError`] saying which of them is not believed.
    pub fn check(&self, trust: &Trust<'_>) -> Result<Checked<'_>, ReceiptError> {
        let record = &self.record;
        let kind = [record.device_kind];
        self.signed
            .check(trust, &subject(record, &kind), |key| message(record, key))?;
        if trust
            .revoked
            .is_some_and(|list| list.contains(record.key_id))
        {
            let key_id = record.key_id;
            return Err(ReceiptError::Revoked { key_id });
        }
        if !record.sealed {
            let reason = "it says that nothing was sealed";
            return Err(ReceiptError::Contradiction { reason });
        }
        let certificate = self.signed.certificate.as_ref();
        Ok(Checked {
            receipt: self,
            certificate: certificate.filter(|certificate| trust.vouches(certificate)),
        })
    }
}

const fn subject<'a>(record: &'a Record, kinds: &'a [DeviceKind]) -> Subject<'a> {
    Subject {
        record,
        at: record.sealed_at,
        now: None,
        kinds,
    }
}

fn read<T: DeserializeOwned + Serialize>(text: &str, limit: usize) -> Result<T, ReceiptError> {
    // The parser quotes names and values of the text, which is not ours.
    let format = |reason: &str| ReceiptError::Format {
        reason: Text::new(reason).to_string(),
    };
    if text.len() > limit {
        let len = text.len();
        return Err(format(&format!("{len} bytes, the limit is {limit}")));
    }
    let value = serde_json::from_str(text).map_err(|error| format(&error.to_string()))?;
    refuse_lists(text, &value).map_err(|_| format("a list stands where an object must"))?;
    Ok(value)
}

fn write(value: &impl Serialize) -> Result<String, ReceiptError> {
    serde_json::to_string(value).map_err(|error| ReceiptError::Format {
        reason: error.to_string(),
    })
}

fn check_schema(found: &str, known: &str) -> Result<(), ReceiptError> {
    if found == known {
        return Ok(());
    }
    let reason = format!("unknown schema; this version reads {known}");
    Err(ReceiptError::Format { reason })
}

/// The bytes that a worker signs.
fn message(record: &Record, key: &VerifyingKey) -> Vec<u8> {
    let mut out = Encoder::new(MAGIC, VERSION);
    out.raw(key.as_bytes())
        .text(&record.statement())
        .raw(record.tag.as_bytes());
    out.finish()
}
