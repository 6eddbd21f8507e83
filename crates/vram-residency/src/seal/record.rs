//! The record of a sealed shard: a plain value that can be stored, sent and
//! cloned without ever owning memory (`ModelShardHandle` of the sources).
//!
//! A record read back is untrusted input until [`super::authenticate`] said yes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vram_digest::FileDigest;

use crate::audit::Text;
use crate::clock::Timestamp;
use crate::device::{DeviceKind, DriverInfo, Uuid, Witness};
use crate::error::{Error, InputError};
use crate::hex;
use crate::key::{KeyContext, KeyError, KeyId, KeyProvider, Salt, SealKey, SealTag};
use crate::shard::{ModelRef, ShardId, WorkerId};
use crate::signed::SignerId;

/// Value of the `schema` field where nobody is known to have signed the model.
pub const RECORD_SCHEMA: &str = "vram-residency/record/v1";
/// Value of the `schema` field of a record with a signer.
pub const SIGNED_RECORD_SCHEMA: &str = "vram-residency/record/v2";
/// Longest record text in bytes.
const MAX_RECORD_BYTES: usize = 64 << 10;

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 16]);

        impl $name {
            /// From its bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0))
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                hex::decode(&text).map(Self).ok_or("an id is 32 lower-case hex digits")
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

random_id!(
    /// One start of one manager: seals of an earlier boot are not of this one.
    InstanceId
);
random_id!(
    /// Ties the shards of one model together.
    GroupId
);

/// Position of a shard in its model (requirement: VA-6, PM-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Place")]
pub struct ShardPosition {
    /// From 0.
    pub index: u32,
    /// At least 1 and above `index`.
    pub total: u32,
}

impl ShardPosition {
    /// Checks that `index` is below `total`.
    ///
    /// # Errors
    /// [`InputError::ShardPosition`].
    pub const fn new(index: u32, total: u32) -> Result<Self, InputError> {
        if index < total {
            Ok(Self { index, total })
        } else {
            Err(InputError::ShardPosition { index, total })
        }
    }
}

/// A position as it is written, unchecked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    index: u32,
    total: u32,
}

impl TryFrom<Place> for ShardPosition {
    type Error = InputError;

    fn try_from(place: Place) -> Result<Self, InputError> {
        Self::new(place.index, place.total)
    }
}

/// Every public fact about a sealed shard, and the tag over all of them
/// (requirement: WORKER-4110, WORKER-4113, TY-1). Never an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Record {
    /// [`RECORD_SCHEMA`], or [`SIGNED_RECORD_SCHEMA`] with a signer; anything
    /// else is refused.
    #[serde(deserialize_with = "schema")]
    pub schema: String,
    /// The shard's name.
    pub shard_id: ShardId,
    /// What the caller calls the model; may be empty.
    pub model_ref: ModelRef,
    /// True for every record that sealing made.
    pub sealed: bool,
    /// Length in bytes.
    pub vram_bytes: u64,
    /// fs-verity SHA-256 file digest, measured in VRAM.
    #[serde(with = "file_digest")]
    pub digest: FileDigest,
    /// Plain SHA-256 of the same bytes, when it was asked for; hex.
    #[serde(with = "optional_hash")]
    pub content_sha256: Option<[u8; 32]>,
    /// GPU or simulator.
    pub device_kind: DeviceKind,
    /// Device ordinal.
    pub gpu_device: u32,
    /// Device identity.
    pub device_uuid: Uuid,
    /// The driver and the library that was really loaded; absent on the simulator.
    pub driver: Option<DriverInfo>,
    /// Position in a model of several shards.
    pub position: Option<ShardPosition>,
    /// Group of such a model.
    pub group: Option<GroupId>,
    /// When it was sealed, nanoseconds since the epoch.
    pub sealed_at: Timestamp,
    /// Counts the seals of this manager from 1.
    pub sequence: u64,
    /// The manager's start.
    pub instance: InstanceId,
    /// Who sealed.
    pub worker_id: WorkerId,
    /// What the driver said about the memory after sealing.
    pub witness: Witness,
    /// Which key.
    pub key_id: KeyId,
    /// Salt of the key derivation; hex.
    #[serde(with = "hash")]
    pub key_salt: Salt,
    /// HMAC-SHA256 over the statement of all other fields; hex.
    pub tag: SealTag,
    /// Who signed the model, as the allow-list says that it is on
    /// (requirement: PM-15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<SignerId>,
}

/// The parser takes a list of bare values for a structure: names, and with them
/// unknown and duplicate ones, would go unchecked.
pub(crate) fn refuse_lists(text: &str, parsed: &impl Serialize) -> Result<(), InputError> {
    let given: Value = serde_json::from_str(text).unwrap_or_default();
    let meant = serde_json::to_value(parsed).unwrap_or_default();
    if named_alike(&meant, &given) {
        return Ok(());
    }
    let reason = "a list stands where an object must";
    Err(InputError::Record(reason.to_owned()))
}

/// Whether there is an object wherever one is meant.
fn named_alike(meant: &Value, given: &Value) -> bool {
    match (meant, given) {
        (Value::Object(meant), Value::Object(given)) => {
            let mut pairs = meant
                .iter()
                .filter_map(|(name, m)| Some((m, given.get(name)?)));
            pairs.all(|(m, g)| named_alike(m, g))
        }
        (Value::Array(meant), Value::Array(given)) => {
            meant.iter().zip(given).all(|(m, g)| named_alike(m, g))
        }
        (meant, _) => !meant.is_object(),
    }
}

impl Record {
    /// Reads a record from JSON. Unknown fields, duplicate fields, other
    /// schemas and oversized texts are refused.
    ///
    /// # Errors
    /// [`InputError::Record`] naming the field and the position.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_RECORD_BYTES {
            let reason = format!("{} bytes, the limit is {MAX_RECORD_BYTES}", text.len());
            return Err(InputError::Record(reason).into());
        }
        // The parser quotes names and values of the text, which is not ours.
        let refused = |error: serde_json::Error| {
            InputError::Record(Text::new(&error.to_string()).to_string())
        };
        let record: Self = serde_json::from_str(text).map_err(refused)?;
        refuse_lists(text, &record)?;
        Ok(record)
    }

    /// The key that tagged it, if `provider` is where that came from: derived for the
    /// salt, worker and device that the record itself names.
    pub(crate) fn key(&self, provider: &dyn KeyProvider) -> Result<Arc<dyn SealKey>, KeyError> {
        provider.seal_key(&KeyContext {
            salt: &self.key_salt,
            worker: &self.worker_id,
            device: self.device_uuid,
        })
    }

    /// The record as one line of JSON.
    ///
    /// # Errors
    /// [`Error::Internal`], which no field of a record can cause.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|_| Error::Internal("a record did not serialise"))
    }
}

impl Serialize for Record {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// Alone, in a group, in a receipt: what no seal can have made is no record.
impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let record = Self::deserialize(deserializer)?;
        if record.statement_version().is_none() {
            let reason = format!("a signer stands in {SIGNED_RECORD_SCHEMA}, and nowhere else");
            return Err(serde::de::Error::custom(reason));
        }
        Ok(record)
    }
}

fn schema<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let schema = String::deserialize(deserializer)?;
    if schema == RECORD_SCHEMA || schema == SIGNED_RECORD_SCHEMA {
        return Ok(schema);
    }
    let known =
        format!("unknown schema; this version reads {RECORD_SCHEMA} and {SIGNED_RECORD_SCHEMA}");
    Err(serde::de::Error::custom(known))
}

pub(crate) mod file_digest {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use vram_digest::FileDigest;

    pub(crate) fn serialize<S: Serializer>(digest: &FileDigest, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(digest)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<FileDigest, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

mod hash {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::hex;

    pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(d)?;
        hex::decode(&text).ok_or_else(|| D::Error::custom("expected 64 lower-case hex digits"))
    }
}

mod optional_hash {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::hex;

    pub(super) fn serialize<S: Serializer>(
        hash: &Option<[u8; 32]>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        hash.map(|hash| hex::encode(&hash)).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<[u8; 32]>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        let decode = |text: String| {
            hex::decode(&text).ok_or_else(|| D::Error::custom("expected 64 lower-case hex digits"))
        };
        text.map(decode).transpose()
    }
}
