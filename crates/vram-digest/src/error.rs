//! What callers can get wrong: lengths.

/// A slice did not have the number of entries that the data needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: got {actual}, need {expected}; size the slice by the data length")]
#[non_exhaustive]
pub struct LengthMismatch {
    /// What was counted: block hashes or segment tags.
    pub what: &'static str,
    /// Entries the data needs.
    pub expected: u64,
    /// Entries the caller gave.
    pub actual: u64,
}

/// A block or unit was longer than the hash takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {actual} bytes is longer than {limit}; split it first")]
#[non_exhaustive]
pub struct TooLong {
    /// What was too long: a block or a unit.
    pub what: &'static str,
    /// Most bytes it may have.
    pub limit: usize,
    /// Bytes it has.
    pub actual: usize,
}

/// Checks that `actual` entries are what `bytes` of data need at `per` bytes an entry.
pub(crate) fn check_count(
    what: &'static str,
    bytes: u64,
    per: usize,
    actual: usize,
) -> Result<(), LengthMismatch> {
    let per = u64::try_from(per).unwrap_or(u64::MAX).max(1);
    let actual = u64::try_from(actual).unwrap_or(u64::MAX);
    let expected = bytes.div_ceil(per);
    if expected == actual {
        Ok(())
    } else {
        Err(LengthMismatch {
            what,
            expected,
            actual,
        })
    }
}
