//! A log goes over to another key: the old one's last word names the new one. Its
//! signature under that word is made in the step that hands the log over, so that a
//! change which comes to nothing leaves nothing that somebody could use.

use std::io;
use std::path::Path;

use super::super::Body;
use super::super::check::{Examined, Files};
use super::super::line::{self, CHECKPOINT};
use super::super::merkle::{self, Hash};
use super::super::note::Checkpoint;
use super::super::proof::Proof;
use super::committer::Committer;
use super::open::{self, Place, Writer};
use super::private::failed;
use super::storage::Storage;
use super::{LogOptions, OpenError};
use crate::clock::Clock;
use crate::hex;
use crate::key::{SigningKey, VerifyingKey};
use crate::sync::Arc;

/// Lets the key `new` sign the log in `dir` from now on, of which nobody may be
/// the writer. The old key signs that it does (`audit.key_changed`); the proof of
/// it stays beside the log (`handover.<event>.json`), so that who trusts the old
/// key believes the new one, and the old one no further. Returns the event's
/// number.
///
/// Killed half way, the log belongs to the old key as if nothing had been asked, or
/// to the new one already; called again, this brings it to its end.
///
/// # Errors
/// [`OpenError`].
pub fn change_key(
    dir: &Path,
    options: &LogOptions,
    old: SigningKey,
    new: SigningKey,
    clock: Arc<dyn Clock>,
) -> Result<u64, OpenError> {
    if old.public() == new.public() {
        return Err(failed(dir, &"the new key is the old one"));
    }
    if !dir.join(CHECKPOINT).exists() {
        return Err(failed(dir, &"there is no log"));
    }
    let writer = Writer {
        options,
        key: old,
        clock,
    };
    open::in_dir(dir, |place| change(place, writer, new))
}

pub(super) fn change(
    place: Place<'_>,
    writer: Writer<'_>,
    new: SigningKey,
) -> Result<u64, OpenError> {
    let dir = place.dir;
    let found = place.examine(writer.key.public())?;
    match named(&found, writer.key.public()) {
        Some((seq, next)) if next == *new.public() => {
            let writer = Writer { key: new, ..writer };
            let mut committer = place.resume(writer, &found)?;
            let closed = committer.close();
            closed.map(|()| seq).map_err(|error| failed(dir, &error))
        }
        None if !found.replaced => {
            let mut leaves = found.leaves.clone();
            let committer = place.resume(writer, &found)?;
            let grown = committer.size().saturating_sub(leaves.len() as u64);
            let adopted = usize::try_from(grown).unwrap_or(usize::MAX);
            leaves.extend(found.tail.iter().take(adopted));
            hand_over(committer, leaves, new).map_err(|error| failed(dir, &error))
        }
        _ => Err(OpenError::Replaced {
            path: dir.to_owned(),
        }),
    }
}

/// Hands a log of these `leaves` over.
fn hand_over(mut committer: Committer, mut leaves: Vec<Hash>, new: SigningKey) -> io::Result<u64> {
    let announced = committer.announce(new.public())?;
    leaves.extend(announced.leaves);
    let seq = announced.seq;
    let path = merkle::inclusion(&leaves, usize::try_from(seq).unwrap_or(usize::MAX));
    let proof = Proof::Inclusion {
        checkpoint: committer.sign_over_to(&new)?,
        seq,
        line: announced.line,
        path: path.iter().map(|hash| hex::encode(hash)).collect(),
        handovers: Vec::new(),
    };
    let proof = proof.to_json().map_err(io::Error::other)?;
    committer.hand_over(new, seq, &proof)?;
    Ok(seq)
}

/// Writes the proof that a change to `key` still lacks: it was killed after both
/// keys had signed. Without it, who trusts the old key would not believe the log
/// once the new one signs alone.
pub(super) fn finish(
    storage: &mut dyn Storage,
    files: &dyn Files,
    found: &Examined,
    key: &VerifyingKey,
) -> io::Result<()> {
    let Some((seq, from, _)) = last_word(found).filter(|(_, _, to)| to == key) else {
        return Ok(());
    };
    let name = line::handover_name(seq);
    if files.names()?.contains(&name) {
        return Ok(());
    }
    let Some(by_old) = Checkpoint::signed_by(&found.note, &from) else {
        return Ok(());
    };
    let mut proof = Proof::of_examined(files, found, seq).map_err(io::Error::other)?;
    if let Proof::Inclusion { checkpoint, .. } = &mut proof {
        *checkpoint = by_old;
    }
    let proof = proof.to_json().map_err(io::Error::other)?;
    storage.put(&name, proof.as_bytes(), true)
}

/// The key to which `key` has handed the log over as its last word, and the number
/// of that event, while the next one has not signed anything alone.
pub(super) fn named(found: &Examined, key: &VerifyingKey) -> Option<(u64, VerifyingKey)> {
    let (seq, _, to) = last_word(found).filter(|(_, from, _)| from == key)?;
    Some((seq, to))
}

/// The last event under the checkpoint, when it is a change of keys: its number,
/// the key before and the key after.
fn last_word(found: &Examined) -> Option<(u64, VerifyingKey, VerifyingKey)> {
    let seq = (found.leaves.len() as u64).checked_sub(1)?;
    found.scan.own.iter().find_map(|(at, body)| {
        let line = found.scan.lines.get(*at)?;
        let Body::AuditKeyChanged { from, to } = body else {
            return None;
        };
        let last = line.seq == Some(seq) && found.leaves.last() == Some(&line.hash);
        let key = |text: &str| VerifyingKey::from_hex(text).ok();
        let keys = key(from.as_str()).zip(key(to.as_str()));
        keys.filter(|_| last).map(|(from, to)| (seq, from, to))
    })
}
