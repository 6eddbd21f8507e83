//! The log against a checkpoint of it that was kept elsewhere.

use super::super::line::CHECKPOINT;
use super::super::note::{Checkpoint, NoteError};
use super::report::{Fault, Finding};
use super::rows::Rows;
use super::{CheckError, Keys};

/// What the log is now.
pub(super) struct Now<'a> {
    /// What its checkpoint says, whoever signed it.
    pub(super) checkpoint: Option<&'a Checkpoint>,
    /// A believed key did.
    pub(super) believed: bool,
    pub(super) rows: &'a Rows,
}

/// How an earlier checkpoint fits the log.
#[derive(Default)]
pub(super) struct Compared {
    /// What it says, when a believed key signed it.
    pub(super) earlier: Option<Checkpoint>,
    pub(super) contradiction: Option<Finding>,
    /// Why it could not be compared with what is left of the log.
    pub(super) not_compared: Option<String>,
}

enum Answer {
    Fits,
    Contradicts(String),
    /// Too little is known of the log.
    Unknown,
}

impl Now<'_> {
    /// Holds an earlier checkpoint against the log: what it says, and the finding when
    /// it contradicts the log. One that no trusted key signed accuses no log: anybody
    /// could have made it.
    ///
    /// Who cuts a log back to before a change of its key takes the paper of the change
    /// away with it. A key that the log came back to is then taken for one that it left,
    /// and one that it went over to is believed only by who trusts it by itself.
    pub(super) fn against(&self, note: &str, keys: &Keys<'_>) -> Result<Compared, CheckError> {
        match keys.open(note) {
            Ok(earlier) => {
                let mut compared = match self.answer(&earlier)? {
                    Answer::Fits => Compared::default(),
                    Answer::Contradicts(text) => Compared::contradicts(&text),
                    Answer::Unknown => Compared::unknown(earlier.size),
                };
                compared.earlier = Some(earlier);
                Ok(compared)
            }
            Err(error @ NoteError::Replaced { .. }) => {
                let earlier = Checkpoint::claimed(note).ok().filter(|_| self.believed);
                let answer = earlier.map(|earlier| self.answer(&earlier)).transpose()?;
                let Some(Answer::Contradicts(text)) = answer else {
                    return Err(CheckError::Earlier(error));
                };
                let why = "or that key was used for another log of this name";
                let who = "a change of the key is gone as well";
                let text = format!("{text}, and {who}, {why}: {error}");
                Ok(Compared::contradicts(&text))
            }
            Err(error) => Err(CheckError::Earlier(error)),
        }
    }

    /// What the log says to an earlier checkpoint.
    fn answer(&self, earlier: &Checkpoint) -> Result<Answer, CheckError> {
        let Some(now) = self.checkpoint else {
            return Ok(Answer::Fits);
        };
        if earlier.origin != now.origin {
            // A checkpoint that nobody believes is a fault of the log already.
            return match self.believed {
                true => Err(CheckError::OtherLog {
                    earlier: earlier.origin.to_string(),
                    log: now.origin.to_string(),
                }),
                false => Ok(Answer::Fits),
            };
        }
        let size = usize::try_from(earlier.size).ok();
        let size = size.filter(|size| *size <= self.rows.leaves().len());
        let Some(size) = size.filter(|_| earlier.size <= now.size) else {
            let (had, has) = (earlier.size, now.size);
            let text = format!("the log had {had} lines before and has {has} now");
            return Ok(Answer::Contradicts(text));
        };
        Ok(match self.rows.root(size) {
            Some(root) if root == earlier.root => Answer::Fits,
            Some(_) => {
                let text = format!("the first {size} lines are not those of before");
                Answer::Contradicts(text)
            }
            None => Answer::Unknown,
        })
    }
}

impl Compared {
    fn contradicts(text: &str) -> Self {
        Self {
            contradiction: Some(rolled_back(text)),
            ..Self::default()
        }
    }

    fn unknown(size: u64) -> Self {
        let text = format!("not all hashes of the log's first {size} lines are left");
        Self {
            not_compared: Some(text),
            ..Self::default()
        }
    }
}

fn rolled_back(text: &str) -> Finding {
    Finding::of_file(Fault::RolledBack, CHECKPOINT, text)
}
