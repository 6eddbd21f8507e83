//! Which implementation runs, chosen once from what this CPU can do.
//!
//! All paths give the same answers; only their speed differs. Order is by speed, so a cap at one
//! path leaves the slower ones allowed.

/// One implementation of the block hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Path {
    /// The `sha2` crate, one block after the other.
    Portable,
}

/// The fastest path of this CPU.
#[must_use]
pub fn detected() -> Path {
    Path::Portable
}
