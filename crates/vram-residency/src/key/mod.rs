//! Keys: where they come from, how they are derived, and the seam through
//! which the rest of the library uses them without ever seeing a byte.
//!
//! The worker's secret is never used directly. Each manager and device gets a
//! key of its own: HKDF-SHA256 (RFC 5869) with a random salt per manager that
//! the record stores, and an `info` that names purpose, worker and device.
//!
//! What is wiped (requirement: TY-6, CI-006), and what cannot be:
//!
//! * Secrets, derived keys and seeds stand in memory that is locked against
//!   swapping, left out of core dumps, and zeroed on drop.
//! * Key text on its way in or out, and every buffer on the way from text to that
//!   memory, is filled in place and zeroed. A token that the caller passes stays
//!   the caller's to wipe.
//! * The states of SHA-256, HMAC, HKDF and Ed25519 are zeroed on drop (the
//!   `zeroize` features of those crates), and so is HKDF's intermediate key.
//! * The libraries' own temporaries are not: HMAC pads the key on the stack,
//!   HKDF's results pass through frames of its own, and registers hold what they
//!   held. 8 KiB of stack below the computation are zeroed after each use, more
//!   than any of them was measured to take; the compiler does not promise it.
//! * Whoever reads this process's memory while a key is in use sees the key.

mod derive;
mod secret;
mod signing;
mod source;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

pub use derive::{HmacSealKey, RootKey};
pub use signing::{Scope, SigningKey, VerifyingKey};
pub use source::{MAX_KEY_FILE_BYTES, MAX_TOKEN_BYTES, MIN_TOKEN_BYTES};

use crate::device::Uuid;
use crate::hex;
use crate::shard::WorkerId;
use crate::text::shown_path;

/// Salt of the key derivation: random per manager, public, part of the record.
pub type Salt = [u8; 32];

/// Names a sealing key without telling anything about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as bound into the seal.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl TryFrom<String> for KeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        hex::decode(&text)
            .map(Self)
            .ok_or("a key id is 16 lower-case hex digits")
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// HMAC-SHA256 over a seal statement. Compared in constant time only; `Debug`
/// shows nothing of it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SealTag([u8; 32]);

impl SealTag {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for an encoding of one's own.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for SealTag {
    /// Constant time (requirement: CI-003).
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SealTag {}

impl fmt::Debug for SealTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealTag(..)")
    }
}

impl TryFrom<String> for SealTag {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        hex::decode(&text)
            .map(Self)
            .ok_or("a seal tag is 64 lower-case hex digits")
    }
}

impl From<SealTag> for String {
    fn from(tag: SealTag) -> Self {
        hex::encode(&tag.0)
    }
}

/// What a sealing key is derived for.
#[derive(Debug, Clone, Copy)]
pub struct KeyContext<'a> {
    /// Salt of the manager that seals.
    pub salt: &'a Salt,
    /// The worker.
    pub worker: &'a WorkerId,
    /// The device that holds the shard.
    pub device: Uuid,
}

/// A key that can make and check seal tags and never yields its bytes, so that
/// a token or a hardware module can stand behind it.
pub trait SealKey: Send + Sync {
    /// The key's id.
    fn id(&self) -> KeyId;

    /// The tag of `statement`.
    ///
    /// # Errors
    /// [`KeyError`] when the key cannot be used.
    fn tag(&self, statement: &[u8]) -> Result<SealTag, KeyError>;

    /// Whether `tag` is the tag of `statement`, in constant time.
    ///
    /// # Errors
    /// [`KeyError`] when the key cannot be used.
    fn check(&self, statement: &[u8], tag: &SealTag) -> Result<bool, KeyError> {
        Ok(self.tag(statement)? == *tag)
    }
}

/// Where sealing keys come from: [`RootKey`], or a token of one's own.
pub trait KeyProvider: Send + Sync {
    /// The key for a context; equal contexts give equal keys.
    ///
    /// # Errors
    /// [`KeyError`] when no key can be had.
    fn seal_key(&self, context: &KeyContext<'_>) -> Result<Arc<dyn SealKey>, KeyError>;

    /// Names the secret behind all of its keys, the same at every start, and tells
    /// nothing about it: by this id a sealing key that was lost is revoked
    /// ([`crate::receipt::Revocations::check_sealed`], requirement: KD-10). A token
    /// can use 8 bytes of a MAC over a text of their own.
    ///
    /// # Errors
    /// [`KeyError`] when the secret cannot be asked.
    fn id(&self) -> Result<KeyId, KeyError>;
}

/// A key that cannot be used: a matter of configuration (requirement: KD-7, ER-9).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file is not there or cannot be opened.
    #[error("cannot open key file {}: {reason}", shown_path(path))]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A link, directory, FIFO or device.
    #[error(
        "key file {} is not a regular file; symbolic links are refused",
        shown_path(path)
    )]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// Others may read or write it.
    #[error(
        "key file {} has mode {mode:04o}; it must be 0600 or tighter (chmod 600)",
        shown_path(path)
    )]
    PermissionsTooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error(
        "key file {} belongs to user {owner}; it must belong to the user who runs this, or to root",
        shown_path(path)
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
    },
    /// The contents are not a key.
    #[error("the key is not 64 lower-case hex digits: {reason}")]
    Format {
        /// What is wrong, without showing the contents.
        reason: &'static str,
    },
    /// A sealing key where a signing key is needed.
    #[error("it is a sealing key; make a signing key with 'vram key new --signing'")]
    NotSigning,
    /// A token outside the accepted lengths.
    #[error("the token has {len} bytes; it must have {min} to {max}", min = MIN_TOKEN_BYTES, max = MAX_TOKEN_BYTES)]
    TokenLength {
        /// Its length in bytes.
        len: usize,
    },
    /// A secret that is too regular to be one.
    #[error("the secret repeats itself too much to be random; make one with 'vram key new'")]
    Entropy,
    /// A systemd credential that is not there or has a bad name.
    #[error("no systemd credential '{name}': {reason}")]
    Credential {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Reading failed.
    #[error("cannot read the key: {reason}")]
    Io {
        /// The system's words.
        reason: String,
    },
    /// Locked memory could not be had.
    #[error("cannot protect key memory: {reason}; raise the locked-memory limit (ulimit -l)")]
    Memory {
        /// The system's words.
        reason: String,
    },
    /// A provider of one's own failed.
    #[error("the key provider failed: {reason}")]
    Provider {
        /// The provider's words.
        reason: String,
    },
}
