//! A log as it stands at one moment: its checkpoint, and the files that were there
//! after that was read. A writer may go on meanwhile, which is no fault of the log.

use std::io;

use super::super::line::CHECKPOINT;
use super::super::note::MAX_CHECKPOINT_BYTES;
use super::files::{Files, listed, read_bounded};
use super::{CheckError, Examined};

/// How often a log that changed meanwhile is checked before what was found
/// counts all the same.
pub(super) const MOST_TRIES: usize = 5;

#[derive(PartialEq, Eq)]
pub(super) struct Moment {
    /// The checkpoint's text, whoever signed it.
    pub(super) note: Option<String>,
    pub(super) names: Vec<String>,
}

impl Moment {
    /// Reads the checkpoint and then lists the files: what they hold beyond it is
    /// younger, and what it covers was there before it.
    pub(super) fn of(files: &dyn Files) -> io::Result<Self> {
        let before = files.names()?;
        let note = before.iter().any(|name| name == CHECKPOINT).then(|| {
            let bytes = read_bounded(files, CHECKPOINT, MAX_CHECKPOINT_BYTES)?;
            io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
        });
        Ok(Self {
            note: note.transpose()?,
            names: listed(files)?,
        })
    }
}

/// Whether a writer that changed the log meanwhile can be what was found.
pub(super) fn may_be_a_writers(found: &Result<Examined, CheckError>) -> bool {
    match found {
        Ok(found) => !found.report.is_good() || found.report.tiles_lost > 0,
        Err(CheckError::Io(error)) => error.kind() == io::ErrorKind::NotFound,
        Err(_) => false,
    }
}
