//! Audit logs: every file of one, in one input.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use vram_residency::audit::check::{self, Filter, Options, Report};
use vram_residency::audit::merkle::{leaf_hash, root};
use vram_residency::audit::note::{Checkpoint, Cut, Origin};
use vram_residency::key::{SigningKey, VerifyingKey};

use crate::vectors::{SIGNERS, token};

/// A log in memory.
type MemoryFiles = BTreeMap<String, Vec<u8>>;

/// Before the name of each file.
const MARK: &[u8] = b"\n=== ";
/// More files than this are another input's business.
const MAX_FILES: usize = 64;
/// Findings that a log of a few lines may give, whatever size it claims.
const MAX_FINDINGS: usize = 1024;

/// The log that the fuzzer's key signed. `tests/replay.rs` writes it anew and
/// compares.
pub(crate) static KNOWN: LazyLock<MemoryFiles> =
    LazyLock::new(|| split(include_bytes!("../../../fuzz/corpus/audit_log/closed")));

pub(crate) static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::new(&token()).expect("a signing key"));

/// Puts files into one input: a line feed, `=== `, the name, a line feed, the
/// contents.
#[must_use]
pub fn join(files: &MemoryFiles) -> Vec<u8> {
    let parts = files
        .iter()
        .map(|(name, bytes)| [MARK, name.as_bytes(), b"\n", bytes].concat());
    parts.collect::<Vec<_>>().concat()
}

/// The files of an input.
#[must_use]
pub fn split(data: &[u8]) -> MemoryFiles {
    let mut files = MemoryFiles::new();
    let mut rest = data;
    while let Some(start) = find(rest, MARK).filter(|_| files.len() < MAX_FILES) {
        rest = &rest[start + MARK.len()..];
        let part = &rest[..find(rest, MARK).unwrap_or(rest.len())];
        let Some(end) = part.iter().position(|byte| *byte == b'\n') else {
            continue;
        };
        if let Ok(name) = std::str::from_utf8(&part[..end]) {
            files.insert(name.to_owned(), part[end + 1..].to_vec());
        }
    }
    files
}

fn find(data: &[u8], what: &[u8]) -> Option<usize> {
    data.windows(what.len()).position(|part| part == what)
}

/// A log is good only under the key that signed it and only with the lines that
/// were written; a hostile writer's checkpoint costs no more than the log.
pub(crate) fn run(data: &[u8]) -> bool {
    let files = split(data);
    let stranger = std::slice::from_ref(&SIGNERS.stranger);
    assert!(!verify(&files, &[]).is_good(), "good without a key");
    assert!(
        !verify(&files, stranger).is_good(),
        "good under another key"
    );
    let report = verify(&files, &[KEY.public().clone()]);
    if report.is_good() {
        let known = lines(&KNOWN);
        assert_eq!(report.size, known.len() as u64);
        assert!(lines(&files).starts_with(&known), "other lines are good");
    }
    shown_as_it_stands(&files);
    hostile_writer(files);
    report.is_good()
}

fn verify(files: &MemoryFiles, trusted: &[VerifyingKey]) -> Report {
    let options = Options {
        trusted,
        ..Options::default()
    };
    let report = check::verify(files, &options).expect("files in memory");
    assert!(report.findings.len() <= MAX_FINDINGS + 2 * lines(files).len());
    report
}

fn shown_as_it_stands(files: &MemoryFiles) {
    let lines = lines(files);
    let mut shown = 0;
    check::show(files, &Filter::default(), &mut |event| {
        shown += 1;
        assert!(lines.contains(&event.line.as_bytes()));
        crate::json::names_once(&event.line);
        Ok(())
    })
    .expect("files in memory");
    assert!(shown <= lines.len());
}

/// Signs the size that the input's checkpoint claims, as who owns the key can.
fn hostile_writer(mut files: MemoryFiles) {
    let Some(claimed) = files.get("checkpoint") else {
        return;
    };
    let size = String::from_utf8_lossy(claimed);
    let size = size.lines().nth(1).and_then(|size| size.parse().ok());
    let hashes: Vec<_> = lines(&files).into_iter().map(leaf_hash).collect();
    let checkpoint = Checkpoint {
        origin: Origin::new("example.org/worker-1").expect("a name"),
        size: size.unwrap_or(hashes.len() as u64),
        root: root(&hashes),
        reopened: false,
        cut: Cut::default(),
    };
    let note = checkpoint.sign(&KEY).expect("signed");
    files.insert("checkpoint".to_owned(), note.into_bytes());
    let report = verify(&files, &[KEY.public().clone()]);
    assert_eq!(report.size, checkpoint.size);
    if report.is_good() && report.first_kept == 0 {
        assert_eq!(checkpoint.size, hashes.len() as u64 - report.uncovered);
    }
}

/// The lines of its segments in order, without their line feeds.
pub(crate) fn lines(files: &MemoryFiles) -> Vec<&[u8]> {
    let mut segments: Vec<_> = files.keys().filter(|name| is_segment(name)).collect();
    segments.sort_by_key(|name| (name.as_str() == "events.jsonl", *name));
    let bytes = segments.into_iter().map(|name| files[name].as_slice());
    bytes
        .flat_map(|bytes| bytes.split_inclusive(|byte| *byte == b'\n'))
        .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
        .collect()
}

/// `events.jsonl`, or `events.` and the number of the first event in 12 digits.
fn is_segment(name: &str) -> bool {
    let number = name
        .strip_prefix("events.")
        .and_then(|name| name.strip_suffix(".jsonl"));
    let digits = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    name == "events.jsonl" || number.is_some_and(digits)
}
