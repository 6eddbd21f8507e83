//! The canonical encoding of a record: what the tag covers.
//!
//! Little-endian, in this order, no padding. `text` is a 32-bit byte length and
//! the bytes; `option` is one byte 0, or 1 and the value. Test vectors stand in
//! `testdata/seal_vectors.json`.
//!
//! | field | encoding |
//! |---|---|
//! | magic | 8 bytes `VRAMSEAL` |
//! | statement version | u16: 1, or 2 with a signer |
//! | digest algorithm | u8, 1 = fs-verity SHA-256, 4096-byte blocks, no salt |
//! | tag algorithm | u8, 1 = HMAC-SHA256 |
//! | key id | 8 bytes |
//! | key salt | 32 bytes |
//! | manager instance | 16 bytes |
//! | sequence | u64 |
//! | sealed at | u64 nanoseconds since the epoch |
//! | sealed | u8, 1 |
//! | shard id | text |
//! | model reference | text |
//! | worker id | text |
//! | length | u64 bytes |
//! | digest | 32 bytes |
//! | content SHA-256 | option of 32 bytes |
//! | position | option of u32 index, u32 total |
//! | group | option of 16 bytes |
//! | device kind | u8, 1 = cuda, 2 = simulated |
//! | device ordinal | u32 |
//! | device UUID | 16 bytes |
//! | driver | option of u32 version, text library path |
//! | witness memory | u8, 0 unknown, 1 device, 2 host, 3 managed, 4 simulated |
//! | witness flags | u8, bit 0 managed, bit 1 host pointer, bit 2 pinned on device |
//! | witness ordinal | u32 |
//! | witness protection | u8, 0 read-write, 1 read-only |
//! | signer, in version 2 only | text |

use super::{RECORD_SCHEMA, Record, SIGNED_RECORD_SCHEMA};
use crate::device::{DeviceKind, MemoryKind, Protection, Witness};

/// Version of the encoding without a signer. Others are refused by construction:
/// a statement is always rebuilt from a record of a known schema.
pub const STATEMENT_VERSION: u16 = 1;
/// Version of the encoding with one.
pub const SIGNED_STATEMENT_VERSION: u16 = 2;
/// Stands where schema and signer do not agree: nothing tags such a statement.
const NO_VERSION: u16 = 0;

const MAGIC: &[u8; 8] = b"VRAMSEAL";
const DIGEST_FS_VERITY_SHA256: u8 = 1;
const TAG_HMAC_SHA256: u8 = 1;

struct Encoder(Vec<u8>);

impl Encoder {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn byte(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    fn int32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn int64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Every text of a record is bounded far below 4 GiB.
    fn text(&mut self, text: &str) -> &mut Self {
        self.int32(u32::try_from(text.len()).unwrap_or(u32::MAX))
            .raw(text.as_bytes())
    }

    fn option<T>(&mut self, value: Option<T>, encode: impl FnOnce(&mut Self, T)) -> &mut Self {
        match value {
            None => self.byte(0),
            Some(value) => {
                encode(self.byte(1), value);
                self
            }
        }
    }
}

impl Record {
    /// The encoding that its schema asks for; none if a signer stands where the
    /// schema has none, or the reverse.
    pub(super) fn statement_version(&self) -> Option<u16> {
        match (self.schema.as_str(), &self.signer) {
            (RECORD_SCHEMA, None) => Some(STATEMENT_VERSION),
            (SIGNED_RECORD_SCHEMA, Some(_)) => Some(SIGNED_STATEMENT_VERSION),
            _ => None,
        }
    }

    /// The bytes that the tag covers (requirement: CI-002, SG-6). It replaces the
    /// sources' two message formats, which were ambiguous.
    #[must_use]
    pub fn statement(&self) -> Vec<u8> {
        let version = self.statement_version().unwrap_or(NO_VERSION);
        let mut out = Encoder(Vec::with_capacity(512));
        out.raw(MAGIC)
            .raw(&version.to_le_bytes())
            .byte(DIGEST_FS_VERITY_SHA256)
            .byte(TAG_HMAC_SHA256)
            .raw(self.key_id.as_bytes())
            .raw(&self.key_salt)
            .raw(self.instance.as_bytes())
            .int64(self.sequence)
            .int64(self.sealed_at.nanos())
            .byte(u8::from(self.sealed))
            .text(self.shard_id.as_str())
            .text(self.model_ref.as_str())
            .text(self.worker_id.as_str())
            .int64(self.vram_bytes)
            .raw(self.digest.as_bytes())
            .option(self.content_sha256, |out, hash| {
                out.raw(&hash);
            })
            .option(self.position, |out, position| {
                out.int32(position.index).int32(position.total);
            })
            .option(self.group, |out, group| {
                out.raw(group.as_bytes());
            });
        self.device(&mut out);
        out.raw(&witness_bytes(&self.witness));
        if let Some(signer) = &self.signer {
            out.text(signer.as_str());
        }
        out.0
    }

    fn device(&self, out: &mut Encoder) {
        let kind = match self.device_kind {
            DeviceKind::Cuda => 1,
            DeviceKind::Simulated => 2,
        };
        out.byte(kind)
            .int32(self.gpu_device)
            .raw(self.device_uuid.as_bytes());
        out.option(self.driver.as_ref(), |out, driver| {
            out.int32(driver.version).text(&driver.library);
        });
    }
}

/// The rows of the witness.
pub(crate) fn witness_bytes(witness: &Witness) -> [u8; 7] {
    let memory = match witness.memory {
        MemoryKind::Unknown => 0,
        MemoryKind::Device => 1,
        MemoryKind::Host => 2,
        MemoryKind::Managed => 3,
        MemoryKind::Simulated => 4,
    };
    let flags = [
        witness.managed,
        witness.host_pointer,
        witness.pinned_on_device,
    ];
    let flags = flags
        .into_iter()
        .rev()
        .fold(0, |bits: u8, flag| bits << 1 | u8::from(flag));
    let protection = match witness.protection {
        Protection::ReadWrite => 0,
        Protection::ReadOnly => 1,
    };
    let [a, b, c, d] = witness.ordinal.to_le_bytes();
    [memory, flags, a, b, c, d, protection]
}
