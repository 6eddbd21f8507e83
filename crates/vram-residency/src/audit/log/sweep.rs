//! The log after a kill, and after a power failure, between any two operations of
//! its life: it opens, verifies, and holds every critical event that was
//! acknowledged.
//!
//! requirement: AU-12, AU-13, AU-15, AU-16
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use super::committer::Committer;
use super::disk::{Disk, Image};
use super::open::{Place, Writer};
use super::queue::Entry;
use super::tests::{critical, options, plain};
use super::{LogOptions, OpenError, handover, open, writer};
use crate::audit::check::{self, Report};
use crate::audit::line::{self, CHECKPOINT, CURRENT};
use crate::audit::{Body, Event};
use crate::clock::{ManualClock, Timestamp};
use crate::key::{RootKey, SigningKey};
use crate::sync::Arc;

const SEED: u64 = 4163;
/// The first event of those who come after the kill.
const LATER: u64 = 10_000;

/// What was acknowledged when the disk was in a state: the last critical event,
/// and whether its key changes or has changed.
const CHANGING: u64 = 1 << 32;
const CHANGED: u64 = 1 << 33;

fn key(number: u8) -> SigningKey {
    let token = [b"0123456789abcdef0123456789abcde", &[b'0' + number][..]].concat();
    SigningKey::new(&RootKey::from_token(&token).unwrap()).unwrap()
}

fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 4_000,
        keep_segments: Some(2),
        ..options()
    }
}

fn place(disk: &Disk) -> Place<'_> {
    Place {
        dir: Path::new("log"),
        files: disk,
        storage: Box::new(|| Ok(disk.storage())),
    }
}

fn with<T>(number: u8, work: impl FnOnce(Writer<'_>) -> T) -> T {
    let options = small();
    work(Writer {
        options: &options,
        key: key(number),
        clock: Arc::new(ManualClock::new(Timestamp::from_nanos(1))),
    })
}

fn start(disk: &Disk, number: u8) -> Result<Committer, OpenError> {
    with(number, |writer| open::open(place(disk), writer))
}

fn write(committer: &mut Committer, events: Vec<Event>, cover: bool) {
    let entry = |event: Event| Entry {
        time: event.timestamp,
        json: serde_json::to_vec(&event).unwrap(),
    };
    committer.accept(events.into_iter().map(entry).collect(), (0, 0));
    let covered = writer::attempt(committer, cover).unwrap();
    assert_eq!(covered, cover);
}

/// A group of plain events, and of one that is acknowledged at its end.
fn round(disk: &Disk, committer: &mut Committer, ids: std::ops::Range<u64>, key: u64) {
    let (last, half) = (ids.end - 1, (ids.start + ids.end) / 2);
    write(committer, (ids.start..half).map(plain).collect(), false);
    let mut events: Vec<_> = (half..last).map(plain).collect();
    events.push(critical(last));
    write(committer, events, true);
    disk.mark(key | last);
}

/// Starts, groups of events, rotation, retirement, full tiles, a change of keys.
fn live(disk: &Disk) {
    let mut log = start(disk, 0).unwrap();
    for at in 0..7 {
        round(disk, &mut log, at * 40 + 1..at * 40 + 41, 0);
    }
    log.close().unwrap();
    let mut log = start(disk, 0).unwrap();
    round(disk, &mut log, 281..285, 0);
    drop(log);
    disk.mark(CHANGING | 284);
    with(0, |writer| handover::change(place(disk), writer, key(1))).unwrap();
    disk.mark(CHANGED | 284);
    let mut log = start(disk, 1).unwrap();
    round(disk, &mut log, 285..300, CHANGED);
    log.close().unwrap();
}

fn verify(disk: &Disk, number: u8) -> Report {
    let trusted = [key(number).public().clone()];
    let options = check::Options {
        trusted: &trusted,
        ..check::Options::default()
    };
    check::verify(disk, &options).unwrap()
}

fn shown(disk: &Disk) -> Vec<Event> {
    let mut events = Vec::new();
    let damaged = check::show(disk, &check::Filter::default(), &mut |shown| {
        events.extend(shown.event);
        Ok(())
    });
    assert_eq!(damaged.unwrap(), []);
    events
}

/// The log as somebody finds it, opened by whom it belongs to; who that is.
fn reopen(disk: &Disk, mark: u64) -> (Committer, u8) {
    let (error, changing) = match start(disk, 0) {
        Ok(committer) => {
            assert_eq!(mark & CHANGED, 0, "it went back to its old key");
            return (committer, 0);
        }
        Err(error) => (error, mark >= CHANGING),
    };
    assert!(
        changing && matches!(error, OpenError::Replaced { .. }),
        "{error}"
    );
    (start(disk, 1).unwrap(), 1)
}

/// Opens what is left and goes on; the states that the disk was in meanwhile.
fn goes_on(image: &Image, mark: u64, killed: bool) -> Vec<(super::disk::State, u64)> {
    let disk = Disk::new(image.clone());
    disk.mark(mark);
    let (mut log, number) = reopen(&disk, mark);
    if image.contains_key(CHECKPOINT) {
        let left = verify(&Disk::new(image.clone()), number);
        assert_eq!(left.findings, []);
        assert!(!killed || left.tiles_lost == 0, "a kill takes no tile");
    }
    write(&mut log, vec![critical(LATER)], true);
    log.close().unwrap();
    let report = verify(&disk, number);
    assert_eq!((report.findings, report.uncovered), (vec![], 0));
    assert_eq!(verify(&disk, 0).findings, [], "who trusts the old key");
    assert!(!disk.image().keys().any(|name| name.ends_with(".new")));
    let events = shown(&disk);
    let named = |event: &Event| matches!(event.body, Body::AuditKeyChanged { .. });
    if number == 0 {
        assert!(!events.iter().any(named), "a change that was given up");
    }
    let ids: Vec<_> = events.iter().map(|event| event.audit_id).collect();
    assert!(ids.contains(&LATER));
    let ids: Vec<_> = ids
        .into_iter()
        .filter(|id| (1..LATER).contains(id))
        .collect();
    let last = mark % CHANGING;
    assert!(last == 0 || ids.contains(&last), "{last} is gone: {ids:?}");
    let first = ids.first().copied().unwrap_or(0);
    assert!(
        ids.iter().copied().eq(first..first + ids.len() as u64),
        "{ids:?}"
    );
    disk.past()
}

/// splitmix64.
fn below(seed: &mut u64, limit: usize) -> usize {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) % limit as u64).unwrap()
}

/// One in this many is killed once more while it goes on.
const KILLED_AGAIN: usize = 8;

#[test]
fn a_log_outlives_a_kill_and_a_power_failure_between_any_two_steps_of_its_life() {
    println!("seed {SEED}");
    let disk = Disk::new(Image::new());
    live(&disk);
    let (mut seed, mut seen) = (SEED, BTreeSet::new());
    let (mut states, mut again) = (0, 0);
    for (state, mark) in disk.past() {
        states += 1;
        let powerless = state.powerless(&mut |limit| below(&mut seed, limit));
        let images = [state.killed()].into_iter().chain(powerless);
        for (at, image) in images.enumerate() {
            let mut hasher = DefaultHasher::new();
            (&image, mark, at == 0).hash(&mut hasher);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            let meanwhile = goes_on(&image, mark, at == 0);
            if below(&mut seed, KILLED_AGAIN) == 0 {
                again += 1;
                let (state, mark) = &meanwhile[below(&mut seed, meanwhile.len())];
                goes_on(&state.killed(), *mark, false);
                let [_, _, between] = state.powerless(&mut |limit| below(&mut seed, limit));
                goes_on(&between, *mark, false);
            }
        }
    }
    println!(
        "{states} states, {} images, {again} killed again",
        seen.len()
    );
    assert!(states > 300 && seen.len() > 500 && again > 50);
}

/// What stands in the log's newest `audit.opened`: lines and bytes that were cut off.
fn told(disk: &Disk) -> (u64, u64) {
    let mut told = shown(disk)
        .into_iter()
        .filter_map(|event| match event.body {
            Body::AuditOpened {
                refused_lines,
                torn_bytes,
                ..
            } => Some((refused_lines, torn_bytes)),
            _ => None,
        });
    told.next_back().unwrap()
}

/// The start that cuts lines off is killed, before its first event is under a
/// checkpoint: the next one says all the same that they were there, and how many.
#[test]
fn what_was_cut_off_is_told_although_the_start_that_did_it_was_killed() {
    let disk = Disk::new(Image::new());
    let mut log = start(&disk, 0).unwrap();
    write(&mut log, (1..6).map(plain).collect(), true);
    drop(log);
    let mut left = disk.image();
    let no_event = |seq: u64| {
        let time = Timestamp::from_nanos(7);
        format!("{{\"seq\":{seq},\"time\":\"{time}\",\"x\":1}}\n")
    };
    let junk = [no_event(6), no_event(7), "torn".to_owned()].concat();
    left.get_mut(CURRENT).unwrap().extend(junk.bytes());
    let disk = Disk::new(left);
    drop(start(&disk, 0).unwrap());
    let (mut seed, steps) = (SEED, disk.past());
    assert!(steps.len() > 5, "{}", steps.len());
    for (state, _) in &steps {
        let powerless = state.powerless(&mut |limit| below(&mut seed, limit));
        for image in powerless.into_iter().chain([state.killed()]) {
            let disk = Disk::new(image);
            start(&disk, 0).unwrap().close().unwrap();
            assert_eq!(told(&disk), (2, 4));
            assert_eq!(verify(&disk, 0).findings, []);
        }
    }
    // Others come after they were cut off.
    let mut left = disk.image();
    left.get_mut(CURRENT).unwrap().extend(no_event(6).bytes());
    let disk = Disk::new(left);
    start(&disk, 0).unwrap().close().unwrap();
    assert_eq!(told(&disk), (3, 4));
    // It was said: nobody says it again.
    start(&disk, 0).unwrap().close().unwrap();
    assert_eq!(told(&disk), (0, 0));
}

/// Events before the later ones of which the log says that nothing proves them.
fn unproved(disk: &Disk) -> Vec<u64> {
    let mut ids = Vec::new();
    let damaged = check::show(disk, &check::Filter::default(), &mut |shown| {
        ids.extend(shown.adopted.then_some(shown.event.unwrap().audit_id));
        Ok(())
    });
    assert_eq!(damaged.unwrap(), []);
    ids.retain(|id| *id < LATER);
    ids
}

/// Lines behind the last checkpoint of a killed writer, in a segment that is full, and
/// the start of another; all that was on the disk.
fn full_and_left(lines: u64) -> Image {
    let disk = Disk::new(Image::new());
    let mut log = start(&disk, 0).unwrap();
    write(&mut log, vec![plain(1)], true);
    write(&mut log, (2..2 + lines).map(plain).collect(), false);
    drop(log);
    let mut left = disk.image();
    let current = left.get_mut(CURRENT).unwrap();
    current.extend(b"torn");
    assert!(current.len() as u64 > small().segment_bytes);
    left
}

/// Whoever starts next finishes the segment at once. Killed in between, no checkpoint
/// covers the lines before the event that says that nothing proves them.
// requirement: AU-9, AU-13
#[test]
fn nothing_that_was_left_is_signed_before_the_event_that_says_so() {
    const LEFT: u64 = 30;
    let disk = Disk::new(full_and_left(LEFT));
    let mut log = start(&disk, 0).unwrap();
    write(&mut log, vec![critical(LATER)], true);
    write(&mut log, vec![critical(LATER + 1)], true);
    drop(log);
    let rotated = |name: &String| line::segment_first(name).is_some();
    assert!(disk.image().keys().any(rotated), "no segment was finished");
    let (mut seed, steps) = (SEED, disk.past());
    assert!(steps.len() > 20, "{}", steps.len());
    for (state, _) in &steps {
        let powerless = state.powerless(&mut |limit| below(&mut seed, limit));
        for image in powerless.into_iter().chain([state.killed()]) {
            let disk = Disk::new(image);
            start(&disk, 0).unwrap().close().unwrap();
            assert_eq!(verify(&disk, 0).findings, []);
            assert_eq!(unproved(&disk), (2..2 + LEFT).collect::<Vec<_>>());
            let events = shown(&disk).into_iter();
            let torn = events.map(|event| match event.body {
                Body::AuditOpened { torn_bytes, .. } => torn_bytes,
                _ => 0,
            });
            assert!(torn.max() >= Some(4), "what was cut off is forgotten");
        }
    }
}
