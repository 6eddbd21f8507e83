//! Checking a record on any machine: its tag, and a file against it. This
//! proves nothing about VRAM, and says so (requirement: API-F21).

use std::io::Read;

use vram_digest::{FileDigest, Hasher};

use crate::error::Error;
use crate::key::KeyProvider;
use crate::load::LoadError;
use crate::seal::{Authentic, Record, authenticate};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// Checks a record's tag under keys derived from `provider`, with the salt,
/// worker and device that the record itself names: a change to any of them
/// changes the key, and the tag no longer matches.
///
/// # Errors
/// As [`authenticate`].
pub fn check_record<'r>(
    record: &'r Record,
    provider: &dyn KeyProvider,
) -> Result<Authentic<'r>, Error> {
    authenticate(record, &[record.key(provider)?])
}

/// How a file compares with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct FileCheck {
    /// fs-verity digest of the file.
    pub actual: FileDigest,
    /// Its length in bytes.
    pub len: u64,
    /// True when length and digest are the sealed ones.
    pub matches: bool,
}

/// Compares the bytes of `reader` with an authentic record.
///
/// # Errors
/// [`LoadError::Read`] naming `name` and the offset.
pub fn check_file(
    record: &Authentic<'_>,
    name: &str,
    mut reader: impl Read,
) -> Result<FileCheck, LoadError> {
    let mut hasher = Hasher::new();
    let mut chunk = vec![0_u8; CHUNK];
    loop {
        let offset = hasher.len();
        let failed = |source| LoadError::Read {
            name: name.to_owned(),
            offset,
            source,
        };
        let n = match reader.read(&mut chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            answer => answer.map_err(failed)?,
        };
        let bytes = chunk.get(..n).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
    }
    let len = hasher.len();
    Ok(check_digest(record, hasher.finalize().digest(), len))
}

/// Compares a digest that the caller measured, such as on all cores, with an
/// authentic record.
pub fn check_digest(record: &Authentic<'_>, actual: FileDigest, len: u64) -> FileCheck {
    let record = record.record();
    let matches = len == record.vram_bytes && actual.ct_eq(&record.digest);
    FileCheck {
        actual,
        len,
        matches,
    }
}
