//! Signed checkpoints of the audit log.

use std::sync::LazyLock;

use vram_residency::audit::note::Checkpoint;
use vram_residency::key::{SigningKey, VerifyingKey};

use crate::vectors::token;

/// The one note that the fuzzer's key signed, that of the log which is fuzzed.
const NOTE: &str = include_str!("../../../fuzz/corpus/checkpoint/signed");

static SIGNED: LazyLock<(VerifyingKey, Checkpoint)> = LazyLock::new(|| {
    let key = SigningKey::new(&token()).expect("a signing key");
    let key = key.public().clone();
    let known = Checkpoint::open(NOTE, std::slice::from_ref(&key)).expect("our own note");
    (key, known)
});

/// Nothing is believed but what the key signed, and nothing without a key.
pub(crate) fn run(data: &[u8]) -> bool {
    let (key, known) = &*SIGNED;
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    assert!(
        Checkpoint::open(text, &[]).is_err(),
        "believed without a key"
    );
    let opened = Checkpoint::open(text, std::slice::from_ref(key));
    if let Ok(found) = &opened {
        assert_eq!(found, known);
        // Signatures of others may stand beside ours, nothing else.
        let signed = NOTE.split_once("\n\n").expect("a note").0;
        assert!(text.starts_with(&format!("{signed}\n\n")), "another text");
    }
    opened.is_ok()
}
