//! The key of a log is replaced, and keys of logs are revoked.

mod audit_log_support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use audit_log_support::*;
use vram_residency::audit::check::{self, CheckError, DirFiles, Fault, Report};
use vram_residency::audit::log::{LogSink, OpenError};
use vram_residency::audit::note::{Checkpoint, NoteError, Origin};
use vram_residency::audit::proof::Proof;
use vram_residency::audit::{Body, Event, Sink, Text, merkle};
use vram_residency::clock::SystemClock;
use vram_residency::key::{KeyId, SigningKey};

fn checked(files: &MemoryFiles, trusted: &[u8], revoked: &[u8]) -> Report {
    let trusted: Vec<_> = trusted
        .iter()
        .map(|n| numbered(*n).public().clone())
        .collect();
    let revoked: BTreeSet<KeyId> = revoked.iter().map(|n| numbered(*n).public().id()).collect();
    let options = check::Options {
        trusted: &trusted,
        revoked: Some(&revoked),
        ..check::Options::default()
    };
    check::verify(files, &options).unwrap()
}

fn fault(files: &MemoryFiles, trusted: &[u8], revoked: &[u8]) -> Option<Fault> {
    let found = checked(files, trusted, revoked).findings;
    found.first().map(|found| found.fault)
}

// requirement: KD-10, AU-16
#[test]
fn who_trusts_an_older_key_believes_the_newer_ones_that_it_named() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    three_keys(&dir);
    assert_eq!(audit_ids(&dir), (1..30).collect::<Vec<_>>());
    let files = read_all(&dir);
    for trusted in [&[0][..], &[1], &[2], &[0, 2]] {
        assert_eq!(fault(&files, trusted, &[]), None, "{trusted:?}");
    }
    assert_eq!(fault(&files, &[3], &[]), Some(Fault::ForeignCheckpoint));
    // Without the papers of the change an older key says nothing of the newer.
    let mut bare = files.clone();
    bare.retain(|name, _| !name.starts_with("handover."));
    assert_eq!(fault(&bare, &[0], &[]), Some(Fault::ForeignCheckpoint));
    assert_eq!(fault(&bare, &[2], &[]), None);
}

// requirement: KD-10
#[test]
fn a_revoked_key_is_believed_no_longer_and_hands_nothing_over() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    three_keys(&dir);
    let files = read_all(&dir);
    // The thief's key is revoked: the newest key must be trusted by itself.
    assert_eq!(fault(&files, &[2], &[0, 1]), None);
    assert_eq!(fault(&files, &[0], &[1]), Some(Fault::ForeignCheckpoint));
    assert_eq!(fault(&files, &[0], &[0]), Some(Fault::ForeignCheckpoint));
    for trusted in [0, 1, 2] {
        let report = checked(&files, &[trusted], &[2]);
        assert_eq!(report.findings[0].fault, Fault::RevokedKey, "{trusted}");
        let named = numbered(2).public().id().to_string();
        assert!(report.findings[0].text.contains(&named), "{report:?}");
        assert_eq!(report.origin, None);
    }
}

#[test]
fn a_replaced_key_opens_nothing_and_signs_nothing_more() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    three_keys(&dir);
    let open = |number| {
        let clock = Arc::new(SystemClock::new());
        LogSink::open(&dir, options(), numbered(number), clock).err()
    };
    for old in [0, 1] {
        let refused = open(old);
        assert!(
            matches!(refused, Some(OpenError::Replaced { .. })),
            "{refused:?}"
        );
    }
    assert!(matches!(open(3), Some(OpenError::OtherKey { .. })));
    assert!(open(2).is_none());
    // Who stole the old key and signs the newest state with it.
    let mut files = read_all(&dir);
    let note = String::from_utf8(files["checkpoint"].clone()).unwrap();
    let newest = Checkpoint::open(&note, &[numbered(2).public().clone()]).unwrap();
    files.insert(
        "checkpoint".to_owned(),
        newest.sign(&numbered(0)).unwrap().into(),
    );
    assert_eq!(fault(&files, &[0], &[]), Some(Fault::RevokedKey));
}

#[test]
fn a_handover_of_another_log_or_a_strangers_is_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, other) = (temp.path().join("log"), temp.path().join("other"));
    write_as(&dir, numbered(0), 1..10);
    write_as(&other, numbered(0), 1..9);
    change(&other, 0, 1).unwrap();
    let handover = |files: &MemoryFiles| {
        let mut names = files.keys().filter(|name| name.starts_with("handover."));
        names.next().unwrap().clone()
    };
    let theirs = read_all(&other);
    let name = handover(&theirs);
    let mut files = read_all(&dir);
    files.insert(name.clone(), theirs[&name].clone());
    let found = checked(&files, &[0], &[]).findings;
    assert_eq!((found[0].fault, &found[0].file), (Fault::RolledBack, &name));
    // A stranger's paper is nobody's word, and so is what is no paper.
    let strange = temp.path().join("strange");
    write_as(&strange, numbered(5), 1..10);
    change(&strange, 5, 6).unwrap();
    let theirs = read_all(&strange);
    let mut files = read_all(&dir);
    let strangers = theirs[&handover(&theirs)].clone();
    files.insert(handover(&theirs), strangers.clone());
    stray(&files, "the log does not hold it");
    files.insert("checkpoint".to_owned(), theirs["checkpoint"].clone());
    assert_eq!(fault(&files, &[0], &[]), Some(Fault::ForeignCheckpoint));
    // Under another event's number; and what is no paper.
    for (text, why) in [
        (strangers, "it is of event "),
        (b"{}".to_vec(), "not a proof"),
    ] {
        let mut files = read_all(&dir);
        files.insert("handover.000000000003.json".to_owned(), text);
        stray(&files, why);
    }
    let refused = LogSink::open(
        &strange,
        options(),
        numbered(6),
        Arc::new(SystemClock::new()),
    );
    drop(refused.unwrap());
    fs::copy(
        strange.join(handover(&theirs)),
        strange.join("handover.000000000003.json"),
    )
    .unwrap();
    let refused = LogSink::open(
        &strange,
        options(),
        numbered(6),
        Arc::new(SystemClock::new()),
    );
    assert!(matches!(refused.err(), Some(OpenError::Damaged { .. })));
}

/// A paper beside a log under key 0 is named as none of its own, and nothing else is
/// wrong with it.
fn stray(files: &MemoryFiles, why: &str) {
    let found = checked(files, &[0], &[]).findings;
    let [only] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(only.fault, Fault::Handover);
    assert!(only.file.starts_with("handover."), "{only}");
    assert!(only.text.contains(why), "{only}");
}

/// The key of several logs named the next one in another of them.
// requirement: KD-10
#[test]
fn a_handover_of_a_log_with_another_name_is_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, other) = (temp.path().join("log"), temp.path().join("other"));
    write_as(&dir, numbered(0), 1..20);
    elsewhere(&other, 0, 3);
    let mut files = read_all(&dir);
    for (name, text) in read_all(&other) {
        if name.starts_with("handover.") {
            files.insert(name, text);
        }
    }
    stray(&files, "it is of the log 'elsewhere'");
    // Who has the next key of the other log signs this one.
    let note = String::from_utf8(files["checkpoint"].clone()).unwrap();
    let now = Checkpoint::open(&note, &[numbered(0).public().clone()]).unwrap();
    let stolen = now.sign(&numbered(3)).unwrap();
    files.insert("checkpoint".to_owned(), stolen.into());
    assert_eq!(fault(&files, &[0], &[]), Some(Fault::ForeignCheckpoint));
}

/// The old key signed two histories up to its last word: that of the paper, which has
/// the very line, and that of the log.
// requirement: KD-10, AU-16
#[test]
fn a_handover_of_another_past_is_a_rollback() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    write_as(&dir, numbered(0), 1..10);
    let at = change(&dir, 0, 1).unwrap();
    write_as(&dir, numbered(1), 10..20);
    let mut files = read_all(&dir);
    let text = String::from_utf8(files["events.jsonl"].clone()).unwrap();
    let lines = text.lines().take(usize::try_from(at).unwrap() + 1);
    let mut lines: Vec<&str> = lines.collect();
    let changed = lines[at as usize];
    lines[2] = "{}";
    let (checkpoint, leaves) = checkpoint_over(&lines);
    let path = merkle::inclusion(&leaves, at as usize);
    let hex = |hash: &merkle::Hash| hash.map(|byte| format!("{byte:02x}")).concat();
    let proof = Proof::Inclusion {
        checkpoint: checkpoint.sign(&numbered(0)).unwrap(),
        seq: at,
        line: changed.to_owned(),
        path: path.iter().map(hex).collect(),
        handovers: Vec::new(),
    };
    let name = format!("handover.{at:012}.json");
    files.insert(name.clone(), proof.to_json().unwrap().into());
    let found = checked(&files, &[0], &[]).findings;
    assert_eq!((found[0].fault, &found[0].file), (Fault::RolledBack, &name));
    let found = checked(&files, &[1], &[]).findings;
    assert_eq!((found[0].fault, &found[0].file), (Fault::Handover, &name));
}

/// The log against a kept checkpoint, for who trusts these keys.
fn against(files: &MemoryFiles, trusted: &[u8], kept: &str) -> Result<Report, CheckError> {
    let trusted = trusted.iter().map(|key| numbered(*key).public().clone());
    let trusted: Vec<_> = trusted.collect();
    let options = check::Options {
        trusted: &trusted,
        earlier: Some(kept),
        ..check::Options::default()
    };
    check::verify(files, &options)
}

/// Who cuts a log back to before a change of its key takes the paper of the change
/// away as well: the kept checkpoint is then by a key that the log does not come back
/// to, or does not name. The latter is a word about the log only to who trusts that key
/// by itself: anybody could have made it.
// requirement: KD-10, AU-16
#[test]
fn a_rollback_to_before_a_change_of_the_key_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut states = Vec::new();
    for (key, next) in [(0, 1), (1, 0), (0, 2)] {
        let ids = states.len() as u64 * 10;
        write_as(&dir, numbered(key), ids + 1..ids + 11);
        states.push(read_all(&dir));
        change(&dir, key, next).unwrap();
    }
    let kept = |at: usize| String::from_utf8(states[at]["checkpoint"].clone()).unwrap();
    let rolled_back = |files: &MemoryFiles, trusted: &[u8], kept: &str| {
        let found = against(files, trusted, kept).unwrap().findings;
        let named = found
            .iter()
            .any(|finding| finding.fault == Fault::RolledBack);
        assert!(named, "{trusted:?}: {found:?}");
    };
    for (now, before, trusted) in [
        // By key 1, which nothing names any more.
        (0, 1, &[0, 1][..]),
        (0, 1, &[1]),
        // By key 0, to which the log has not come back.
        (1, 2, &[0]),
        (1, 2, &[0, 1]),
        (0, 2, &[0]),
    ] {
        assert_eq!(
            against(&states[before], trusted, &kept(before))
                .unwrap()
                .findings,
            []
        );
        rolled_back(&states[now], trusted, &kept(before));
        // The one file of the checkpoint was put back, and not the lines.
        let mut files = states[before].clone();
        files.insert("checkpoint".to_owned(), states[now]["checkpoint"].clone());
        let found = against(&files, trusted, &kept(before)).unwrap();
        assert!(!found.is_good(), "{now} {before} {trusted:?}");
        rolled_back(&files, trusted, &kept(before));
    }
    for (now, before, trusted) in [(0, 1, 0), (1, 2, 1)] {
        let refused = against(&states[now], &[trusted], &kept(before));
        assert!(
            matches!(refused, Err(CheckError::Earlier(NoteError::Foreign { .. }))),
            "{refused:?}"
        );
    }
}

/// A checkpoint of the log's name with a size that it has not reached, under a key of
/// somebody's own, accuses nobody; under each key that the log had or has, it does.
// requirement: AU-16
#[test]
fn a_forged_yardstick_accuses_no_log() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    three_keys(&dir);
    let files = read_all(&dir);
    let note = String::from_utf8(files["checkpoint"].clone()).unwrap();
    let now = Checkpoint::open(&note, &[numbered(2).public().clone()]).unwrap();
    let longer = Checkpoint {
        size: now.size + 1,
        ..now.clone()
    };
    let changed = Checkpoint {
        root: [7; 32],
        ..now
    };
    for forged in [longer, changed] {
        let note = forged.sign(&numbered(7)).unwrap();
        let refused = against(&files, &[0], &note);
        assert!(
            matches!(refused, Err(CheckError::Earlier(NoteError::Foreign { .. }))),
            "{refused:?}"
        );
        for key in [0, 1, 2] {
            let note = forged.sign(&numbered(key)).unwrap();
            let found = against(&files, &[0], &note).unwrap().findings;
            assert_eq!(found[0].fault, Fault::RolledBack, "{found:?}");
        }
    }
}

/// What a thief of a key that has handed its log over can still do, and to whom: the
/// limit that the threat model states.
// requirement: KD-10, OP-4
#[test]
fn a_stolen_old_key_deceives_who_trusts_it_and_keeps_no_checkpoint() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, forged) = (temp.path().join("log"), temp.path().join("forged"));
    write_as(&dir, numbered(0), 1..10);
    change(&dir, 0, 1).unwrap();
    write_as(&dir, numbered(1), 10..20);
    let (good, kept) = (read_all(&dir), dir.join("checkpoint"));
    let kept = fs::read_to_string(kept).unwrap();
    // A past of the thief's own, longer than the log, which goes over to his next key.
    write_as(&forged, numbered(0), 50..90);
    change(&forged, 0, 5).unwrap();
    let mut files = read_all(&forged);
    for trusted in [&[0][..], &[0, 1]] {
        assert_eq!(fault(&files, trusted, &[]), None, "the limit: {trusted:?}");
    }
    // Not who trusts the new key alone, revokes the old one, or kept a checkpoint and
    // trusts the key that signed it.
    assert_eq!(fault(&files, &[1], &[]), Some(Fault::ForeignCheckpoint));
    assert!(fault(&files, &[0, 1], &[0]).is_some());
    let found = against(&files, &[0, 1], &kept).unwrap().findings;
    assert_eq!(found[0].fault, Fault::RolledBack, "{found:?}");
    let refused = against(&files, &[0], &kept);
    assert!(
        matches!(refused, Err(CheckError::Earlier(NoteError::Foreign { .. }))),
        "{refused:?}"
    );
    // Nor while the paper of the true change lies beside the log, which says how far
    // the old key goes; and the true log is not his to change.
    for (name, text) in &good {
        if name.starts_with("handover.") {
            files.insert(name.clone(), text.clone());
        }
    }
    assert_eq!(fault(&files, &[0], &[]), Some(Fault::ForeignCheckpoint));
    let note = String::from_utf8(good["checkpoint"].clone()).unwrap();
    let now = Checkpoint::open(&note, &[numbered(1).public().clone()]).unwrap();
    let mut files = good.clone();
    files.insert(
        "checkpoint".to_owned(),
        now.sign(&numbered(0)).unwrap().into(),
    );
    for trusted in [&[0][..], &[1], &[0, 1]] {
        assert!(fault(&files, trusted, &[]).is_some(), "{trusted:?}");
    }
}

/// Key 0, 1 and 0 again: who trusts either believes the log, which opens with 0.
// requirement: KD-10
#[test]
fn a_log_may_come_back_to_a_key_that_it_left() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    write_as(&dir, numbered(0), 1..10);
    change(&dir, 0, 1).unwrap();
    write_as(&dir, numbered(1), 10..20);
    change(&dir, 1, 0).unwrap();
    write_as(&dir, numbered(0), 20..30);
    assert_eq!(audit_ids(&dir), (1..30).collect::<Vec<_>>());
    for trusted in [&[0][..], &[1], &[0, 1], &[1, 0]] {
        assert_eq!(fault(&read_all(&dir), trusted, &[]), None, "{trusted:?}");
    }
    let clock = Arc::new(SystemClock::new());
    let gone = LogSink::open(&dir, options(), numbered(1), clock).err();
    assert!(matches!(gone, Some(OpenError::Replaced { .. })), "{gone:?}");
    // It leaves key 0 for good; a copy of the way back under a later name does
    // not bring it back.
    change(&dir, 0, 2).unwrap();
    let mut files = read_all(&dir);
    let mut papers = files
        .iter()
        .filter(|(name, _)| name.starts_with("handover."));
    let back = papers.nth(1).unwrap().1.clone();
    files.insert("handover.000000999999.json".to_owned(), back);
    stray(&files, "it is of event ");
    let note = String::from_utf8(files["checkpoint"].clone()).unwrap();
    let newest = Checkpoint::open(&note, &[numbered(2).public().clone()]).unwrap();
    let stolen = newest.sign(&numbered(0)).unwrap();
    files.insert("checkpoint".to_owned(), stolen.into());
    assert_eq!(fault(&files, &[0], &[]), Some(Fault::RevokedKey));
}

/// Leaves a change from key 0 to 1 as a kill does after both keys have signed.
fn killed_after_both_signed(dir: &Path) {
    write_as(dir, numbered(0), 1..10);
    change(dir, 0, 1).unwrap();
    let mut files = read_all(dir);
    files.retain(|name, _| !name.starts_with("handover."));
    // The note that both keys signed, the paper not yet written, nothing closed.
    let seq = (files["events.jsonl"].split(|b| *b == b'\n').count() - 2) as u64;
    let text = String::from_utf8(files["events.jsonl"].clone()).unwrap();
    let (kept, closed) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(
        closed.contains("audit.closed") && kept.ends_with('}'),
        "{text}"
    );
    let (checkpoint, _) = checkpoint_over(kept.lines());
    assert_eq!(checkpoint.size, seq);
    let line = |key: &SigningKey| {
        let note = checkpoint.sign(key).unwrap();
        note.split_once("\n\n")
            .map(|(text, line)| (text.to_owned(), line.to_owned()))
            .unwrap()
    };
    let ((text, old), (_, new)) = (line(&numbered(0)), line(&numbered(1)));
    files.insert(
        "checkpoint".to_owned(),
        format!("{text}\n\n{old}{new}").into_bytes(),
    );
    files.insert("events.jsonl".to_owned(), format!("{kept}\n").into_bytes());
    write_all(dir, &files);
    fs::remove_dir_all(dir.join("tile")).unwrap();
}

/// Once the old key has signed its last word, the log is the new one's: asked for
/// once more, the change is brought to its end, and no other can be made.
// requirement: KD-10
#[test]
fn a_change_that_was_killed_half_way_can_be_asked_for_again() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    killed_after_both_signed(&dir);
    let clock = Arc::new(SystemClock::new());
    let gone = LogSink::open(&dir, options(), numbered(0), clock).err();
    assert!(matches!(gone, Some(OpenError::Replaced { .. })), "{gone:?}");
    let other = change(&dir, 0, 2);
    assert!(
        matches!(other, Err(OpenError::Replaced { .. })),
        "{other:?}"
    );
    let papers = |files: &MemoryFiles| {
        let mut names = files.keys().filter(|name| name.starts_with("handover."));
        names.next().cloned()
    };
    assert_eq!(papers(&read_all(&dir)), None);
    let seq = change(&dir, 0, 1).unwrap();
    let named = format!("handover.{seq:012}.json");
    assert_eq!(papers(&read_all(&dir)), Some(named));
    assert!(checked(&read_all(&dir), &[0], &[]).closed);
    write_as(&dir, numbered(1), 12..14);
    assert_eq!(audit_ids(&dir), (1..10).chain(12..14).collect::<Vec<_>>());
    for trusted in [0, 1] {
        assert_eq!(fault(&read_all(&dir), &[trusted], &[]), None, "{trusted}");
    }
}

/// A log of four lines, the last of which changes `from`'s key, and `more` lines;
/// key 0 signed all of it, and key 1 its checkpoint.
fn with_a_paper_of(from: u8, more: u64) -> MemoryFiles {
    let body = Body::AuditKeyChanged {
        from: Text::new(&numbered(from).public().to_string()),
        to: Text::new(&numbered(1).public().to_string()),
    };
    let changed = Event {
        audit_id: 0,
        severity: body.severity(),
        body,
        ..event(4)
    };
    let mut events = vec![event(1), event(2), event(3), changed];
    events.extend((0..more).map(|id| event(5 + id)));
    let line = |(seq, event): (u64, &Event)| {
        let (json, time) = (serde_json::to_string(event).unwrap(), event.timestamp);
        format!("{{\"seq\":{seq},\"time\":\"{time}\",{}", &json[1..])
    };
    let lines: Vec<String> = (0..).zip(&events).map(line).collect();
    let (checkpoint, leaves) = checkpoint_over(&lines);
    let path = merkle::inclusion(&leaves, 3);
    let hex = |hash: &merkle::Hash| hash.map(|byte| format!("{byte:02x}")).concat();
    let proof = Proof::Inclusion {
        checkpoint: checkpoint.sign(&numbered(0)).unwrap(),
        seq: 3,
        line: lines[3].clone(),
        path: path.iter().map(hex).collect(),
        handovers: Vec::new(),
    };
    let files = [
        ("events.jsonl", lines.join("\n") + "\n"),
        ("checkpoint", checkpoint.sign(&numbered(1)).unwrap()),
        ("handover.000000000003.json", proof.to_json().unwrap()),
    ];
    files
        .map(|(name, text)| (name.to_owned(), text.into_bytes()))
        .into()
}

/// Who holds the next key makes a paper up: of a log in which the old key went on
/// signing after it had named the next one, or in which another key's change stands.
// requirement: KD-10
#[test]
fn a_paper_that_is_not_the_last_word_of_its_key_hands_nothing_over() {
    for (from, more, believed) in [(0, 0, true), (0, 1, false), (3, 0, false)] {
        let found = checked(&with_a_paper_of(from, more), &[0], &[]).findings;
        let foreign = found.iter().any(|it| it.fault == Fault::ForeignCheckpoint);
        assert_eq!(foreign, !believed, "{from} {more}: {found:?}");
    }
}

/// The new key goes on where the change was killed: it first writes the proof, so
/// that who trusts the old key follows.
// requirement: KD-10
#[test]
fn a_change_that_was_killed_half_way_is_finished_by_the_new_key() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    killed_after_both_signed(&dir);
    let papers = |files: &MemoryFiles| {
        let names = files.keys().filter(|name| name.starts_with("handover."));
        names.count()
    };
    assert_eq!(papers(&read_all(&dir)), 0);
    write_as(&dir, numbered(1), 10..12);
    let files = read_all(&dir);
    assert_eq!(papers(&files), 1);
    for trusted in [&[0][..], &[1], &[0, 1], &[1, 0]] {
        assert_eq!(fault(&files, trusted, &[]), None, "{trusted:?}");
    }
    let refused = change(&dir, 0, 1);
    assert!(
        matches!(refused, Err(OpenError::Replaced { .. })),
        "{refused:?}"
    );
    change(&dir, 1, 2).unwrap();
    write_as(&dir, numbered(2), 12..14);
    assert_eq!(audit_ids(&dir), (1..14).collect::<Vec<_>>());
    for trusted in [0, 1, 2] {
        assert_eq!(fault(&read_all(&dir), &[trusted], &[]), None, "{trusted}");
    }
}

#[test]
fn a_change_needs_a_log_its_key_and_another_key() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let refused = |old, new| change(&dir, old, new).unwrap_err().to_string();
    assert!(refused(0, 1).contains("there is no log"));
    assert!(!dir.exists());
    write_as(&dir, numbered(0), 1..3);
    let nowhere = check::verify(
        &DirFiles::new(&temp.path().join("no")),
        &check::Options::default(),
    );
    assert!(matches!(nowhere, Err(CheckError::Io(_))), "{nowhere:?}");
    assert!(refused(0, 0).contains("the new key is the old one"));
    assert!(refused(1, 2).contains("name the key that signs it"));
    assert_eq!(fault(&read_all(&dir), &[0], &[]), None);
}

/// A checkpoint that was asked for as a yardstick and is none is no fault of
/// the log.
#[test]
fn an_earlier_checkpoint_of_another_key_or_log_is_no_finding() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    three_keys(&dir);
    let files = read_all(&dir);
    let trusted = [numbered(0).public().clone()];
    let against = |note: &str| {
        let options = check::Options {
            trusted: &trusted,
            earlier: Some(note),
            ..check::Options::default()
        };
        check::verify(&files, &options)
    };
    let mine = String::from_utf8(files["checkpoint"].clone()).unwrap();
    assert_eq!(against(&mine).unwrap().findings, []);
    let now = Checkpoint::open(&mine, &[numbered(2).public().clone()]).unwrap();
    let strange = now.sign(&numbered(7)).unwrap();
    let refused = against(&strange);
    assert!(
        matches!(refused, Err(CheckError::Earlier(NoteError::Foreign { .. }))),
        "{refused:?}"
    );
    // What cannot be read is told all the same.
    let unreadable = dir.join("tile/x");
    std::os::unix::fs::symlink("elsewhere", &unreadable).unwrap();
    let options = check::Options {
        trusted: &trusted,
        earlier: Some(&strange),
        ..check::Options::default()
    };
    let told = check::verify(&DirFiles::new(&dir), &options).unwrap();
    assert_eq!(told.findings[0].fault, Fault::UnreadableFile);
    assert!(told.not_compared.is_some());
    std::fs::remove_file(unreadable).unwrap();
    let refused = against("nothing");
    assert!(
        matches!(refused, Err(CheckError::Earlier(NoteError::Format(_)))),
        "{refused:?}"
    );
    let replaced = against(&now.sign(&numbered(0)).unwrap());
    assert!(
        matches!(
            replaced,
            Err(CheckError::Earlier(NoteError::Replaced { .. }))
        ),
        "{replaced:?}"
    );
    let gone = BTreeSet::from([numbered(2).public().id()]);
    let options = check::Options {
        trusted: &trusted,
        revoked: Some(&gone),
        earlier: Some(&mine),
        ..check::Options::default()
    };
    // The log is under that key, too, and that is told before anything else.
    let revoked = check::verify(&files, &options).unwrap();
    assert_eq!(revoked.findings[0].fault, Fault::RevokedKey, "{revoked:?}");
    assert!(revoked.not_compared.unwrap().contains("is revoked"));
    let other = Checkpoint {
        origin: Origin::new("elsewhere").unwrap(),
        ..now
    };
    let refused = against(&other.sign(&numbered(2)).unwrap());
    assert!(
        matches!(refused, Err(CheckError::OtherLog { .. })),
        "{refused:?}"
    );
}

/// Who knows the log's name is told of another log of the same key.
#[test]
fn a_log_of_another_name_is_not_the_one_that_was_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    write_as(&dir, numbered(0), 1..4);
    let trusted = [numbered(0).public().clone()];
    let own = options().origin.to_string();
    for (asked, found) in [(own.as_str(), None), ("elsewhere", Some(Fault::OtherLog))] {
        let options = check::Options {
            trusted: &trusted,
            origin: Some(asked),
            ..check::Options::default()
        };
        let report = check::verify(&DirFiles::new(&dir), &options).unwrap();
        let fault = report.findings.first().map(|finding| finding.fault);
        assert_eq!(fault, found, "{asked}");
    }
}

/// Neither lines nor tiles are left to hold an earlier checkpoint against.
#[test]
fn an_earlier_checkpoint_that_nothing_is_left_of_is_not_compared() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    small.segment_bytes = 1_000;
    let log = open(&dir, small).unwrap();
    let write = |ids: std::ops::Range<u64>| {
        ids.for_each(|id| log.record(&event(id)).unwrap());
        log.flush().unwrap();
    };
    write(1..10);
    let earlier = std::fs::read_to_string(dir.join("checkpoint")).unwrap();
    write(10..40);
    let mut files = read_all(&dir);
    let mut segments = files.keys().filter(|name| name.starts_with("events."));
    let first = segments.next().cloned().unwrap();
    assert_ne!(first, "events.jsonl", "a finished segment");
    files.retain(|name, _| *name != first && !name.starts_with("tile/"));
    let trusted = trusted();
    let options = check::Options {
        trusted: &trusted,
        earlier: Some(&earlier),
        ..check::Options::default()
    };
    let report = check::verify(&files, &options).unwrap();
    let why = report.not_compared.unwrap();
    assert!(
        why.starts_with("not all hashes of the log's first "),
        "{why}"
    );
}

/// The last checkpoint of the old key, over all that it wrote, stays a yardstick.
// requirement: KD-10, AU-16
#[test]
fn the_checkpoint_that_a_key_left_with_is_still_believed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    write_as(&dir, numbered(0), 1..10);
    change(&dir, 0, 1).unwrap();
    let files = read_all(&dir);
    let text = String::from_utf8(files["events.jsonl"].clone()).unwrap();
    // Without the line that the new key closed the log with, and with one more.
    let (kept, _) = text.trim_end().rsplit_once('\n').unwrap();
    let (left_with, _) = checkpoint_over(kept.lines());
    let note = left_with.sign(&numbered(0)).unwrap();
    assert_eq!(against(&files, &[0], &note).unwrap().findings, []);
    let (beyond, _) = checkpoint_over(text.lines());
    let note = beyond.sign(&numbered(0)).unwrap();
    let refused = against(&files, &[0], &note);
    assert!(
        matches!(
            refused,
            Err(CheckError::Earlier(NoteError::Replaced { .. }))
        ),
        "{refused:?}"
    );
}
