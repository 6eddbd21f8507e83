//! A log's checkpoint, root and tiles as an independent program sees them.

mod audit_log_support;
#[path = "common/python.rs"]
mod python;

use std::path::Path;
use std::process::{Command, Output};

use audit_log_support::*;
use python::python;
use vram_residency::audit::Sink;
use vram_residency::audit::check::{self, DirFiles};
use vram_residency::audit::note::Checkpoint;
use vram_residency::audit::proof::Proof;

fn judged(dir: &Path, key: &str) -> Option<Output> {
    let instead = "checkpoints are checked by the library's own code only";
    let python = python("cryptography", instead)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/audit_reference.py");
    let output = Command::new(python).arg(script).arg(dir).arg(key).output();
    Some(output.unwrap())
}

#[test]
fn an_independent_program_accepts_the_log_and_refuses_a_changed_one() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    small.segment_bytes = 20_000;
    let log = open(&dir, small).unwrap();
    (1..=600).for_each(|id| log.record(&event(id)).unwrap());
    drop(log);
    let public = key().public().to_string();
    let Some(good) = judged(&dir, &public) else {
        return;
    };
    assert!(
        good.status.success(),
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    assert_eq!(good.stdout, b"good 602 from 0\n");
    let good = read_all(&dir);
    let newest = "events.jsonl";
    let oldest = "events.000000000000.jsonl";
    let tile = "tile/1/000.p/2";
    assert!(
        [newest, oldest, tile]
            .iter()
            .all(|name| good.contains_key(*name))
    );
    let refused = |what: &str, files: &MemoryFiles| {
        write_all(&dir, files);
        let judged = judged(&dir, &public).unwrap();
        assert!(!judged.status.success(), "{what}: {judged:?}");
        assert!(!verify_files(files).is_good(), "{what}");
    };
    let with = |name: &str, change: &dyn Fn(&str) -> String| {
        let mut files = good.clone();
        let text = String::from_utf8(files[name].clone()).unwrap();
        files.insert(name.to_owned(), change(&text).into_bytes());
        files
    };
    for name in [newest, oldest] {
        let line = |text: &str| format!("{}\n", text.lines().next().unwrap());
        refused(
            "edited",
            &with(name, &|text| text.replacen("\"seq\"", "\"sep\"", 1)),
        );
        refused("CRLF", &with(name, &|text| text.replace('\n', "\r\n")));
        refused("CR", &with(name, &|text| text.replacen('\n', "\r\n", 1)));
        refused(
            "no newline",
            &with(name, &|text| text.trim_end().to_owned()),
        );
        refused("more", &with(name, &|text| format!("{text}evil")));
        refused("a line", &with(name, &|text| format!("{text}evil\n")));
        refused(
            "twice",
            &with(name, &|text| format!("{text}{}", line(text))),
        );
        refused(
            "one less",
            &with(name, &|text| text.replacen(&line(text), "", 1)),
        );
    }
    let mut misnamed = good.clone();
    let segment = misnamed.remove(oldest).unwrap();
    misnamed.insert("events.000000000001.jsonl".to_owned(), segment);
    refused("another name", &misnamed);
    let mut forged = good.clone();
    forged.get_mut(tile).unwrap()[40] ^= 1;
    refused("an upper tile", &forged);
    // What a power failure takes is made again of the lines.
    let mut lost = good.clone();
    lost.retain(|name, _| !name.starts_with("tile/0/"));
    write_all(&dir, &lost);
    let accepted = judged(&dir, &public).unwrap();
    assert_eq!(accepted.stdout, b"good 602 from 0\n", "{accepted:?}");
    assert!(verify_files(&lost).is_good());
}

/// A program of others: sigstore's own reader of checkpoints and of Merkle proofs.
// requirement: AU-16
#[test]
fn a_program_of_others_accepts_the_checkpoint_and_every_proof_and_no_changed_one() {
    let instead = "checkpoints are checked by our own programs only";
    let modules = "sigstore._internal.rekor.checkpoint, sigstore._internal.merkle, cryptography";
    let Some(python) = python(modules, instead) else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    (1..=300).for_each(|id| log.record(&event(id)).unwrap());
    drop(log);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/audit_sigstore.py");
    let file = temp.path().join("proof.json");
    let judged = |proof: &str, public: &str| {
        std::fs::write(&file, proof).unwrap();
        let mut command = Command::new(&python);
        command.arg(script).arg(&file).arg(public).output().unwrap()
    };
    let trusted = trusted();
    let options = check::Options {
        trusted: &trusted,
        ..check::Options::default()
    };
    let public = key().public().to_string();
    let files = DirFiles::new(&dir);
    for seq in [0, 1, 255, 256, 301] {
        let proof = Proof::of_event(&files, &options, seq).unwrap();
        let proof = proof.to_json().unwrap();
        let output = judged(&proof, &public);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.starts_with("good example.org/worker-1 302 "),
            "{output:?}"
        );
        let stranger = numbered(3).public().to_string();
        let other = proof.replacen("\\\"audit_id\\\"", "\\\"audit_ie\\\"", 1);
        assert_ne!(other, proof);
        for (proof, public) in [(&proof, &stranger), (&other, &public)] {
            let output = judged(proof, public);
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(why.contains("VerificationError"), "{output:?}");
        }
    }
}

/// `python -O` leaves assertions out, and a check that makes none accepts everything.
#[test]
fn no_independent_program_runs_without_its_checks() {
    let Some(python) = python("cryptography", "nothing") else {
        return;
    };
    for name in ["audit", "receipt"] {
        let script = format!(
            "{}/testdata/{name}_reference.py",
            env!("CARGO_MANIFEST_DIR")
        );
        let output = Command::new(&python)
            .arg("-O")
            .arg(script)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("leaves out the checks"), "{name}: {output:?}");
        assert!(!output.status.success());
    }
}

/// A signed note has as many signatures as there are keys that vouch for it.
// requirement: AU-16, KD-10
#[test]
fn an_independent_program_finds_the_signature_of_its_key_among_several() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    write_as(&dir, numbered(0), 1..300);
    let path = dir.join("checkpoint");
    let note = std::fs::read_to_string(&path).unwrap();
    let public = numbered(0).public().clone();
    let now = Checkpoint::open(&note, std::slice::from_ref(&public)).unwrap();
    let line = |key: u8| {
        let note = now.sign(&numbered(key)).unwrap();
        note.split_once("\n\n").unwrap().1.to_owned()
    };
    // A signature of a type that nobody here knows.
    let other = "\u{2014} example.org/worker-1 AAAAAAAAAA==\n".to_owned();
    let text = note.split_once("\n\n").unwrap().0;
    let believed = |lines: &[&str]| {
        std::fs::write(&path, format!("{text}\n\n{}", lines.concat())).unwrap();
        let judged = judged(&dir, &public.to_string())?.status.success();
        let ours = verify_under(&DirFiles::new(&dir), &public).is_good();
        assert_eq!(judged, ours, "the two programs differ over {lines:?}");
        Some(judged)
    };
    let [ours, theirs] = [0, 1].map(line);
    for lines in [
        &[&ours, &theirs][..],
        &[&theirs, &ours],
        &[&theirs, &other, &ours],
    ] {
        let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
        let Some(believed) = believed(&lines) else {
            return;
        };
        assert!(believed, "{lines:?}");
    }
    assert_eq!(believed(&[&theirs, &other]), Some(false));
    // Our key's, over another text: no signature, and none in the way of a good one.
    let before = Checkpoint { size: 1, ..now };
    let wrong = before.sign(&numbered(0)).unwrap();
    let wrong = wrong.split_once("\n\n").unwrap().1;
    assert_eq!(believed(&[wrong, &theirs]), Some(false));
    assert_eq!(believed(&[wrong, &ours]), Some(true));
}

/// As the library does, from the key that is trusted to the one that signs.
// requirement: AU-16, KD-10
#[test]
fn an_independent_program_follows_the_changes_of_the_key() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    three_keys(&dir);
    let good = read_all(&dir);
    let believes = |files: &MemoryFiles, key: u8| {
        write_all(&dir, files);
        let public = numbered(key).public().clone();
        let judged = judged(&dir, &public.to_string())?.status.success();
        assert_eq!(
            judged,
            verify_under(&DirFiles::new(&dir), &public).is_good(),
            "{key}"
        );
        Some(judged)
    };
    for (key, answer) in [(0, true), (1, true), (2, true), (3, false)] {
        let Some(judged) = believes(&good, key) else {
            return;
        };
        assert_eq!(judged, answer, "{key}");
    }
    // The first change alone; and one that says more than was signed.
    let names = good.keys().filter(|name| name.starts_with("handover."));
    let names: Vec<&String> = names.collect();
    let mut files = good.clone();
    files.remove(names[1]);
    assert_eq!(believes(&files, 0), Some(false));
    assert_eq!(believes(&files, 2), Some(true));
    let mut files = good.clone();
    let paper = String::from_utf8(files[names[0]].clone()).unwrap();
    let [to, other] = [1, 3].map(|key| numbered(key).public().to_string());
    let forged = paper.replace(&to, &other);
    assert_ne!(forged, paper);
    files.insert(names[0].clone(), forged.into_bytes());
    assert_eq!(believes(&files, 0), Some(false));
}

// requirement: AU-10
#[test]
fn an_independent_program_accepts_a_log_with_retired_segments_only_as_far_as_it_says() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    (small.segment_bytes, small.keep_segments) = (4_000, Some(2));
    let log = open(&dir, small).unwrap();
    for id in 1..=400 {
        log.record(&event(id)).unwrap();
        log.flush().unwrap();
    }
    drop(log);
    let public = key().public().to_string();
    let Some(good) = judged(&dir, &public) else {
        return;
    };
    let report = verify(&dir);
    let (size, first) = (report.size, report.first_kept);
    assert!(first > 300, "{report:?}");
    let said = String::from_utf8_lossy(&good.stdout);
    assert_eq!(said, format!("good {size} from {first}\n"), "{good:?}");
    std::fs::remove_file(dir.join(format!("events.{first:012}.jsonl"))).unwrap();
    assert!(!judged(&dir, &public).unwrap().status.success());
}
