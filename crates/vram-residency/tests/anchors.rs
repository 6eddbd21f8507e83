//! Keyed checks around their tree pass: when it comes, what it states, and what a clock or a
//! failed pass does to it.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Rig, rig_of, weights};
use vram_residency::clock::{Clock, Timestamp};
use vram_residency::device::DeviceError;
use vram_residency::error::{Error, VerifyError};
use vram_residency::sim::{Op, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, SealedShard};

const MIB: usize = 1 << 20;

/// A batch of eight segments, and one at a time once it is known that even that takes longer.
const LEAST: Mode = Mode::Sweep {
    budget: Duration::ZERO,
};

fn policy(anchor_passes: u64, anchor_age: u64) -> Policy {
    Policy {
        anchor_passes,
        anchor_age: Duration::from_secs(anchor_age),
        ..Policy::default()
    }
}

fn seal(rig: &Rig, len: usize) -> SealedShard {
    let bytes = weights(len, 3);
    rig.manager.seal(SealRequest::bytes(&bytes)).unwrap()
}

/// Bytes that were checked, and how many such checks cover everything.
fn verify(rig: &Rig, shard: &SealedShard, mode: Mode) -> (u64, u64) {
    let verified = rig.manager.verify_sealed(shard, mode).unwrap();
    let verification = verified.verification();
    (verification.bytes_checked, verification.passes_to_cover)
}

fn fail_a_keyed_pass(rig: &Rig, shard: &SealedShard) {
    let fault = DeviceError::Unsupported { what: "scripted" };
    rig.device().fail(Op::KeyedTags, 1, fault);
    let error = rig.manager.verify_sealed(shard, Mode::Keyed).err().unwrap();
    assert!(matches!(error, Error::Device(_)), "{error}");
}

/// Time goes on by so many nanoseconds with each question, backwards too.
#[derive(Default)]
struct Ticking {
    step: AtomicU64,
    now: AtomicU64,
}

impl Ticking {
    fn by(step: i64) -> Arc<Self> {
        let clock = Self::default();
        clock.now.store(1 << 40, Ordering::SeqCst);
        clock.step.store(step.cast_unsigned(), Ordering::SeqCst);
        Arc::new(clock)
    }
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(common::START_NS)
    }

    fn monotonic(&self) -> u64 {
        let step = self.step.load(Ordering::SeqCst);
        self.now.fetch_add(step, Ordering::SeqCst)
    }
}

/// A rig whose time is this clock's.
fn rig_at(clock: Arc<Ticking>, policy: Policy) -> Rig {
    let options = [
        SimOptions::new(64 << 20),
        SimOptions::new(64 << 20).ordinal(1),
    ];
    Rig::build(&options, policy, |builder| builder.clock(clock))
}

/// Flips a bit behind a sweep that was a tree pass, and sweeps as often as it said.
fn found_within(rig: &Rig, shard: &SealedShard, stated: u64, offset: u64) {
    rig.flip_newest(shard, offset, 3);
    let sweep = || rig.manager.verify_sealed(shard, LEAST).map(drop);
    let found = (0..stated).find_map(|_| sweep().err());
    let found = found.unwrap_or_else(|| panic!("not within {stated} passes, at {offset}"));
    let is_damage = matches!(found, Error::Verify(VerifyError::Contents { .. }));
    assert!(is_damage, "{found}");
}

// requirement: PM-8, VA-5
#[test]
fn a_sweep_that_was_a_tree_pass_says_how_many_more_cover_everything() {
    for offset in [0, 7 * MIB as u64, 20 * MIB as u64 - 1] {
        // Due after one round, whose pace is known by then.
        let rig = rig_at(Ticking::by(1000), policy(1, 3600));
        let shard = seal(&rig, 20 * MIB);
        let stated = (0..).find_map(|_| {
            let before = rig.device().calls(Op::BlockDigests);
            let (bytes, stated) = verify(&rig, &shard, LEAST);
            let was_tree = rig.device().calls(Op::BlockDigests) > before;
            assert_eq!(was_tree, bytes == 20 * MIB as u64);
            was_tree.then_some(stated)
        });
        let stated = stated.unwrap();
        assert_eq!(stated, 20, "one at a time");
        found_within(&rig, &shard, stated, offset);
    }
}

// requirement: PM-8, VA-5
#[test]
fn a_sweep_without_a_reference_says_how_many_more_cover_everything() {
    for offset in [0, 7 * MIB as u64, 20 * MIB as u64 - 1] {
        let rig = rig_at(Ticking::by(1000), Policy::default());
        let shard = seal(&rig, 20 * MIB);
        fail_a_keyed_pass(&rig, &shard);
        let (bytes, stated) = verify(&rig, &shard, LEAST);
        assert_eq!((bytes, stated), (20 * MIB as u64, 20));
        found_within(&rig, &shard, stated, offset);
    }
    let rig = rig_at(Ticking::by(1000), Policy::default());
    let shard = seal(&rig, 20 * MIB);
    let shard = rig.manager.migrate_shard(&shard, 1).unwrap();
    let (bytes, stated) = verify(&rig, &shard, LEAST);
    assert_eq!((bytes, stated), (20 * MIB as u64, 20));
    found_within(&rig, &shard, stated, 5 * MIB as u64);
}

/// Where there is time for everything, one pass is enough after a tree pass as well.
// requirement: PM-8, VA-5
#[test]
fn the_pace_of_sweeps_outlives_the_tree_pass() {
    let rig = rig_at(Ticking::by(1000), policy(1, 3600));
    let shard = seal(&rig, 20 * MIB);
    let sweep = Mode::Sweep {
        budget: Duration::from_secs(1),
    };
    let mut trees = Vec::new();
    for _ in 0..4 {
        assert_eq!(verify(&rig, &shard, sweep), (20 * MIB as u64, 1));
        trees.push(rig.device().calls(Op::BlockDigests));
    }
    assert_eq!(trees, [0, 1, 1, 2]);
}

/// A clock that goes back, or stands still, tells no pace: a sweep ends with its first batch.
// requirement: PM-8
#[test]
fn a_clock_that_tells_nothing_does_not_make_a_sweep_read_everything() {
    for step in [-1000_i64, 0] {
        let clock = Ticking::by(0);
        let rig = rig_at(Arc::clone(&clock), Policy::default());
        let shard = seal(&rig, 20 * MIB);
        // Later than the last tree pass, and from now on like this.
        clock.now.fetch_add(3_000_000_000, Ordering::SeqCst);
        clock.step.store(step.cast_unsigned(), Ordering::SeqCst);
        let sweep = Mode::Sweep {
            budget: Duration::from_secs(1),
        };
        let bytes: Vec<u64> = (0..3).map(|_| verify(&rig, &shard, sweep).0).collect();
        assert_eq!(bytes, [8, 8, 4].map(|mib| mib * MIB as u64), "{step}");
    }
}

/// What earlier passes told about the memory is not forgotten for it.
// requirement: PM-8, VA-5
#[test]
fn a_clock_that_tells_nothing_leaves_the_pace_as_it_was() {
    let clock = Ticking::by(1000);
    let rig = rig_at(Arc::clone(&clock), policy(100, 1 << 20));
    let shard = seal(&rig, 20 * MIB);
    let sweep = Mode::Sweep {
        budget: Duration::from_secs(1),
    };
    let before = (0..3).map(|_| verify(&rig, &shard, sweep).0).last();
    assert_eq!(before, Some(20 * MIB as u64), "there is time for all of it");
    clock.step.store(0, Ordering::SeqCst);
    let first = verify(&rig, &shard, sweep).0;
    let second = verify(&rig, &shard, sweep).0;
    assert_eq!((first, second), (20 * MIB as u64, 20 * MIB as u64));
}

// requirement: PM-8
#[test]
fn a_full_verification_counts_as_the_tree_pass_of_the_age() {
    const MINUTE: u64 = 60_000_000_000;
    let rig = rig_of(1, 16 << 20, policy(1000, 3600));
    let shard = seal(&rig, 3 * MIB);
    let trees = || rig.device().calls(Op::BlockDigests);
    for _ in 0..4 {
        rig.clock.advance(50 * MINUTE);
        let _ = verify(&rig, &shard, Mode::Full);
        let before = trees();
        rig.clock.advance(50 * MINUTE);
        let _ = verify(&rig, &shard, Mode::Keyed);
        assert_eq!(trees(), before, "the age counts from the full one");
        let _ = verify(&rig, &shard, Mode::Full);
    }
    rig.clock.advance(60 * MINUTE);
    let before = trees();
    let _ = verify(&rig, &shard, Mode::Keyed);
    assert_eq!(trees(), before + 1);
}

/// Falling back on the spare reference starts no new count of passes.
// requirement: PM-8
#[test]
fn failed_passes_do_not_put_the_tree_pass_off() {
    let rig = rig_of(1, 16 << 20, policy(4, 3600));
    let shard = seal(&rig, 3 * MIB);
    fail_a_keyed_pass(&rig, &shard);
    let mut trees = Vec::new();
    for pass in 0..6 {
        if pass == 4 {
            // The tree pass of the first check left a spare.
            fail_a_keyed_pass(&rig, &shard);
        }
        let _ = verify(&rig, &shard, Mode::Keyed);
        trees.push(rig.device().calls(Op::BlockDigests));
    }
    assert_eq!(trees, [1, 1, 1, 1, 1, 2]);
}
