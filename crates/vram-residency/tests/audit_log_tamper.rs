//! Every kind of change to a log is named, at its file and line.

mod audit_log_support;

use audit_log_support::*;
use vram_residency::audit::Sink;
use vram_residency::audit::check::{Fault, Finding};
use vram_residency::audit::note::{Checkpoint, Cut, Origin};
use vram_residency::key::{RootKey, SigningKey};

const SEED: u64 = 20_260_117;
const CHANGES: usize = 10_000;

/// A closed log of three segments.
fn log() -> MemoryFiles {
    logs().1
}

/// A log of three segments, of a writer at work and closed.
fn logs() -> (MemoryFiles, MemoryFiles) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    small.segment_bytes = 2_000;
    let log = open(&dir, small).unwrap();
    for id in 1..=26 {
        log.record(&event(id)).unwrap();
        if id % 4 == 0 {
            log.flush().unwrap();
        }
    }
    log.flush().unwrap();
    let open = read_all(&dir);
    drop(log);
    let closed = read_all(&dir);
    for files in [&open, &closed] {
        assert!(segments(files).len() >= 3, "{:?}", segments(files));
        assert_eq!(verify_files(files).findings, []);
    }
    (open, closed)
}

fn segments(files: &MemoryFiles) -> Vec<String> {
    let names = files.keys().filter(|name| name.ends_with(".jsonl"));
    names.cloned().collect()
}

fn lines(files: &MemoryFiles, name: &str) -> Vec<Vec<u8>> {
    let lines = files[name].split_inclusive(|byte| *byte == b'\n');
    lines.map(<[u8]>::to_vec).collect()
}

/// One random change: what it is, and the file and line where it must be named.
fn change(files: &mut MemoryFiles, random: &mut Seeded) -> (Fault, String, Option<u64>) {
    let names = segments(files);
    let name = names[random.below(names.len())].clone();
    let newest = "events.jsonl".to_owned();
    let mut text = lines(files, &name);
    let at = random.below(text.len());
    let line = Some(at as u64 + 1);
    let named = match random.below(6) {
        0 => {
            let byte = random.below(text[at].len() - 1);
            let bit = 1 << random.below(8);
            text[at][byte] ^= bit;
            // A newline in the middle makes two lines of one.
            (Fault::Edited, name.clone(), line)
        }
        1 => {
            text.remove(at);
            if at == text.len() {
                return finish(files, name, text, after_last);
            }
            (Fault::Dropped, name.clone(), line)
        }
        2 => {
            let other = random.below(text.len());
            // Nothing tells which of near neighbours was moved.
            if other.abs_diff(at) < 3 {
                return change(files, random);
            }
            text.swap(at, other);
            (Fault::Reordered, name.clone(), line)
        }
        3 => {
            let copy = text[at].clone();
            let to = at + 1 + random.below(text.len() - at);
            text.insert(to, copy);
            (Fault::Duplicated, name.clone(), Some(to as u64 + 1))
        }
        4 => {
            let last = lines(files, &newest);
            let keep = random.below(last.len());
            files.insert(newest.clone(), last[..keep].concat());
            return (Fault::Truncated, newest, Some(keep as u64 + 1));
        }
        _ => {
            let bytes = files[&newest].clone();
            let keep = random.below(bytes.len());
            let whole = bytes[..keep].iter().filter(|byte| **byte == b'\n').count();
            files.insert(newest.clone(), bytes[..keep].to_vec());
            return (Fault::Truncated, newest, Some(whole as u64 + 1));
        }
    };
    files.insert(name, text.concat());
    named
}

fn finish(
    files: &mut MemoryFiles,
    name: String,
    text: Vec<Vec<u8>>,
    named: impl Fn(&MemoryFiles, &str) -> (Fault, String, Option<u64>),
) -> (Fault, String, Option<u64>) {
    files.insert(name.clone(), text.concat());
    named(files, &name)
}

/// The last line of a segment is gone: it is missed before the next segment's
/// first line, or at the end of the log.
fn after_last(files: &MemoryFiles, name: &str) -> (Fault, String, Option<u64>) {
    let names = segments(files);
    let at = names.iter().position(|n| n == name).unwrap();
    match names.get(at + 1) {
        Some(next) => (Fault::Dropped, next.clone(), Some(1)),
        None => {
            let left = lines(files, name).len() as u64;
            (Fault::Truncated, name.to_owned(), Some(left + 1))
        }
    }
}

#[test]
fn ten_thousand_random_changes_are_all_named() {
    println!("seed {SEED}");
    let good = log();
    let mut random = Seeded(SEED);
    for round in 0..CHANGES {
        let mut files = good.clone();
        let (fault, file, line) = change(&mut files, &mut random);
        let report = verify_files(&files);
        let named = report.findings.iter().any(|found| {
            let span = found.line.map(|first| first..first + found.count.max(1));
            let here = line.is_none_or(|line| span.is_some_and(|span| span.contains(&line)));
            found.fault == fault && found.file == file && here
        });
        assert!(named, "{round}: {fault:?} {file}:{line:?} in {report:#?}");
    }
}

#[test]
fn every_changed_byte_of_tiles_and_checkpoint_is_named() {
    let good = log();
    for (name, bytes) in &good {
        if name.ends_with(".jsonl") {
            continue;
        }
        for at in 0..bytes.len() {
            let mut files = good.clone();
            files.get_mut(name).unwrap()[at] ^= 1;
            let report = verify_files(&files);
            let named = report.findings.iter().any(|found| found.file == *name);
            assert!(named, "{name} byte {at}: {report:?}");
        }
        let mut files = good.clone();
        files.remove(name);
        let report = verify_files(&files);
        if name.starts_with("tile/") {
            // The lines prove the log without it.
            assert_eq!((report.findings, report.tiles_lost), (vec![], 1));
            continue;
        }
        assert!(report.findings.iter().any(|f| f.file == *name), "{name}");
    }
}

#[test]
fn lines_and_tiles_changed_alike_are_not_believed() {
    let mut files = log();
    let name = segments(&files)[1].clone();
    let mut text = lines(&files, &name);
    text[2] = String::from_utf8(text[2].clone())
        .unwrap()
        .replace("shard-", "shart-")
        .into();
    let forged = text[2].strip_suffix(b"\n").unwrap();
    let seq: usize = {
        let value: serde_json::Value = serde_json::from_slice(forged).unwrap();
        value["seq"].as_u64().unwrap() as usize
    };
    let leaf = vram_residency::audit::merkle::leaf_hash(forged);
    files.insert(name, text.concat());
    let tiles = files
        .iter_mut()
        .filter(|(name, _)| name.starts_with("tile/0/"));
    tiles.for_each(|(_, tile)| tile[seq * 32..][..32].copy_from_slice(&leaf));
    let report = verify_files(&files);
    let faults = report.findings.iter().map(|found| found.fault);
    let faults: std::collections::BTreeSet<Fault> = faults.collect();
    // Neither vouches for the other: which line is wrong nobody can tell.
    assert_eq!(Vec::from_iter(faults), [Fault::Doubtful, Fault::Root]);
}

#[test]
fn foreign_checkpoints_are_named() {
    let mut files = log();
    let note = String::from_utf8(files["checkpoint"].clone()).unwrap();
    let ours = Checkpoint::open(&note, &trusted()).unwrap();
    let root = RootKey::from_token(b"fedcba9876543210fedcba9876543210").unwrap();
    let stranger = SigningKey::new(&root).unwrap();
    files.insert(
        "checkpoint".to_owned(),
        ours.sign(&stranger).unwrap().into(),
    );
    let report = verify_files(&files);
    assert_eq!(
        report.findings[0].fault,
        Fault::ForeignCheckpoint,
        "{report:?}"
    );
    assert_eq!((report.size, report.origin), (0, None));
    // Our own key, another log: its root is not this one's.
    let other = Checkpoint {
        origin: Origin::new("elsewhere").unwrap(),
        size: ours.size,
        root: [3; 32],
        reopened: false,
        cut: Cut::default(),
    };
    files.insert("checkpoint".to_owned(), other.sign(&key()).unwrap().into());
    let report = verify_files(&files);
    assert!(
        report.findings.iter().any(|f| f.fault == Fault::Root),
        "{report:?}"
    );
}

/// Where the log ends too early is told to the line, and how many lines were read.
#[test]
fn an_end_that_comes_too_early_is_named_by_its_line() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    (1..=9).for_each(|id| log.record(&event(id)).unwrap());
    log.flush().unwrap();
    let mut files = read_all(&dir);
    assert_eq!(verify_files(&files).lines, 10);
    let all = lines(&files, "events.jsonl");
    files.insert("events.jsonl".to_owned(), all[..7].concat());
    let report = verify_files(&files);
    assert_eq!(report.lines, 7);
    let found = &report.findings[0];
    assert_eq!(found.fault, Fault::Truncated);
    assert_eq!((found.line, found.seq, found.count), (Some(8), Some(7), 3));
}

/// The line is there all the same: only its newline is missed.
#[test]
fn a_last_newline_that_is_gone_is_one_finding() {
    let mut files = log();
    files.get_mut("events.jsonl").unwrap().pop();
    let report = verify_files(&files);
    let [found] = report.findings.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(found.fault, Fault::Truncated);
    assert!(found.text.contains("newline"), "{found}");
    assert_eq!(report.torn_bytes, 0);
    // In a finished segment, too.
    let mut files = log();
    let oldest = segments(&files)[0].clone();
    files.get_mut(&oldest).unwrap().pop();
    let last = lines(&files, &oldest).len() as u64;
    let report = verify_files(&files);
    let [found] = report.findings.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(
        (found.fault, &found.file, found.line),
        (Fault::Edited, &oldest, Some(last))
    );
}

#[test]
fn forged_lines_are_named() {
    let good = log();
    for name in segments(&good) {
        let mut files = good.clone();
        let mut text = lines(&files, &name);
        text.insert(
            1,
            b"{\"seq\":999,\"time\":\"2026-01-01T00:00:00.000000000Z\",\"x\":1}\n".to_vec(),
        );
        files.insert(name.clone(), text.concat());
        let report = verify_files(&files);
        // Where the last file has one line, it stands behind the end of the log,
        // and its number does not fit either.
        let is_insertion = |finding: &&Finding| finding.fault == Fault::Inserted;
        let found = report.findings.iter().find(is_insertion).unwrap();
        assert_eq!((found.file.as_str(), found.line), (name.as_str(), Some(2)));
    }
}

/// Behind the checkpoint nothing is proved, but numbers that do not fit are named.
#[test]
fn numbers_that_do_not_fit_behind_the_checkpoint_are_named() {
    let good = logs().0;
    let size = verify_files(&good).size;
    let proved = lines(&good, "events.jsonl").len() as u64;
    let line = |seq: u64, mark: u64| {
        format!("{{\"seq\":{seq},\"time\":\"2026-01-01T00:00:00.000000000Z\",\"x\":{mark}}}\n")
    };
    let (one, two) = (line(size, 1), line(size + 1, 2));
    let cases = [
        (line(size + 1, 2), Fault::Duplicated, size + 1, 1),
        (line(size, 7), Fault::Inserted, size, 1),
        (line(size + 5, 3), Fault::Dropped, size + 2, 3),
    ];
    for (third, fault, seq, count) in cases {
        let mut files = good.clone();
        let newest = files.get_mut("events.jsonl").unwrap();
        newest.extend(format!("{one}{two}{third}").bytes());
        let report = verify_files(&files);
        let [found] = report.findings.as_slice() else {
            panic!("{report:?}")
        };
        assert_eq!((found.fault, found.line), (fault, Some(proved + 3)));
        assert_eq!((found.seq, found.count), (Some(seq), count), "{found}");
        let text = found.to_string();
        assert!(text.contains(fault.name()), "{text}");
    }
}
