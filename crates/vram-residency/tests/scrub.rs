//! The scrubber: whose turn it is, what it costs, and when it rests.

mod common;

use std::time::Duration;

use common::{Rig, rig_of, wait_until, weights};
use vram_residency::device::DeviceError;
use vram_residency::error::Error;
use vram_residency::manager::Scrubber;
use vram_residency::policy::{OnFailure, PolicyError};
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

/// How long the scrubber waits between so many attempts that fail, asked ten times a second.
fn waits(rig: &Rig, attempts: usize) -> Vec<u64> {
    let (mut failed, mut ticks) = (Vec::new(), 0);
    while failed.len() < attempts {
        if failed.is_empty() || failed.last() == Some(&(ticks - 1)) {
            let error = DeviceError::Unsupported { what: "scripted" };
            rig.device().fail(Op::Witness, 1, error);
        }
        let before = rig.device().calls(Op::Witness);
        match rig.manager.scrub_step(MIB) {
            Err(Error::Device(_)) => failed.push(ticks),
            Ok(None) => assert_eq!(rig.device().calls(Op::Witness), before, "it waits"),
            other => panic!("{other:?}"),
        }
        rig.clock.advance(SECOND / 10);
        ticks += 1;
    }
    failed.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Once at its next turn, then less and less often, and at once again after it has gone well.
// requirement: PM-8, AU-3
#[test]
fn a_device_that_goes_on_failing_is_asked_less_and_less_often() {
    let rig = rig_of(1, 16 << 20, Policy::default());
    let shard = seal(&rig, 2, "shard");
    for _ in 0..2 {
        assert_eq!(waits(&rig, 10), [1, 10, 20, 40, 80, 160, 320, 600, 600]);
        rig.clock.advance(60 * SECOND);
        let step = rig.manager.scrub_step(MIB).unwrap();
        assert!(step.is_some(), "it answers again");
    }
    assert!(!shard.is_quarantined());
}

/// It is looked at again at once and then every other turn, and the others share the rest.
// requirement: PM-8, DG-2
#[test]
fn a_shard_in_doubt_comes_first_and_starves_nobody() {
    let policy = Policy {
        on_failure: OnFailure::Isolate,
        // Nobody else asks for block hashes.
        anchor_age: Duration::MAX,
        anchor_passes: u64::MAX,
        ..Policy::default()
    };
    let rig = rig_of(1, 16 << 20, policy);
    let shards: Vec<SealedShard> = ["a", "b", "c", "bad"].map(|id| seal(&rig, 2, id)).into();
    let fail = || {
        let error = DeviceError::Unsupported { what: "scripted" };
        rig.device().fail(Op::BlockDigests, 1, error);
    };
    // Nobody can settle what every segment of it says.
    for segment in 0..2 {
        rig.flip_newest(&shards[3], segment * MIB + 5, 1);
    }
    fail();
    let turn = || {
        // Whatever an attempt that failed waits for is over.
        rig.clock.advance(60 * SECOND);
        match rig.manager.scrub_step(MIB) {
            Ok(step) => step.unwrap().shard_id.to_string(),
            Err(Error::Device(_)) => {
                fail();
                "bad".to_owned()
            }
            Err(error) => panic!("{error}"),
        }
    };
    while turn() != "bad" {}
    let turns: Vec<String> = (0..16).map(|_| turn()).collect();
    let places: Vec<bool> = turns.iter().map(|id| id == "bad").collect();
    for (place, is_bad) in places.iter().enumerate() {
        // Its own turn comes in between as well, when it is the oldest.
        assert!(*is_bad || place % 2 == 1, "{turns:?}");
    }
    for id in ["a", "b", "c"] {
        let count = turns.iter().filter(|turn| *turn == id).count();
        assert!(count >= 2, "{id} of {turns:?}");
    }
    assert!(shards.iter().all(|shard| !shard.is_quarantined()));
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
