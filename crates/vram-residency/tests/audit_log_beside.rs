//! Logs that are read while their writer goes on and finishes segments.

mod audit_log_support;

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead};

use audit_log_support::*;
use vram_residency::audit::Sink;
use vram_residency::audit::check::{self, Fault, Files};
use vram_residency::audit::proof::{Proof, Proved, Trust};

/// A log whose writer goes on while it is read: before any listing or opening it
/// may have come to its next state.
struct Moving<'a> {
    states: &'a [MemoryFiles],
    at: Cell<usize>,
    random: RefCell<Seeded>,
}

impl Moving<'_> {
    fn now(&self) -> &MemoryFiles {
        let moves = self.random.borrow_mut().below(3) == 0;
        let at = self.at.get() + usize::from(moves);
        self.at.set(at.min(self.states.len() - 1));
        &self.states[self.at.get()]
    }
}

impl Files for Moving<'_> {
    fn names(&self) -> io::Result<Vec<String>> {
        self.now().names()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>> {
        self.now().open(name)
    }
}

/// The files after each of `events` events.
fn states(events: u64, segment_bytes: u64, keep_segments: Option<usize>) -> Vec<MemoryFiles> {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    small.segment_bytes = segment_bytes;
    small.keep_segments = keep_segments;
    let log = open(&dir, small).unwrap();
    let state = |id| {
        log.record(&event(id)).unwrap();
        log.flush().unwrap();
        read_all(&dir)
    };
    (1..=events).map(state).collect()
}

const BESIDE_SEED: u64 = 9100;

/// Reads `states` while they pass, in many orders. `each` gets the first of those
/// that pass, too.
fn beside(states: &[MemoryFiles], mut each: impl FnMut(u64, &MemoryFiles, &dyn Files)) {
    println!("seeds from {BESIDE_SEED}");
    let (mut checks, mut moved) = (0, 0);
    for seed in BESIDE_SEED..BESIDE_SEED + 200 {
        for states in states.chunks(10) {
            let moving = Moving {
                states,
                at: Cell::new(0),
                random: RefCell::new(Seeded(seed)),
            };
            each(seed, &states[0], &moving);
            checks += 1;
            moved += usize::from(moving.at.get() > 0);
        }
    }
    assert!(moved * 4 > checks * 3, "{moved} of {checks}");
}

// requirement: AU-16
#[test]
fn a_log_verifies_beside_its_running_writer() {
    for (segment_bytes, kept) in [(1 << 20, None), (2_000, None), (600, Some(1))] {
        beside(&states(40, segment_bytes, kept), |seed, _, files| {
            let report = verify_files(files);
            assert_eq!(report.findings, [], "seed {seed}, {segment_bytes}");
            assert_eq!(report.tiles_lost, 0, "seed {seed}, {segment_bytes}");
        });
    }
}

/// A log that has grown once its lines were read: they are opened when they are listed, and to
/// be read.
struct Grows<'a> {
    states: [&'a MemoryFiles; 2],
    opened: Cell<u32>,
}

impl Grows<'_> {
    fn now(&self) -> &MemoryFiles {
        self.states[usize::from(self.opened.get() > 1)]
    }
}

impl Files for Grows<'_> {
    fn names(&self) -> io::Result<Vec<String>> {
        self.now().names()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>> {
        let opened = self.now().open(name);
        let lines = u32::from(name == "events.jsonl");
        self.opened.set(self.opened.get() + lines);
        opened
    }
}

/// Where nothing is wrong the first answer stands: a busy writer costs no second look.
#[test]
fn a_good_log_that_grows_meanwhile_is_read_once() {
    let states = states(9, 1 << 20, None);
    let grows = Grows {
        states: [&states[3], &states[8]],
        opened: Cell::new(0),
    };
    let report = verify_files(&grows);
    assert_eq!(report.findings, []);
    assert_eq!(report.size, verify_files(&states[3]).size);
    assert_eq!(verify_files(&grows).size, verify_files(&states[8]).size);
}

#[test]
fn a_line_that_is_gone_is_missed_beside_a_running_writer() {
    let mut states = states(40, 1 << 20, None);
    for files in &mut states {
        let text = String::from_utf8(files["events.jsonl"].clone()).unwrap();
        let (_, rest) = text.split_once('\n').unwrap();
        files.insert("events.jsonl".to_owned(), rest.as_bytes().to_vec());
    }
    beside(&states, |seed, _, files| {
        let report = verify_files(files);
        let found = report.findings.iter().map(|found| found.fault);
        assert!(
            found.clone().any(|fault| fault == Fault::Dropped),
            "seed {seed}: {report:?}"
        );
    });
}

// requirement: AU-10
#[test]
fn every_event_is_proved_while_segments_are_finished() {
    let keys = trusted();
    let options = check::Options {
        trusted: &keys,
        ..check::Options::default()
    };
    let trust = Trust {
        keys: &keys,
        ..Trust::default()
    };
    beside(&states(40, 2_000, None), |seed, first, files| {
        let size = verify_files(first).size;
        let wanted = seed % size;
        let proof = Proof::of_event(files, &options, wanted).unwrap();
        let Proved::Event(event, seq, _) = proof.check(&trust, None).unwrap() else {
            panic!("seed {seed}: {proof:?}")
        };
        assert_eq!((seq, event.audit_id), (wanted, wanted), "seed {seed}");
    });
}

#[test]
fn no_event_is_missing_or_shown_twice_while_segments_are_finished() {
    beside(&states(40, 2_000, None), |seed, first, files| {
        let mut shown = Vec::new();
        let mut each = |event: check::Shown| {
            shown.push(event.seq);
            Ok(())
        };
        let damaged = check::show(files, &check::Filter::default(), &mut each).unwrap();
        assert_eq!(damaged, [], "seed {seed}");
        let size = verify_files(first).size;
        assert!(shown.len() as u64 >= size, "seed {seed}: {shown:?}");
        let all: Vec<u64> = (0..).take(shown.len()).collect();
        assert_eq!(shown, all, "seed {seed}");
    });
}
