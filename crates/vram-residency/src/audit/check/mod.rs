//! Checks a log offline: every line against the Merkle tree that the signed
//! checkpoint commits to (requirement: AU-10, AU-16).
//!
//! What is proved: the lines up to the checkpoint are those that were written,
//! all of them and in order. Lines after it (at most a second of work of a
//! running writer, or what a killed one left) are counted, not proved; whoever
//! can write to the directory may have put them there. After the event that
//! closes a log there can be none. Cutting
//! a log back to an *older genuine checkpoint* cannot be seen from the log
//! alone: keep checkpoints elsewhere and give them as [`Options::earlier`].

mod adopted;
mod earlier;
pub(super) mod files;
mod handover;
mod judge;
mod keys;
mod leaves;
mod moment;
mod order;
mod own;
mod readable;
mod report;
mod rows;
mod scan;
mod settle;
mod show;
mod tiles;

use std::collections::BTreeSet;
use std::io;

pub use files::{DirFiles, Files};
pub use report::{Fault, Finding, Report};
pub use show::{Filter, Shown, show};

use super::line::CHECKPOINT;
use super::merkle::Hash;
use super::note::{Checkpoint, NoteError};
use super::proof::Proof;
use crate::hex;
use crate::key::{KeyId, VerifyingKey};
pub(crate) use files::open_if_there;
pub(crate) use handover::Handover;
pub(crate) use keys::Keys;
use leaves::Leaves;
use moment::{MOST_TRIES, Moment, may_be_a_writers};
pub(crate) use own::adopted;
use readable::Readable;
use scan::Scan;
pub(crate) use scan::next_line;

/// What to check a log against.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Keys whose checkpoints are believed, and those that the log proves to
    /// have taken over from them.
    pub trusted: &'a [VerifyingKey],
    /// Keys that are not believed, whoever trusted them or handed over to them.
    pub revoked: Option<&'a BTreeSet<KeyId>>,
    /// The log's name, where it is known: another log of the same key is not it.
    pub origin: Option<&'a str>,
    /// A checkpoint of the same log that was kept elsewhere: the log must
    /// still start with what it says.
    pub earlier: Option<&'a str>,
    /// The writer has ended in order: the last event says so.
    pub closed: bool,
}

/// A log that cannot be checked as it was asked for. What is wrong with the log
/// itself is a [`Finding`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The earlier checkpoint says nothing about any log.
    #[error("the earlier checkpoint cannot be used: {0}")]
    Earlier(NoteError),
    /// The earlier checkpoint is of another log.
    #[error("the earlier checkpoint is of the log '{earlier}', not of '{log}'")]
    OtherLog {
        /// The log that it names.
        earlier: String,
        /// The log that was checked.
        log: String,
    },
}

/// All that a check found out, for a writer that goes on with the log.
pub(crate) struct Examined {
    pub(crate) report: Report,
    /// Hashes of the leaves under the checkpoint.
    pub(crate) leaves: Vec<Hash>,
    /// Hashes of the lines after it.
    pub(crate) tail: Vec<Hash>,
    pub(crate) scan: Scan,
    /// The checkpoint as it stands; empty without a believed one.
    pub(crate) note: String,
    /// What it says.
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) earlier: Option<Checkpoint>,
    /// Proofs of the changes of the log's key, oldest first.
    pub(crate) handovers: Vec<Proof>,
    /// The first event whose line is kept, as the log itself says.
    pub(crate) retired: u64,
    /// Keys that were asked for and have been replaced.
    pub(crate) replaced: bool,
}

/// Checks a log.
///
/// # Errors
/// [`CheckError`] when a file cannot be read or the earlier checkpoint cannot be
/// used. What is wrong with the log is no error but a finding.
pub fn verify(files: &dyn Files, options: &Options<'_>) -> Result<Report, CheckError> {
    Ok(examine(files, options)?.report)
}

pub(crate) fn examine(files: &dyn Files, options: &Options<'_>) -> Result<Examined, CheckError> {
    for _ in 1..MOST_TRIES {
        let readable = Readable::new(files);
        let moment = Moment::of(&readable)?;
        let found = examine_at(&readable, &moment, options);
        if !may_be_a_writers(&found) || Moment::of(&Readable::new(files))? == moment {
            return found;
        }
    }
    let readable = Readable::new(files);
    let moment = Moment::of(&readable)?;
    examine_at(&readable, &moment, options)
}

/// Checks what can be read of the log against the checkpoint of a moment, and names
/// what cannot be read.
fn examine_at(
    files: &Readable<'_>,
    moment: &Moment,
    options: &Options<'_>,
) -> Result<Examined, CheckError> {
    let names = &moment.names;
    let mut report = Report::default();
    let scan = scan::scan(files, names)?;
    report.lines = scan.count();
    report.clock_steps_back = scan.clock_steps_back;
    let claimed = moment.note.as_deref();
    let claimed = claimed.and_then(|note| Checkpoint::claimed(note).ok());
    let origin = claimed.as_ref().map(|claimed| &claimed.origin);
    let (mut papers, strange) = handover::papers(files, names, origin)?;
    let mut keys = Keys::new(options.trusted, options.revoked);
    for paper in &mut papers {
        paper.followed = keys.hand_over(&paper.handover);
    }
    let (note, checkpoint) = read_checkpoint(moment, &keys, &mut report).unzip();
    // A writer replaces partial tiles while the lines are read.
    let tiles = files::listed(files)?;
    let leaves = leaves::load(files, &tiles, checkpoint.as_ref(), &scan)?;
    if let Some(checkpoint) = &checkpoint {
        report.believe(checkpoint, options.origin);
    }
    report.findings.extend(strange);
    report.findings.extend(handover::held(&papers, &leaves));
    let (tail, retired) = judged(&scan, &leaves, checkpoint.as_ref(), options, &mut report);
    let tiles = tiles::check(files, tiles, &leaves)?;
    report.tiles_lost = tiles.lost;
    report.findings.extend(tiles.findings);
    if checkpoint.is_some() && !leaves.proved() {
        let text = "the lines and tiles do not give the root that is signed";
        let finding = Finding::of_file(Fault::Root, CHECKPOINT, text);
        report.findings.push(finding);
    }
    report.findings.splice(0..0, files.findings());
    let now = earlier::Now {
        checkpoint: claimed.as_ref(),
        believed: checkpoint.is_some(),
        rows: &leaves.rows,
    };
    let earlier = options.earlier.map(|note| now.against(note, &keys));
    let compared = match earlier.transpose() {
        Ok(compared) => compared.unwrap_or_default(),
        // What is wrong with the log is told whatever it was to be held against.
        Err(error) if !report.findings.is_empty() => earlier::Compared {
            not_compared: Some(error.to_string()),
            ..Default::default()
        },
        Err(error) => return Err(error),
    };
    report.not_compared = compared.not_compared;
    report.findings.extend(compared.contradiction);
    Ok(Examined {
        report,
        tail,
        retired,
        scan,
        leaves: leaves.rows.into_leaves(),
        note: note.unwrap_or_default(),
        checkpoint,
        earlier: compared.earlier,
        handovers: papers.into_iter().map(|paper| paper.proof).collect(),
        replaced: options.trusted.iter().any(|key| keys.is_replaced(key)),
    })
}

impl Report {
    /// Takes what the log's checkpoint says, of the log of this name where one is asked
    /// for.
    fn believe(&mut self, checkpoint: &Checkpoint, asked: Option<&str>) {
        let found = checkpoint.origin.as_str();
        self.origin = Some(found.to_owned());
        self.size = checkpoint.size;
        self.root = Some(hex::encode(&checkpoint.root));
        if let Some(asked) = asked.filter(|asked| *asked != found) {
            let text = format!("it is of the log '{found}', not of '{asked}'");
            let finding = Finding::of_file(Fault::OtherLog, CHECKPOINT, &text);
            self.findings.push(finding);
        }
    }
}

/// Judges every line; the hashes of those after the checkpoint, and the first event
/// that the log says it keeps.
fn judged(
    scan: &Scan,
    leaves: &Leaves,
    checkpoint: Option<&Checkpoint>,
    options: &Options<'_>,
    report: &mut Report,
) -> (Vec<Hash>, u64) {
    let mut own = own::read(scan, leaves.hashes());
    own.closed &= checkpoint.is_some_and(|checkpoint| !checkpoint.reopened);
    (report.closed, report.adopted) = (own.closed, own.adopted);
    let judged = judge::judge(scan, leaves, &own);
    report.first_kept = judged.first_kept;
    report.findings.extend(judged.findings);
    report.uncovered = judged.tail.len() as u64;
    report.torn_bytes = judged.torn_bytes;
    if options.closed && !own.closed {
        let text = "its last event under the checkpoint does not close it";
        let finding = Finding::of_file(Fault::NotClosed, scan.last_file(), text);
        report.findings.push(finding);
    }
    (judged.tail, own.first_kept)
}

/// The log's checkpoint, as it stands and what it says, when a believed key
/// signed it.
fn read_checkpoint(
    moment: &Moment,
    keys: &Keys<'_>,
    report: &mut Report,
) -> Option<(String, Checkpoint)> {
    let Some(text) = &moment.note else {
        let finding = Finding::of_file(Fault::MissingCheckpoint, CHECKPOINT, "there is none");
        report.findings.push(finding);
        return None;
    };
    match keys.open(text) {
        Ok(checkpoint) => Some((text.clone(), checkpoint)),
        Err(error) => {
            let fault = match error {
                NoteError::Foreign { .. } => Fault::ForeignCheckpoint,
                NoteError::Revoked { .. } | NoteError::Replaced { .. } => Fault::RevokedKey,
                _ => Fault::BadCheckpoint,
            };
            let finding = Finding::of_file(fault, CHECKPOINT, &error.to_string());
            report.findings.push(finding);
            None
        }
    }
}
