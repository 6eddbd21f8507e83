//! Proofs of single events and of growth of an audit log.

use std::sync::LazyLock;

use vram_residency::audit::check::Options;
use vram_residency::audit::merkle::{leaf_hash, root};
use vram_residency::audit::note::{Checkpoint, Cut, Origin};
use vram_residency::audit::proof::{Proof, Proved, Trust};
use vram_residency::key::VerifyingKey;

use crate::audit_log::{KEY, KNOWN, lines};
use crate::json::says_the_same;

/// Events under the checkpoint from which the seed's growth is proved.
const EARLY: usize = 3;

/// All that the fuzzer's key ever signed: an early and the last checkpoint.
static SIGNED: LazyLock<[Checkpoint; 2]> = LazyLock::new(|| {
    let leaves: Vec<_> = lines(&KNOWN).into_iter().map(leaf_hash).collect();
    [EARLY, leaves.len()].map(|size| Checkpoint {
        origin: Origin::new("example.org/worker-1").expect("a name"),
        size: size as u64,
        root: root(&leaves[..size]),
        reopened: false,
        cut: Cut::default(),
    })
});

/// The seeds: the proof of one event and that of growth. `tests/replay` compares.
#[must_use]
pub fn seeds() -> [Proof; 2] {
    let trusted = trusted();
    let options = Options {
        trusted: &trusted,
        ..Options::default()
    };
    let early = SIGNED[0].sign(&KEY).expect("signed");
    [
        Proof::of_event(&*KNOWN, &options, 5).expect("a proof"),
        Proof::since(&*KNOWN, &options, &early).expect("a proof"),
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
            let lines = lines(&KNOWN);
            let line = lines[usize::try_from(seq).expect("an index")];
            let known = serde_json::from_slice(line).expect("an event");
            assert_eq!(*event, known);
            assert!(SIGNED.contains(&checkpoint));
        }
        Proved::Prefix(first, last) => {
            assert!(SIGNED.contains(&first) && SIGNED.contains(&last));
            assert!(first.size <= last.size);
        }
        other => panic!("a kind that nobody signed: {other:?}"),
    }
    true
}
