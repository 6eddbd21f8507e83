//! A log goes over to another key: the old one's last word names the new one.

use std::io;
use std::path::Path;

use super::super::Body;
use super::super::check::{self, DirFiles, Examined, Files};
use super::super::line::{self, CHECKPOINT};
use super::super::note::Checkpoint;
use super::super::proof::Proof;
use super::storage::Storage;
use super::{LogOptions, OpenError, open};
use crate::clock::Clock;
use crate::key::{SigningKey, VerifyingKey};
use crate::sync::Arc;

/// Lets the key `new` sign the log in `dir` from now on, of which nobody may be
/// the writer. The old key signs that it does (`audit.key_changed`); the proof of
/// it stays beside the log (`handover.<event>.json`), so that who trusts the old
/// key believes the new one, and the old one no further. Returns the event's
/// number.
///
/// Killed half way, the log still belongs to the old key, and this can be called
/// again; or, once both keys signed, to the one that opens it next.
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
    let io = |reason: String| OpenError::Io {
        path: dir.to_owned(),
        reason,
    };
    if old.public() == new.public() {
        return Err(io("the new key is the old one".to_owned()));
    }
    if !dir.join(CHECKPOINT).exists() {
        return Err(io("there is no log".to_owned()));
    }
    let trusted = [old.public().clone()];
    let mut committer = open::open(dir, options, old, clock)?;
    let announced = committer.announce(new.public());
    let seq = announced.map_err(|error| io(error.to_string()))?;
    let checks = check::Options {
        trusted: &trusted,
        ..check::Options::default()
    };
    let proof = Proof::of_newest_key(&DirFiles::new(dir), &checks, seq);
    let proof = proof.and_then(|proof| proof.to_json());
    let proof = proof.map_err(|error| io(error.to_string()))?;
    let done = committer.hand_over(new, seq, &proof);
    done.map_err(|error| io(error.to_string()))?;
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
    let Some((seq, from)) = last_word(found, key) else {
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

/// The last event under the checkpoint and the key before `key`, when it is the
/// change to it.
fn last_word(found: &Examined, key: &VerifyingKey) -> Option<(u64, VerifyingKey)> {
    let seq = (found.leaves.len() as u64).checked_sub(1)?;
    found.scan.own.iter().find_map(|(at, body)| {
        let line = found.scan.lines.get(*at)?;
        let Body::AuditKeyChanged { from, to } = body else {
            return None;
        };
        let last = line.seq == Some(seq) && found.leaves.last() == Some(&line.hash);
        let ours = VerifyingKey::from_hex(to.as_str()).ok().as_ref() == Some(key);
        let from = VerifyingKey::from_hex(from.as_str()).ok();
        from.filter(|_| last && ours).map(|from| (seq, from))
    })
}
