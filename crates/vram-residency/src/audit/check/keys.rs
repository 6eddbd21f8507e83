//! Whose checkpoints are believed: the trusted keys, and those that took over
//! from them as the log itself proves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::super::line;
use super::super::merkle::leaf_hash;
use super::super::note::{Checkpoint, NoteError};
use super::super::proof::{MAX_PROOF_BYTES, Proof, Proved};
use super::super::{Body, Event};
use super::files::{Files, read_bounded};
use super::report::{Fault, Finding};
use crate::key::{KeyId, VerifyingKey};

/// Keys, and the size up to which the replaced ones among them are believed.
pub(crate) struct Keys<'a> {
    believed: Vec<VerifyingKey>,
    /// By the place of the key.
    replaced: BTreeMap<usize, u64>,
    refused: Vec<VerifyingKey>,
    revoked: Option<&'a BTreeSet<KeyId>>,
}

/// A file in which a key names the next one.
pub(super) struct Handover {
    name: String,
    seq: u64,
    line: String,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(trusted: &[VerifyingKey], revoked: Option<&'a BTreeSet<KeyId>>) -> Self {
        let mut keys = Self {
            believed: Vec::new(),
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
        match self.believed.iter().position(|known| *known == key) {
            // The log came back to a key that it had left.
            Some(at) => {
                self.replaced.remove(&at);
            }
            None => self.believed.push(key),
        }
    }

    /// Follows the handovers among `names`, oldest first. Those of keys that are
    /// not believed say nothing, nor does one under another event's name: it would
    /// be followed out of its turn.
    pub(super) fn follow(
        &mut self,
        files: &dyn Files,
        names: &[String],
    ) -> io::Result<Vec<Handover>> {
        let mut found: Vec<_> = names
            .iter()
            .filter_map(|name| Some((line::handover_seq(name)?, name)))
            .collect();
        found.sort_unstable();
        let mut followed = Vec::new();
        for (named, name) in found {
            let text = read_bounded(files, name, MAX_PROOF_BYTES)?;
            let Ok(proof) = Proof::from_json(&String::from_utf8_lossy(&text)) else {
                continue;
            };
            if let Some((seq, line)) = self.hand_over(&proof, named) {
                let name = name.clone();
                followed.push(Handover { name, seq, line });
            }
        }
        Ok(followed)
    }

    /// The number and line of the event `named`, when a believed key proves it.
    pub(crate) fn hand_over(&mut self, proof: &Proof, named: u64) -> Option<(u64, String)> {
        let Proof::Inclusion {
            line, checkpoint, ..
        } = proof
        else {
            return None;
        };
        let from = self.signer(checkpoint).ok()?.0;
        let open = |note: &str| Checkpoint::open(note, &self.believed);
        let proved = proof.check_by(open, None).ok()?;
        let Proved::Event(event, seq, checkpoint) = proved else {
            return None;
        };
        // Its last word: nothing comes after it under this key.
        let last = seq == named && seq.checked_add(1) == Some(checkpoint.size);
        let next = successor(&event, self.believed.get(from)?).filter(|_| last)?;
        self.replaced.insert(from, checkpoint.size);
        self.add(next);
        Some((seq, line.clone()))
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
        let at = self.believed.iter().position(|known| known == key);
        at.is_some_and(|at| self.replaced.contains_key(&at))
    }
}

impl Handover {
    /// What is wrong when the log does not hold the event.
    pub(super) fn check(&self, leaves: &[[u8; 32]]) -> Option<Finding> {
        let leaf = usize::try_from(self.seq)
            .ok()
            .and_then(|seq| leaves.get(seq));
        let text = "the log does not hold the event in which its key was changed";
        let finding = Finding::of_file(Fault::RolledBack, &self.name, text);
        (leaf != Some(&leaf_hash(self.line.as_bytes()))).then_some(finding)
    }
}

/// The key that `key` names as the next one.
fn successor(event: &Event, key: &VerifyingKey) -> Option<VerifyingKey> {
    match &event.body {
        Body::AuditKeyChanged { from, to } if from.as_str() == key.to_string() => {
            VerifyingKey::from_hex(to.as_str()).ok()
        }
        _ => None,
    }
}
