//! A log goes over to another key: the old one's last word names the new one.

use std::path::Path;

use super::super::check::{self, DirFiles};
use super::super::line::CHECKPOINT;
use super::super::proof::Proof;
use super::{LogOptions, OpenError, open};
use crate::clock::Clock;
use crate::key::SigningKey;
use crate::sync::Arc;

/// Lets the key `new` sign the log in `dir` from now on, of which nobody may be
/// the writer. The old key signs that it does (`audit.key_changed`); the proof of
/// it stays beside the log (`handover.<event>.json`), so that who trusts the old
/// key believes the new one, and the old one no further. Returns the event's
/// number.
///
/// Killed half way, the log still belongs to the old key, and this can be called
/// again.
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
    let proof = Proof::of_event(&DirFiles::new(dir), &checks, seq);
    let proof = proof.and_then(|proof| proof.to_json());
    let proof = proof.map_err(|error| io(error.to_string()))?;
    let done = committer.hand_over(new, seq, &proof);
    done.map_err(|error| io(error.to_string()))?;
    Ok(seq)
}
