//! A log that a newer version wrote, with events and fields that this one does not
//! know: the tree is over lines, whatever they say.

mod audit_log_support;

use std::path::Path;

use audit_log_support::*;
use vram_residency::audit::check::{self, DirFiles, Filter, Shown};
use vram_residency::audit::proof::{Proof, Proved, Trust};
use vram_residency::audit::{Body, Event};
use vram_residency::key::KeyId;

const UNKNOWN: usize = 3;
const MORE: usize = 5;

/// Writes a log in which one event has another type and one has a field more, signed
/// as the newer version would have signed it; its lines.
fn newer(dir: &Path) -> Vec<String> {
    write_as(dir, key(), 1..10);
    let mut files = read_all(dir);
    files.retain(|name, _| name == "events.jsonl" || name == "checkpoint");
    let text = String::from_utf8(files["events.jsonl"].clone()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let more = |line: &str| format!("{},\"since\":[{{\"a\":7}}]}}", line.trim_end_matches('}'));
    lines[MORE] = more(&lines[MORE]);
    let known = "\"event_type\":\"vram.";
    assert!(lines[UNKNOWN].contains(known));
    lines[UNKNOWN] = more(&lines[UNKNOWN]).replace(known, "\"event_type\":\"vram.new_");
    let (checkpoint, _) = checkpoint_over(&lines);
    let note = checkpoint.sign(&key()).unwrap();
    files.insert("checkpoint".to_owned(), note.into());
    files.insert("events.jsonl".to_owned(), (lines.join("\n") + "\n").into());
    write_all(dir, &files);
    lines
}

fn shown(dir: &Path) -> Vec<Shown> {
    let mut all = Vec::new();
    let damaged = check::show(&DirFiles::new(dir), &Filter::default(), &mut |shown| {
        all.push(shown);
        Ok(())
    });
    assert_eq!(damaged.unwrap(), []);
    all
}

// requirement: AU-10, AU-16
#[test]
fn a_log_of_a_newer_version_is_shown_proved_and_gone_on_with() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let lines = newer(&dir);
    // The writer goes on, and makes the tiles.
    drop(open(&dir, options()).unwrap());
    let report = verify(&dir);
    assert_eq!(report.findings, []);
    assert!(report.size > lines.len() as u64, "{report:?}");
    let all = shown(&dir);
    assert_eq!(all.len() as u64, report.size);
    for (at, (shown, line)) in all.iter().zip(&lines).enumerate() {
        assert_eq!((shown.seq, &shown.line), (at as u64, line));
        assert_eq!(shown.event.is_none(), at == UNKNOWN, "{line}");
    }
    let trusted = trusted();
    let options = check::Options {
        trusted: &trusted,
        ..check::Options::default()
    };
    let trust = Trust {
        keys: &trusted,
        revoked: None,
    };
    for at in [UNKNOWN, MORE] {
        let proof = Proof::of_event(&DirFiles::new(&dir), &options, at as u64).unwrap();
        let text = proof.to_json().unwrap();
        match Proof::from_json(&text).unwrap().check(&trust, None) {
            Ok(Proved::Unknown(line, seq, _)) => {
                assert_eq!((&line, seq), (&lines[UNKNOWN], UNKNOWN as u64));
            }
            Ok(Proved::Event(event, seq, _)) => {
                assert_eq!((event.audit_id, seq), (MORE as u64, MORE as u64));
            }
            other => panic!("{other:?}"),
        }
        // Under its path stands this line and no other.
        let changed = text.replace("since", "until");
        assert_ne!(changed, text);
        let changed = Proof::from_json(&changed).unwrap();
        assert!(changed.check(&trust, None).is_err(), "{changed:?}");
    }
}

/// What surrounds an event is the same in every version; and a name twice at any depth
/// could mean either.
#[test]
fn a_line_without_what_surrounds_an_event_is_no_event() {
    let line = forged(0, &event(1)).replace("\"event_type\":\"vram.", "\"event_type\":\"new.");
    let shows = |line: &str| {
        let files = MemoryFiles::from([("events.jsonl".to_owned(), line.into())]);
        let mut count = 0;
        let damaged = check::show(&files, &Filter::default(), &mut |shown| {
            assert_eq!(shown.event, None);
            count += 1;
            Ok(())
        });
        (count, damaged.unwrap().len())
    };
    assert_eq!(shows(&line), (1, 0), "{line}");
    // Of a type that is known it would be an event, were it whole.
    let known = forged(0, &event(1));
    let whole = "\"event_type\":\"vram.";
    assert!(known.contains(whole));
    let cut = known.replace("\"gpu_device\":", "\"device\":");
    assert_ne!(cut, known);
    assert_eq!(shows(&cut), (0, 1), "{cut}");
    for (from, to) in [
        ("\"audit_id\":", "\"id\":"),
        ("\"severity\":\"", "\"severity\":\"un"),
        ("\"worker_id\":\"", "\"worker_id\":\"/"),
        ("\"event_type\":\"", "\"type\":\""),
        ("\"timestamp\":", "\"timestamp\":-"),
        (
            "\"event_type\":",
            "\"more\":{\"a\":1,\"\\u0061\":2},\"event_type\":",
        ),
    ] {
        assert!(line.contains(from), "{from}");
        let bad = line.replace(from, to);
        assert_eq!(shows(&bad), (0, 1), "{bad}");
    }
}

/// Such lines are events, and a start after a kill adopts them as they stand.
// requirement: AU-10
#[test]
fn lines_of_before_the_ids_of_keys_are_events() {
    let (from, to) = (KeyId::from_bytes([1; 8]), KeyId::from_bytes([2; 8]));
    for (body, names) in [
        (
            Body::KeyRotated {
                devices: 1,
                from: vec![from],
                to: vec![to],
            },
            ["from", "to"],
        ),
        (
            Body::KeyRetired {
                keys: 1,
                key_ids: vec![from],
            },
            ["key_ids", "key_ids"],
        ),
    ] {
        let now = serde_json::to_value(Event { body, ..event(1) }).unwrap();
        let mut before = now.clone();
        for name in names {
            before.as_object_mut().unwrap().remove(name);
        }
        assert_ne!(before, now);
        let read: Event = serde_json::from_value(before.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            before,
            "as it was written"
        );
        let again: Event = serde_json::from_value(now.clone()).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), now);
    }
}
