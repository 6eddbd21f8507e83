//! Proving that the bytes in VRAM are the sealed file.

mod contents;
#[cfg(test)]
#[path = "../../tests/common/forward.rs"]
pub(crate) mod forward;
mod keyed;
mod offline;
mod pace;
mod suspects;

use std::fmt;

use std::time::Duration;

use serde::{Serialize, Serializer};

pub(crate) use contents::{Check, Outcome, measure};
pub(crate) use keyed::{Made, Pass, Reference, Rolling, fresh_key};
pub use offline::{FileCheck, check_digest, check_file, check_record};
pub(crate) use pace::Pace;
pub(crate) use suspects::runs_of;

use crate::clock::Timestamp;
use crate::device::{DeviceKind, Uuid, Witness};
use crate::policy::ConfirmedMemory;
use crate::seal::Authentic;

/// How much a verification checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mode {
    /// SHA-256 tree over every byte, on the device.
    #[default]
    Full,
    /// NHPoly1305 over every byte, under rolling keys; a full pass now and then
    /// as the policy's anchor says.
    Keyed,
    /// As many 1 MiB segments as fit the time budget, in a secret order that
    /// covers every byte before it visits one twice. At least one is checked.
    /// When the policy's anchor is due, or there is nothing yet to compare with,
    /// a sweep reads every byte twice instead, whatever its budget: it makes new
    /// references and has the whole tree vouch for them.
    Sweep {
        /// Time to spend, but for such a pass.
        budget: Duration,
    },
    /// The record's tag and the driver's witnesses; no byte of the model. Must
    /// be asked for by name. Of a shard that looked bad in a check that could not
    /// be finished it reads every byte, and the result says [`Mode::Full`].
    TagOnly,
}

impl Mode {
    /// Whether a verification of this mode proves all that `wanted` would.
    #[must_use]
    pub fn covers(self, wanted: Self) -> bool {
        match (self, wanted) {
            (Self::Full, _) | (_, Self::TagOnly) => true,
            (Self::Keyed, wanted) => wanted != Self::Full,
            // Two sweeps look at different segments.
            (Self::Sweep { .. } | Self::TagOnly, _) => false,
        }
    }

    /// Whether nobody needs a verification of mode `older` any more once one of this
    /// mode has passed.
    pub(crate) fn stands_for(self, older: Self) -> bool {
        self.covers(older) || matches!((self, older), (Self::Sweep { .. }, Self::Sweep { .. }))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Keyed => "keyed",
            Self::Sweep { .. } => "sweep",
            Self::TagOnly => "tag-only",
        })
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What was checked, and when (design 7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// How much was checked.
    pub mode: Mode,
    /// Bytes of the model that were read and checked.
    pub bytes_checked: u64,
    /// Bytes of the model.
    pub bytes_total: u64,
    /// How many passes like this one, made from now on, read every byte at least
    /// once, whatever their secret order: a change that comes after this pass is
    /// found by the last of them. For a sweep nearly twice what one round takes,
    /// for a segment may come first in one round and last in the next; after a
    /// sweep that was a tree pass, as many as its pace before makes likely, and
    /// one for each segment until a sweep has kept to its budget. 0 when no number
    /// would do.
    pub passes_to_cover: u64,
    /// When it ended.
    pub at: Timestamp,
    /// Nanoseconds it took.
    pub nanos: u64,
    /// Nanoseconds since it began, when it was handed out again; 0 for who had it made.
    pub age_nanos: u64,
    /// True when a lease reused it because the policy allows that age.
    pub reused: bool,
    /// GPU or simulator.
    pub device_kind: DeviceKind,
    /// Device ordinal.
    pub gpu_device: u32,
    /// Device identity.
    pub device_uuid: Uuid,
    /// What the driver said about the memory.
    pub witness: Witness,
}

impl Verification {
    /// Share of the model that was checked, 0.0 to 1.0.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share for people; 53 bits are plenty"
    )]
    pub fn coverage(&self) -> f64 {
        if self.bytes_total == 0 {
            return 0.0;
        }
        self.bytes_checked as f64 / self.bytes_total as f64
    }
}

/// Proof that the contents were read and are intact, or that the caller asked
/// by name not to read them.
pub(crate) struct Contents(());

impl Contents {
    pub(crate) const fn not_asked_for() -> Self {
        Self(())
    }
}

/// Proof of a passed verification. Leases are made from it and from nothing else.
#[must_use]
#[derive(Debug)]
pub struct Verified {
    verification: Verification,
}

impl Verified {
    /// Needs the three proofs: the tag, the driver's confirmation, the contents.
    pub(crate) fn new(
        _tag: &Authentic<'_>,
        _memory: ConfirmedMemory,
        _contents: &Contents,
        verification: Verification,
    ) -> Self {
        Self { verification }
    }

    /// A verification of the same shard that is young enough, as the policy allows.
    pub(crate) fn reuse(verification: &Verification, age_nanos: u64) -> Self {
        Self {
            verification: Verification {
                age_nanos,
                reused: true,
                ..verification.clone()
            },
        }
    }

    /// What was checked.
    #[must_use]
    pub const fn verification(&self) -> &Verification {
        &self.verification
    }

    /// What was checked, as a plain value.
    #[must_use]
    pub fn into_verification(self) -> Verification {
        self.verification
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events hold the one and receipts the other.
    #[test]
    fn a_mode_has_one_name_in_text_and_in_json() {
        let budget = Duration::ZERO;
        let modes = [
            Mode::Full,
            Mode::Keyed,
            Mode::Sweep { budget },
            Mode::TagOnly,
        ];
        for (mode, name) in modes
            .into_iter()
            .zip(["full", "keyed", "sweep", "tag-only"])
        {
            assert_eq!(mode.to_string(), name);
            assert_eq!(serde_json::to_value(mode).unwrap(), name);
        }
    }

    /// A sweep proves nothing of what another looked at, and is what is wanted instead of it.
    #[test]
    fn a_mode_stands_for_what_it_covers_and_a_sweep_for_older_sweeps() {
        let sweep = |seconds| Mode::Sweep {
            budget: Duration::from_secs(seconds),
        };
        for (mode, older, covers, stands) in [
            (Mode::Full, sweep(1), true, true),
            (Mode::Keyed, sweep(1), true, true),
            (Mode::Keyed, Mode::Full, false, false),
            (sweep(1), sweep(2), false, true),
            (sweep(1), Mode::TagOnly, true, true),
            (sweep(1), Mode::Keyed, false, false),
            (Mode::TagOnly, sweep(1), false, false),
        ] {
            assert_eq!(mode.covers(older), covers, "{mode} {older}");
            assert_eq!(mode.stands_for(older), stands, "{mode} {older}");
        }
    }
}
