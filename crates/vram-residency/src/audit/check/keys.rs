//! Whose checkpoints are believed: the trusted keys, and those that took over
//! from them as the log itself proves.

use std::collections::{BTreeMap, BTreeSet};

use super::super::note::{Checkpoint, NoteError};
use super::handover::Handover;
use crate::key::{KeyId, VerifyingKey};

/// Keys, and the size up to which the replaced ones among them are believed.
pub(crate) struct Keys<'a> {
    believed: Vec<VerifyingKey>,
    /// The places of their bytes: a log may change its key as often as it likes.
    places: BTreeMap<[u8; 32], usize>,
    /// By the place of the key.
    replaced: BTreeMap<usize, u64>,
    refused: Vec<VerifyingKey>,
    revoked: Option<&'a BTreeSet<KeyId>>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(trusted: &[VerifyingKey], revoked: Option<&'a BTreeSet<KeyId>>) -> Self {
        let mut keys = Self {
            believed: Vec::new(),
            places: BTreeMap::new(),
            replaced: BTreeMap::new(),
            refused: Vec::new(),
            revoked,
        };
        trusted.iter().for_each(|key| keys.add(key.clone()));
        keys
    }

    fn add(&mut self, key: VerifyingKey) {
        let revoked = self.revoked.is_some_and(|list| list.contains(&key.id()));
        if revoked {
            self.refused.push(key);
            return;
        }
        match self.place(&key) {
            // The log came back to a key that it had left.
            Some(at) => {
                self.replaced.remove(&at);
            }
            None => {
                self.places.insert(*key.as_bytes(), self.believed.len());
                self.believed.push(key);
            }
        }
    }

    fn place(&self, key: &VerifyingKey) -> Option<usize> {
        self.places.get(key.as_bytes()).copied()
    }

    /// Follows a paper, of which the older ones were followed before; whether a
    /// believed key signed it. One of a key that is not believed, or not that far,
    /// says nothing.
    pub(crate) fn hand_over(&mut self, paper: &Handover) -> bool {
        let Some(from) = self.place(&paper.from) else {
            return false;
        };
        let until = self.replaced.get(&from);
        if until.is_some_and(|until| paper.size() > *until) {
            return false;
        }
        self.replaced.insert(from, paper.size());
        self.add(paper.to.clone());
        true
    }

    /// Reads a checkpoint of a believed key.
    pub(crate) fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        self.signer(note).map(|(_, checkpoint)| checkpoint)
    }

    /// The place of the key that signed a note.
    fn signer(&self, note: &str) -> Result<(usize, Checkpoint), NoteError> {
        match Checkpoint::open_by(note, &self.believed) {
            Ok((at, checkpoint)) => match (self.replaced.get(&at), self.believed.get(at)) {
                (Some(until), Some(key)) if checkpoint.size > *until => {
                    Err(NoteError::Replaced { key_id: key.id() })
                }
                _ => Ok((at, checkpoint)),
            },
            Err(error) => Err(self.revoked(note).unwrap_or(error)),
        }
    }

    /// That a note is signed by a key that would be believed, were it not revoked.
    fn revoked(&self, note: &str) -> Option<NoteError> {
        let (at, _) = Checkpoint::open_by(note, &self.refused).ok()?;
        let key_id = self.refused.get(at)?.id();
        Some(NoteError::Revoked { key_id })
    }

    /// Whether the log went over from this key to another.
    pub(crate) fn is_replaced(&self, key: &VerifyingKey) -> bool {
        let at = self.place(key);
        at.is_some_and(|at| self.replaced.contains_key(&at))
    }
}
