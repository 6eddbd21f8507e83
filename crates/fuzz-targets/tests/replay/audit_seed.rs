//! The seeds of the targets of the audit log are what the library writes.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::compare;
use fuzz_targets::{NEXT_TOKEN, join_files, split_files};
use vram_residency::audit::check::{DirFiles, Files};
use vram_residency::audit::log::{LogOptions, LogSink, change_key};
use vram_residency::audit::note::Origin;
use vram_residency::audit::{Body, Event, Severity, Sink, Text};
use vram_residency::clock::{ManualClock, Timestamp};
use vram_residency::key::{RootKey, SigningKey};

type MemoryFiles = BTreeMap<String, Vec<u8>>;

const TOKEN: &[u8] = b"0123456789abcdef0123456789abcdef";

fn key(token: &[u8]) -> SigningKey {
    SigningKey::new(&RootKey::from_token(token).unwrap()).unwrap()
}

fn clock() -> Arc<ManualClock> {
    let start = Timestamp::from_nanos(1_700_000_000_000_000_000);
    Arc::new(ManualClock::new(start))
}

/// Small segments, and nothing that time decides.
fn options() -> LogOptions {
    let origin = Origin::new("example.org/worker-1").unwrap();
    let mut options = LogOptions::new(origin, "worker-1".parse().unwrap());
    options.keep_days = None;
    options.interval = Duration::from_secs(3600);
    options.segment_bytes = 1_000;
    options
}

fn open(dir: &Path, options: LogOptions, token: &[u8]) -> LogSink {
    LogSink::open(dir, options, key(token), clock()).unwrap()
}

/// A critical event: it is under a checkpoint as soon as it is recorded.
fn event(id: u64) -> Event {
    let reason = Text::new(&format!("seed {id}"));
    Event {
        audit_id: id,
        timestamp: Timestamp::from_nanos((1_700_000_000 + id) * 1_000_000_000),
        worker_id: "worker-1".parse().unwrap(),
        severity: Severity::Critical,
        correlation_id: None,
        body: Body::ManagerStopped { reason },
    }
}

fn record(log: &LogSink, mut ids: std::ops::RangeInclusive<u64>) {
    ids.try_for_each(|id| log.record(&event(id))).unwrap();
}

fn read(dir: &Path) -> MemoryFiles {
    let files = DirFiles::new(dir);
    let read = |name: String| {
        let mut bytes = Vec::new();
        files.open(&name).unwrap().read_to_end(&mut bytes).unwrap();
        (name, bytes)
    };
    files.names().unwrap().into_iter().map(read).collect()
}

/// A closed log of two segments.
fn closed(dir: &Path) -> MemoryFiles {
    let log = open(dir, options(), TOKEN);
    record(&log, 1..=6);
    drop(log);
    read(dir)
}

/// A log that went over to another key, which wrote on.
fn rekeyed(dir: &Path) -> MemoryFiles {
    let log = open(dir, options(), TOKEN);
    record(&log, 1..=2);
    drop(log);
    change_key(dir, &options(), key(TOKEN), key(NEXT_TOKEN), clock()).unwrap();
    let log = open(dir, options(), NEXT_TOKEN);
    record(&log, 3..=4);
    drop(log);
    read(dir)
}

/// Killed when the last two lines were written and their checkpoint was not yet.
fn killed(dir: &Path) -> MemoryFiles {
    let mut options = options();
    options.segment_bytes = 1 << 20;
    let log = open(dir, options, TOKEN);
    record(&log, 1..=3);
    let mut files = read(dir);
    record(&log, 4..=5);
    files.extend(read(dir).remove_entry("events.jsonl"));
    files
}

/// A log that keeps one finished segment, and says that it dropped older ones.
fn retired(dir: &Path) -> MemoryFiles {
    let mut options = options();
    options.keep_segments = Some(1);
    let log = open(dir, options, TOKEN);
    record(&log, 1..=12);
    drop(log);
    read(dir)
}

#[test]
fn the_logs_that_are_fuzzed_are_what_the_library_writes() {
    type Write = fn(&Path) -> MemoryFiles;
    let all: [(&str, Write); 4] = [
        ("closed", closed),
        ("rekeyed", rekeyed),
        ("killed", killed),
        ("retired", retired),
    ];
    for (name, write) in all {
        let temp = tempfile::tempdir().unwrap();
        let made = write(&temp.path().join("log"));
        assert_eq!(split_files(&join_files(&made)), made);
        compare("audit_log", name, &join_files(&made));
    }
}

/// Beside what the killed writer left: a forged retirement after it, and an
/// unfinished line.
#[test]
fn the_tails_that_are_fuzzed_are_those_of_the_killed_log() {
    let temp = tempfile::tempdir().unwrap();
    let files = killed(&temp.path().join("log"));
    let lines: Vec<&[u8]> = files["events.jsonl"]
        .split_inclusive(|b| *b == b'\n')
        .collect();
    let tail = lines[lines.len() - 2..].concat();
    let retired = Event {
        audit_id: 0,
        severity: Severity::Info,
        body: Body::AuditRetired { first_kept: 5 },
        ..event(6)
    };
    let json = serde_json::to_string(&retired).unwrap();
    let time = retired.timestamp;
    let forged = format!("{{\"seq\":6,\"time\":\"{time}\",{}\n", &json[1..]);
    let torn = &tail[..tail.len() - 9];
    compare("audit_reopen", "killed", &tail);
    let forged = [&tail, forged.as_bytes()].concat();
    compare("audit_reopen", "retires", &forged);
    compare("audit_reopen", "torn", torn);
}

#[test]
fn the_proofs_that_are_fuzzed_are_those_of_these_logs() {
    let proofs = fuzz_targets::audit_proofs();
    for (name, proof) in ["event", "growth", "handed_over"].iter().zip(proofs) {
        compare("audit_proof", name, proof.to_json().unwrap().as_bytes());
    }
}
