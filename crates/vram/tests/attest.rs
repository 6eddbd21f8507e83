//! `vram attest`: of which files, and how it ends early.
//!
//! requirement: VP-006

mod common;

use common::{Session, finish, interrupt, small};

const NONCE: &str = "00112233445566778899aabbccddeeff";

/// A worker with a key for tests.
fn worker() -> Session {
    let session = Session::new();
    session.vram("key new --signing --test w.sign").exit(0);
    session
}

/// What to say to attest `file`.
fn attest(file: &str, more: &str) -> String {
    format!("attest {file} --nonce {NONCE} --sign-key w.sign --out answer.json {more}")
}

// requirement: VA-10
#[test]
fn no_part_of_a_model_is_attested_for_the_whole() {
    let session = worker();
    let sharded = small().with_file_name("sharded");
    let split = small().with_file_name("split");
    for (file, what) in [
        (
            sharded.join("model.safetensors.index.json"),
            "is an index of the files of a model, not a whole model",
        ),
        (
            split.join("small-00001-of-00002.gguf"),
            "is part 1 of 2 of a model, not a whole model",
        ),
    ] {
        let attest = attest(file.to_str().unwrap(), "--device sim");
        session
            .vram(&attest)
            .exit(1)
            .refuses(what)
            .tells("--format raw takes this file alone");
        assert!(!session.path("answer.json").exists());
        session.vram(&format!("{attest} --format raw")).exit(0);
        std::fs::remove_file(session.path("answer.json")).unwrap();
    }
}

/// Ends before it is loaded: 64 GiB of holes.
#[test]
fn an_interrupt_or_a_deadline_leaves_no_weights_and_no_answer() {
    let session = worker();
    let file = std::fs::File::create(session.path("model")).unwrap();
    file.set_len(64 << 30).unwrap();
    let attest = attest("model", "--device sim:65GiB,discard");
    let words: Vec<&str> = attest.split_whitespace().collect();
    let child = session.command(&words).spawn().unwrap();
    interrupt(&child);
    let interrupted = finish(child, attest.clone());
    let late = session.vram(&format!("{attest} --timeout 20ms"));
    for (ended, words) in [
        (interrupted, "loading model was cancelled"),
        (late, "loading model did not finish before its deadline"),
    ] {
        ended
            .exit(1)
            .refuses(words)
            .tells("nothing is left on the device: 0 of 69793218560 bytes in use");
        assert!(!session.path("answer.json").exists());
    }
}
