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

mod files;
mod judge;
mod leaves;
mod own;
mod report;
mod scan;
mod show;
mod tiles;

use std::io;

pub use files::{DirFiles, Files};
pub use report::{Fault, Finding, Report};
pub use show::{Filter, Shown, show};

use super::line::CHECKPOINT;
use super::merkle::{self, Hash};
use super::note::{Checkpoint, MAX_CHECKPOINT_BYTES, NoteError};
use crate::hex;
use crate::key::VerifyingKey;
use scan::Scan;
pub(crate) use scan::next_line;

/// What to check a log against.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Keys whose checkpoints are believed.
    pub trusted: &'a [VerifyingKey],
    /// A checkpoint of the same log that was kept elsewhere: the log must
    /// still start with what it says.
    pub earlier: Option<&'a str>,
    /// The writer has ended in order: the last event says so.
    pub closed: bool,
}

/// All that a check found out, for a writer that goes on with the log.
pub(crate) struct Examined {
    pub(crate) report: Report,
    /// Hashes of the leaves under the checkpoint.
    pub(crate) leaves: Vec<Hash>,
    /// Hashes of the lines after it.
    pub(crate) tail: Vec<Hash>,
    pub(crate) scan: Scan,
}

/// Checks a log.
///
/// # Errors
/// The system's error when a file cannot be read. What is wrong with the log
/// is no error but a finding.
pub fn verify(files: &dyn Files, options: &Options<'_>) -> io::Result<Report> {
    Ok(examine(files, options)?.report)
}

pub(crate) fn examine(files: &dyn Files, options: &Options<'_>) -> io::Result<Examined> {
    let names = files.names()?;
    let mut report = Report::default();
    let scan = scan::scan(files, &names)?;
    report.lines = scan.lines.len() as u64;
    report.clock_steps_back = scan.clock_steps_back;
    let checkpoint = read_checkpoint(files, &names, options, &mut report)?;
    let leaves = leaves::load(files, &names, checkpoint.as_ref(), &scan)?;
    if let Some(checkpoint) = &checkpoint {
        report.origin = Some(checkpoint.origin.to_string());
        report.size = checkpoint.size;
        report.root = Some(hex::encode(&checkpoint.root));
    }
    let mut own = own::read(&scan, &leaves.hashes);
    own.closed &= checkpoint
        .as_ref()
        .is_none_or(|checkpoint| !checkpoint.reopened);
    (report.closed, report.adopted) = (own.closed, own.adopted);
    let judged = judge::judge(&scan, &leaves.hashes, &own);
    report.first_kept = judged.first_kept;
    report.findings.extend(judged.findings);
    report.uncovered = judged.tail.len() as u64;
    report.torn_bytes = scan.torn.as_ref().map_or(0, |torn| torn.len);
    if options.closed && !own.closed {
        let text = "its last event under the checkpoint does not close it";
        let finding = Finding::of_file(Fault::NotClosed, scan.last_file(), text);
        report.findings.push(finding);
    }
    report
        .findings
        .extend(tiles::check(files, &names, &leaves.hashes)?);
    if checkpoint.is_some() && !leaves.proved {
        let text = "the lines and tiles do not give the root that is signed";
        let finding = Finding::of_file(Fault::Root, CHECKPOINT, text);
        report.findings.push(finding);
    }
    if let Some(earlier) = options.earlier {
        let text = against_earlier(
            earlier,
            options.trusted,
            checkpoint.as_ref(),
            &leaves.hashes,
        );
        let finding = |text: String| Finding::of_file(Fault::RolledBack, CHECKPOINT, &text);
        report.findings.extend(text.map(finding));
    }
    Ok(Examined {
        report,
        leaves: leaves.hashes,
        tail: judged.tail,
        scan,
    })
}

/// The log's checkpoint when a trusted key signed it.
fn read_checkpoint(
    files: &dyn Files,
    names: &[String],
    options: &Options<'_>,
    report: &mut Report,
) -> io::Result<Option<Checkpoint>> {
    if !names.iter().any(|name| name == CHECKPOINT) {
        let finding = Finding::of_file(Fault::MissingCheckpoint, CHECKPOINT, "there is none");
        report.findings.push(finding);
        return Ok(None);
    }
    let bytes = files::read_bounded(files, CHECKPOINT, MAX_CHECKPOINT_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    match Checkpoint::open(&text, options.trusted) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(error) => {
            let fault = match error {
                NoteError::Foreign { .. } => Fault::ForeignCheckpoint,
                _ => Fault::BadCheckpoint,
            };
            let finding = Finding::of_file(fault, CHECKPOINT, &error.to_string());
            report.findings.push(finding);
            Ok(None)
        }
    }
}

/// What contradicts an earlier checkpoint, if anything does.
fn against_earlier(
    earlier: &str,
    trusted: &[VerifyingKey],
    now: Option<&Checkpoint>,
    leaves: &[Hash],
) -> Option<String> {
    let earlier = match Checkpoint::open(earlier, trusted) {
        Ok(earlier) => earlier,
        Err(error) => return Some(format!("the earlier checkpoint: {error}")),
    };
    let now = now?;
    if earlier.origin != now.origin {
        return Some(format!("the earlier checkpoint is of '{}'", earlier.origin));
    }
    let prefix = usize::try_from(earlier.size)
        .ok()
        .and_then(|size| leaves.get(..size));
    let Some(prefix) = prefix else {
        let (had, has) = (earlier.size, now.size);
        return Some(format!("the log had {had} lines before and has {has} now"));
    };
    (merkle::root(prefix) != earlier.root)
        .then(|| format!("the first {} lines are not those of before", earlier.size))
}
