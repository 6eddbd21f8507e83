//! `vram digest`.

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{Session, finish, skipped};

// requirement: DG-1
#[test]
fn prints_what_fsverity_prints() {
    let session = Session::new();
    for len in [0, 1, 4096, 4097, 128 * 4096 + 1, 8 * 1024 * 1024 + 4095] {
        let bytes = session.file("model", len);
        let expected = format!("sha256:{} model\n", vram_digest::digest(&bytes));
        let outcome = session.vram("digest model").exit(0).quiet();
        assert_eq!(outcome.out, expected);
        let tool = Command::new("fsverity")
            .args(["digest", "model"])
            .current_dir(session.path(""))
            .output();
        match tool {
            Ok(tool) => assert_eq!(String::from_utf8(tool.stdout).unwrap(), expected),
            Err(_) => skipped("fsverity (Debian package fsverity) is not installed"),
        }
    }
}

#[test]
fn digests_several_files_and_goes_on_after_a_bad_one() {
    let session = Session::new();
    session.file("a", 10);
    session.file("b", 20);
    let outcome = session.vram("digest a missing b").exit(1);
    assert_eq!(outcome.out.lines().count(), 2);
    outcome
        .says(" a\n")
        .says(" b\n")
        .tells("vram: error: cannot open missing: ");
}

#[test]
fn reads_stdin_and_adds_the_plain_hash() {
    let session = Session::new();
    let bytes = session.file("model", 100_000);
    let mut child = session
        .command(&["digest", "--content", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let piped = finish(child, "digest -".to_owned()).exit(0).quiet();
    let from_file = session.vram("digest --content model").exit(0).quiet();
    assert_eq!(piped.out.replace(" -\n", " model\n"), from_file.out);
    let sha256sum = Command::new("sha256sum")
        .arg(session.path("model"))
        .output()
        .unwrap();
    let sum = String::from_utf8(sha256sum.stdout).unwrap();
    let sum = sum.split_whitespace().next().unwrap();
    from_file.says(&format!("\ncontent-sha256:{sum} model\n"));
}

#[test]
fn speaks_json() {
    let session = Session::new();
    let bytes = session.file("model", 5000);
    let outcome = session.vram("digest --json model").exit(0).quiet();
    let value = outcome.json("vram-residency/digest/v1");
    let entry = &value["files"][0];
    assert_eq!(entry["file"], "model");
    assert_eq!(entry["bytes"], 5000);
    assert_eq!(
        entry["digest"],
        format!("sha256:{}", vram_digest::digest(&bytes))
    );
    assert!(entry["content_sha256"].is_null());
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let session = Session::new();
    session.file("model", 10);
    let mut child = session
        .command(&["digest", "model", "model"])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let outcome = finish(child, "digest | true".to_owned());
    assert!(!outcome.err.contains("panicked"), "{outcome:#?}");
}

/// Rust's own knob for the stacks of threads: this much cannot be had, so no
/// thread can.
fn without_threads(session: &Session, args: &str) -> common::Outcome {
    let words: Vec<&str> = args.split_whitespace().collect();
    let mut command = session.command(&words);
    let command = command.env("RUST_MIN_STACK", "1000000000000000");
    finish(command.spawn().unwrap(), args.to_owned())
}

#[test]
fn without_a_further_thread_the_digest_is_the_same() {
    let session = Session::new();
    session.file("model", 20 << 20);
    for args in ["digest model", "digest --content model"] {
        let usual = session.vram(args).exit(0);
        let alone = without_threads(&session, args).exit(0).quiet();
        assert_eq!(usual.out, alone.out);
    }
    // A load must be able to hear an interrupt, and a bench to use all cores.
    without_threads(&session, "seal model --format raw --device sim")
        .exit(1)
        .refuses("cannot listen for signals: ");
    without_threads(&session, "bench --size-mib 1 --runs 1")
        .exit(1)
        .tells("vram: error: cannot start a thread: ");
}
