//! Names of files in a model, as a signature lists them.

use std::fmt;

use super::SignedError;
use crate::text::Shown;

/// Longest name in bytes, as Linux has it for paths.
const MAX_BYTES: usize = 4096;

/// A path below the model's directory: relative, plain, with `/` between parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

impl FileName {
    /// The name that a model of one single file has for it.
    pub(super) const SINGLE: &'static str = ".";

    /// Checks a name.
    ///
    /// # Errors
    /// [`SignedError::Name`] for a path that is absolute, leaves the directory,
    /// is not written in its plain form, or holds control characters.
    pub fn new(name: &str) -> Result<Self, SignedError> {
        let refused = |reason| {
            let name = name.chars().take(256).collect::<String>();
            let name = Shown(&name).to_string();
            Err(SignedError::Name { name, reason })
        };
        if name.len() > MAX_BYTES {
            return refused("it is too long");
        }
        if name.chars().any(char::is_control) {
            return refused("it holds control characters");
        }
        if name.starts_with('/') {
            return refused("it is absolute");
        }
        if name != Self::SINGLE && name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refused("a part of it is empty, '.' or '..'");
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `other` or lies below it.
    pub(super) fn is_under(&self, other: &Self) -> bool {
        let rest = self.0.strip_prefix(other.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // requirement: PM-15
    #[test]
    fn names_stay_below_the_directory() {
        for good in [
            ".", "a", "a/b.bin", "a..b", "...", ".git", "\u{e8} x", "a\\b",
        ] {
            assert!(FileName::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(MAX_BYTES + 1);
        for bad in [
            "", "/", "/a", "..", "../a", "a/../b", "a/..", "./a", "a/.", "a//b", "a/", "a\0b",
            "a\nb", &long,
        ] {
            assert!(FileName::new(bad).is_err(), "{bad:?}");
        }
        let name = |text| FileName::new(text).unwrap();
        assert!(name("notes/a").is_under(&name("notes")));
        assert!(name("notes").is_under(&name("notes")));
        assert!(!name("notes2/a").is_under(&name("notes")));
    }
}
