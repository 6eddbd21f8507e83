//! The seeds of the targets of the audit log are what the library writes.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use fuzz_targets::{join_files, split_files};
use vram_residency::audit::check::{DirFiles, Files};
use vram_residency::audit::log::{LogOptions, LogSink};
use vram_residency::audit::note::Origin;
use vram_residency::audit::{Body, Event, Severity, Sink, Text};
use vram_residency::clock::{ManualClock, Timestamp};
use vram_residency::key::{RootKey, SigningKey};

/// A closed log of two segments, the same at every run.
fn written() -> BTreeMap<String, Vec<u8>> {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let origin = Origin::new("example.org/worker-1").unwrap();
    let mut options = LogOptions::new(origin, "worker-1".parse().unwrap());
    options.keep_days = None;
    options.interval = Duration::from_secs(3600);
    options.segment_bytes = 1_000;
    let key = RootKey::from_token(b"0123456789abcdef0123456789abcdef").unwrap();
    let key = SigningKey::new(&key).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(
        1_700_000_000_000_000_000,
    )));
    let log = LogSink::open(&dir, options, key, clock).unwrap();
    for id in 1..=6 {
        let reason = Text::new(&format!("seed {id}"));
        log.record(&Event {
            audit_id: id,
            timestamp: Timestamp::from_nanos((1_700_000_000 + id) * 1_000_000_000),
            worker_id: "worker-1".parse().unwrap(),
            severity: Severity::Critical,
            correlation_id: None,
            body: Body::ManagerStopped { reason },
        })
        .unwrap();
    }
    drop(log);
    let files = DirFiles::new(&dir);
    let read = |name: String| {
        let mut bytes = Vec::new();
        files.open(&name).unwrap().read_to_end(&mut bytes).unwrap();
        (name, bytes)
    };
    files.names().unwrap().into_iter().map(read).collect()
}

#[test]
fn the_log_that_is_fuzzed_is_what_the_library_writes() {
    let (seed, made) = (super::fuzz().join("corpus/audit_log/closed"), written());
    assert_eq!(split_files(&join_files(&made)), made);
    let kept = split_files(&std::fs::read(seed).unwrap_or_default());
    if kept != made {
        let place = env!("CARGO_TARGET_TMPDIR");
        std::fs::write(format!("{place}/audit_log-closed"), join_files(&made)).unwrap();
        panic!("the log has changed; the new seed is {place}/audit_log-closed");
    }
}

#[test]
fn the_proofs_that_are_fuzzed_are_those_of_that_log() {
    let place = super::fuzz().join("corpus/audit_proof");
    for (name, proof) in ["event", "growth"].iter().zip(fuzz_targets::audit_proofs()) {
        let made = proof.to_json().unwrap();
        let kept = std::fs::read_to_string(place.join(name)).unwrap_or_default();
        if kept != made {
            let new = format!("{}/audit_proof-{name}", env!("CARGO_TARGET_TMPDIR"));
            std::fs::write(&new, made).unwrap();
            panic!("the proof has changed; the new seed is {new}");
        }
    }
}
