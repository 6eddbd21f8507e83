//! Proofs that leave the log behind: of one event, and that a log still starts
//! with what an earlier checkpoint covered (RFC 6962, sections 2.1.1 and 2.1.2).
//! Who checks one needs it, the log's public key, and at best a checkpoint that
//! came by another way.

use std::io;

use serde::{Deserialize, Serialize};

use super::check::{self, CheckError, Examined, Files, next_line};
use super::merkle::{self, Hash};
use super::note::{Checkpoint, NoteError};
use super::{Event, Text, line};
use crate::hex;
use crate::key::VerifyingKey;

/// Longest proof that is read, in bytes: the longest line and two checkpoints.
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
    },
}

/// What a proof showed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proved {
    /// This event, under this number and checkpoint.
    Event(Box<Event>, u64, Checkpoint),
    /// The log of the second checkpoint starts with that of the first.
    Prefix(Checkpoint, Checkpoint),
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
    /// [`ProofError`].
    pub fn of_event(
        files: &dyn Files,
        options: &check::Options<'_>,
        seq: u64,
    ) -> Result<Self, ProofError> {
        let found = good(files, options)?;
        Self::of_examined(files, &found, seq)
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
        let line = line_of(files, found, seq).map_err(CheckError::from)?;
        let line = line.ok_or(ProofError::Retired { seq, first_kept })?;
        let index = usize::try_from(seq).unwrap_or(usize::MAX);
        Ok(Self::Inclusion {
            checkpoint: found.note.clone(),
            seq,
            line,
            path: written(&merkle::inclusion(&found.leaves, index)),
        })
    }

    /// Proves that a log that verifies starts with what `earlier` covers.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn since(
        files: &dyn Files,
        options: &check::Options<'_>,
        earlier: &str,
    ) -> Result<Self, ProofError> {
        let options = check::Options {
            earlier: Some(earlier),
            ..*options
        };
        let found = good(files, &options)?;
        let before = found.earlier.map_or(0, |earlier| earlier.size);
        if before == 0 {
            return Err(ProofError::Empty);
        }
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        Ok(Self::Consistency {
            checkpoint: found.note,
            earlier: earlier.to_owned(),
            path: written(&merkle::consistency(&found.leaves, before)),
        })
    }

    /// Reads a proof; unknown fields, names that stand twice and other schemas
    /// are refused.
    ///
    /// # Errors
    /// [`ProofError::Format`].
    pub fn from_json(text: &str) -> Result<Self, ProofError> {
        let format = |reason: &str| ProofError::Format {
            // The parser quotes names of the text, which is not ours.
            reason: Text::new(reason).to_string(),
        };
        if text.len() > MAX_PROOF_BYTES {
            return Err(format("it is longer than 1 MiB"));
        }
        line::names_once(text.as_bytes()).map_err(|error| format(&error.to_string()))?;
        serde_json::from_str(text).map_err(|error| format(&error.to_string()))
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

    /// Checks the proof against its own checkpoint or, better, against
    /// `checkpoint`, which came by another way.
    ///
    /// # Errors
    /// [`ProofError`] saying what is not believed.
    pub fn check(
        &self,
        trusted: &[VerifyingKey],
        checkpoint: Option<&str>,
    ) -> Result<Proved, ProofError> {
        let (Self::Inclusion {
            checkpoint: own,
            path,
            ..
        }
        | Self::Consistency {
            checkpoint: own,
            path,
            ..
        }) = self;
        let last = Checkpoint::open(checkpoint.unwrap_or(own), trusted)?;
        let path = read(path)?;
        let shown = match self {
            Self::Inclusion { seq, line, .. } => event(line, *seq, &last, &path),
            Self::Consistency { earlier, .. } => {
                prefix(Checkpoint::open(earlier, trusted)?, &last, &path)
            }
        };
        shown.ok_or_else(|| match Checkpoint::open(own, trusted) {
            Ok(own) if own.size != last.size => ProofError::OtherCheckpoint {
                proof: own.size,
                given: last.size,
            },
            _ => ProofError::Wrong {
                origin: last.origin.to_string(),
            },
        })
    }
}

fn event(text: &str, seq: u64, last: &Checkpoint, path: &[Hash]) -> Option<Proved> {
    let leaf = merkle::leaf_hash(text.as_bytes());
    let claimed = line::claims(text.as_bytes())?.0;
    let leads = merkle::verify_inclusion(&leaf, seq, last.size, path, &last.root);
    let event = line::event(text.as_bytes()).filter(|_| leads && claimed == seq)?;
    Some(Proved::Event(Box::new(event), seq, last.clone()))
}

fn prefix(first: Checkpoint, last: &Checkpoint, path: &[Hash]) -> Option<Proved> {
    let (old, new) = (&first.root, &last.root);
    let leads = merkle::verify_consistency(first.size, old, last.size, new, path);
    let same = first.origin == last.origin;
    (leads && same).then(|| Proved::Prefix(first, last.clone()))
}

/// The check of a log in which nothing is wrong.
fn good(files: &dyn Files, options: &check::Options<'_>) -> Result<Examined, ProofError> {
    let found = check::examine(files, options)?;
    match found.report.findings.first() {
        Some(finding) => Err(ProofError::Damaged {
            finding: finding.to_string(),
        }),
        None => Ok(found),
    }
}

/// The line of a proved event; none when it was retired.
fn line_of(files: &dyn Files, found: &Examined, seq: u64) -> io::Result<Option<String>> {
    let place = found.scan.lines.iter().find(|line| line.seq == Some(seq));
    let Some(place) = place else {
        return Ok(None);
    };
    let mut reader = files.open(found.scan.file_of(place))?;
    let mut bytes = Vec::new();
    for _ in 0..place.number {
        next_line(reader.as_mut(), &mut bytes)?;
    }
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    Ok(Some(text.trim_end_matches('\n').to_owned()))
}

fn written(path: &[Hash]) -> Vec<String> {
    path.iter().map(|hash| hex::encode(hash)).collect()
}

fn read(path: &[String]) -> Result<Vec<Hash>, ProofError> {
    let hashes = path.iter().map(|text| hex::decode::<32>(text));
    let hashes: Option<Vec<Hash>> = hashes.collect();
    hashes.ok_or_else(|| ProofError::Format {
        reason: "a hash is not 64 lower-case hex digits".to_owned(),
    })
}
