//! Disks that fail under the command: reads with EIO, full file systems, and a
//! log that cannot be made durable; and memory that cannot be locked. A filter in the kernel makes the command's
//! own system calls fail; nothing in the command knows of it.
//!
//! requirement: TP-6, AU-16
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::process::Child;

use common::{Outcome, Session, finish};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

const EIO: u32 = 5;
const ENOSPC: u32 = 28;
const ENOMEM: u32 = 12;
const MODEL: usize = 4 << 20;

/// Numbers of the calls: `pread64`, `write`, `fsync`, `fdatasync`, those that ask where
/// a link leads, and `mlock`.
#[cfg(target_arch = "x86_64")]
mod call {
    pub(crate) const READ_AT: i64 = 17;
    pub(crate) const WRITE: i64 = 1;
    pub(crate) const SYNCS: [i64; 2] = [74, 75];
    pub(crate) const LINKS: &[i64] = &[89, 267];
    pub(crate) const LOCK: i64 = 149;
}
#[cfg(target_arch = "aarch64")]
mod call {
    pub(crate) const READ_AT: i64 = 67;
    pub(crate) const WRITE: i64 = 64;
    pub(crate) const SYNCS: [i64; 2] = [82, 83];
    pub(crate) const LINKS: &[i64] = &[78];
    pub(crate) const LOCK: i64 = 228;
}

/// Calls whose argument is so much or more; without one, all of them.
type When = Option<(u8, u64)>;

/// Reads behind the first MiB: no loader of programs reads there.
const FAR: When = Some((3, 1 << 20));
/// Files, and not the standard streams.
const FILES: When = Some((0, 3));

fn filter(calls: &[i64], when: When, errno: u32) -> BpfProgram {
    let rule = |(index, least)| {
        let length = SeccompCmpArgLen::Qword;
        let condition = SeccompCondition::new(index, length, SeccompCmpOp::Ge, least);
        SeccompRule::new(vec![condition.unwrap()]).unwrap()
    };
    let rules: Vec<SeccompRule> = when.map(rule).into_iter().collect();
    let rules = calls.iter().map(|call| (*call, rules.clone())).collect();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let fail = SeccompAction::Errno(errno);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, fail, arch);
    filter.unwrap().try_into().unwrap()
}

/// `$ vram ARGS` while these calls of it fail.
fn failing(session: &Session, (calls, when, errno): (&[i64], When, u32), args: &str) -> Outcome {
    let words: Vec<&str> = args.split_whitespace().collect();
    let mut command = session.command(&words);
    let program = filter(calls, when, errno);
    // A filter stays on its thread for ever, and on what that starts.
    let start = move || -> Child {
        apply_filter(&program).unwrap();
        command.spawn().unwrap()
    };
    let child = std::thread::spawn(start).join().unwrap();
    finish(child, args.to_owned())
}

fn session() -> Session {
    let session = Session::new();
    session.file("model", MODEL);
    session.vram("key new key").exit(0);
    session.vram("key new --signing akey").exit(0);
    let public = session.vram("key public akey").exit(0).out;
    session.write("akey.pub", &public);
    session
}

const SEAL: &str = "seal model --format raw --device sim --key-file key --record r.json";

#[test]
fn a_disk_that_cannot_be_read_is_named_with_the_place_and_nothing_is_sealed() {
    let session = session();
    let fault = (&[call::READ_AT][..], FAR, EIO);
    failing(&session, fault, SEAL)
        .exit(1)
        .refuses("cannot read model at offset ")
        .tells("Input/output error")
        .tells("0 of 8589934592 bytes in use");
    assert!(!session.path("r.json").exists());
    failing(&session, fault, "digest model")
        .exit(1)
        .refuses("model")
        .tells("Input/output error");
    session.vram(SEAL).exit(0);
    // A file that cannot be read is no file that differs: 1, and not 3.
    failing(&session, fault, "verify r.json model --key-file key")
        .exit(1)
        .tells("Input/output error");
    session.vram("verify r.json model --key-file key").exit(0);
}

/// The names of a model's files lead nowhere for a moment, not for good: that is
/// waited for as a read is, and no other file is sealed in their place.
#[test]
fn names_that_cannot_be_followed_are_tried_again() {
    let session = session();
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    for model in ["sharded", "sharded/model.safetensors.index.json", "split"] {
        let seal = format!(
            "seal {} --device sim --key-file key --record r.json --retries 1",
            data.join(model).display()
        );
        failing(&session, (call::LINKS, None, EIO), &seal)
            .exit(1)
            .tells("Input/output error")
            .tells("trying again, retry 1 of 1");
        assert!(!session.path("r.json").exists(), "{model}");
        session.vram(&seal).exit(0);
        std::fs::remove_file(session.path("r.json")).unwrap();
    }
}

#[test]
fn a_full_file_system_leaves_no_half_written_file_and_no_shard() {
    let session = session();
    let fault = (&[call::WRITE][..], FILES, ENOSPC);
    failing(&session, fault, SEAL)
        .exit(1)
        .refuses("r.json")
        .tells("No space left on device")
        .tells("0 of 8589934592 bytes in use");
    failing(&session, fault, "key new other")
        .exit(1)
        .refuses("other")
        .tells("No space left on device");
    let audit = format!("{SEAL} --audit log --audit-key akey");
    failing(&session, fault, &audit)
        .exit(1)
        .refuses("audit log log");
    for name in ["r.json", "other"] {
        assert!(!session.path(name).exists(), "{name} was left behind");
    }
    session.vram(&audit).exit(0);
    session
        .vram("audit verify log --trust akey.pub --closed")
        .exit(0);
}

/// Nothing is sealed of which the evidence may be lost; a log that was good stays
/// good, and goes on when the disk does.
#[test]
fn a_log_that_cannot_be_made_durable_stops_the_seal() {
    let session = session();
    let audit = format!("{SEAL} --audit log --audit-key akey");
    let verify = "audit verify log --trust akey.pub";
    session.vram(&audit).exit(0);
    std::fs::remove_file(session.path("r.json")).unwrap();
    failing(&session, (&call::SYNCS, None, EIO), &audit)
        .exit(1)
        .tells("Input/output error");
    assert!(!session.path("r.json").exists());
    session.vram(verify).exit(0);
    session.vram(&audit).exit(0);
    session.vram(&format!("{verify} --closed")).exit(0);
}

/// A key that could be swapped out is no key: nothing is made or sealed with it.
// requirement: CI-006
#[test]
fn memory_that_cannot_be_locked_holds_no_key() {
    let session = session();
    let fault = (&[call::LOCK][..], None, ENOMEM);
    failing(&session, fault, SEAL)
        .exit(1)
        .refuses("cannot protect key memory")
        .tells("ulimit -l");
    assert!(!session.path("r.json").exists());
    session.vram(SEAL).exit(0);
}
