//! Audit logs: every file of one, in one input.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use vram_residency::audit::check::{self, Filter, Options, Report};
use vram_residency::audit::merkle::{inclusion, leaf_hash, root};
use vram_residency::audit::note::{Checkpoint, Cut, Origin};
use vram_residency::audit::proof::Proof;
use vram_residency::audit::{Body, Event, Severity, Text};
use vram_residency::clock::Timestamp;
use vram_residency::key::{RootKey, SigningKey, VerifyingKey};

use crate::vectors::{SIGNERS, token};

/// A log in memory.
pub(crate) type MemoryFiles = BTreeMap<String, Vec<u8>>;

/// Before the name of each file.
const MARK: &[u8] = b"\n=== ";
/// More files than this are another input's business.
const MAX_FILES: usize = 64;
/// Findings that a log of a few lines may give, whatever size it claims.
const MAX_FINDINGS: usize = 1024;

/// A log that the fuzzer's keys signed, and what they signed of it.
pub(crate) struct Known {
    pub(crate) files: MemoryFiles,
    pub(crate) signed: Vec<Checkpoint>,
    /// Number of the first line that is kept.
    first: u64,
}

impl Known {
    fn new(file: &[u8]) -> Self {
        let files = split(file);
        let report = verify(&files, &[KEY.public().clone()]);
        assert!(report.is_good(), "{:?}", report.findings);
        let handovers = files
            .iter()
            .filter(|(name, _)| name.starts_with("handover."));
        let notes = handovers.map(|(_, proof)| {
            let proof = Proof::from_json(&String::from_utf8_lossy(proof)).expect("a proof");
            let (Proof::Inclusion { checkpoint, .. } | Proof::Consistency { checkpoint, .. }) =
                proof
            else {
                panic!("a kind of proof that nobody made");
            };
            checkpoint
        });
        let last = String::from_utf8_lossy(&files["checkpoint"]).into_owned();
        let signed = notes.chain([last]).map(|note| opened(&note)).collect();
        Self {
            signed,
            first: report.first_kept,
            files,
        }
    }

    /// The lines from number `first` up to those of a checkpoint.
    pub(crate) fn lines(&self, first: u64, end: u64) -> Vec<&[u8]> {
        let before = first.checked_sub(self.first).expect("a line that is kept");
        let lines = lines(&self.files);
        let last = usize::try_from(end - self.first).expect("an index");
        lines[usize::try_from(before).expect("an index")..last].to_vec()
    }
}

/// All logs that the fuzzer's keys signed; the first is of one key and closed.
/// `tests/replay` writes them anew and compares.
pub(crate) static KNOWN: LazyLock<[Known; 4]> = LazyLock::new(|| {
    [
        Known::new(include_bytes!("../../../fuzz/corpus/audit_log/closed")),
        Known::new(include_bytes!("../../../fuzz/corpus/audit_log/rekeyed")),
        Known::new(include_bytes!("../../../fuzz/corpus/audit_log/killed")),
        Known::new(include_bytes!("../../../fuzz/corpus/audit_log/retired")),
    ]
});

pub(crate) static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::new(&token()).expect("a signing key"));

/// The secret of the key to which the key of the seeds handed the log `rekeyed` over.
pub const NEXT_TOKEN: &[u8] = b"00112233445566778899aabbccddeeff";

static NEXT: LazyLock<SigningKey> = LazyLock::new(|| signing(NEXT_TOKEN));

/// A key that would like to be the next one, and that no other key named.
static HEIR: LazyLock<SigningKey> = LazyLock::new(|| signing(b"ffeeddccbbaa99887766554433221100"));

fn signing(token: &[u8]) -> SigningKey {
    SigningKey::new(&RootKey::from_token(token).expect("a token")).expect("a signing key")
}

/// What a note says that one of the log's keys signed.
fn opened(note: &str) -> Checkpoint {
    let keys = [KEY.public().clone(), NEXT.public().clone()];
    Checkpoint::open(note, &keys).expect("a checkpoint of ours")
}

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

/// A log is good only under the key that signed it or that it was handed over to,
/// and only with the lines that were written; a hostile writer's checkpoint costs
/// no more than the log.
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
        as_written(&files, &report);
        by_its_own_keys(&files);
    }
    let next = verify(&files, &[NEXT.public().clone()]);
    if next.is_good() {
        as_written(&files, &next);
    }
    shown_as_it_stands(&files);
    hostile_heir(files.clone());
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

/// Its lines are those of the log whose checkpoint it has.
fn as_written(files: &MemoryFiles, report: &Report) {
    let note = opened(&String::from_utf8_lossy(&files["checkpoint"]));
    let known = KNOWN.iter().find(|log| log.signed.contains(&note));
    let known = known.expect("a checkpoint that somebody signed");
    assert_eq!(report.size, note.size);
    let written = known.lines(report.first_kept, note.size);
    assert!(lines(files).starts_with(&written), "other lines are good");
}

/// A key that nobody trusts is believed by the old one's word only.
fn by_its_own_keys(files: &MemoryFiles) {
    let note = String::from_utf8_lossy(&files["checkpoint"]);
    if Checkpoint::open(&note, &[KEY.public().clone()]).is_err() {
        let mut without = files.clone();
        without.retain(|name, _| !name.starts_with("handover."));
        let report = verify(&without, &[KEY.public().clone()]);
        assert!(!report.is_good(), "the next key needs no word of the old");
    }
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

/// Writes and signs a handover to oneself, as everybody can.
fn hostile_heir(mut files: MemoryFiles) {
    let seq = lines(&files).len() as u64;
    let public = |key: &SigningKey| Text::new(&key.public().to_string());
    let event = Event {
        audit_id: 0,
        timestamp: Timestamp::from_nanos(1_700_000_100_000_000_000),
        worker_id: "worker-1".parse().expect("a name"),
        severity: Severity::Info,
        correlation_id: None,
        body: Body::AuditKeyChanged {
            from: public(&KEY),
            to: public(&HEIR),
        },
    };
    let json = serde_json::to_string(&event).expect("JSON");
    let time = event.timestamp;
    let line = format!("{{\"seq\":{seq},\"time\":\"{time}\",{}", &json[1..]);
    let current = files.entry("events.jsonl".to_owned()).or_default();
    current.extend(line.bytes().chain([b'\n']));
    let leaves: Vec<_> = lines(&files).into_iter().map(leaf_hash).collect();
    let path = inclusion(&leaves, leaves.len().saturating_sub(1));
    let note = note(leaves.len() as u64, &leaves, &HEIR);
    let proof = Proof::Inclusion {
        checkpoint: note.clone(),
        seq,
        line,
        path: path.iter().map(hex).collect(),
        handovers: Vec::new(),
    };
    files.insert("checkpoint".to_owned(), note.into_bytes());
    let proof = proof.to_json().expect("JSON");
    files.insert(format!("handover.{seq:012}.json"), proof.into_bytes());
    let report = verify(&files, &[KEY.public().clone()]);
    assert!(!report.is_good(), "a key took the log over by itself");
}

fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A signed checkpoint of `size` over these leaves.
fn note(size: u64, leaves: &[[u8; 32]], key: &SigningKey) -> String {
    let checkpoint = Checkpoint {
        origin: Origin::new("example.org/worker-1").expect("a name"),
        size,
        root: root(leaves),
        reopened: false,
        cut: Cut::default(),
    };
    checkpoint.sign(key).expect("signed")
}

/// Signs the size that the input's checkpoint claims, as who owns the key can: the
/// newest one, which no handover of the input replaces.
fn hostile_writer(mut files: MemoryFiles) {
    let Some(claimed) = files.get("checkpoint") else {
        return;
    };
    let size = String::from_utf8_lossy(claimed);
    let size = size.lines().nth(1).and_then(|size| size.parse().ok());
    let hashes: Vec<_> = lines(&files).into_iter().map(leaf_hash).collect();
    let size = size.unwrap_or(hashes.len() as u64);
    let note = note(size, &hashes, &NEXT);
    files.insert("checkpoint".to_owned(), note.into_bytes());
    let report = verify(&files, &[KEY.public().clone(), NEXT.public().clone()]);
    assert_eq!(report.size, size);
    if report.is_good() && report.first_kept == 0 {
        assert_eq!(size, hashes.len() as u64 - report.uncovered);
    }
}

/// The lines of its segments in order, without their line feeds.
pub(crate) fn lines(files: &MemoryFiles) -> Vec<&[u8]> {
    let mut segments: Vec<_> = files.keys().filter(|name| is_segment(name)).collect();
    segments.sort_by_key(|name| (name.as_str() == "events.jsonl", *name));
    let bytes = segments.into_iter().map(|name| files[name].as_slice());
    bytes
        .flat_map(split_lines)
        .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
        .collect()
}

/// Lines with their line feeds; the last may have none.
pub(crate) fn split_lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

/// `events.jsonl`, or `events.` and the number of the first event in 12 digits.
fn is_segment(name: &str) -> bool {
    let number = name
        .strip_prefix("events.")
        .and_then(|name| name.strip_suffix(".jsonl"));
    let digits = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    name == "events.jsonl" || number.is_some_and(digits)
}
