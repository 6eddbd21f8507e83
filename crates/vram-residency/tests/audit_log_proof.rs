//! Proofs of single events and of growth, checked without the log.

mod audit_log_support;

use std::path::PathBuf;

use audit_log_support::*;
use tempfile::TempDir;
use vram_residency::audit::Sink;
use vram_residency::audit::check::{self, CheckError, DirFiles};
use vram_residency::audit::note::{Checkpoint, NoteError};
use vram_residency::audit::proof::{MAX_PROOF_BYTES, Proof, ProofError, Proved, Trust};
use vram_residency::key::{RootKey, SigningKey};

/// A log of several segments, and a checkpoint of it from half way.
fn log(keep: Option<usize>) -> (TempDir, PathBuf, String) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    (small.segment_bytes, small.keep_segments) = (3_000, keep);
    let log = open(&dir, small).unwrap();
    let mut half = None;
    for id in 1..=300 {
        log.record(&event(id)).unwrap();
        if id % 10 == 0 {
            log.flush().unwrap();
        }
        if id == 150 {
            half = log.checkpoint().unwrap();
        }
    }
    drop(log);
    (temp, dir, half.unwrap())
}

fn stranger() -> SigningKey {
    SigningKey::new(&RootKey::from_token(b"fedcba9876543210fedcba9876543210").unwrap()).unwrap()
}

/// Checks a proof for somebody who trusts these keys.
fn check_as(
    proof: &Proof,
    keys: &[&SigningKey],
    checkpoint: Option<&str>,
) -> Result<Proved, ProofError> {
    let keys: Vec<_> = keys.iter().map(|key| key.public().clone()).collect();
    let trust = Trust {
        keys: &keys,
        revoked: None,
    };
    proof.check(&trust, checkpoint)
}

fn event_proof(dir: &std::path::Path, seq: u64) -> Result<Proof, ProofError> {
    let trusted = trusted();
    let options = check::Options {
        trusted: &trusted,
        ..check::Options::default()
    };
    Proof::of_event(&DirFiles::new(dir), &options, seq)
}

fn growth_proof(dir: &std::path::Path, earlier: &str) -> Result<Proof, ProofError> {
    let trusted = trusted();
    let options = check::Options {
        trusted: &trusted,
        ..check::Options::default()
    };
    Proof::since(&DirFiles::new(dir), &options, earlier)
}

// requirement: AU-10, AU-16
#[test]
fn every_event_is_proved_by_checkpoint_and_key_alone() {
    let (_temp, dir, _) = log(None);
    let note = std::fs::read_to_string(dir.join("checkpoint")).unwrap();
    let size = verify(&dir).size;
    for seq in (0..size).step_by(7).chain([size - 1]) {
        let text = event_proof(&dir, seq).unwrap().to_json().unwrap();
        let proof = Proof::from_json(&text).unwrap();
        for kept in [None, Some(note.as_str())] {
            let Proved::Event(found, at, checkpoint) = check_as(&proof, &[&key()], kept).unwrap()
            else {
                panic!("{text}")
            };
            assert_eq!((at, checkpoint.size), (seq, size));
            let known = seq > 0 && seq + 1 < size;
            assert!(!known || found.audit_id == seq, "{found:?}");
        }
        let foreign = check_as(&proof, &[&stranger()], None);
        assert!(matches!(
            foreign,
            Err(ProofError::Note(NoteError::Foreign { .. }))
        ));
    }
}

/// No change of a proof leaves one that says something else.
#[test]
fn a_changed_proof_proves_nothing_else() {
    let (_temp, dir, half) = log(None);
    for proof in [
        event_proof(&dir, 77).unwrap(),
        growth_proof(&dir, &half).unwrap(),
    ] {
        let shown = check_as(&proof, &[&key()], None).unwrap();
        let text = proof.to_json().unwrap();
        let (mut refused, mut random) = (0, Seeded(77));
        for _ in 0..3000 {
            let mut bytes = text.clone().into_bytes();
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(7);
            let changed = String::from_utf8_lossy(&bytes);
            match Proof::from_json(&changed).map(|proof| check_as(&proof, &[&key()], None)) {
                Ok(Ok(same)) => assert_eq!(same, shown, "{changed}"),
                _ => refused += 1,
            }
        }
        assert!(refused > 2900, "{refused}");
    }
}

// requirement: AU-16
#[test]
fn growth_is_proved_and_another_past_is_not() {
    let (_temp, dir, half) = log(None);
    let proof = growth_proof(&dir, &half).unwrap();
    let Proved::Prefix(first, last) = check_as(&proof, &[&key()], None).unwrap() else {
        panic!("{proof:?}")
    };
    assert_eq!(first, Checkpoint::open(&half, &trusted()).unwrap());
    assert_eq!(last.size, verify(&dir).size);
    let other = Checkpoint {
        root: [5; 32],
        ..first
    };
    let other = other.sign(&key()).unwrap();
    let refused = growth_proof(&dir, &other);
    let Err(ProofError::Damaged { finding }) = refused else {
        panic!("{refused:?}")
    };
    assert!(finding.contains("rolled_back"), "{finding}");
    let Proof::Consistency {
        checkpoint,
        path,
        handovers,
        ..
    } = proof
    else {
        panic!("{proof:?}")
    };
    let forged = Proof::Consistency {
        earlier: other,
        checkpoint,
        path,
        handovers,
    };
    let refused = check_as(&forged, &[&key()], None);
    assert!(
        matches!(refused, Err(ProofError::Wrong { .. })),
        "{refused:?}"
    );
}

#[test]
fn what_cannot_be_proved_is_refused_by_name() {
    let (_temp, dir, half) = log(Some(2));
    let report = verify(&dir);
    let refused = event_proof(&dir, report.size);
    assert!(
        matches!(refused, Err(ProofError::NotCovered { seq, size }) if seq == size),
        "{refused:?}"
    );
    let retired = event_proof(&dir, 3);
    assert!(
        matches!(retired, Err(ProofError::Retired { seq: 3, first_kept }) if first_kept == report.first_kept)
    );
    let kept = event_proof(&dir, report.first_kept).unwrap();
    let refused = check_as(&kept, &[&key()], Some(&half)).unwrap_err();
    assert!(
        matches!(refused, ProofError::OtherCheckpoint { proof, given: 151.. } if proof == report.size),
        "{refused}"
    );
    let strange = Checkpoint::open(&half, &trusted())
        .unwrap()
        .sign(&stranger())
        .unwrap();
    let refused = growth_proof(&dir, &strange);
    assert!(
        matches!(refused, Err(ProofError::Check(CheckError::Earlier(_)))),
        "{refused:?}"
    );
    let path = dir.join("events.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("audit.closed", "audit.opened")).unwrap();
    let refused = event_proof(&dir, report.first_kept);
    assert!(
        matches!(refused, Err(ProofError::Damaged { .. })),
        "{refused:?}"
    );
}

#[test]
fn strange_texts_are_no_proofs() {
    let (_temp, dir, _) = log(None);
    let good = event_proof(&dir, 5).unwrap().to_json().unwrap();
    let long = format!("{good}{}", " ".repeat(MAX_PROOF_BYTES));
    let cases = [
        String::new(),
        "[]".to_owned(),
        good.replace("audit-inclusion/v1", "audit-inclusion/v2"),
        good.replacen("\"seq\":5", "\"seq\":5,\"seq\":6", 1),
        good.replacen("\"seq\":5", "\"seq\":5,\"more\":6", 1),
        long,
    ];
    for text in cases {
        let refused = Proof::from_json(&text);
        assert!(
            matches!(refused, Err(ProofError::Format { .. })),
            "{text:.200}"
        );
    }
    let Proof::Inclusion {
        checkpoint,
        seq,
        line,
        mut path,
        handovers,
    } = event_proof(&dir, 5).unwrap()
    else {
        panic!("another kind")
    };
    path[0].pop();
    let short = Proof::Inclusion {
        checkpoint,
        seq,
        line,
        path,
        handovers,
    };
    let refused = check_as(&short, &[&key()], None);
    assert!(
        matches!(refused, Err(ProofError::Format { .. })),
        "{refused:?}"
    );
}

/// Every log starts with nothing, so a proof of it would say nothing.
#[test]
fn growth_from_nothing_is_not_proved() {
    let (_temp, dir, half) = log(None);
    let now = Checkpoint::open(&half, &trusted()).unwrap();
    let nothing = Checkpoint {
        size: 0,
        root: vram_residency::audit::merkle::root(&[]),
        ..now
    };
    let refused = growth_proof(&dir, &nothing.sign(&key()).unwrap());
    assert!(matches!(refused, Err(ProofError::Empty)), "{refused:?}");
}

/// Files of a log whose killed writer seems to have left an event that no
/// checkpoint covers, and that event's number and line.
fn left_with_a_forged_event() -> (MemoryFiles, u64, String) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    for id in 1..=5 {
        log.record(&event(id)).unwrap();
        log.flush().unwrap();
    }
    let mut files = read_all(&dir);
    drop(log);
    let seq = verify_files(&files).size;
    let line = forged(seq, &event(999));
    append(&mut files, &line);
    (files, seq, line.trim_end().to_owned())
}

/// The attack of whoever can write to the directory of a killed writer's log:
/// invent an event, and have the next writer sign it.
// requirement: AU-9, AU-16
#[test]
fn an_adopted_event_is_not_proved_and_shown_as_what_it_is() {
    let (files, seq, line) = left_with_a_forged_event();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    write_all(&dir, &files);
    drop(open(&dir, options()).unwrap());
    // A third start, so that what is adopted lies between two runs.
    drop(open(&dir, options()).unwrap());
    let report = verify(&dir);
    assert_eq!((report.findings.len(), report.adopted), (0, 1));
    let refused = event_proof(&dir, seq).unwrap_err();
    assert!(
        matches!(refused, ProofError::Adopted { seq: named } if named == seq),
        "{refused}"
    );
    for good in (0..report.size).filter(|good| *good != seq) {
        check_as(&event_proof(&dir, good).unwrap(), &[&key()], None).unwrap();
    }
    let mut marked = Vec::new();
    let mut each = |shown: check::Shown| {
        marked.extend(shown.adopted.then_some((shown.seq, shown.line)));
        Ok(())
    };
    check::show(&DirFiles::new(&dir), &check::Filter::default(), &mut each).unwrap();
    assert_eq!(marked, [(seq, line)]);
}
