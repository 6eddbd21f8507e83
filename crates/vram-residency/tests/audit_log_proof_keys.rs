//! Proofs of a log whose key was changed, for who trusts any key of it.

mod audit_log_support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use audit_log_support::*;
use tempfile::TempDir;
use vram_residency::audit::check::{self, DirFiles};
use vram_residency::audit::note::{Checkpoint, NoteError};
use vram_residency::audit::proof::{Proof, ProofError, Proved, Trust};
use vram_residency::key::KeyId;

/// A log under keys 0, 1 and 2, one after the other, and its checkpoints under
/// the first two.
fn log() -> (TempDir, PathBuf, [String; 2]) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let note = || std::fs::read_to_string(dir.join("checkpoint")).unwrap();
    write_as(&dir, numbered(0), 1..10);
    let first = note();
    change(&dir, 0, 1).unwrap();
    write_as(&dir, numbered(1), 10..20);
    let second = note();
    change(&dir, 1, 2).unwrap();
    write_as(&dir, numbered(2), 20..30);
    (temp, dir, [first, second])
}

/// Runs `make` for who trusts key `number`.
fn trusting<T>(number: u8, make: impl FnOnce(&check::Options<'_>) -> T) -> T {
    let trusted = [numbered(number).public().clone()];
    make(&check::Options {
        trusted: &trusted,
        ..check::Options::default()
    })
}

fn event_proof(dir: &Path, trusted: u8, seq: u64) -> Proof {
    let proof = trusting(trusted, |options| {
        Proof::of_event(&DirFiles::new(dir), options, seq)
    });
    through_json(&proof.unwrap())
}

fn growth_proof(dir: &Path, trusted: u8, earlier: &str) -> Proof {
    let proof = trusting(trusted, |options| {
        Proof::since(&DirFiles::new(dir), options, earlier)
    });
    through_json(&proof.unwrap())
}

fn through_json(proof: &Proof) -> Proof {
    Proof::from_json(&proof.to_json().unwrap()).unwrap()
}

fn checked(proof: &Proof, trusted: &[u8], revoked: &[u8]) -> Result<Proved, ProofError> {
    let keys: Vec<_> = trusted
        .iter()
        .map(|number| numbered(*number).public().clone())
        .collect();
    let revoked: BTreeSet<KeyId> = revoked
        .iter()
        .map(|number| numbered(*number).public().id())
        .collect();
    let trust = Trust {
        keys: &keys,
        revoked: Some(&revoked),
    };
    proof.check(&trust, None)
}

fn handovers(proof: &mut Proof) -> &mut Vec<Proof> {
    match proof {
        Proof::Inclusion { handovers, .. } | Proof::Consistency { handovers, .. } => handovers,
        other => panic!("another kind: {other:?}"),
    }
}

// requirement: KD-10, AU-16
#[test]
fn every_key_of_the_log_believes_a_proof_of_an_event() {
    let (_temp, dir, _) = log();
    let events = verify_as(&dir, 2).size;
    for made_by in [0, 2] {
        for seq in [0, 4, 13, events - 1] {
            let proof = event_proof(&dir, made_by, seq);
            for trusted in [0, 1, 2] {
                let Proved::Event(_, at, last) = checked(&proof, &[trusted], &[]).unwrap() else {
                    panic!("{proof:?}")
                };
                assert_eq!((at, last.size), (seq, events), "{trusted}");
            }
            let refused = checked(&proof, &[3], &[]);
            assert!(
                matches!(refused, Err(ProofError::Note(NoteError::Foreign { .. }))),
                "{refused:?}"
            );
        }
    }
}

fn verify_as(dir: &Path, number: u8) -> check::Report {
    let report = trusting(number, |options| {
        check::verify(&DirFiles::new(dir), options)
    });
    let report = report.unwrap();
    assert_eq!(report.findings, [], "{number}");
    report
}

// requirement: KD-10, AU-16
#[test]
fn growth_is_proved_across_changes_of_the_key() {
    let (_temp, dir, earlier) = log();
    for (by, note) in (0_u8..).zip(&earlier) {
        let proof = growth_proof(&dir, 0, note);
        // Who trusts a later key alone knows nothing of the first one's checkpoint.
        for trusted in 0..=by {
            let Proved::Prefix(first, last) = checked(&proof, &[trusted], &[]).unwrap() else {
                panic!("{proof:?}")
            };
            assert!(first.size < last.size, "{trusted}");
        }
        let refused = checked(&proof, &[2], &[]);
        assert!(
            matches!(refused, Err(ProofError::Note(NoteError::Foreign { .. }))),
            "{refused:?}"
        );
    }
}

// requirement: KD-10
#[test]
fn a_revoked_key_is_called_revoked_and_names_no_successor() {
    let (_temp, dir, earlier) = log();
    let proof = event_proof(&dir, 2, 4);
    for (trusted, revoked) in [(&[2][..], 2), (&[0], 2), (&[1, 2], 2)] {
        let refused = checked(&proof, trusted, &[revoked]).unwrap_err();
        let named = numbered(revoked).public().id();
        assert!(
            matches!(refused, ProofError::Note(NoteError::Revoked { key_id }) if key_id == named),
            "{refused}"
        );
    }
    for revoked in [0, 1] {
        let refused = checked(&proof, &[0], &[revoked]).unwrap_err();
        assert!(
            matches!(refused, ProofError::Note(NoteError::Foreign { .. })),
            "{refused}"
        );
        checked(&proof, &[2], &[revoked]).unwrap();
    }
    let growth = growth_proof(&dir, 0, &earlier[0]);
    let refused = checked(&growth, &[0, 2], &[0]).unwrap_err();
    assert!(
        matches!(refused, ProofError::Note(NoteError::Revoked { .. })),
        "{refused}"
    );
}

/// A key that named another one is believed as far as that, and no further.
#[test]
fn changes_of_the_key_count_in_the_order_of_the_log_alone() {
    let (_temp, dir, _) = log();
    let mut proof = event_proof(&dir, 2, 4);
    assert_eq!(handovers(&mut proof).len(), 2);
    handovers(&mut proof).reverse();
    checked(&proof, &[0], &[]).unwrap();
    let second = handovers(&mut proof).remove(0);
    let refused = checked(&proof, &[0], &[]).unwrap_err();
    assert!(
        matches!(refused, ProofError::Note(NoteError::Foreign { .. })),
        "{refused}"
    );
    // A later state that the first key signs after all.
    let Proof::Inclusion { checkpoint, .. } = &mut proof else {
        panic!("another kind")
    };
    let trusted = [numbered(2).public().clone()];
    let now = Checkpoint::open(checkpoint, &trusted).unwrap();
    *checkpoint = now.sign(&numbered(0)).unwrap();
    let refused = checked(&proof, &[0], &[]).unwrap_err();
    assert!(
        matches!(refused, ProofError::Note(NoteError::Replaced { .. })),
        "{refused}"
    );
    // What is proved of a change is an event, and carries none itself.
    let mut nested = second.clone();
    handovers(&mut nested).push(second);
    handovers(&mut proof).push(nested);
    let refused = Proof::from_json(&proof.to_json().unwrap());
    assert!(
        matches!(refused, Err(ProofError::Format { .. })),
        "{refused:?}"
    );
}

/// What lies beside the log and is no change that it holds is named, and carried to
/// nobody.
#[test]
fn papers_of_no_change_are_named_and_not_carried() {
    let (_temp, dir, _) = log();
    let good = event_proof(&dir, 2, 4);
    let paper = paper(&dir);
    for (name, text) in [
        ("handover.000000000003.json", paper.as_str()),
        ("handover.000000000004.json", "{}"),
        ("handover.000000999999.json", paper.as_str()),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
        let refused = trusting(2, |options| {
            Proof::of_event(&DirFiles::new(&dir), options, 4)
        });
        assert!(
            matches!(&refused, Err(ProofError::Damaged { finding }) if finding.contains(name)),
            "{refused:?}"
        );
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    assert_eq!(event_proof(&dir, 2, 4), good);
}

/// The first paper beside a log.
fn paper(dir: &Path) -> String {
    let names = std::fs::read_dir(dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let first = names.filter(|name| name.starts_with("handover.")).min();
    std::fs::read_to_string(dir.join(first.unwrap())).unwrap()
}

/// The key of several logs named the next one in another of them: who has that one
/// proves nothing of this log.
// requirement: KD-10, AU-16
#[test]
fn a_change_of_another_logs_key_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, other) = (temp.path().join("log"), temp.path().join("other"));
    write_as(&dir, numbered(0), 1..10);
    elsewhere(&other, 0, 3);
    let mut proof = event_proof(&dir, 0, 4);
    let theirs = Proof::from_json(&paper(&other)).unwrap();
    handovers(&mut proof).push(theirs);
    let of_another = |proof: &Proof, trusted: &[u8]| {
        let refused = checked(&through_json(proof), trusted, &[]);
        assert!(
            matches!(&refused, Err(ProofError::Handover { seq: Some(_), reason })
                if reason.contains("of the log 'elsewhere'")),
            "{refused:?}"
        );
    };
    of_another(&proof, &[0]);
    let Proof::Inclusion { checkpoint, .. } = &mut proof else {
        panic!("another kind")
    };
    let now = Checkpoint::open(checkpoint, &[numbered(0).public().clone()]).unwrap();
    *checkpoint = now.sign(&numbered(3)).unwrap();
    for trusted in [&[0][..], &[3]] {
        of_another(&proof, trusted);
    }
}

/// Every paper that a proof carries is checked, also those that nobody here follows.
#[test]
fn a_proof_with_a_paper_that_is_no_change_is_refused() {
    let (_temp, dir, earlier) = log();
    let good = event_proof(&dir, 2, 4);
    let growth = growth_proof(&dir, 0, &earlier[0]);
    let mut papers = good.clone();
    let papers = handovers(&mut papers).clone();
    let refused = |change: &dyn Fn(&mut Vec<Proof>), why: &str| {
        let mut proof = good.clone();
        change(handovers(&mut proof));
        for trusted in [0, 2] {
            let refused = checked(&proof, &[trusted], &[]);
            assert!(
                matches!(&refused, Err(ProofError::Handover { reason, .. }) if reason.contains(why)),
                "{refused:?}"
            );
        }
    };
    let first = |papers: &mut Vec<Proof>, change: &dyn Fn(&mut Proof)| change(&mut papers[0]);
    refused(
        &|all| all.push(papers[0].clone()),
        "another one is of this event",
    );
    refused(&|all| all.push(growth.clone()), "it proves no event");
    refused(
        &|all| {
            first(all, &|paper| {
                let Proof::Inclusion { line, .. } = paper else {
                    return;
                };
                let [to, other] = [1, 3].map(|key| numbered(key).public().to_string());
                *line = line.replace(&to, &other);
            });
        },
        "did not sign its event",
    );
    let plain = event_proof(&dir, 2, 3);
    refused(&|all| all.push(plain.clone()), "its event names no keys");
    refused(
        &|all| {
            first(all, &|paper| {
                let Proof::Inclusion { handovers, .. } = paper else {
                    return;
                };
                handovers.push(papers[1].clone());
            });
        },
        "not the last word",
    );
}
