//! The audit log on disk.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use cucumber::{given, then, when};
use vram_residency::audit::check::{self, DirFiles, Filter, Report};
use vram_residency::audit::log::{LogOptions, LogSink};
use vram_residency::audit::note::Origin;
use vram_residency::key::SigningKey;

use super::size::Size;
use crate::suite::stage::Stage;

fn folder(stage: &Stage) -> PathBuf {
    stage.folder.as_ref().unwrap().path().join("log")
}

fn key(stage: &Stage) -> SigningKey {
    SigningKey::new(&stage.root_key()).unwrap()
}

#[given(expr = "a worker with {size} of VRAM and an audit log")]
fn with_log(stage: &mut Stage, budget: Size) {
    stage.budget = budget.0;
    stage.folder = Some(tempfile::tempdir().unwrap());
    let origin = Origin::new("example.org/scenarios").unwrap();
    let mut options = LogOptions::new(origin, "worker".parse().unwrap());
    options.keep_days = None;
    let clock = stage.clock.clone();
    let log = LogSink::open(&folder(stage), options, key(stage), clock).unwrap();
    stage.log = Some(Arc::new(log));
}

fn report(stage: &Stage) -> Report {
    let trusted = [key(stage).public().clone()];
    let options = check::Options {
        trusted: &trusted,
        closed: true,
        ..check::Options::default()
    };
    check::verify(&DirFiles::new(&folder(stage)), &options).unwrap()
}

#[then("the audit log verifies")]
fn verifies(stage: &mut Stage) {
    let report = report(stage);
    assert!(report.is_good() && report.size > 0, "{report:?}");
    assert_eq!(report.lines, report.size);
}

#[then(expr = "the audit log does not verify: a line was {word}")]
fn does_not_verify(stage: &mut Stage, how: String) {
    let report = report(stage);
    assert!(!report.is_good());
    let found: Vec<&str> = report.findings.iter().map(|f| f.fault.name()).collect();
    assert_eq!(found, [how.as_str()], "{report:?}");
}

#[then(expr = "it holds {word}, {word} and {word} in this order")]
fn holds(stage: &mut Stage, first: String, second: String, third: String) {
    let mut types = Vec::new();
    let files = DirFiles::new(&folder(stage));
    check::show(&files, &Filter::default(), &mut |shown| {
        types.push(shown.event.unwrap().body.event_type());
        Ok(())
    })
    .unwrap();
    let at = |name: &String| types.iter().position(|t| t == name).unwrap();
    assert!(
        at(&first) < at(&second) && at(&second) < at(&third),
        "{types:?}"
    );
}

/// The file that holds a text, and what it says.
fn find(stage: &Stage, text: &str) -> Option<(PathBuf, String)> {
    let mut waiting = vec![folder(stage)];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            match String::from_utf8(bytes) {
                Ok(found) if found.contains(text) => return Some((path, found)),
                _ => {}
            }
        }
    }
    None
}

#[when("a shard's name is changed in the audit log")]
fn edit(stage: &mut Stage) {
    assert!(report(stage).is_good());
    let (path, text) = find(stage, "\"model\"").unwrap();
    fs::write(path, text.replacen("\"model\"", "\"mudel\"", 1)).unwrap();
}

#[when("the line of the seal is dropped from the audit log")]
fn drop_line(stage: &mut Stage) {
    assert!(report(stage).is_good());
    let (path, text) = find(stage, "vram.sealed").unwrap();
    let lines = text
        .split_inclusive('\n')
        .filter(|line| !line.contains("vram.sealed"));
    let left: String = lines.collect();
    assert!(left.len() < text.len());
    fs::write(path, left).unwrap();
}

#[then("the failure is on disk already")]
fn durable(stage: &mut Stage) {
    assert!(find(stage, "seal.verification_failed").is_some());
}

#[when("events can no longer be written")]
fn break_sink(stage: &mut Stage) {
    stage.manager();
    stage.sink.set_broken(true);
}

#[then("lost events were counted")]
fn lost(stage: &mut Stage) {
    assert!(stage.manager().metrics().audit_emit_failures_total > 0);
}
