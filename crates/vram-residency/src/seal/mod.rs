//! The seal: a canonical statement of every public fact about a shard, and an
//! HMAC-SHA256 tag over it.
//!
//! Sealing gives integrity, not secrecy.

mod record;
mod statement;

use std::sync::Arc;

pub use record::{GroupId, InstanceId, RECORD_SCHEMA, Record, SIGNED_RECORD_SCHEMA, ShardPosition};
pub(crate) use record::{file_digest, refuse_lists};
pub(crate) use statement::witness_bytes;
pub use statement::{SIGNED_STATEMENT_VERSION, STATEMENT_VERSION};

use crate::error::{Error, VerifyError};
use crate::key::{KeyError, SealKey};

/// Proof that a record's tag was checked and matches. Only [`authenticate`]
/// makes it, and every later step of a verification requires it.
pub struct Authentic<'r> {
    record: &'r Record,
}

impl<'r> Authentic<'r> {
    /// The record, now trusted to say what was sealed.
    #[must_use]
    pub const fn record(&self) -> &'r Record {
        self.record
    }
}

/// Tags a record: computes its statement under `key` and fills in key id and tag.
pub(crate) fn seal(mut record: Record, key: &dyn SealKey) -> Result<Record, KeyError> {
    record.key_id = key.id();
    record.tag = key.tag(&record.statement())?;
    Ok(record)
}

/// Checks the record's tag in constant time: the first step of every
/// verification (requirement: CI-003, SG-4).
///
/// # Errors
/// [`Error::Misuse`] for a record that says `sealed: false`,
/// [`VerifyError::UnknownKey`], [`VerifyError::Tag`], or a [`KeyError`].
pub fn authenticate<'r>(
    record: &'r Record,
    keys: &[Arc<dyn SealKey>],
) -> Result<Authentic<'r>, Error> {
    if !record.sealed {
        return Err(crate::error::Misuse::NotSealed.into());
    }
    let key = keys.iter().find(|key| key.id() == record.key_id);
    let key = key.ok_or_else(|| VerifyError::UnknownKey {
        shard_id: record.shard_id.clone(),
        key_id: record.key_id.to_string(),
    })?;
    if !key.check(&record.statement(), &record.tag)? {
        return Err(VerifyError::Tag {
            shard_id: record.shard_id.clone(),
        }
        .into());
    }
    Ok(Authentic { record })
}
