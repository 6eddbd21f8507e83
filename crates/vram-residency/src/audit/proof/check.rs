//! What a proof shows, and to whom.

use std::collections::BTreeSet;

use super::super::check::{Handover, Keys};
use super::super::merkle::{self, Hash};
use super::super::note::{Checkpoint, NoteError, Origin};
use super::super::{Event, line};
use super::{Proof, ProofError};
use crate::hex;
use crate::key::{KeyId, VerifyingKey};

/// Whose checkpoints are believed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust<'a> {
    /// Keys of the log, and those that it proves to have taken over from them.
    pub keys: &'a [VerifyingKey],
    /// Keys that are not believed, whoever trusted them or handed over to them.
    pub revoked: Option<&'a BTreeSet<KeyId>>,
}

/// What a proof showed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proved {
    /// This event, under this number and checkpoint.
    Event(Box<Event>, u64, Checkpoint),
    /// The event of this line, which another version wrote and this one does not know.
    Unknown(String, u64, Checkpoint),
    /// The log of the second checkpoint starts with that of the first.
    Prefix(Checkpoint, Checkpoint),
}

impl Proof {
    /// Checks the proof against its own checkpoint or, better, against
    /// `checkpoint`, which came by another way.
    ///
    /// # Errors
    /// [`ProofError`] saying what is not believed.
    pub fn check(&self, trust: &Trust<'_>, checkpoint: Option<&str>) -> Result<Proved, ProofError> {
        let last = Checkpoint::claimed(checkpoint.unwrap_or_else(|| self.checkpoint()))?;
        let mut keys = Keys::new(trust.keys, trust.revoked);
        for paper in self.papers(&last.origin)? {
            keys.hand_over(&paper);
        }
        self.check_by(|note| keys.open(note), checkpoint)
    }

    /// The changes of the key that it carries, oldest first as in the log `origin`.
    fn papers(&self, origin: &Origin) -> Result<Vec<Handover>, ProofError> {
        let refused = |seq: Option<u64>, reason: String| ProofError::Handover { seq, reason };
        let read = |paper: &Self| {
            let read = Handover::read(paper, Some(origin));
            read.map_err(|reason| refused(paper.seq(), reason))
        };
        let papers: Result<Vec<_>, _> = self.handovers().iter().map(read).collect();
        let mut papers = papers?;
        papers.sort_by_key(|paper| paper.seq);
        let twice = |pair: &&[Handover]| matches!(pair, [one, next] if one.seq == next.seq);
        match papers.windows(2).find(twice) {
            Some(pair) => Err(refused(
                pair.first().map(|paper| paper.seq),
                "another one is of this event as well".to_owned(),
            )),
            None => Ok(papers),
        }
    }

    /// As [`Proof::check`], with checkpoints that `open` believes.
    pub(crate) fn check_by(
        &self,
        open: impl Fn(&str) -> Result<Checkpoint, NoteError>,
        checkpoint: Option<&str>,
    ) -> Result<Proved, ProofError> {
        let (Self::Inclusion { path, .. } | Self::Consistency { path, .. }) = self;
        let own = self.checkpoint();
        let last = open(checkpoint.unwrap_or(own))?;
        let path = read(path)?;
        let shown = match self {
            Self::Inclusion { seq, line, .. } => event(line, *seq, &last, &path),
            Self::Consistency { earlier, .. } => prefix(open(earlier)?, &last, &path),
        };
        shown.ok_or_else(|| match open(own) {
            Ok(own) if own.size != last.size => ProofError::OtherCheckpoint {
                proof: own.size,
                given: last.size,
            },
            _ => ProofError::Wrong {
                origin: last.origin.to_string(),
            },
        })
    }

    fn checkpoint(&self) -> &str {
        let (Self::Inclusion { checkpoint, .. } | Self::Consistency { checkpoint, .. }) = self;
        checkpoint
    }

    fn seq(&self) -> Option<u64> {
        match self {
            Self::Inclusion { seq, .. } => Some(*seq),
            Self::Consistency { .. } => None,
        }
    }
}

fn event(text: &str, seq: u64, last: &Checkpoint, path: &[Hash]) -> Option<Proved> {
    let leaf = merkle::leaf_hash(text.as_bytes());
    let claimed = line::claims(text.as_bytes())?.0;
    let leads = merkle::verify_inclusion(&leaf, seq, last.size, path, &last.root);
    if !leads || claimed != seq {
        return None;
    }
    match line::event(text.as_bytes()) {
        Some(event) => Some(Proved::Event(Box::new(event), seq, last.clone())),
        None if line::event_type(text.as_bytes()).is_some() => {
            Some(Proved::Unknown(text.to_owned(), seq, last.clone()))
        }
        None => None,
    }
}

fn prefix(first: Checkpoint, last: &Checkpoint, path: &[Hash]) -> Option<Proved> {
    let (old, new) = (&first.root, &last.root);
    let leads = merkle::verify_consistency(first.size, old, last.size, new, path);
    let same = first.origin == last.origin;
    (leads && same).then(|| Proved::Prefix(first, last.clone()))
}

fn read(path: &[String]) -> Result<Vec<Hash>, ProofError> {
    let hashes = path.iter().map(|text| hex::decode::<32>(text));
    let hashes: Option<Vec<Hash>> = hashes.collect();
    hashes.ok_or_else(|| ProofError::Format {
        reason: "a hash is not 64 lower-case hex digits".to_owned(),
    })
}
