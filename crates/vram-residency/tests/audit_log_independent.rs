//! A log's checkpoint, root and tiles as an independent program sees them.

mod audit_log_support;
#[path = "common/python.rs"]
mod python;

use std::path::Path;
use std::process::{Command, Output};

use audit_log_support::*;
use python::python;
use vram_residency::audit::Sink;

fn judged(dir: &Path, key: &str) -> Option<Output> {
    let instead = "checkpoints are checked by the library's own code only";
    let python = python("cryptography", instead)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/audit_reference.py");
    let output = Command::new(python).arg(script).arg(dir).arg(key).output();
    Some(output.unwrap())
}

#[test]
fn an_independent_program_accepts_the_log_and_refuses_a_changed_one() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    small.segment_bytes = 20_000;
    let log = open(&dir, small).unwrap();
    (1..=600).for_each(|id| log.record(&event(id)).unwrap());
    drop(log);
    let public = key().public().to_string();
    let Some(good) = judged(&dir, &public) else {
        return;
    };
    assert!(
        good.status.success(),
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    assert_eq!(good.stdout, b"good 602 from 0\n");
    let path = dir.join("events.000000000000.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("shard-", "shart-", 1)).unwrap();
    assert!(!judged(&dir, &public).unwrap().status.success());
}

// requirement: AU-10
#[test]
fn an_independent_program_accepts_a_log_with_retired_segments_only_as_far_as_it_says() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    (small.segment_bytes, small.keep_segments) = (4_000, Some(2));
    let log = open(&dir, small).unwrap();
    for id in 1..=400 {
        log.record(&event(id)).unwrap();
        log.flush().unwrap();
    }
    drop(log);
    let public = key().public().to_string();
    let Some(good) = judged(&dir, &public) else {
        return;
    };
    let report = verify(&dir);
    let (size, first) = (report.size, report.first_kept);
    assert!(first > 300, "{report:?}");
    let said = String::from_utf8_lossy(&good.stdout);
    assert_eq!(said, format!("good {size} from {first}\n"), "{good:?}");
    std::fs::remove_file(dir.join(format!("events.{first:012}.jsonl"))).unwrap();
    assert!(!judged(&dir, &public).unwrap().status.success());
}
