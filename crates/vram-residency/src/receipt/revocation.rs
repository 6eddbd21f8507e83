//! A signed list of keys that are no longer believed.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire::{Encoder, PublicKey, Signature};
use super::{MAX_REVOCATIONS_BYTES, ReceiptError, read};
use crate::clock::Timestamp;
use crate::key::{KeyError, KeyId, KeyProvider, SigningKey, VerifyingKey};
use crate::seal::Record;

/// Value of the `schema` field.
pub const REVOCATIONS_SCHEMA: &str = "vram-residency/revocations/v1";

/// How far ahead of the verifier's clock a list may have been issued.
pub const REVOCATIONS_SKEW: Duration = Duration::from_secs(300);

const MAGIC: &[u8; 8] = b"VRAMREVO";
const VERSION: u16 = 1;

/// Keys that are not believed any more, whatever time they claim to have signed
/// at: who has a stolen key can write any time. Signed by an operator, with the
/// time of issue, so that an older list can be told from a newer one.
///
/// Signing keys and operators' keys are named by their own ids; a sealing key by
/// [`KeyProvider::id`], or by the `key_id` of the records of one start of a manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    schema: String,
    issued_at: Timestamp,
    operator_key: PublicKey,
    revoked: BTreeSet<KeyId>,
    signature: Signature,
}

impl Revocations {
    /// Issues a list.
    ///
    /// # Errors
    /// [`KeyError`] when the operator's key cannot sign.
    pub fn issue(
        operator: &SigningKey,
        issued_at: Timestamp,
        revoked: BTreeSet<KeyId>,
    ) -> Result<Self, KeyError> {
        let mut list = Self {
            schema: REVOCATIONS_SCHEMA.to_owned(),
            issued_at,
            operator_key: PublicKey(operator.public().clone()),
            revoked,
            signature: Signature([0; 64]),
        };
        list.signature = Signature(operator.sign(&list.message())?);
        Ok(list)
    }

    /// Reads a list and believes it only under one of `trusted` that it does not
    /// revoke itself. `now` is the verifier's own time: a list from a time that has
    /// not come would be newer than all that follow it, and is refused when it is
    /// more than [`REVOCATIONS_SKEW`] ahead.
    ///
    /// # Errors
    /// [`ReceiptError::Format`], [`ReceiptError::Untrusted`],
    /// [`ReceiptError::Signature`], [`ReceiptError::Early`] or
    /// [`ReceiptError::Revoked`].
    pub fn from_json(
        text: &str,
        trusted: &[VerifyingKey],
        now: Timestamp,
    ) -> Result<Self, ReceiptError> {
        let list = Self::read(text)?;
        let operator = &list.operator_key.0;
        if !trusted.contains(operator) {
            let key_id = operator.id();
            return Err(ReceiptError::Untrusted { key_id });
        }
        list.check_signature()?;
        let ahead = list.issued_at.nanos().saturating_sub(now.nanos());
        if Duration::from_nanos(ahead) > REVOCATIONS_SKEW {
            let issued = list.issued_at;
            return Err(ReceiptError::Early { issued, now });
        }
        list.refuse(operator.id())?;
        Ok(list)
    }

    /// Reads the list that was believed last ([`Revocations::follows`]), as it was kept
    /// where only the verifier can write. It was believed then: an operator who is not
    /// trusted any more takes back nothing that it revokes, and its time is held
    /// against no clock.
    ///
    /// # Errors
    /// [`ReceiptError::Format`] or [`ReceiptError::Signature`].
    pub fn believed_before(text: &str) -> Result<Self, ReceiptError> {
        let list = Self::read(text)?;
        list.check_signature()?;
        Ok(list)
    }

    fn read(text: &str) -> Result<Self, ReceiptError> {
        let list: Self = read(text, MAX_REVOCATIONS_BYTES)?;
        super::check_schema(&list.schema, REVOCATIONS_SCHEMA)?;
        Ok(list)
    }

    fn check_signature(&self) -> Result<(), ReceiptError> {
        let operator = &self.operator_key.0;
        if operator.verifies(&self.message(), &self.signature.0) {
            return Ok(());
        }
        Err(ReceiptError::Signature)
    }

    /// Whether this list may take the place of `seen`, which was believed before:
    /// an older one would bring revoked keys back, and so could whoever has a key
    /// that `seen` revokes, or a newer one that leaves a key out: a key that was
    /// revoked stays so, on lists of other operators, too (requirement: KD-10).
    ///
    /// # Errors
    /// [`ReceiptError::Stale`], [`ReceiptError::Revoked`] or
    /// [`ReceiptError::Unrevoked`].
    pub fn follows(&self, seen: &Self) -> Result<(), ReceiptError> {
        if self.issued_at < seen.issued_at {
            return Err(ReceiptError::Stale {
                issued: self.issued_at,
                seen: seen.issued_at,
            });
        }
        seen.refuse(self.operator_key.0.id())?;
        match seen.revoked.difference(&self.revoked).next() {
            Some(key_id) => Err(ReceiptError::Unrevoked { key_id: *key_id }),
            None => Ok(()),
        }
    }

    /// Whether records of a sealing key may still be believed: neither the key
    /// nor the manager's key that was derived from it is on the list.
    ///
    /// # Errors
    /// [`ReceiptError::Revoked`], or [`ReceiptError::Key`] when the key cannot be used.
    pub fn check_sealed(&self, key: &dyn KeyProvider, record: &Record) -> Result<(), ReceiptError> {
        self.refuse(key.id()?)?;
        self.refuse(record.key_id)
    }

    fn refuse(&self, key_id: KeyId) -> Result<(), ReceiptError> {
        if self.contains(key_id) {
            return Err(ReceiptError::Revoked { key_id });
        }
        Ok(())
    }

    /// The list as one line of JSON.
    ///
    /// # Errors
    /// [`ReceiptError::Format`] of one that is longer than anybody reads.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        let text = super::write(self)?;
        if text.len() > MAX_REVOCATIONS_BYTES {
            let (len, keys) = (text.len(), self.revoked.len());
            let reason = format!(
                "a list of {keys} keys has {len} bytes, the limit is {MAX_REVOCATIONS_BYTES}; revoke the signing key of a worker instead of its starts"
            );
            return Err(ReceiptError::Format { reason });
        }
        Ok(text)
    }

    /// Whether a key is on it.
    #[must_use]
    pub fn contains(&self, key: KeyId) -> bool {
        self.revoked.contains(&key)
    }

    /// Every key on it, in order.
    #[must_use]
    pub const fn keys(&self) -> &BTreeSet<KeyId> {
        &self.revoked
    }

    /// When it was issued.
    #[must_use]
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    fn message(&self) -> Vec<u8> {
        let mut out = Encoder::new(MAGIC, VERSION);
        let count = u32::try_from(self.revoked.len()).unwrap_or(u32::MAX);
        out.raw(self.operator_key.0.as_bytes())
            .int64(self.issued_at.nanos())
            .int32(count);
        for key in &self.revoked {
            out.raw(key.as_bytes());
        }
        out.finish()
    }
}
