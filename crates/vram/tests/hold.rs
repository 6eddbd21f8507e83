//! `vram seal --hold`, and what sealing costs in memory.

mod common;

use std::io::{BufRead as _, BufReader};

use common::{Session, finish, interrupt};
use rustix::process::Signal;

#[test]
fn a_hold_verifies_again_and_ends_clean() {
    let session = Session::new();
    session.file("model", 50_000);
    let words = [
        "seal", "model", "--device", "sim", "--hold", "--every", "20ms", "--json",
    ];
    let mut child = session.command(&words).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next =
        || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let report = next();
    assert_eq!(report["schema"], "vram-residency/seal/v1");
    assert_eq!(report["held"], true);
    assert_eq!(report["used_bytes"], 50_000);
    for _ in 0..3 {
        let again = next();
        assert_eq!(again["schema"], "vram-residency/verification/v1");
        assert_eq!(again["verification"]["bytes_checked"], 50_000);
        assert_eq!(again["verification"]["mode"], "full");
    }
    interrupt(&child);
    drop(lines);
    let _ = finish(child, words.join(" ")).exit(0).quiet();
}

#[test]
fn a_hold_can_use_the_keyed_hash() {
    let session = Session::new();
    session.file("model", 50_000);
    let words = "seal model --device sim --hold --every 5ms --mode keyed";
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut child = session.command(&words).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let again = lines
        .map(Result::unwrap)
        .find(|line| line.contains("keyed: 50000 of 50000 bytes"));
    assert!(again.unwrap().starts_with("verified  "));
    interrupt(&child);
    // The reader is gone: a line may be lost, the end may not be a panic.
    let outcome = finish(child, words.join(" "));
    assert!(!outcome.err.contains("panicked"), "{outcome:#?}");
}

/// Reads lines until one has `text`; the command must not end before.
fn wait_for(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) -> String {
    lines
        .map(Result::unwrap)
        .find(|line| line.contains(text))
        .unwrap()
}

// requirement: PM-8
#[test]
fn the_scrubber_is_paused_and_resumed_by_signals() {
    let session = Session::new();
    session.file("model", 3 << 20);
    let words = "seal model --format raw --device sim --hold --every 1h --scrub-rate 1GiB";
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut child = session.command(&words).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    // As early as it can come; nothing that was asked for may be lost.
    common::signal(&child, Signal::USR1);
    wait_for(&mut out, "held      3145728 of 8589934592 bytes in use");
    let paused = wait_for(&mut err, "scrubber");
    assert_eq!(
        paused,
        "vram: note: the scrubber is paused; SIGUSR2 lets it go on"
    );
    common::signal(&child, Signal::USR2);
    assert_eq!(
        wait_for(&mut err, "scrubber"),
        "vram: note: the scrubber goes on"
    );
    interrupt(&child);
    wait_for(&mut out, "freed     wiped; 0 of 8589934592 bytes in use");
    let _ = finish(child, words.join(" ")).exit(0);
}

#[test]
fn every_needs_hold() {
    let session = Session::new();
    session.file("model", 10);
    session
        .vram("seal model --device sim --every 5s")
        .exit(2)
        .refuses("--hold");
    session
        .vram("seal model --device sim --scrub-rate 1MiB")
        .exit(2)
        .refuses("--hold");
    session
        .vram("seal model --device sim --hold --scrub-rate fast")
        .exit(2)
        .refuses("is not a size");
}

/// Peak memory of a held seal: contents once, their block hashes, and a
/// bounded rest (requirement: PF-11).
#[test]
fn sealing_takes_the_file_once_and_its_hashes() {
    const SIZE: u64 = 256 << 20;
    let session = Session::new();
    session.file("model", usize::try_from(SIZE).unwrap());
    let words = [
        "seal", "model", "--device", "sim:1GiB", "--hold", "--every", "1h", "--json",
    ];
    let mut child = session.command(&words).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert!(line.contains("\"used_bytes\":268435456"), "{line}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak
        .trim()
        .strip_suffix("kB")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let limit = SIZE + SIZE / 128 + (64 << 20);
    println!("peak {} KiB, limit {} KiB", peak, limit / 1024);
    interrupt(&child);
    let _ = finish(child, words.join(" ")).exit(0);
    assert!(
        peak * 1024 <= limit,
        "peak {peak} KiB, limit {} KiB",
        limit / 1024
    );
}
