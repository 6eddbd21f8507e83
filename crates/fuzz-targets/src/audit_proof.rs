//! Proofs of single events and of growth of an audit log.

use std::sync::LazyLock;

use vram_residency::audit::check::Options;
use vram_residency::audit::merkle::{leaf_hash, root};
use vram_residency::audit::note::{Checkpoint, Cut, Origin};
use vram_residency::audit::proof::{Proof, Proved, Trust};
use vram_residency::key::VerifyingKey;

use crate::audit_log::{KEY, KNOWN, Known};
use crate::json::says_the_same;

/// Events under the checkpoint from which the seed's growth is proved.
const EARLY: u64 = 3;

/// An early checkpoint of the closed log, the only one that its files do not hold.
static EARLIER: LazyLock<Checkpoint> = LazyLock::new(|| {
    let lines = KNOWN[0].lines(0, EARLY);
    let leaves: Vec<_> = lines.into_iter().map(leaf_hash).collect();
    Checkpoint {
        origin: Origin::new("example.org/worker-1").expect("a name"),
        size: EARLY,
        root: root(&leaves),
        reopened: false,
        cut: Cut::default(),
    }
});

/// The log of which somebody signed this.
fn log_of(checkpoint: &Checkpoint) -> &'static Known {
    if *checkpoint == *EARLIER {
        return &KNOWN[0];
    }
    let log = KNOWN.iter().find(|log| log.signed.contains(checkpoint));
    log.expect("a checkpoint that somebody signed")
}

/// The seeds: the proof of one event, that of growth, and that of an event under a
/// key that the trusted one named. `tests/replay` compares.
#[must_use]
pub fn seeds() -> [Proof; 3] {
    let trusted = trusted();
    let options = Options {
        trusted: &trusted,
        ..Options::default()
    };
    let early = EARLIER.sign(&KEY).expect("signed");
    let [closed, rekeyed, ..] = &*KNOWN;
    let newest = rekeyed.signed.last().expect("a checkpoint").size - 1;
    [
        Proof::of_event(&closed.files, &options, 5).expect("a proof"),
        Proof::since(&closed.files, &options, &early).expect("a proof"),
        Proof::of_event(&rekeyed.files, &options, newest).expect("a proof"),
    ]
}

fn trusted() -> [VerifyingKey; 1] {
    [KEY.public().clone()]
}

/// Whatever is believed is in the log that was signed, and nothing is without a
/// key.
pub(crate) fn run(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let Ok(proof) = Proof::from_json(&text) else {
        return false;
    };
    says_the_same(&text, &proof);
    assert!(
        proof.check(&Trust::default(), None).is_err(),
        "believed without a key"
    );
    let keys = trusted();
    let trust = Trust {
        keys: &keys,
        revoked: None,
    };
    let Ok(proved) = proof.check(&trust, None) else {
        return false;
    };
    match proved {
        Proved::Event(event, seq, checkpoint) => {
            let line = log_of(&checkpoint).lines(seq, seq + 1)[0];
            let known = serde_json::from_slice(line).expect("an event");
            assert_eq!(*event, known);
        }
        Proved::Prefix(first, last) => {
            let (old, new) = (log_of(&first), log_of(&last));
            assert!(first.size <= last.size);
            assert_eq!(old.lines(0, first.size), new.lines(0, first.size));
        }
        other => panic!("a kind that nobody signed: {other:?}"),
    }
    true
}
