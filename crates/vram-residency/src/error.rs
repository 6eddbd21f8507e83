//! Errors, sorted by who is to blame (requirement: WORKER-4150..4153, ER-1..ER-9).
//!
//! No message, `Debug` or code ever holds an address, a key, a tag or a weight
//! byte (requirement: WORKER-4152).

mod answer;

use std::time::Duration;

use vram_digest::FileDigest;

pub(crate) use answer::Said;
pub use answer::{Answer, Checker};

use crate::audit::{AuditError, Text};
use crate::device::{DeviceError, FreeError};
use crate::key::KeyError;
use crate::load::LoadError;
use crate::policy::PolicyError;
use crate::random::RandomError;
use crate::receipt::ReceiptError;
use crate::shard::ShardId;
use crate::text::Shown;

/// Every failure of this library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Blame: the machine.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Blame: the machine. Memory that could not be given back.
    #[error(transparent)]
    Free(#[from] FreeError),
    /// Blame: the machine's load. There is not enough room now.
    #[error(transparent)]
    InsufficientVram(#[from] InsufficientVram),
    /// Blame: an adversary or a fault. The bytes or the seal are not what they
    /// should be.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Blame: the operator's choice of device or settings.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Blame: untrusted input.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Blame: the source of the bytes.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Blame: the configuration of keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Blame: the configuration of signing keys. A paper that cannot be signed.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// Blame: the caller.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The evidence could not be written and the audit mode is `required`.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Blame: the machine. No randomness, so no ids and no keys.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Blame: this library.
    #[error("internal error: {0}; please report it")]
    Internal(&'static str),
}

/// The result of every operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Not enough room, with everything needed to act on it
/// (requirement: ER-1, RP-004, WORKER-4103, WORKER-4153, GC-10).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough VRAM on device {ordinal}: {needed} bytes needed, {available} available \
     ({total} managed, {used} in use by {shards} shards, {stranded} stranded, {headroom} headroom, \
     the driver reports {driver_free} free); free a shard or choose another device"
)]
pub struct InsufficientVram {
    /// Device ordinal.
    pub ordinal: u32,
    /// Bytes needed, rounded up to the device's granularity.
    pub needed: u64,
    /// Bytes that a reservation could get now.
    pub available: u64,
    /// Managed budget.
    pub total: u64,
    /// Bytes of the budget in use or reserved.
    pub used: u64,
    /// Shards and reservations that hold them.
    pub shards: u64,
    /// Bytes that could not be given back.
    pub stranded: u64,
    /// Bytes kept free for others.
    pub headroom: u64,
    /// Free bytes as the driver says, other processes included.
    pub driver_free: u64,
}

/// Something about the sealed bytes or the seal is wrong. All of these stop
/// the use of the shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The record's tag does not match its fields (requirement: ER-4).
    #[error("seal verification failed: the record of shard {shard_id} does not match its tag")]
    Tag {
        /// Shard named by the record.
        shard_id: ShardId,
    },
    /// No accepted key has the id that the record names.
    #[error(
        "seal verification failed: shard {shard_id} was sealed under key {key_id}, which is not accepted here"
    )]
    UnknownKey {
        /// Shard named by the record.
        shard_id: ShardId,
        /// Key id named by the record.
        key_id: String,
    },
    /// The record is authentic and describes nothing that this manager holds
    /// (requirement: ER-5).
    #[error(
        "integrity violation: this manager does not hold shard {shard_id} as recorded (replayed, freed or foreign record)"
    )]
    NotHeld {
        /// Shard named by the record.
        shard_id: ShardId,
    },
    /// The bytes in VRAM differ from the sealed digest.
    #[error("seal verification failed: shard {shard_id} {}{}", .damage.place_text(), .damage.opinion_text())]
    Contents {
        /// The shard.
        shard_id: ShardId,
        /// Sealed digest.
        expected: FileDigest,
        /// Digest measured in VRAM.
        actual: FileDigest,
        /// Where, as far as that can be told.
        damage: Box<Damage>,
    },
    /// The driver's answers about the memory changed since sealing.
    #[error("integrity violation: shard {shard_id}: {what} changed since it was sealed")]
    Witness {
        /// The shard.
        shard_id: ShardId,
        /// Which fact changed.
        what: &'static str,
    },
    /// The shard failed before and was not repaired.
    #[error("shard {shard_id} is quarantined after a failed verification; repair or free it")]
    Quarantined {
        /// The shard.
        shard_id: ShardId,
    },
    /// The memory is intact and what was read back from it is not.
    #[error("block {block} of shard {shard_id} was corrupted on its way back to the host")]
    ReadBack {
        /// The shard.
        shard_id: ShardId,
        /// The first bad 4 KiB block.
        block: u64,
    },
    /// A repair source that does not hold the sealed bytes.
    #[error(
        "block {block} of the repair source is not what shard {shard_id} was sealed with; nothing bad was written"
    )]
    RepairSource {
        /// The shard.
        shard_id: ShardId,
        /// The 4 KiB block.
        block: u64,
    },
    /// The loaded bytes are not the expected file.
    #[error("the model is not the expected one: expected {algorithm} {expected}, got {actual}")]
    Unexpected {
        /// `fs-verity` or `sha256`.
        algorithm: &'static str,
        /// The caller's digest, hex.
        expected: String,
        /// The measured digest, hex.
        actual: String,
    },
    /// A group record whose members are not all shards of that group, in order.
    #[error(
        "member {index} of the group does not say that it is shard {index} of {total} of it; members were left out, swapped or taken from another group"
    )]
    GroupMember {
        /// Place in the record.
        index: u32,
        /// Members in the record.
        total: u32,
    },
    /// What arrived in VRAM is not what the source gave.
    #[error(
        "the copy to the device went wrong: {segments} of its 1 MiB segments differ from the source, the first at offset {first_offset}"
    )]
    Copy {
        /// Segments that differ.
        segments: u64,
        /// Offset of the first in the file.
        first_offset: u64,
    },
}

impl VerifyError {
    /// The shard that it is about; none where the bytes were never sealed.
    #[must_use]
    pub const fn shard_id(&self) -> Option<&ShardId> {
        match self {
            Self::Tag { shard_id }
            | Self::UnknownKey { shard_id, .. }
            | Self::NotHeld { shard_id }
            | Self::Contents { shard_id, .. }
            | Self::Witness { shard_id, .. }
            | Self::Quarantined { shard_id }
            | Self::ReadBack { shard_id, .. }
            | Self::RepairSource { shard_id, .. } => Some(shard_id),
            Self::Unexpected { .. } | Self::GroupMember { .. } | Self::Copy { .. } => None,
        }
    }
}

/// Where contents differ from the seal. Blocks are told by the block hashes kept in
/// host memory; where those are not the sealed ones either, nothing tells a bad block
/// from a bad hash: `blocks` is `None`, and no run and no tensor is named.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Damage {
    /// Bad 4 KiB blocks in all; `None` when the damage cannot be located.
    pub blocks: Option<u64>,
    /// Runs of bad blocks as (first block, count); at most [`Damage::MAX_RUNS`].
    pub runs: Vec<(u64, u64)>,
    /// Tensors that the listed runs touch, at most [`Damage::MAX_TENSORS`].
    pub tensors: Vec<String>,
    /// Blocks that were read back for a second opinion by the CPU: the bad ones, of
    /// very many some; of damage that cannot be located any that may be bad.
    pub read_back: u64,
    /// Those of them in which the CPU found what the device found.
    pub confirmed: u64,
    /// Other blocks that the device had found bad and that are not: the CPU found
    /// nothing in them, nor, where that was so of all, the device when it was asked
    /// again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub withdrawn: u64,
    /// What every checker said, in the order in which they were asked; also those of
    /// an earlier check that could not be finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
}

/// As serde asks: by reference.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Damage {
    /// Runs that a report lists; `blocks` counts all.
    pub const MAX_RUNS: usize = 64;
    /// Tensors that a report lists.
    pub const MAX_TENSORS: usize = 64;

    /// File offset of the first bad block; `None` when the damage cannot be located.
    #[must_use]
    pub fn first_offset(&self) -> Option<u64> {
        let (block, _) = self.runs.first()?;
        Some(block.saturating_mul(vram_digest::BLOCK_BYTES as u64))
    }

    /// The same for a log: names without control characters, and short enough
    /// that one event holds them all (requirement: AU-11). The event has the answers
    /// beside it.
    pub(crate) fn for_log(&self) -> Self {
        const MAX_NAME_CHARS: usize = 512;
        let clean = |name: &String| {
            let short: String = name.chars().take(MAX_NAME_CHARS).collect();
            Text::new(&short).into()
        };
        Self {
            tensors: self.tensors.iter().map(clean).collect(),
            answers: Vec::new(),
            ..self.clone()
        }
    }

    /// How much is bad, and where.
    fn place_text(&self) -> String {
        match (self.blocks, self.first_offset()) {
            (Some(blocks), Some(first)) => format!(
                "has {blocks} bad 4 KiB block(s), the first at file offset {first}{}",
                self.tensor_text()
            ),
            _ => "does not have the sealed digest, and where it is damaged cannot be told: the block hashes kept in host memory are not the sealed ones either".to_owned(),
        }
    }

    /// What the second opinion said (requirement: AU-3).
    fn opinion_text(&self) -> String {
        let confirmed = self.confirmed;
        let cpu = match (self.read_back, self.blocks) {
            (0, _) => String::new(),
            (read, Some(_)) => {
                format!("; the CPU found {confirmed} of {read} blocks bad that it read back")
            }
            (read, None) => format!(
                "; of {read} blocks that the CPU read back {confirmed} are as the device said"
            ),
        };
        match self.withdrawn {
            0 => cpu,
            blocks => {
                format!("{cpu}; {blocks} other block(s) that the device had found bad are not")
            }
        }
    }

    fn tensor_text(&self) -> String {
        match self.tensors.as_slice() {
            [] => String::new(),
            [only] => format!(", in tensor {}", Shown(only)),
            [first, rest @ ..] => {
                format!(", in tensor {} and {} more", Shown(first), rest.len())
            }
        }
    }
}

/// Input that cannot be accepted: nothing was changed and no event is emitted
/// (requirement: AU-14, ER-8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// An empty name.
    #[error("{field} is empty")]
    Empty {
        /// Which input.
        field: &'static str,
    },
    /// A name that is too long.
    #[error("{field} has {len} bytes, the limit is {max}")]
    TooLong {
        /// Which input.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A character outside the alphabet.
    #[error("{field} has a character that is not allowed at position {position}; use {allowed}")]
    Characters {
        /// Which input.
        field: &'static str,
        /// Which character, from 0.
        position: usize,
        /// Which ones are.
        allowed: &'static str,
    },
    /// A NUL byte.
    #[error("{field} contains a NUL byte")]
    NullByte {
        /// Which input.
        field: &'static str,
    },
    /// Path separators or `..`.
    #[error("{field} looks like a path traversal; path separators and '..' are not allowed")]
    PathTraversal {
        /// Which input.
        field: &'static str,
    },
    /// A digest that is not 64 lower-case hex digits (requirement: IV-004).
    #[error("{field} is not a digest: {reason}")]
    Digest {
        /// Which input.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A model of no bytes, or of more than the policy allows
    /// (requirement: IV-001, VA-3).
    #[error("the model has {len} bytes; the limits are 1 and {max}")]
    ModelSize {
        /// Bytes offered.
        len: u64,
        /// The policy's maximum.
        max: u64,
    },
    /// The same for a model whose source has a name.
    #[error(
        "{}: the model has {len} bytes; the limits are 1 and {max}",
        Shown(name)
    )]
    SourceSize {
        /// The source.
        name: String,
        /// Bytes it has.
        len: u64,
        /// The policy's maximum.
        max: u64,
    },
    /// No such device (requirement: IV-002, VA-2).
    #[error("no device {ordinal} here; devices: {known}")]
    NoSuchDevice {
        /// Ordinal asked for.
        ordinal: u32,
        /// Ordinals that exist.
        known: String,
    },
    /// A shard position outside its group (requirement: VA-6).
    #[error("shard index {index} of {total} shards: the index must be below the total")]
    ShardPosition {
        /// Index asked for.
        index: u32,
        /// Total asked for.
        total: u32,
    },
    /// The id is in use.
    #[error("shard id {shard_id} is in use; choose another or free it first")]
    DuplicateId {
        /// The id.
        shard_id: ShardId,
    },
    /// An access past the shard's end (requirement: VA-8, MS-007).
    #[error("{len} bytes at offset {offset} reach past the shard's {size} bytes")]
    Range {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// The shard's length.
        size: u64,
    },
    /// No such tensor in the model.
    #[error("no tensor named '{name}' in this shard ({count} tensors)")]
    NoSuchTensor {
        /// Name asked for, cut to 256 characters.
        name: String,
        /// Tensors that exist.
        count: usize,
    },
    /// A record that cannot be read.
    #[error("cannot read the record: {0}")]
    Record(String),
    /// A nonce of the wrong length.
    #[error("a nonce has 16 to 64 bytes, this one has {len}")]
    Nonce {
        /// Its length in bytes.
        len: usize,
    },
    /// Deduplication together with something that only a shard of one's own has.
    #[error("dedupe needs an expected digest, and no id, position or content digest beside it")]
    Dedupe,
    /// A group without members or with contradictory positions.
    #[error("bad group: {0}")]
    Group(&'static str),
}

impl InputError {
    /// The same, about a model whose source is known by name.
    pub(crate) fn of_source(self, name: &str) -> Self {
        match self {
            Self::ModelSize { len, max } => Self::SourceSize {
                name: name.to_owned(),
                len,
                max,
            },
            other => other,
        }
    }
}

/// The caller asked for something that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The handle's shard was freed, or the record says `sealed: false`
    /// (requirement: ER-7).
    #[error("not sealed: the shard was freed or never sealed")]
    NotSealed,
    /// Leases are out.
    #[error("shard {shard_id} is busy: {leases} lease(s) are out; finish them first")]
    Busy {
        /// The shard.
        shard_id: ShardId,
        /// Leases that are out.
        leases: u64,
    },
    /// Other handles, made by deduplication, share the shard.
    #[error("shard {shard_id} is shared by other handles; drop them first")]
    Shared {
        /// The shard.
        shard_id: ShardId,
    },
    /// A verification failed earlier and the policy says stop
    /// (requirement: WORKER-4122).
    #[error("the manager is stopped ({reason}); resume it explicitly once the cause is known")]
    Stopped {
        /// Why it stopped.
        reason: String,
    },
    /// The shard belongs to another manager.
    #[error("the shard belongs to another manager")]
    ForeignShard,
    /// A builder without a device, without a key, or with contradictory parts.
    #[error("the manager cannot be built: {0}")]
    Builder(&'static str),
}

/// How much a failure says about the bytes, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Gravity {
    /// It was ended because of another failure.
    Ended,
    /// Nothing was found out: the machine, the input or the caller is to blame.
    Unknown,
    /// A rule forbids it, or the seal counts no more.
    Forbidden,
    /// An earlier finding bars the shard.
    Barred,
    /// The bytes or their seal are not what they should be.
    Finding,
}

/// Every answer, or the gravest failure among them.
pub(crate) fn all_or_gravest<T>(answers: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let (mut passed, mut told) = (Vec::new(), None::<Error>);
    for answer in answers {
        match answer {
            Ok(value) => passed.push(value),
            Err(error) => {
                told = Some(match told {
                    Some(before) => before.graver(error),
                    None => error,
                });
            }
        }
    }
    told.map_or(Ok(passed), Err)
}

/// Stable error codes (requirement: WORKER-4950).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Code {
    /// No room in VRAM.
    VramOom,
    /// The device or its driver failed.
    CudaError,
    /// The model could not be read.
    ModelLoadFailed,
    /// A verification failed.
    SealVerificationFailed,
    /// The policy forbids it.
    PolicyViolation,
    /// Bad input or bad use.
    InvalidParams,
    /// Keys are missing or not acceptable.
    AuthFailed,
    /// Anything else.
    Internal,
}

impl Code {
    /// The code as records and logs spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VramOom => "VRAM_OOM",
            Self::CudaError => "CUDA_ERROR",
            Self::ModelLoadFailed => "MODEL_LOAD_FAILED",
            Self::SealVerificationFailed => "SEAL_VERIFICATION_FAILED",
            Self::PolicyViolation => "POLICY_VIOLATION",
            Self::InvalidParams => "INVALID_PARAMS",
            Self::AuthFailed => "AUTH_FAILED",
            Self::Internal => "INTERNAL",
        }
    }
}

impl Error {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::InsufficientVram(_) | Self::Device(DeviceError::OutOfMemory { .. }) => {
                Code::VramOom
            }
            Self::Device(_) | Self::Free(_) => Code::CudaError,
            Self::Verify(_) => Code::SealVerificationFailed,
            Self::Policy(_) => Code::PolicyViolation,
            Self::Input(_) | Self::Misuse(_) => Code::InvalidParams,
            Self::Load(_) => Code::ModelLoadFailed,
            Self::Key(_) | Self::Receipt(_) => Code::AuthFailed,
            Self::Audit(_) | Self::Random(_) | Self::Internal(_) => Code::Internal,
        }
    }

    /// How much it says about the bytes.
    #[must_use]
    pub const fn gravity(&self) -> Gravity {
        match self {
            Self::Verify(VerifyError::Quarantined { .. }) => Gravity::Barred,
            Self::Verify(VerifyError::UnknownKey { .. }) => Gravity::Forbidden,
            Self::Verify(_) | Self::Policy(PolicyError::NotSigned { .. }) => Gravity::Finding,
            Self::Policy(_) => Gravity::Forbidden,
            Self::Load(LoadError::Cancelled { .. }) => Gravity::Ended,
            _ => Gravity::Unknown,
        }
    }

    /// The one of two failures that is told, of equal ones the first: what was found
    /// out about the bytes never hides behind a device that did not answer
    /// (requirement: AU-3).
    #[must_use]
    pub fn graver(self, other: Self) -> Self {
        match other.gravity() > self.gravity() {
            true => other,
            false => self,
        }
    }

    /// The HTTP status for a service that answers with this error
    /// (requirement: ER-11). A choice of the sources; nothing here depends on it.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::Input(
                InputError::ModelSize { len, max } | InputError::SourceSize { len, max, .. },
            ) if len > max => 413,
            Self::Input(_) => 400,
            Self::Load(LoadError::Open { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                404
            }
            Self::Load(LoadError::Format { .. } | LoadError::NoModel { .. }) => 400,
            Self::Verify(VerifyError::Unexpected { .. }) => 400,
            Self::Misuse(Misuse::Stopped { .. }) => 503,
            Self::Misuse(Misuse::NotSealed) => 404,
            Self::Misuse(_) => 409,
            Self::Policy(_) => 403,
            Self::InsufficientVram(_) | Self::Device(DeviceError::OutOfMemory { .. }) => 507,
            _ => 500,
        }
    }

    /// True when the same call may succeed later without a change by the caller
    /// (requirement: WORKER-4151).
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::InsufficientVram(_) => true,
            Self::Device(error) => error.is_retriable(),
            Self::Load(error) => error.is_retriable(),
            Self::Misuse(Misuse::Busy { .. }) => true,
            _ => false,
        }
    }

    /// True when the worker must not go on (requirement: WORKER-4151).
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::Verify(_) | Self::Policy(_) => true,
            Self::Device(error) => error.is_loss(),
            Self::Free(error) => error.source.is_loss(),
            _ => false,
        }
    }

    /// True when the call was turned away before it did anything, or when the
    /// log itself is what failed. These are the errors without an event; every
    /// other error of a [`crate::VramManager`] has one (requirement: AU-14).
    ///
    /// * [`Error::Input`]: refused input is no event, or whoever sends bad names
    ///   fills the log.
    /// * [`Error::Misuse`]: a handle that was freed or belongs elsewhere, a shard
    ///   in use, a builder without its parts. Nothing changed and nothing was
    ///   checked. The one exception is a lease refused by a stopped manager,
    ///   which is a `lease.refused`: it is the request that WORKER-4122 rejects.
    /// * [`Error::Audit`]: what cannot be written down is counted instead, see
    ///   [`crate::manager::VramMetrics::audit_emit_failures_total`].
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Input(_) | Self::Misuse(_) | Self::Audit(_))
    }

    /// How long to wait before a retry makes sense (requirement: WORKER-4951, GC-7).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Misuse(Misuse::Busy { .. }) => Some(Duration::from_millis(100)),
            _ if self.is_retriable() => Some(Duration::from_secs(2)),
            _ => None,
        }
    }
}
