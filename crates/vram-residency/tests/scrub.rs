//! The scrubber: whose turn it is, what it costs, and when it rests.

mod common;

use std::time::Duration;

use common::{Rig, rig_of, wait_until, weights};
use vram_residency::error::Error;
use vram_residency::manager::Scrubber;
use vram_residency::policy::PolicyError;
use vram_residency::sim::Op;
use vram_residency::{Policy, SealRequest, SealedShard};

const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000_000_000;

fn seal(rig: &Rig, mib: u64, id: &str) -> SealedShard {
    let bytes = weights(usize::try_from(mib * MIB).unwrap(), 3);
    let request = SealRequest::bytes(&bytes).id(id);
    rig.manager.seal(request).unwrap()
}

/// Turns are counted, not timed.
// requirement: PM-8
#[test]
fn the_clock_does_not_say_whose_turn_it_is() {
    let rig = rig_of(1, 16 << 20, Policy::default());
    let shards: Vec<SealedShard> = ["a", "b", "c"].map(|id| seal(&rig, 2, id)).into();
    let turn = |_| {
        let step = rig.manager.scrub_step(MIB).unwrap().unwrap();
        step.shard_id.to_string()
    };
    let rounds: Vec<Vec<String>> = (0..4).map(|_| (0..3).map(turn).collect()).collect();
    for round in &rounds {
        assert_eq!(round, &rounds[0], "each in its turn");
        assert!(
            ["a", "b", "c"]
                .iter()
                .all(|id| round.iter().any(|one| one == id))
        );
    }
    drop(shards);
}

// requirement: PM-8
#[test]
fn a_step_says_what_it_checked_and_what_it_read() {
    let rig = rig_of(
        1,
        16 << 20,
        Policy {
            anchor_passes: 1,
            ..Policy::default()
        },
    );
    let shard = seal(&rig, 3, "shard");
    let step = || {
        let step = rig.manager.scrub_step(2 * MIB).unwrap().unwrap();
        (step.bytes / MIB, step.read / MIB)
    };
    // Two segments, the one that is left, and then the tree: new references, a
    // segment of them for the CPU, and every block.
    let steps: Vec<_> = (0..6).map(|_| step()).collect();
    assert_eq!(steps, [(2, 2), (1, 1), (3, 7), (2, 2), (1, 1), (3, 7)]);
    drop(shard);
}

/// A shard that takes longer to sweep than the age of a tree pass is still swept.
// requirement: PM-8
#[test]
fn a_large_shard_is_swept_once_between_two_tree_passes() {
    let policy = Policy {
        anchor_age: Duration::from_secs(1),
        ..Policy::default()
    };
    let rig = rig_of(1, 16 << 20, policy);
    let shard = seal(&rig, 4, "shard");
    let step = || {
        rig.clock.advance(10 * SECOND);
        let before = rig.device().calls(Op::BlockDigests);
        rig.manager.scrub_step(MIB).unwrap().unwrap();
        rig.device().calls(Op::BlockDigests) > before
    };
    let trees: Vec<bool> = (0..15).map(|_| step()).collect();
    let round = [false, false, false, false, true];
    assert_eq!(trees, [round, round, round].concat());
    drop(shard);
}

/// That is said once a minute, as for a retired key, and proves nothing against the shard.
// requirement: DG-6, PM-8
#[test]
fn the_scrubber_checks_the_age_of_seals() {
    let policy = Policy {
        max_seal_age: Some(Duration::from_secs(3600)),
        ..Policy::default()
    };
    let rig = rig_of(1, 16 << 20, policy);
    let old = seal(&rig, 1, "old");
    rig.clock.advance(1800 * SECOND);
    let _new = seal(&rig, 1, "new");
    let scrub = || {
        rig.clock.advance(SECOND);
        rig.manager.scrub_step(MIB)
    };
    assert!((0..4).all(|_| scrub().is_ok()), "both are young enough");
    rig.clock.advance(1800 * SECOND);
    let mut refused = 0;
    for _ in 0..30 {
        match scrub() {
            Ok(step) => assert_eq!(step.unwrap().shard_id.as_str(), "new"),
            Err(Error::Policy(PolicyError::SealAge { .. })) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 1);
    assert!(!old.is_quarantined());
}

/// What it found stopped the manager; the operator resumes, and it goes on.
// requirement: PM-8, WORKER-4122
#[test]
fn the_scrubber_rests_while_the_manager_is_stopped_and_goes_on_afterwards() {
    let rig = rig_of(1, 16 << 20, Policy::default());
    let good = seal(&rig, 2, "good");
    let scrubber = Scrubber::start(&rig.manager, 1 << 40).unwrap();
    for failures in 1..=2 {
        let bad = seal(&rig, 1, "bad");
        rig.flip_newest(&bad, 5, 1);
        wait_until(|| scrubber.failures() == failures);
        rig.manager.deallocate(&bad).unwrap();
        let before = scrubber.bytes_checked();
        rig.manager.resume("the bad one is gone").unwrap();
        wait_until(|| scrubber.bytes_checked() > before);
    }
    drop(scrubber);
    assert!(!good.is_quarantined());
}
