//! Attestations: a worker's signed answer to a verifier's nonce, with facts that
//! were measured after the nonce was known (requirement: VP-006, API-F22).

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use vram_digest::FileDigest;

use super::trust::{Signed, Subject};
use super::wire::Encoder;
use super::{
    Certificate, MAX_RECEIPT_BYTES, ReceiptError, Signer, Trust, check_schema, read, write,
};
use crate::clock::Timestamp;
use crate::device::{DeviceKind, DriverInfo, Uuid, Witness};
use crate::hex;
use crate::key::{KeyId, VerifyingKey};
use crate::seal::{InstanceId, Record, witness_bytes};

/// Value of the `schema` field.
pub const ATTESTED_SCHEMA: &str = "vram-residency/attested/v1";
/// Shortest nonce in bytes.
pub const MIN_NONCE_BYTES: usize = 16;
/// Longest nonce in bytes.
pub const MAX_NONCE_BYTES: usize = 64;

const MAGIC: &[u8; 8] = b"VRAMATST";
const VERSION: u16 = 1;

/// What a verifier chose so that an old answer cannot pass for a new one: 16 to
/// 64 bytes, in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(Vec<u8>);

impl Nonce {
    /// Checks the length.
    ///
    /// # Errors
    /// [`crate::error::InputError::Nonce`].
    pub fn new(bytes: &[u8]) -> Result<Self, crate::error::InputError> {
        if (MIN_NONCE_BYTES..=MAX_NONCE_BYTES).contains(&bytes.len()) {
            return Ok(Self(bytes.to_vec()));
        }
        Err(crate::error::InputError::Nonce { len: bytes.len() })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<String> for Nonce {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const SHAPE: &str = "a nonce is 16 to 64 bytes in lower-case hex";
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if !rest.is_empty() {
            return Err(SHAPE);
        }
        let byte = |pair: &[u8; 2]| {
            let pair = std::str::from_utf8(pair).ok()?;
            hex::decode::<1>(pair).map(|[byte]| byte)
        };
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        Self::new(&bytes.ok_or(SHAPE)?).map_err(|_| SHAPE)
    }
}

impl std::str::FromStr for Nonce {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        hex::encode(&nonce.0)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// The device as the backend names it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceFacts {
    /// GPU or simulator.
    pub kind: DeviceKind,
    /// Device ordinal.
    pub ordinal: u32,
    /// Device identity.
    pub uuid: Uuid,
    /// The driver's name of it.
    pub name: String,
    /// The driver and the library that was really loaded.
    pub driver: Option<DriverInfo>,
    /// Free bytes as the driver says.
    pub free_bytes: u64,
    /// Total bytes as the driver says.
    pub total_bytes: u64,
}

/// What was measured, all of it after the nonce was known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The verifier's. Only what [`super::Tagged`] carries may answer none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Nonce>,
    /// The shard's record, its tag included.
    pub record: Record,
    /// fs-verity digest of the bytes in device memory, computed now.
    #[serde(with = "crate::seal::file_digest")]
    pub digest: FileDigest,
    /// Bytes that this digest was computed from.
    pub bytes_checked: u64,
    /// When that ended.
    pub measured_at: Timestamp,
    /// Counts seals and attestations of this manager: it never repeats.
    pub sequence: u64,
    /// The manager's start.
    pub instance: InstanceId,
    /// What the driver says about the memory now.
    pub witness: Witness,
    /// The device now.
    pub device: DeviceFacts,
    /// The newest checkpoint of the audit log, which covers the verification
    /// that this rests on; absent without a log, and where `AuditMode::BestEffort`
    /// went on without one that gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// Proof that an attestation was checked: what it says is believed. Only
/// [`Attested::check`] and [`super::Tagged::check`] make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered<'a>(&'a Facts);

impl<'a> Answered<'a> {
    /// What was measured.
    #[must_use]
    pub const fn facts(&self) -> &'a Facts {
        self.0
    }
}

/// Facts that a manager measured; only
/// [`crate::VramManager::measure_residency`] makes it.
#[derive(Debug, Clone)]
pub struct Measured(Facts);

impl Measured {
    pub(crate) const fn new(facts: Facts) -> Self {
        Self(facts)
    }

    /// What was measured.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.0
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`ReceiptError::Production`] for a simulated device under a production
    /// key, [`ReceiptError::Scope`] or [`ReceiptError::Key`].
    pub fn sign(self, signer: &Signer<'_>) -> Result<Attested, ReceiptError> {
        let facts = self.0;
        let signed = signer.sign(&facts.subject(&facts.kinds()), |key| facts.message(key))?;
        Ok(Attested {
            schema: ATTESTED_SCHEMA.to_owned(),
            facts,
            signed,
        })
    }
}

/// A signed attestation. Untrusted until [`Attested::check`] said yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attested {
    schema: String,
    facts: Facts,
    signed: Signed,
}

impl Attested {
    /// Reads an attestation; unknown fields and other schemas are refused.
    ///
    /// # Errors
    /// [`ReceiptError::Format`].
    pub fn from_json(text: &str) -> Result<Self, ReceiptError> {
        let read: Self = read(text, MAX_RECEIPT_BYTES)?;
        check_schema(&read.schema, ATTESTED_SCHEMA)?;
        Ok(read)
    }

    /// The attestation as one line of JSON.
    ///
    /// # Errors
    /// [`ReceiptError::Format`], which no field of an attestation can cause.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        write(self)
    }

    /// The log's checkpoint that it carries, as it stands: a checkpoint is
    /// believed by its own signature.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&str> {
        self.facts.checkpoint.as_deref()
    }

    /// The worker's signing key, as it names itself.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.signed.key_id
    }

    /// The certificate of that key, if it carries one; whose word it is, tells
    /// [`Trust::vouches`].
    #[must_use]
    pub const fn certificate(&self) -> Option<&Certificate> {
        self.signed.certificate.as_ref()
    }

    /// Checks nonce, signer, certificate, signature, device kind, and that the
    /// facts say that the sealed bytes are resident.
    ///
    /// # Errors
    /// [`ReceiptError`] saying which of them is not believed.
    pub fn check(&self, trust: &Trust<'_>, nonce: &Nonce) -> Result<Answered<'_>, ReceiptError> {
        let facts = &self.facts;
        facts.answers(Some(nonce))?;
        let kinds = facts.kinds();
        let subject = Subject {
            now: trust.now,
            ..facts.subject(&kinds)
        };
        self.signed
            .check(trust, &subject, |key| facts.message(key))?;
        facts.believed()
    }
}

impl Facts {
    /// Whether this is the answer to a nonce, or to none.
    pub(super) fn answers(&self, nonce: Option<&Nonce>) -> Result<(), ReceiptError> {
        let bytes = |nonce: Option<&Nonce>| nonce.map_or_else(Vec::new, |one| one.0.clone());
        let same = bytes(self.nonce.as_ref()).ct_eq(&bytes(nonce)).into();
        if same {
            Ok(())
        } else {
            Err(ReceiptError::Nonce)
        }
    }

    /// The end of a check.
    pub(super) fn believed(&self) -> Result<Answered<'_>, ReceiptError> {
        self.consistent()?;
        Ok(Answered(self))
    }

    pub(super) const fn kinds(&self) -> [DeviceKind; 2] {
        [self.device.kind, self.record.device_kind]
    }

    const fn subject<'a>(&'a self, kinds: &'a [DeviceKind]) -> Subject<'a> {
        Subject {
            record: &self.record,
            at: self.measured_at,
            now: None,
            kinds,
        }
    }

    /// An honest worker signs nothing else: the sealed bytes, on the sealed
    /// device, after they were sealed, in memory of that device.
    fn consistent(&self) -> Result<(), ReceiptError> {
        let (record, device, witness) = (&self.record, &self.device, &self.witness);
        let other_bytes =
            !self.digest.ct_eq(&record.digest) || self.bytes_checked != record.vram_bytes;
        let elsewhere = device.uuid != record.device_uuid
            || device.kind != record.device_kind
            || device.ordinal != record.gpu_device
            || self.instance != record.instance;
        let early = self.measured_at < record.sealed_at || self.sequence < record.sequence;
        // A simulated device proves nothing about memory, whatever it says.
        let elsewhere_in_memory = device.kind == DeviceKind::Cuda && !witness.is_on(device.ordinal);
        let contradictions = [
            (!record.sealed, "nothing was sealed"),
            (other_bytes, "it measured other bytes than were sealed"),
            (
                elsewhere,
                "it measured on another device or in another process",
            ),
            (early, "it was measured before it was sealed"),
            (
                *witness != record.witness,
                "the memory is not as it was when it was sealed",
            ),
            (elsewhere_in_memory, "the memory is not that of the device"),
        ];
        match contradictions.into_iter().find(|(found, _)| *found) {
            Some((_, reason)) => Err(ReceiptError::Contradiction { reason }),
            None => Ok(()),
        }
    }

    /// The bytes that a worker signs.
    fn message(&self, key: &VerifyingKey) -> Vec<u8> {
        let mut out = Encoder::new(MAGIC, VERSION);
        out.raw(key.as_bytes());
        self.encode(&mut out);
        out.finish()
    }

    /// What is measured, as it is signed and tagged.
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.text(self.nonce.as_ref().map_or(&[], Nonce::as_bytes))
            .text(&self.record.statement())
            .raw(self.record.tag.as_bytes())
            .raw(self.digest.as_bytes())
            .int64(self.bytes_checked)
            .int64(self.measured_at.nanos())
            .int64(self.sequence)
            .raw(self.instance.as_bytes());
        out.raw(&witness_bytes(&self.witness));
        let device = &self.device;
        out.byte(match device.kind {
            DeviceKind::Cuda => 1,
            DeviceKind::Simulated => 2,
        })
        .int32(device.ordinal)
        .raw(device.uuid.as_bytes())
        .text(device.name.as_bytes())
        .option(device.driver.as_ref(), |out, driver| {
            out.int32(driver.version).text(driver.library.as_bytes());
        })
        .int64(device.free_bytes)
        .int64(device.total_bytes)
        .option(self.checkpoint.as_ref(), |out, note| {
            out.text(note.as_bytes());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{MemoryKind, Protection};

    const VECTORS: &str = include_str!("../../testdata/receipt_vectors.json");

    /// The facts of an attestation of the vectors, for a GPU or a simulator.
    fn facts(kind: DeviceKind) -> Facts {
        let file: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        let read = |vector: &serde_json::Value| {
            serde_json::from_value::<Facts>(vector["attested"]["facts"].clone()).unwrap()
        };
        let mut all = vectors.iter().map(read);
        all.find(|facts| facts.device.kind == kind).unwrap()
    }

    type Change = fn(&mut Facts);

    /// What a worker that lies could sign, and who trusts its key believe.
    // requirement: VP-006, MS-007
    #[test]
    fn facts_that_no_honest_worker_signs_are_refused() {
        let cases: [(&str, Change); 10] = [
            ("nothing was sealed", |f| f.record.sealed = false),
            ("other bytes", |f| {
                f.digest = FileDigest::from_bytes([7; 32])
            }),
            ("other bytes", |f| f.bytes_checked -= 1),
            ("another device", |f| {
                f.device.uuid = Uuid::from_bytes([9; 16])
            }),
            ("another device", |f| f.device.ordinal += 1),
            ("another process", |f| {
                f.instance = InstanceId::from_bytes([9; 16])
            }),
            ("before it was sealed", |f| {
                f.measured_at = Timestamp::from_nanos(1)
            }),
            ("before it was sealed", |f| {
                f.sequence = f.record.sequence - 1;
            }),
            ("not as it was", |f| f.witness.pinned_on_device ^= true),
            ("not as it was", |f| {
                f.witness.protection = match f.witness.protection {
                    Protection::ReadOnly => Protection::ReadWrite,
                    Protection::ReadWrite => Protection::ReadOnly,
                }
            }),
        ];
        for kind in [DeviceKind::Cuda, DeviceKind::Simulated] {
            assert_eq!(facts(kind).consistent(), Ok(()));
            for (words, change) in cases {
                let mut facts = facts(kind);
                change(&mut facts);
                let refused = facts.consistent().unwrap_err().to_string();
                assert!(refused.contains(words), "{words}: {refused}");
            }
        }
    }

    // requirement: VP-006, POL-5
    #[test]
    fn memory_that_is_not_the_gpus_own_is_refused() {
        let changes: [fn(&mut Witness); 4] = [
            |witness| witness.managed = true,
            |witness| witness.host_pointer = true,
            |witness| witness.ordinal += 1,
            |witness| witness.memory = MemoryKind::Host,
        ];
        for change in changes {
            let mut facts = facts(DeviceKind::Cuda);
            change(&mut facts.witness);
            facts.record.witness = facts.witness;
            let reason = "the memory is not that of the device";
            let refused = Err(ReceiptError::Contradiction { reason });
            assert_eq!(facts.consistent(), refused);
        }
    }
}
