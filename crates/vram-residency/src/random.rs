//! Randomness, passed in: ids, salts and check keys come from here.

/// A source of random bytes.
pub trait Random: Send + Sync {
    /// Fills `out` with unpredictable bytes.
    ///
    /// # Errors
    /// [`RandomError`] when the source cannot deliver; nothing then goes on
    /// with predictable bytes.
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError>;
}

/// The source of random bytes failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes: {0}")]
pub struct RandomError(String);

impl RandomError {
    /// With the source's own words.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// The operating system's generator.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(out).map_err(|error| RandomError::new(error.to_string()))
    }
}

/// `N` random bytes.
///
/// # Errors
/// [`RandomError`] of the source.
pub(crate) fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N], RandomError> {
    let mut out = [0; N];
    random.fill(&mut out)?;
    Ok(out)
}
