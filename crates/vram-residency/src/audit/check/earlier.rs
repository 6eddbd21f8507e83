//! The log against a checkpoint of it that was kept elsewhere.

use super::super::line::CHECKPOINT;
use super::super::merkle::{self, Hash};
use super::super::note::{Checkpoint, NoteError};
use super::report::{Fault, Finding};
use super::{CheckError, Keys};

/// What the log is now.
pub(super) struct Now<'a> {
    /// What its checkpoint says, whoever signed it.
    pub(super) checkpoint: Option<&'a Checkpoint>,
    /// A believed key did.
    pub(super) believed: bool,
    pub(super) leaves: &'a [Hash],
}

impl Now<'_> {
    /// Holds an earlier checkpoint against the log: what it says, and the finding when
    /// it contradicts the log. One that no trusted key signed accuses no log: anybody
    /// could have made it.
    ///
    /// Who cuts a log back to before a change of its key takes the paper of the change
    /// away with it. A key that the log came back to is then taken for one that it left,
    /// and one that it went over to is believed only by who trusts it by itself.
    pub(super) fn against(
        &self,
        note: &str,
        keys: &Keys<'_>,
    ) -> Result<(Option<Checkpoint>, Option<Finding>), CheckError> {
        match keys.open(note) {
            Ok(earlier) => {
                let text = self.contradicts(&earlier)?;
                Ok((Some(earlier), text.map(|text| rolled_back(&text))))
            }
            Err(error @ NoteError::Replaced { .. }) => {
                let earlier = Checkpoint::claimed(note).ok().filter(|_| self.believed);
                let text = earlier.map(|earlier| self.contradicts(&earlier));
                let Some(text) = text.transpose()?.flatten() else {
                    return Err(CheckError::Earlier(error));
                };
                let why = "or that key was used for another log of this name";
                let who = "a change of the key is gone as well";
                Ok((
                    None,
                    Some(rolled_back(&format!("{text}, and {who}, {why}: {error}"))),
                ))
            }
            Err(error) => Err(CheckError::Earlier(error)),
        }
    }

    /// What contradicts an earlier checkpoint, if anything does.
    fn contradicts(&self, earlier: &Checkpoint) -> Result<Option<String>, CheckError> {
        let Some(now) = self.checkpoint else {
            return Ok(None);
        };
        if earlier.origin != now.origin {
            // A checkpoint that nobody believes is a fault of the log already.
            return match self.believed {
                true => Err(CheckError::OtherLog {
                    earlier: earlier.origin.to_string(),
                    log: now.origin.to_string(),
                }),
                false => Ok(None),
            };
        }
        let prefix = usize::try_from(earlier.size).ok();
        let prefix = prefix.and_then(|size| self.leaves.get(..size));
        let Some(prefix) = prefix.filter(|_| earlier.size <= now.size) else {
            let (had, has) = (earlier.size, now.size);
            let text = format!("the log had {had} lines before and has {has} now");
            return Ok(Some(text));
        };
        let text = || format!("the first {} lines are not those of before", earlier.size);
        Ok((merkle::root(prefix) != earlier.root).then(text))
    }
}

fn rolled_back(text: &str) -> Finding {
    Finding::of_file(Fault::RolledBack, CHECKPOINT, text)
}
