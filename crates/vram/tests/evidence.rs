//! Nothing is claimed that the log does not hold, and what fails before there is
//! a manager is in the log, too.
//!
//! requirement: AU-7, AU-13, EXP-AUDIT-6001
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use common::{Outcome, Session, finish};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

const SEAL: &str = "seal model --device sim --audit log --audit-key a.sign";
const VERIFY: &str = "audit verify log --trust a.pub";
const NONCE: &str = "00112233445566778899aabbccddeeff";

/// A worker with keys for its papers and its log.
fn worker() -> Session {
    let session = Session::new();
    session.file("model", 5000);
    session.vram("key new --signing a.sign").exit(0);
    session.vram("key new --signing --test w.sign").exit(0);
    for name in ["a", "w"] {
        let key = session.vram(&format!("key public {name}.sign")).exit(0).out;
        session.write(&format!("{name}.pub"), &key);
    }
    session
}

/// A worker whose log is longer than everything else that it writes.
fn experienced() -> Session {
    let session = worker();
    while log_bytes(&session) < 16_000 {
        session.vram(SEAL).exit(0);
    }
    session
}

fn log_bytes(session: &Session) -> u64 {
    std::fs::metadata(session.path("log/events.jsonl")).map_or(0, |meta| meta.len())
}

/// `$ vram ARGS` where no file may become longer than the log is.
fn cramped(session: &Session, args: &str) -> Outcome {
    let blocks = log_bytes(session).div_ceil(512);
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_vram")])
        .args(args.split_whitespace())
        .current_dir(session.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    finish(command.spawn().unwrap(), args.to_owned())
}

#[test]
fn nothing_is_reported_or_signed_that_the_log_does_not_hold() {
    let session = experienced();
    let papers = "--record r.json --receipt receipt.json --sign-key w.sign";
    cramped(&session, &format!("{SEAL} {papers}"))
        .exit(1)
        .refuses("cannot write the audit log")
        .tells("nothing is left on the device");
    let attest = SEAL.replace("seal model", "attest model");
    let attest = format!("{attest} --sign-key w.sign --nonce {NONCE} --out answer.json");
    cramped(&session, &attest)
        .exit(1)
        .refuses("cannot write the audit log");
    for name in ["r.json", "receipt.json", "answer.json"] {
        assert!(!session.path(name).exists(), "{name} was written");
    }
    session.vram(VERIFY).exit(0);
    // Who asked for no more than an effort gets it, and is told.
    cramped(&session, &format!("{SEAL} --audit-best-effort"))
        .exit(0)
        .tells("cannot write the audit log");
    session.vram(VERIFY).exit(0);
}

#[test]
fn a_hold_whose_log_cannot_be_written_any_more_ends() {
    let session = experienced();
    let args = format!("{SEAL} --hold --every 20ms --scrub-rate 0");
    // The signal of a file that is too long would end it, and not its check.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_vram"))
        .args(args.split_whitespace())
        .current_dir(session.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let verified = |line: std::io::Result<String>| line.unwrap().starts_with("verified ");
    assert!(lines.by_ref().any(verified));
    let limit = Rlimit {
        current: Some(log_bytes(&session)),
        maximum: None,
    };
    prlimit(Some(Pid::from_child(&child)), Resource::Fsize, limit).unwrap();
    // Until it ends, for a pipe that nobody reads would end it, too.
    assert!(lines.all(|line| line.is_ok()));
    finish(child, args)
        .exit(1)
        .tells("cannot write the audit log")
        .tells("nothing is left on the device");
    session.vram(VERIFY).exit(0);
}

/// The one event of this type, as JSON.
fn only(session: &Session, event: &str) -> serde_json::Value {
    let show = format!("audit show log --json --event {event}");
    let shown = session.vram(&show).exit(0).out;
    assert_eq!(shown.lines().count(), 1, "{shown}");
    serde_json::from_str(shown.trim()).unwrap()
}

#[test]
fn a_start_without_a_gpu_is_in_the_log() {
    let session = worker();
    // No machine has this GPU.
    session.vram(&SEAL.replace("sim", "cuda:4000")).exit(1);
    let event = only(&session, "policy.violation");
    assert_eq!(event["policy"], "vram_only");
    assert_eq!(event["action_taken"], "worker_startup_blocked");
    assert_eq!(event["severity"], "critical");
    session.vram(&format!("{VERIFY} --closed")).exit(0);
}
