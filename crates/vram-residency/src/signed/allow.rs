//! Allow-lists: the digests that a device measures, of files that were checked
//! against a model's signature once, under an Ed25519 signature of who checked.
//!
//! TOML for transport; signed is this, little-endian, no padding, where `text`
//! is a 32-bit length and the bytes:
//!
//! | field | encoding |
//! |---|---|
//! | magic | 8 bytes `VRAMALLW` |
//! | version | u16, now 1 |
//! | approver's public key | 32 bytes |
//! | approved at | u64 nanoseconds since the epoch |
//! | signer | text |
//! | model | text |
//! | SHA-256 of the bundle | 32 bytes |
//! | number of files | u32 |
//! | each: name, length, digest | text, u64 bytes, 32 bytes |

use serde::{Deserialize, Serialize};
use vram_digest::FileDigest;

use super::json::Object;
use super::{CheckedFile, CheckedModel, FileName, SignedError, SignerId};
use crate::audit::Text;
use crate::clock::Timestamp;
use crate::hex;
use crate::key::{KeyError, KeyId, SigningKey, VerifyingKey};
use crate::receipt::wire::{Encoder, PublicKey, Signature};
use crate::receipt::{ReceiptError, Revocations};

/// Value of the `schema` field.
pub const ALLOW_SCHEMA: &str = "vram-residency/allow-list/v1";
/// Longest allow-list that is read, in bytes.
pub const MAX_ALLOW_BYTES: usize = 64 << 20;

const MAGIC: &[u8; 8] = b"VRAMALLW";
const VERSION: u16 = 1;
/// Longest model name that is kept, in characters.
const MAX_MODEL_CHARS: usize = 256;

/// An allow-list or a policy that cannot be made, read or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllowError {
    /// The text is no allow-list.
    #[error("not an allow-list: {reason}")]
    Format {
        /// What is wrong, with the line.
        reason: String,
    },
    /// The text is no policy.
    #[error("not a model policy: {reason}")]
    Policy {
        /// What is wrong, with the line.
        reason: String,
    },
    /// Nobody who is trusted signed the list.
    #[error("the allow-list is signed by key {key_id}, which is not trusted")]
    Untrusted {
        /// Who signed.
        key_id: KeyId,
    },
    /// The key is on a revocation list.
    #[error("key {key_id}, which signed the allow-list, was revoked")]
    Revoked {
        /// The key.
        key_id: KeyId,
    },
    /// The list was changed.
    #[error("the allow-list's signature is wrong: it was changed after it was signed")]
    Signature,
    /// The list of revoked keys is not believed.
    #[error("the list of revoked keys: {0}")]
    Revocations(ReceiptError),
    /// A file cannot be read.
    #[error("{reason}")]
    Read {
        /// Why not.
        reason: String,
    },
    /// Something is wrong with a policy or a file that it names.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What.
        source: Box<AllowError>,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl AllowError {
    /// Whether a list was judged and not believed, as opposed to a text that
    /// cannot be read.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        match self {
            Self::Untrusted { .. } | Self::Revoked { .. } | Self::Signature => true,
            Self::Revocations(error) => {
                matches!(
                    error,
                    ReceiptError::Untrusted { .. }
                        | ReceiptError::Revoked { .. }
                        | ReceiptError::Signature
                        | ReceiptError::Stale { .. }
                        | ReceiptError::Early { .. }
                        | ReceiptError::Unrevoked { .. }
                )
            }
            Self::File { source, .. } => source.is_verdict(),
            _ => false,
        }
    }
}

/// Files that were approved. A value of this type was signed by a trusted key;
/// only [`AllowList::from_toml`] makes one (requirement: PM-15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList {
    signer: SignerId,
    model: String,
    bundle: [u8; 32],
    approved_at: Timestamp,
    approver: VerifyingKey,
    files: Vec<CheckedFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    schema: String,
    model: String,
    signer: SignerId,
    bundle_sha256: String,
    approved_at: u64,
    approver: PublicKey,
    signature: Signature,
    file: Vec<Object<Entry>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    bytes: u64,
    digest: String,
}

impl AllowList {
    /// Signs what was checked; the text of the list.
    ///
    /// # Errors
    /// [`AllowError::Key`]; [`AllowError::Format`] for a length beyond what the
    /// text can hold.
    pub fn issue(
        model: &CheckedModel,
        key: &SigningKey,
        at: Timestamp,
    ) -> Result<String, AllowError> {
        let name = Text::new(model.name());
        let list = Self {
            signer: model.signer().clone(),
            model: name.as_str().chars().take(MAX_MODEL_CHARS).collect(),
            bundle: *model.bundle_sha256(),
            approved_at: at,
            approver: key.public().clone(),
            files: model.files().to_vec(),
        };
        let signature = Signature(key.sign(&list.message())?);
        let text = toml::to_string(&list.text(signature));
        text.map_err(|error| format(&error.to_string()))
    }

    /// Reads a list and believes it only under one of `trusted`, if its key is
    /// not on `revoked`. Unknown fields and oversized texts are refused.
    ///
    /// # Errors
    /// [`AllowError::Format`], [`AllowError::Untrusted`],
    /// [`AllowError::Revoked`] or [`AllowError::Signature`].
    pub fn from_toml(
        text: &str,
        trusted: &[VerifyingKey],
        revoked: Option<&Revocations>,
    ) -> Result<Self, AllowError> {
        let read: List = read(text, MAX_ALLOW_BYTES).map_err(|reason| format(&reason))?;
        if read.schema != ALLOW_SCHEMA {
            return Err(format(&format!("its schema is not {ALLOW_SCHEMA}")));
        }
        let approver = read.approver.0;
        let key_id = approver.id();
        if !trusted.contains(&approver) {
            return Err(AllowError::Untrusted { key_id });
        }
        if revoked.is_some_and(|list| list.contains(key_id)) {
            return Err(AllowError::Revoked { key_id });
        }
        let files = read.file.iter().map(|Object(entry)| entry.checked());
        let bundle = hex::decode(&read.bundle_sha256);
        let list = Self {
            signer: read.signer,
            model: read.model,
            bundle: bundle.ok_or_else(|| format("bundle_sha256 is not 64 hex digits"))?,
            approved_at: Timestamp::from_nanos(read.approved_at),
            approver,
            files: files.collect::<Result<_, _>>()?,
        };
        if !list.approver.verifies(&list.message(), &read.signature.0) {
            return Err(AllowError::Signature);
        }
        Ok(list)
    }

    /// Who signed the model.
    #[must_use]
    pub const fn signer(&self) -> &SignerId {
        &self.signer
    }

    /// What the signer called the model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Who checked the files and signed the list.
    #[must_use]
    pub const fn approver(&self) -> &VerifyingKey {
        &self.approver
    }

    /// When that was.
    #[must_use]
    pub const fn approved_at(&self) -> Timestamp {
        self.approved_at
    }

    /// The approved files.
    #[must_use]
    pub fn files(&self) -> &[CheckedFile] {
        &self.files
    }

    fn message(&self) -> Vec<u8> {
        let count = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        let mut out = Encoder::new(MAGIC, VERSION);
        out.raw(self.approver.as_bytes())
            .int64(self.approved_at.nanos())
            .text(self.signer.as_str().as_bytes())
            .text(self.model.as_bytes())
            .raw(&self.bundle)
            .int32(count);
        for file in &self.files {
            out.text(file.name.as_str().as_bytes())
                .int64(file.bytes)
                .raw(file.digest.as_bytes());
        }
        out.finish()
    }

    fn text(&self, signature: Signature) -> List {
        let entry = |file: &CheckedFile| {
            Object(Entry {
                name: file.name.as_str().to_owned(),
                bytes: file.bytes,
                digest: format!("sha256:{}", file.digest),
            })
        };
        List {
            schema: ALLOW_SCHEMA.to_owned(),
            model: self.model.clone(),
            signer: self.signer.clone(),
            bundle_sha256: hex::encode(&self.bundle),
            approved_at: self.approved_at.nanos(),
            approver: PublicKey(self.approver.clone()),
            signature,
            file: self.files.iter().map(entry).collect(),
        }
    }
}

impl Entry {
    fn checked(&self) -> Result<CheckedFile, AllowError> {
        let digest = self.digest.strip_prefix("sha256:");
        let digest = digest.and_then(|digits| digits.parse::<FileDigest>().ok());
        Ok(CheckedFile {
            name: FileName::new(&self.name)
                .map_err(|error: SignedError| format(&error.to_string()))?,
            bytes: self.bytes,
            digest: digest.ok_or_else(|| format("a digest is not sha256: and 64 hex digits"))?,
        })
    }
}

fn format(reason: &str) -> AllowError {
    AllowError::Format {
        reason: reason.to_owned(),
    }
}

/// Reads strict TOML; what is wrong is said with its line.
pub(super) fn read<T: for<'de> Deserialize<'de>>(text: &str, limit: usize) -> Result<T, String> {
    if text.len() > limit {
        return Err(format!("{} bytes, the limit is {limit}", text.len()));
    }
    toml::from_str(text).map_err(|error| {
        // The message may quote the text, which is not ours.
        let message = Text::new(error.message());
        let before = error.span().and_then(|span| text.get(..span.start));
        match before {
            Some(before) => {
                let line = before.matches('\n').count().saturating_add(1);
                format!("line {line}: {message}")
            }
            None => message.to_string(),
        }
    })
}
