//! What is shown of a log, and what is told of lines that are no events.

mod audit_log_support;

use audit_log_support::*;
use vram_residency::audit::check::{self, Fault, Filter, Finding, Shown};
use vram_residency::audit::{Event, Sink, Text};

const CURRENT: &str = "events.jsonl";

/// Bytes that no line of a log has.
const LONGEST: usize = 256 << 10;

/// Nine events after the one that opens the log, the third for a request.
fn log() -> MemoryFiles {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    for id in 1..=9 {
        let correlation_id = (id == 3).then(|| Text::new("r-3"));
        let event = Event {
            correlation_id,
            ..event(id)
        };
        log.record(&event).unwrap();
    }
    log.flush().unwrap();
    read_all(&dir)
}

fn shown(files: &MemoryFiles, filter: &Filter) -> (Vec<Shown>, Vec<Finding>) {
    let mut all = Vec::new();
    let damaged = check::show(files, filter, &mut |shown| {
        all.push(shown);
        Ok(())
    });
    (all, damaged.unwrap())
}

/// Changes one line of the newest segment, counted from 1.
fn change(files: &mut MemoryFiles, line: usize, change: impl Fn(&str) -> String) {
    let text = String::from_utf8(files[CURRENT].clone()).unwrap();
    let lines = text
        .lines()
        .zip(1..)
        .map(|(old, number)| match number == line {
            true => change(old) + "\n",
            false => format!("{old}\n"),
        });
    let text: String = lines.collect();
    files.insert(CURRENT.to_owned(), text.into_bytes());
}

fn numbers(shown: &[Shown]) -> Vec<u64> {
    shown.iter().map(|shown| shown.seq).collect()
}

// requirement: AU-16
#[test]
fn events_of_a_request_are_shown_and_no_others() {
    let files = log();
    let of = |id: &str| Filter {
        correlation_id: Some(id.to_owned()),
        ..Filter::default()
    };
    assert_eq!(numbers(&shown(&files, &of("r-3")).0), [3]);
    assert_eq!(numbers(&shown(&files, &of("r-4")).0), [0; 0]);
}

/// A newer version may write what this one does not know; what is known and broken, or
/// nothing at all, is named, neighbours at once.
// requirement: AU-16
#[test]
fn what_is_no_event_is_named_and_what_a_newer_version_wrote_is_shown() {
    let mut files = log();
    change(&mut files, 4, |_| "garbage".to_owned());
    change(&mut files, 5, |line| line.replace("freed_bytes", "freed"));
    change(&mut files, 7, |line| {
        line.replace("vram.deallocated", "vram.of_tomorrow")
    });
    change(&mut files, 9, |_| "garbage".to_owned());
    let (events, damaged) = shown(&files, &Filter::default());
    assert_eq!(numbers(&events), [0, 1, 2, 5, 6, 7, 9]);
    let unknown: Vec<u64> = events
        .iter()
        .filter(|shown| shown.event.is_none())
        .map(|shown| shown.seq)
        .collect();
    assert_eq!(unknown, [6]);
    let told: Vec<_> = damaged
        .iter()
        .map(|found| (found.fault, found.file.as_str(), found.line, found.count))
        .collect();
    let unreadable = |line, count| (Fault::Unreadable, CURRENT, Some(line), count);
    assert_eq!(told, [unreadable(4, 2), unreadable(9, 1)]);
}

/// Only the newest segment can end in a line that its writer has not finished.
// requirement: AU-16
#[test]
fn an_unfinished_line_is_damage_unless_a_writer_may_be_at_it() {
    let mut files = log();
    let mut unfinished = files[CURRENT].clone();
    unfinished.extend_from_slice(b"{\"audit");
    files.insert(CURRENT.to_owned(), unfinished.clone());
    let (events, damaged) = shown(&files, &Filter::default());
    assert_eq!((events.len(), damaged.len()), (10, 0));
    // A line that is longer than any is not one that will be finished.
    let mut endless = files.clone();
    let line = vec![b'x'; LONGEST];
    endless.get_mut(CURRENT).unwrap().extend_from_slice(&line);
    let (events, damaged) = shown(&endless, &Filter::default());
    assert_eq!((events.len(), damaged.len()), (10, 1));
    // The same in a segment that was finished.
    let mut finished = files.clone();
    finished.insert("events.000000000000.jsonl".to_owned(), unfinished);
    finished.insert(CURRENT.to_owned(), Vec::new());
    let (events, damaged) = shown(&finished, &Filter::default());
    assert_eq!((events.len(), damaged.len()), (10, 1));
}
