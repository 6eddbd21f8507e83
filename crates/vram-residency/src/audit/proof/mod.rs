//! Proofs that leave the log behind: of one event, and that a log still starts
//! with what an earlier checkpoint covered (RFC 6962, sections 2.1.1 and 2.1.2).
//! Who checks one needs it, a public key of the log, and at best a checkpoint that
//! came by another way. A proof carries the changes of the log's key, so that an
//! older key of it will do.

mod check;
mod find;

use serde::{Deserialize, Serialize};

pub use check::{Proved, Trust};

use super::check::{self as whole, CheckError, Examined, Files};
use super::merkle::{self, Hash};
use super::note::NoteError;
use crate::hex;
use crate::signed::json;

/// Longest proof that is read, in bytes: the longest line, two checkpoints, and
/// some hundred changes of the key.
pub const MAX_PROOF_BYTES: usize = 1 << 20;

/// A proof. Untrusted until [`Proof::check`] said yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "schema", deny_unknown_fields)]
#[non_exhaustive]
pub enum Proof {
    /// One event is in the log.
    #[serde(rename = "vram-residency/audit-inclusion/v1")]
    Inclusion {
        /// The log's checkpoint, a signed note.
        checkpoint: String,
        /// The event's number.
        seq: u64,
        /// Its line, without the newline.
        line: String,
        /// The hashes that lead from it to the root, hex.
        path: Vec<String>,
        /// Proofs of the events in which a key of the log named the next one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        handovers: Vec<Self>,
    },
    /// The log starts with the lines of an earlier checkpoint.
    #[serde(rename = "vram-residency/audit-consistency/v1")]
    Consistency {
        /// The log's checkpoint, a signed note.
        checkpoint: String,
        /// The earlier one.
        earlier: String,
        /// The hashes that lead from one root to the other, hex.
        path: Vec<String>,
        /// Proofs of the events in which a key of the log named the next one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        handovers: Vec<Self>,
    },
}

/// There is no proof, or it proves nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The log cannot be checked.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// It does not verify.
    #[error("the log does not verify, so nothing in it can be proved: {finding}")]
    Damaged {
        /// The first fault.
        finding: String,
    },
    /// No checkpoint covers the event.
    #[error("event {seq} is not under the checkpoint, which covers {size} events")]
    NotCovered {
        /// The event.
        seq: u64,
        /// Events under the checkpoint.
        size: u64,
    },
    /// The earlier checkpoint covers nothing.
    #[error(
        "the earlier checkpoint covers no event: every log starts with it, and there is nothing to prove"
    )]
    Empty,
    /// The log holds the event, and nothing proves what it says.
    #[error(
        "event {seq} was adopted: no checkpoint covered it when its writer was killed, so whoever could write to the log's directory may have written it, and it cannot be proved"
    )]
    Adopted {
        /// The event.
        seq: u64,
    },
    /// The event's line was deleted, as the retention rules ask.
    #[error("the line of event {seq} was retired; lines are kept from {first_kept}")]
    Retired {
        /// The event.
        seq: u64,
        /// The first event whose line is kept.
        first_kept: u64,
    },
    /// The text is no proof.
    #[error("not a proof: {reason}")]
    Format {
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint cannot be used.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A change of the key that it carries is none of this log's.
    #[error("the proof carries what is no change of the log's key{}: {reason}", of_event(*seq))]
    Handover {
        /// The number of its event, if it is of one.
        seq: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// The checkpoint that was given is not the one that the proof leads to.
    #[error("the proof leads to a checkpoint of {proof} events; the one given covers {given}")]
    OtherCheckpoint {
        /// Events under the proof's own checkpoint.
        proof: u64,
        /// Events under the one that was given.
        given: u64,
    },
    /// It does not lead to the signed root.
    #[error("the proof does not lead to the signed root of '{origin}'")]
    Wrong {
        /// The log.
        origin: String,
    },
}

impl Proof {
    /// Proves event `seq` of a log that verifies.
    ///
    /// # Errors
    /// [`ProofError`]; [`ProofError::Adopted`] for one that a killed writer left.
    pub fn of_event(
        files: &dyn Files,
        options: &whole::Options<'_>,
        seq: u64,
    ) -> Result<Self, ProofError> {
        let found = good(files, options)?;
        let proof = Self::of_examined(files, &found, seq)?;
        Ok(proof.with_handovers(found))
    }

    /// Proves event `seq` of a log as it was found.
    pub(crate) fn of_examined(
        files: &dyn Files,
        found: &Examined,
        seq: u64,
    ) -> Result<Self, ProofError> {
        let (size, first_kept) = (found.report.size, found.report.first_kept);
        if seq >= size {
            return Err(ProofError::NotCovered { seq, size });
        }
        if whole::adopted(&found.scan, &found.leaves).contains(seq) {
            return Err(ProofError::Adopted { seq });
        }
        let line = find::line(files, found, seq).map_err(CheckError::from)?;
        let line = line.ok_or(ProofError::Retired { seq, first_kept })?;
        let index = usize::try_from(seq).unwrap_or(usize::MAX);
        Ok(Self::Inclusion {
            checkpoint: found.note.clone(),
            seq,
            line,
            path: written(&merkle::inclusion(&found.leaves, index)),
            handovers: Vec::new(),
        })
    }

    /// Proves that a log that verifies starts with what `earlier` covers.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn since(
        files: &dyn Files,
        options: &whole::Options<'_>,
        earlier: &str,
    ) -> Result<Self, ProofError> {
        let options = whole::Options {
            earlier: Some(earlier),
            ..*options
        };
        let found = good(files, &options)?;
        let before = found.earlier.as_ref().map_or(0, |earlier| earlier.size);
        if before == 0 {
            return Err(ProofError::Empty);
        }
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        let proof = Self::Consistency {
            checkpoint: found.note.clone(),
            earlier: earlier.to_owned(),
            path: written(&merkle::consistency(&found.leaves, before)),
            handovers: Vec::new(),
        };
        Ok(proof.with_handovers(found))
    }

    fn with_handovers(mut self, found: Examined) -> Self {
        let (Self::Inclusion { handovers, .. } | Self::Consistency { handovers, .. }) = &mut self;
        *handovers = found.handovers;
        self
    }

    /// Proofs of the changes of the log's key that it carries.
    pub(super) fn handovers(&self) -> &[Self] {
        let (Self::Inclusion { handovers, .. } | Self::Consistency { handovers, .. }) = self;
        handovers
    }

    /// Reads a proof; unknown fields, names that stand twice and other schemas
    /// are refused.
    ///
    /// # Errors
    /// [`ProofError::Format`].
    pub fn from_json(text: &str) -> Result<Self, ProofError> {
        let format = |reason: &str| ProofError::Format {
            reason: reason.to_owned(),
        };
        if text.len() > MAX_PROOF_BYTES {
            return Err(format("it is longer than 1 MiB"));
        }
        let proof: Self = json::read(text.as_bytes()).map_err(|reason| format(&reason))?;
        let plain =
            |one: &Self| matches!(one, Self::Inclusion { handovers, .. } if handovers.is_empty());
        if !proof.handovers().iter().all(plain) {
            return Err(format("a change of the key is proved by an event alone"));
        }
        Ok(proof)
    }

    /// The proof as one line of JSON.
    ///
    /// # Errors
    /// [`ProofError::Format`], which no field of a proof can cause.
    pub fn to_json(&self) -> Result<String, ProofError> {
        serde_json::to_string(self).map_err(|error| ProofError::Format {
            reason: error.to_string(),
        })
    }
}

fn of_event(seq: Option<u64>) -> String {
    seq.map_or_else(String::new, |seq| format!(" (event {seq})"))
}

/// The check of a log in which nothing is wrong.
fn good(files: &dyn Files, options: &whole::Options<'_>) -> Result<Examined, ProofError> {
    let found = whole::examine(files, options)?;
    match found.report.findings.first() {
        Some(finding) => Err(ProofError::Damaged {
            finding: finding.to_string(),
        }),
        None => Ok(found),
    }
}

fn written(path: &[Hash]) -> Vec<String> {
    path.iter().map(|hash| hex::encode(hash)).collect()
}
