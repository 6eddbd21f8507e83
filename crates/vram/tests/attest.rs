//! `vram attest`: of which files, and how it ends early.
//!
//! requirement: VP-006

mod common;

use common::{Session, finish, interrupt, reference, small};

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

/// Who holds the sealing key needs nobody's public key.
// requirement: VP-006, API-F22
#[test]
fn an_answer_under_the_sealing_key_is_checked_with_it() {
    let session = Session::new();
    session.file("model", 20_000);
    for name in ["w.key", "other.key"] {
        session.vram(&format!("key new {name}")).exit(0);
    }
    let attest = format!("attest model --device sim --nonce {NONCE} --out answer.json");
    session.vram(&attest).exit(2).tells("--key-file FILE");
    session.vram(&format!("{attest} --key-file w.key")).exit(0);
    let verify = format!("verify answer.json --nonce {NONCE} --simulated");
    session
        .vram(&format!("{verify} model --key-file w.key"))
        .exit(0)
        .says("tag          ok (key ")
        .says("resident     20000 of 20000 bytes")
        .says("contents     ok (model)")
        .says("not checked  the worker: whoever has the sealing key");
    let shown = session.vram(&format!("{verify} --key-file w.key --json"));
    let shown = shown.exit(0).json("vram-residency/verify-signed/v1");
    assert_eq!(shown["checked"][0]["tag"], "ok");
    assert_eq!(shown["checked"][0]["facts"]["nonce"], NONCE);
    let other = NONCE.replace("00", "01");
    for (line, code, words) in [
        (format!("{verify} --key-file other.key"), 3, "not accepted"),
        (verify.clone(), 1, "no key"),
        (
            format!("{verify} --trust {}", "ab".repeat(32)),
            2,
            "not signed",
        ),
        (
            format!("verify answer.json --nonce {other} --simulated --key-file w.key"),
            3,
            "does not answer this nonce",
        ),
        (
            format!("verify answer.json --nonce {NONCE} --key-file w.key"),
            3,
            "simulated device",
        ),
        (
            "verify answer.json --tag-only --key-file w.key".to_owned(),
            2,
            "--nonce",
        ),
    ] {
        session.vram(&line).exit(code).tells(words);
    }
    if let Some(good) = reference(
        &session,
        &["verify", "--simulated", "answer.json", "w.key", NONCE],
    ) {
        good.exit(0).says("good");
        let stranger = ["verify", "--simulated", "answer.json", "other.key", NONCE];
        reference(&session, &stranger).unwrap().exit(1);
    }
    let forged = session.read("answer.json").replace("20000", "20001");
    session.write("answer.json", &forged);
    session
        .vram(&format!("{verify} --key-file w.key"))
        .exit(3)
        .refuses("does not match its tag");
}
