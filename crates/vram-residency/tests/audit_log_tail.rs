//! Lines after the last checkpoint: whoever can write to the directory can put
//! them there, and no key is needed. They are never taken for the log's word.

mod audit_log_support;
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use audit_log_support::*;
use tempfile::TempDir;
use vram_residency::audit::check::{self, DirFiles, Fault, Files};
use vram_residency::audit::log::OpenError;
use vram_residency::audit::{Body, Event, Severity, Sink, Text};

/// Files of a log that a killed writer left, with `events` events under its
/// checkpoint, and of the same log when it is closed.
fn left(events: u64) -> (MemoryFiles, MemoryFiles) {
    let (_temp, dir) = place();
    let mut small = options();
    small.segment_bytes = 2_000;
    let log = open(&dir, small).unwrap();
    for id in 1..=events {
        log.record(&event(id)).unwrap();
        log.flush().unwrap();
    }
    let killed = read_all(&dir);
    drop(log);
    (killed, read_all(&dir))
}

fn place() -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    (temp, dir)
}

fn own(body: Body) -> Event {
    Event {
        audit_id: 0,
        severity: Severity::Info,
        body,
        ..event(0)
    }
}

fn opened(dir: &Path) -> Vec<Body> {
    let mut found = Vec::new();
    check::show(
        &DirFiles::new(dir),
        &check::Filter::default(),
        &mut |shown| {
            let body = shown.event.unwrap().body;
            found.extend(matches!(body, Body::AuditOpened { .. }).then_some(body));
            Ok(())
        },
    )
    .unwrap();
    found
}

/// Tiles are written before the checkpoint that covers them, so a writer may be
/// killed in between; what it stored is of lines that the next one cuts off.
// requirement: AU-15
#[test]
fn tiles_of_a_killed_writer_are_none_of_the_next_one() {
    let (mut files, _) = left(5);
    let size = usize::try_from(verify_files(&files).size).unwrap();
    let leaves = files[&format!("tile/0/000.p/{size}")].clone();
    for (name, width) in [("tile/0/000", 256), ("tile/0/000.p/200", 200)] {
        let mut tile = leaves.clone();
        tile.resize(width * 32, 7);
        files.insert(name.to_owned(), tile);
    }
    append(&mut files, &forged(size as u64, &own(Body::AuditClosed)));
    let report = verify_files(&files);
    assert_eq!((report.findings, report.uncovered), (Vec::new(), 1));
    let (_temp, dir) = place();
    write_all(&dir, &files);
    let log = open(&dir, options()).unwrap();
    // The new writer may have signed, and put its own tiles, already.
    let stored = DirFiles::new(&dir).names().unwrap();
    for gone in ["tile/0/000", "tile/0/000.p/200"] {
        assert!(!stored.iter().any(|name| name == gone), "{stored:?}");
    }
    log.record(&event(6)).unwrap();
    drop(log);
    assert_eq!(verify(&dir).findings, []);
}

// requirement: AU-16
#[test]
fn what_stands_after_the_event_that_closed_a_log_is_named_and_refused() {
    let (_, closed) = left(5);
    let size = verify_files(&closed).size;
    assert!(verify_files(&closed).closed);
    let count = |files: &MemoryFiles| files["events.jsonl"].split(|b| *b == b'\n').count();
    let line = count(&closed) as u64;
    let whole = forged(size, &event(99));
    for text in [&whole, &whole[..20], "x"] {
        let mut files = closed.clone();
        append(&mut files, text);
        let report = verify_files(&files);
        let found = &report.findings[0];
        assert_eq!(
            (found.fault, found.line),
            (Fault::Inserted, Some(line)),
            "{text}"
        );
        let (_temp, dir) = place();
        write_all(&dir, &files);
        let refused = open(&dir, options()).err();
        assert!(
            matches!(refused, Some(OpenError::Damaged { .. })),
            "{refused:?}"
        );
        assert_eq!(
            fs::read(dir.join("events.jsonl")).unwrap(),
            files["events.jsonl"]
        );
    }
}

#[test]
fn a_log_that_is_said_to_be_closed_must_say_so_itself() {
    let (killed, closed) = left(5);
    let trusted = trusted();
    let options = check::Options {
        trusted: &trusted,
        closed: true,
        ..check::Options::default()
    };
    let found = |files: &MemoryFiles| check::verify(files, &options).unwrap().findings;
    assert_eq!(found(&closed), []);
    assert_eq!(found(&killed)[0].fault, Fault::NotClosed);
}

// requirement: AU-9, AU-16
#[test]
fn a_killed_writers_events_are_adopted_and_the_log_says_that_nothing_proves_them() {
    let (mut killed, _) = left(5);
    let size = verify_files(&killed).size;
    append(&mut killed, &forged(size, &event(6)));
    append(&mut killed, &forged(size + 1, &event(7)));
    let (_temp, dir) = place();
    write_all(&dir, &killed);
    drop(open(&dir, options()).unwrap());
    assert_eq!(audit_ids(&dir), [1, 2, 3, 4, 5, 6, 7]);
    let report = verify(&dir);
    assert_eq!((report.findings.len(), report.adopted), (0, 2));
    let [
        first,
        Body::AuditOpened {
            adopted_events: 2,
            refused_lines: 0,
            torn_bytes: 0,
            caveat,
        },
    ] = &opened(&dir)[..]
    else {
        panic!("{:?}", opened(&dir))
    };
    assert!(caveat.as_ref().unwrap().as_str().contains("unproved"));
    let Body::AuditOpened { caveat: None, .. } = first else {
        panic!("{first:?}")
    };
    assert_eq!(first.severity(), Severity::Info);
    assert_eq!(opened(&dir)[1].severity(), Severity::Warning);
}

/// The attack of a writer without the key: let the log say that it deleted
/// what somebody else deletes.
#[test]
fn the_logs_own_events_and_what_is_no_event_are_never_adopted() {
    let retired = own(Body::AuditRetired { first_kept: 8 });
    let posing = Event {
        audit_id: 9,
        ..retired.clone()
    };
    let no_event = "{\"seq\":SEQ,\"time\":\"2026-01-01T00:00:00.000000000Z\",\"x\":1}\n";
    let (killed, _) = left(20);
    let size = verify_files(&killed).size;
    let own_lines = [
        forged(size + 1, &retired),
        forged(size + 1, &posing),
        forged(size + 1, &own(Body::AuditClosed)),
        no_event.replace("SEQ", &(size + 1).to_string()),
    ];
    for line in own_lines {
        let mut files = killed.clone();
        append(&mut files, &forged(size, &event(21)));
        append(&mut files, &line);
        append(&mut files, &forged(size + 2, &event(22)));
        let (_temp, dir) = place();
        write_all(&dir, &files);
        let mut small = options();
        small.segment_bytes = 2_000;
        let log = open(&dir, small).unwrap();
        log.record(&event(23)).unwrap();
        drop(log);
        let report = verify(&dir);
        assert_eq!((report.findings.len(), report.adopted), (0, 1), "{line}");
        assert_eq!(audit_ids(&dir)[19..], [20, 21, 23], "{line}");
        let last = opened(&dir).pop();
        let Some(Body::AuditOpened {
            refused_lines: 2, ..
        }) = last
        else {
            panic!("{last:?}")
        };
        fs::remove_file(dir.join("events.000000000000.jsonl")).unwrap();
        assert_eq!(verify(&dir).findings[0].fault, Fault::Dropped, "{line}");
    }
}

/// A line that reads like a manager's event and is not written as the log writes
/// one is cut off, as is what another worker or no rule of severity would give.
// requirement: AU-9, AU-16
#[test]
fn only_what_the_log_itself_would_have_written_is_adopted() {
    let (killed, _) = left(5);
    let size = verify_files(&killed).size;
    let genuine = forged(size, &event(6));
    let with = |change: fn(&mut Event)| {
        let mut event = event(6);
        change(&mut event);
        forged(size, &event)
    };
    let lines = [
        genuine.replacen(",\"worker_id\"", ", \"worker_id\"", 1),
        genuine.replacen("}\n", ",\"more\":1}\n", 1),
        genuine.replacen("shard-6", "shard\\u002d6", 1),
        genuine.replacen("\"time\":\"2023", "\"time\":\"2024", 1),
        with(|event| event.worker_id = "worker-2".parse().unwrap()),
        with(|event| event.severity = Severity::Critical),
        with(|event| event.audit_id = 0),
        genuine.clone(),
    ];
    let (_temp, dir) = place();
    for (at, line) in lines.iter().enumerate() {
        let adopted = u64::from(at + 1 == lines.len());
        assert_eq!(u64::from(*line == genuine), adopted, "{line}");
        let mut files = killed.clone();
        append(&mut files, line);
        write_all(&dir, &files);
        drop(open(&dir, options()).unwrap());
        let report = verify(&dir);
        assert_eq!(
            (report.findings.len(), report.adopted),
            (0, adopted),
            "{line}"
        );
        let Some(Body::AuditOpened { refused_lines, .. }) = opened(&dir).pop() else {
            panic!("{line}")
        };
        assert_eq!(refused_lines, 1 - adopted, "{line}");
    }
}

/// Every event that a manager emits is written as it reads back, so that none is
/// cut off for its looks.
// requirement: AU-1..AU-7, AU-15
#[test]
fn every_event_of_a_manager_is_adopted() {
    let (mut killed, _) = left(5);
    let size = verify_files(&killed).size;
    let mut events = common::days::live().sink.events();
    for event in &mut events {
        event.worker_id = "worker-1".parse().unwrap();
    }
    for (seq, event) in (size..).zip(&events) {
        append(&mut killed, &forged(seq, event));
    }
    let (_temp, dir) = place();
    write_all(&dir, &killed);
    drop(open(&dir, options()).unwrap());
    let report = verify(&dir);
    let all = events.len() as u64;
    assert_eq!((report.findings.len(), report.adopted), (0, all));
    assert!(all > 40, "{all}");
}

#[test]
fn lines_in_a_finished_segment_that_no_checkpoint_covers_are_named() {
    let (killed, _) = left(20);
    let size = verify_files(&killed).size;
    let name = format!("events.{size:012}.jsonl");
    let mut files = killed.clone();
    let current = files.remove("events.jsonl").unwrap();
    let first: u64 = {
        let line = current.split(|byte| *byte == b'\n').next().unwrap();
        let value: serde_json::Value = serde_json::from_slice(line).unwrap();
        value["seq"].as_u64().unwrap()
    };
    let finished = format!("events.{first:012}.jsonl");
    files.insert(finished.clone(), current);
    assert_eq!(verify_files(&files).findings, []);
    let mut torn = files.clone();
    torn.get_mut(&finished).unwrap().extend(b"{\"seq\":");
    let found = verify_files(&torn).findings;
    assert_eq!(
        (found[0].fault, &found[0].file),
        (Fault::Inserted, &finished)
    );
    files.insert(name.clone(), forged(size, &event(21)).into_bytes());
    let report = verify_files(&files);
    let found = &report.findings[0];
    assert_eq!((found.fault, &found.file), (Fault::Inserted, &name));
    files.insert(name.clone(), b"{\"seq\":".to_vec());
    let report = verify_files(&files);
    assert_eq!(
        (report.findings[0].fault, &report.findings[0].file),
        (Fault::Misnamed, &name)
    );
    let (_temp, dir) = place();
    write_all(&dir, &files);
    assert!(matches!(
        open(&dir, options()).err(),
        Some(OpenError::Damaged { .. })
    ));
}

/// Retention deletes whole segments. What somebody cuts off the segments that
/// are left is missing, whatever name they get.
// requirement: AU-10
#[test]
fn a_retirement_excuses_whole_segments_only() {
    let (_temp, dir) = place();
    let mut small = options();
    (small.segment_bytes, small.keep_segments) = (2_000, Some(2));
    let log = open(&dir, small).unwrap();
    for id in 1..=60 {
        log.record(&event(id)).unwrap();
        log.flush().unwrap();
    }
    drop(log);
    let good = read_all(&dir);
    let report = verify_files(&good);
    assert_eq!(report.findings, []);
    let first = report.first_kept;
    let oldest = format!("events.{first:012}.jsonl");
    let text = String::from_utf8(good[&oldest].clone()).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    let faults = |files: &MemoryFiles| {
        let found = verify_files(files).findings;
        found.iter().map(|found| found.fault).collect::<Vec<_>>()
    };
    let mut cut = good.clone();
    cut.insert(oldest.clone(), rest.as_bytes().to_vec());
    assert_eq!(faults(&cut), [Fault::Dropped, Fault::Misnamed]);
    cut.remove(&oldest);
    cut.insert(
        format!("events.{:012}.jsonl", first + 1),
        rest.as_bytes().to_vec(),
    );
    assert_eq!(faults(&cut), [Fault::Dropped]);
    let mut renamed = good.clone();
    let bytes = renamed.remove(&oldest).unwrap();
    renamed.insert(format!("events.{:012}.jsonl", first - 1), bytes);
    assert!(faults(&renamed).contains(&Fault::Misnamed));
}

/// A line of the log's own that was adopted once, as earlier writers did, says
/// nothing: `first_kept` comes from proved lines only.
#[test]
fn an_adopted_retirement_is_nobodys_word() {
    let opened = |events: u64| Body::AuditOpened {
        adopted_events: events,
        refused_lines: 0,
        torn_bytes: 0,
        caveat: Some(Text::new("unproved")),
    };
    for (adopted, believed) in [(0, true), (1, false)] {
        let events = [
            event(1),
            own(Body::AuditRetired { first_kept: 1 }),
            own(opened(adopted)),
        ];
        let lines: Vec<String> = (0..)
            .zip(&events)
            .map(|(seq, event)| forged(seq, event))
            .collect();
        let (checkpoint, leaves) = checkpoint_over(&lines);
        let files: MemoryFiles = [
            ("events.jsonl", lines[1..].concat().into_bytes()),
            ("tile/0/000.p/3", leaves.concat()),
            ("checkpoint", checkpoint.sign(&key()).unwrap().into_bytes()),
        ]
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .into();
        assert_eq!(files.names().unwrap().len(), 3);
        let report = verify_files(&files);
        assert_eq!(
            (report.is_good(), report.adopted),
            (believed, adopted),
            "{report:?}"
        );
    }
}

/// Without a believed checkpoint nothing says that the log was closed.
#[test]
fn a_log_without_its_checkpoint_is_not_called_closed() {
    let (killed, mut closed) = left(5);
    let next = verify_files(&closed).size;
    assert!(verify_files(&closed).closed && !verify_files(&killed).closed);
    closed.remove("checkpoint");
    let line = forged(next, &event(6));
    closed
        .get_mut("events.jsonl")
        .unwrap()
        .extend(line.as_bytes());
    let report = verify_files(&closed);
    let faults: Vec<_> = report.findings.iter().map(|found| found.fault).collect();
    assert_eq!(faults, [Fault::MissingCheckpoint]);
    assert_eq!((report.closed, report.uncovered), (false, 1));
}
