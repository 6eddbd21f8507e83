//! Keyed checks, sweeps and the scrubber: everything a flipped bit can do to
//! them, and nothing that it cannot.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::forward::forward;
use common::wait_until;
use vram_residency::audit::MemorySink;
use vram_residency::clock::{ManualClock, Timestamp};
use vram_residency::device::{self, Device};
use vram_residency::error::{Error, VerifyError};
use vram_residency::key::RootKey;
use vram_residency::load::PatternSource;
use vram_residency::manager::{RunState, Scrubber};
use vram_residency::sim::{Op, SimDevice};
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};

const MIB: u64 = 1 << 20;

struct World {
    sim: SimDevice,
    sink: Arc<MemorySink>,
    manager: VramManager,
    shard: SealedShard,
}

fn world(len: u64, policy: Policy) -> World {
    let sim = SimDevice::new(64 * MIB);
    let sink = Arc::new(MemorySink::new());
    let manager = VramManager::builder()
        .device(sim.clone())
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .policy(policy)
        .sink(sink.clone())
        .build()
        .unwrap();
    let request = SealRequest::source(PatternSource::new(len, 1)).id("shard");
    let shard = manager.seal(request).unwrap();
    World {
        sim,
        sink,
        manager,
        shard,
    }
}

impl World {
    fn flip(&self, offset: u64) {
        self.sim.flip_bit(self.sim.buffers()[0], offset, 3).unwrap();
    }

    /// Spends the key of a pass on a launch that fails.
    fn fail_a_keyed_pass(&self) {
        let fault = vram_residency::device::DeviceError::Driver {
            op: "launch",
            code: 12345,
            name: "unknown".to_owned(),
            text: "scripted".to_owned(),
        };
        self.sim.fail(Op::KeyedTags, 1, fault);
        let failed = self.manager.verify_sealed(&self.shard, Mode::Keyed);
        let error = failed.err().unwrap();
        assert!(matches!(error, Error::Device(_)), "{error}");
    }

    fn assert_condemned(&self, error: &Error, block: u64) {
        let Error::Verify(VerifyError::Contents { damage, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!(damage.runs, [(block, 1)]);
        assert!(self.shard.is_quarantined());
        assert!(matches!(self.manager.state(), RunState::Stopped { .. }));
        let types = self.sink.types();
        assert!(
            types.contains(&"seal.verification_failed".to_owned()),
            "{types:?}"
        );
    }
}

#[test]
fn keyed_passes_read_every_byte_and_see_every_segment() {
    for at in [0, MIB - 1, MIB, 5 * MIB + 77, 9 * MIB + 99] {
        let world = world(9 * MIB + 100, Policy::default());
        for pass in 1..=3 {
            let verified = world
                .manager
                .verify_sealed(&world.shard, Mode::Keyed)
                .unwrap();
            assert_eq!(verified.verification().bytes_checked, 9 * MIB + 100);
            assert_eq!(verified.verification().passes_to_cover, 1);
            assert_eq!(world.sim.calls(Op::KeyedTags), pass, "one call for all");
        }
        assert_eq!(
            world.sim.calls(Op::BlockDigests),
            0,
            "no tree pass was needed"
        );
        world.flip(at);
        let error = world
            .manager
            .verify_sealed(&world.shard, Mode::Keyed)
            .err()
            .unwrap();
        world.assert_condemned(&error, at / 4096);
    }
}

/// The least that a sweep can be: a batch of eight segments, and one at a time once
/// it is known that even that takes longer than no time.
const LEAST: Mode = Mode::Sweep {
    budget: Duration::ZERO,
};

/// Wherever in its secret order the sweep stands and wherever the flip is: it is found
/// within as many passes as the last good one said.
// requirement: PM-8, VA-5
#[test]
fn sweeps_find_a_change_within_the_stated_number_of_passes() {
    for seed in 0..24_u64 {
        let world = world(9 * MIB + 100, Policy::default());
        let mut stated = 0;
        for pass in 0..=seed % 12 {
            let verified = world.manager.verify_sealed(&world.shard, LEAST).unwrap();
            let verification = verified.verification();
            let most = if pass == 0 { 8 * MIB } else { MIB };
            assert!(verification.bytes_checked <= most);
            assert!(verification.coverage() < 1.0 && verification.bytes_checked > 0);
            stated = verification.passes_to_cover;
        }
        world.flip(seed % 10 * MIB + 5);
        let mut passes = 0;
        let error = loop {
            passes += 1;
            assert!(passes <= stated, "{passes} of {stated} passes, seed {seed}");
            match world.manager.verify_sealed(&world.shard, LEAST) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        world.assert_condemned(&error, (seed % 10 * MIB + 5) / 4096);
    }
}

/// The first pass reads all of a small shard, though it has no time at all.
#[test]
fn a_sweep_of_a_shard_that_one_batch_covers_says_so() {
    for len in [1, 5000, MIB, 3 * MIB, 8 * MIB] {
        let world = world(len, Policy::default());
        for _ in 0..20 {
            let verified = world.manager.verify_sealed(&world.shard, LEAST).unwrap();
            let passes = verified.verification().passes_to_cover;
            let segments = len.div_ceil(MIB);
            assert!(
                (1..2 * segments.max(2)).contains(&passes),
                "{len}: {passes}"
            );
        }
    }
}

/// Ten segments, of which the first pass takes eight and every later one a single one.
#[test]
fn a_sweep_says_how_many_passes_cover_everything() {
    let world = world(9 * MIB + 100, Policy::default());
    let stated: Vec<u64> = (0..14)
        .map(|_| {
            let verified = world.manager.verify_sealed(&world.shard, LEAST).unwrap();
            verified.verification().passes_to_cover
        })
        .collect();
    // What is left of a round, and a whole one; a new one begins after the third.
    assert_eq!(
        stated,
        [12, 11, 10, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 19]
    );
    // A keyed pass reads everything at once, a tag nothing.
    for (mode, passes) in [(Mode::Keyed, 1), (Mode::Full, 1), (Mode::TagOnly, 0)] {
        let verified = world.manager.verify_sealed(&world.shard, mode).unwrap();
        assert_eq!(verified.verification().passes_to_cover, passes, "{mode}");
    }
}

#[test]
fn a_sweep_and_a_keyed_pass_share_one_reference() {
    let world = world(20 * MIB + 1, Policy::default());
    let sweep = Mode::Sweep {
        budget: Duration::ZERO,
    };
    for _ in 0..10 {
        let _ = world.manager.verify_sealed(&world.shard, sweep).unwrap();
        let keyed = world
            .manager
            .verify_sealed(&world.shard, Mode::Keyed)
            .unwrap();
        assert_eq!(keyed.verification().bytes_checked, 20 * MIB + 1);
    }
    assert_eq!(
        world.sim.calls(Op::BlockDigests),
        0,
        "no false alarm, so no second opinion"
    );
}

#[test]
fn the_anchor_comes_when_the_policy_says() {
    let policy = Policy {
        anchor_passes: 3,
        ..Policy::default()
    };
    let world = world(3 * MIB, policy);
    let mut trees = Vec::new();
    for _ in 0..8 {
        let _ = world
            .manager
            .verify_sealed(&world.shard, Mode::Keyed)
            .unwrap();
        trees.push(world.sim.calls(Op::BlockDigests));
    }
    assert_eq!(trees, [0, 0, 0, 1, 1, 1, 1, 2]);
}

#[test]
fn a_failed_pass_spends_its_key_and_the_shard_still_verifies() {
    let world = world(
        3 * MIB,
        Policy {
            anchor_passes: 1,
            ..Policy::default()
        },
    );
    for _ in 0..4 {
        world.fail_a_keyed_pass();
        let _ = world
            .manager
            .verify_sealed(&world.shard, Mode::Keyed)
            .unwrap();
    }
    assert!(!world.shard.is_quarantined());
}

#[test]
fn the_spare_reference_of_a_tree_pass_saves_the_next_one() {
    let world = world(3 * MIB, Policy::default());
    let mut trees = Vec::new();
    for _ in 0..4 {
        world.fail_a_keyed_pass();
        let _ = world
            .manager
            .verify_sealed(&world.shard, Mode::Keyed)
            .unwrap();
        trees.push(world.sim.calls(Op::BlockDigests));
    }
    // Sealing leaves no spare; each tree pass leaves one.
    assert_eq!(trees, [1, 1, 2, 2]);
}

#[test]
fn references_that_the_device_computed_wrongly_are_not_kept() {
    use vram_residency::audit::Body;
    use vram_residency::sim::{Flip, Moment};
    let world = world(MIB / 2, Policy::default());
    world.fail_a_keyed_pass();
    // New references come of bytes that the memory does not hold.
    for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
        world.sim.flip_at(Flip {
            moment,
            offset: 5000,
            bit: 1,
        });
    }
    let trees = || {
        let verified = world.manager.verify_sealed(&world.shard, Mode::Keyed);
        assert_eq!(verified.unwrap().verification().passes_to_cover, 1);
        world.sim.calls(Op::BlockDigests)
    };
    // The tree says at once that it was not the memory, and the next check makes others.
    assert_eq!([trees(), trees(), trees()], [1, 2, 2]);
    let events = world.sink.events().into_iter();
    let faults = events.filter_map(|event| match event.body {
        Body::CheckerFault { suspect_blocks, .. } => Some(suspect_blocks),
        _ => None,
    });
    assert_eq!(faults.collect::<Vec<_>>(), [128], "the segment's blocks");
    assert!(!world.shard.is_quarantined());
}

/// What the CPU has other tags of than the device is in doubt until the tree has told.
// requirement: DG-2, AU-3
#[test]
fn references_that_differ_from_the_cpus_are_a_doubt_and_no_mere_error() {
    use vram_residency::device::DeviceError;
    let world = world(MIB / 2, Policy::default());
    world.fail_a_keyed_pass();
    // Bad while the references are made, and the CPU reads it after that.
    for moment in [
        vram_residency::sim::Moment::BeforeCheck,
        vram_residency::sim::Moment::AfterCheck,
    ] {
        world.sim.flip_at(vram_residency::sim::Flip {
            moment,
            offset: 5000,
            bit: 1,
        });
    }
    let away = DeviceError::Unsupported { what: "scripted" };
    world.sim.fail(Op::BlockDigests, 1, away);
    let verify = |mode| world.manager.verify_sealed(&world.shard, mode);
    assert!(matches!(verify(Mode::Keyed), Err(Error::Device(_))));
    let unsettled = world.sink.events().into_iter().any(|event| {
        matches!(event.body, vram_residency::audit::Body::SealVerificationFailed { reason, .. }
            if reason.as_str() == "unsettled")
    });
    assert!(unsettled);
    let settled = verify(Mode::TagOnly).unwrap().into_verification();
    assert_eq!(settled.mode, Mode::Full, "it means the tree until then");
}

#[test]
fn kernels_that_do_nothing_are_caught() {
    use vram_residency::device::DeviceError;
    let idle = |error: &Error| matches!(error, Error::Device(DeviceError::NoResult { .. }));
    for mode in [
        Mode::Keyed,
        Mode::Sweep {
            budget: Duration::ZERO,
        },
    ] {
        let world = world(3 * MIB, Policy::default());
        world.sim.skip_kernels(true);
        // Neither a pass nor a new reference comes of a kernel that did not run.
        for _ in 0..3 {
            let error = world
                .manager
                .verify_sealed(&world.shard, mode)
                .err()
                .unwrap();
            assert!(idle(&error), "{mode}: {error}");
            assert!(world.manager.lease(&world.shard, mode).is_err());
        }
        world.sim.skip_kernels(false);
        let _ = world.manager.verify_sealed(&world.shard, mode).unwrap();
        world.flip(MIB);
        assert!(
            world
                .manager
                .verify_sealed(&world.shard, Mode::Keyed)
                .is_err()
        );
    }
    let world = world(3 * MIB, Policy::default());
    world.sim.skip_kernels(true);
    let verify = |mode| world.manager.verify_sealed(&world.shard, mode);
    assert!(idle(&verify(Mode::Full).err().unwrap()));
    assert!(
        !world.shard.is_quarantined(),
        "nor is anything proved against it"
    );
    assert!(verify(Mode::TagOnly).is_err(), "it is in doubt");
    world.sim.skip_kernels(false);
    let settled = verify(Mode::TagOnly).unwrap().into_verification();
    assert_eq!(settled.mode, Mode::Full);
}

#[test]
fn a_checker_that_errs_once_is_recorded_and_condemns_nobody() {
    use vram_residency::sim::{Flip, Moment};
    let world = world(3 * MIB, Policy::default());
    for mode in [Mode::Keyed, Mode::Full] {
        for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
            world.sim.flip_at(Flip {
                moment,
                offset: 5000,
                bit: 1,
            });
        }
        let _ = world.manager.verify_sealed(&world.shard, mode).unwrap();
    }
    let faults = world
        .sink
        .types()
        .iter()
        .filter(|t| *t == "seal.checker_fault")
        .count();
    assert_eq!(faults, 2);
    assert!(!world.shard.is_quarantined());
}

// requirement: PM-8, POL-5
#[test]
fn the_scrubber_finds_a_flip_and_stops_the_manager() {
    let world = world(6 * MIB, Policy::default());
    let scrubber = Scrubber::start(&world.manager, 1 << 40).unwrap();
    wait_until(|| scrubber.bytes_checked() >= 12 * MIB);
    assert_eq!(scrubber.failures(), 0);
    scrubber.pause();
    world.flip(3 * MIB);
    scrubber.resume();
    wait_until(|| scrubber.failures() > 0);
    drop(scrubber);
    assert!(world.shard.is_quarantined());
    assert!(matches!(world.manager.state(), RunState::Stopped { .. }));
}

#[test]
fn scrub_steps_visit_the_shard_that_waited_longest() {
    let world = world(2 * MIB, Policy::default());
    let request = SealRequest::source(PatternSource::new(2 * MIB, 2)).id("other");
    let other = world.manager.seal(request).unwrap();
    let mut visits = Vec::new();
    for _ in 0..6 {
        let step = world.manager.scrub_step(MIB).unwrap().unwrap();
        assert_eq!(step.bytes, MIB);
        visits.push(step.shard_id.to_string());
    }
    let count = |id: &str| visits.iter().filter(|visit| *visit == id).count();
    assert_eq!((count("shard"), count("other")), (3, 3), "{visits:?}");
    drop(other);
}

// requirement: PM-8
#[test]
fn what_failed_a_scrub_and_was_repaired_is_scrubbed_again_at_once() {
    let policy = Policy {
        allow_repair: true,
        ..Policy::default()
    };
    let world = world(MIB, policy);
    world.flip(5);
    assert!(world.manager.scrub_step(MIB).is_err());
    let source = PatternSource::new(MIB, 1);
    let _repaired = world.manager.repair(&world.shard, &source).unwrap();
    world.manager.resume("repaired").unwrap();
    let step = world.manager.scrub_step(MIB).unwrap().unwrap();
    assert_eq!(step.bytes, MIB);
}

/// A shard that is given up between the scrubber's choice and its check is nobody's
/// failure: nothing was checked, and another one is.
// requirement: PM-8
#[test]
fn a_shard_that_is_freed_while_the_scrubber_chooses_it_is_no_failure() {
    use std::sync::mpsc::sync_channel;
    let sim = SimDevice::new(64 * MIB);
    let sink = Arc::new(MemorySink::new());
    let manager = VramManager::builder()
        .device(sim.clone())
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .sink(sink.clone())
        .build()
        .unwrap();
    let stays = PatternSource::new(2 * MIB, 1);
    let stays = manager
        .seal(SealRequest::source(stays).id("stays"))
        .unwrap();
    const ROUNDS: usize = 300;
    let bytes = [7; 5000];
    std::thread::scope(|scope| {
        // A meeting place that a side which panics leaves, so that the other goes on and ends.
        let (gate, other_side) = sync_channel(0);
        let manager = &manager;
        scope.spawn(move || {
            for _ in 0..ROUNDS {
                let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
                gate.send(()).unwrap();
                manager.deallocate(&shard).unwrap();
                gate.send(()).unwrap();
            }
        });
        for _ in 0..ROUNDS {
            other_side.recv().unwrap();
            let step = manager.scrub_step(MIB).unwrap().unwrap();
            assert!(step.bytes == 5000 || step.shard_id == *stays.id());
            other_side.recv().unwrap();
        }
    });
    assert_eq!(manager.metrics().verify_failures_total, 0);
    assert!(sink.types().iter().all(|t| t != "seal.verification_failed"));
    assert_eq!(sim.buffers().len(), 1);
}

/// What the calls of a device take, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Costs {
    witness: u64,
    call: u64,
    segment: u64,
}

/// A device whose calls take time by the clock that it has: some for the call, and some
/// for each segment.
struct Metered {
    sim: SimDevice,
    clock: Arc<ManualClock>,
    costs: Costs,
}

impl Device for Metered {
    fn info(&self) -> &device::DeviceInfo {
        self.sim.info()
    }

    fn witness(&self, buffer: device::BufferId) -> Result<device::Witness, device::DeviceError> {
        self.clock.advance(self.costs.witness);
        self.sim.witness(buffer)
    }

    fn keyed_tags(
        &self,
        extent: device::Extent,
        segments: &[u64],
        keys: &[&vram_digest::nh::Key],
    ) -> Result<Vec<vram_digest::nh::Tag>, device::DeviceError> {
        let nanos = self.costs.call + self.costs.segment * segments.len() as u64;
        self.clock.advance(nanos);
        self.sim.keyed_tags(extent, segments, keys)
    }

    forward!(sim: facts memory allocate free protect address upload read write fill block_digests);
    forward!(sim: copy_to as_any close);
}

/// Segments of the metered shard.
const METERED: u64 = 41;

/// A manager of such a device, and a shard of [`METERED`] segments on it.
fn metered_manager(costs: Costs, policy: Policy) -> (VramManager, SealedShard) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1)));
    let device = Metered {
        sim: SimDevice::new(64 * MIB),
        clock: Arc::clone(&clock),
        costs,
    };
    let manager = VramManager::builder()
        .device(device)
        .clock(clock)
        .policy(policy)
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .build()
        .unwrap();
    let request = SealRequest::source(PatternSource::new(METERED * MIB, 1));
    let shard = manager.seal(request).unwrap();
    (manager, shard)
}

/// Bytes that were read for so long are as old as the check, however soon after it they
/// are asked for.
// requirement: PM-8
#[test]
fn the_age_of_a_verification_counts_from_its_begin() {
    let costs = Costs {
        witness: 0,
        call: 900,
        segment: 0,
    };
    for (limit, reused) in [(899, false), (900, true)] {
        let policy = Policy {
            max_lease_age: Some(Duration::from_nanos(limit)),
            ..Policy::default()
        };
        let (manager, shard) = metered_manager(costs, policy);
        // The first makes the references.
        let _ = manager.verify_sealed(&shard, Mode::Keyed).unwrap();
        let verified = manager.verify_sealed(&shard, Mode::Keyed).unwrap();
        assert_eq!(verified.verification().nanos, 900);
        let lease = manager.lease(&shard, Mode::Keyed).unwrap();
        let verification = lease.verification();
        let age = if reused { 900 } else { 0 };
        assert_eq!((verification.reused, verification.age_nanos), (reused, age));
    }
}

/// What the sweeps of each budget in turn, so many of each, took, read (in segments) and
/// promised.
fn metered(costs: Costs, budgets: &[(u64, usize)]) -> Vec<(u64, u64, u64)> {
    let (manager, shard) = metered_manager(costs, Policy::default());
    let sweep = |budget: u64| {
        let budget = Duration::from_nanos(budget);
        let verified = manager.verify_sealed(&shard, Mode::Sweep { budget });
        let verified = verified.unwrap();
        let it = verified.verification();
        (it.nanos, it.bytes_checked / MIB, it.passes_to_cover)
    };
    let sweeps = budgets.iter();
    let sweeps = sweeps.flat_map(|(budget, count)| std::iter::repeat_n(*budget, *count));
    sweeps.map(sweep).collect()
}

/// The promise of each sweep, against those that came: the rest of its round and a whole one.
fn assert_kept(costs: Costs, sweeps: &[(u64, u64, u64)]) {
    let mut visited = 0;
    for (at, (_, read, promised)) in sweeps.iter().enumerate() {
        visited = (visited + read) % METERED;
        let owed = if visited == 0 { 0 } else { METERED - visited } + METERED;
        let after = sweeps.iter().skip(at + 1);
        let mut sum = 0;
        let taken = after.map(|(_, read, _)| {
            sum += read;
            sum
        });
        let Some(taken) = taken.enumerate().find(|(_, sum)| *sum >= owed) else {
            assert!(at > 20, "{at} sweeps of which more came");
            return;
        };
        let taken = taken.0 as u64 + 1;
        assert!(
            taken <= *promised,
            "sweep {at} promised {promised}, {taken} came: {costs:?}"
        );
    }
}

/// Whatever a call costs besides what it reads, and whatever the check does before: all of
/// it is in the budget once a pace is found, and the promise holds from the first sweep on.
// requirement: PM-8, VA-5
#[test]
fn a_sweep_keeps_to_its_budget() {
    for (budget, witness, call, segment) in [
        (60_000, 10_000, 20_000, 5_000),
        (100_000, 10_000, 20_000, 5_000),
        // More than a quarter of it goes before the first batch.
        (60_000, 25_000, 20_000, 5_000),
        (60_000, 30_000, 20_000, 5_000),
        (50_000, 15_000, 8_000, 2_500),
        // A segment takes most of it, or just a third.
        (60_000, 0, 0, 42_000),
        (60_000, 10_000, 0, 42_000),
        (60_000, 0, 0, 20_000),
        (1_000_000, 10_000, 50_000, 350_000),
        // A call takes most of it.
        (50_000, 5_000, 30_000, 500),
    ] {
        let costs = Costs {
            witness,
            call,
            segment,
        };
        let sweeps = metered(costs, &[(budget, 200)]);
        assert_kept(costs, &sweeps);
        // Three to find the pace.
        let found = sweeps.get(3..).unwrap();
        for (nanos, ..) in found {
            assert!(*nanos <= budget, "{nanos} of {budget} ns: {costs:?}");
        }
        // They make use of it, too.
        let longest = found.iter().map(|(nanos, ..)| *nanos).max().unwrap();
        assert!(
            3 * longest >= 2 * budget,
            "{longest} of {budget} ns: {costs:?}"
        );
    }
}

/// Sweeps of no time visit one segment each, for which a call takes long; with time again
/// they visit many.
// requirement: PM-8
#[test]
fn sweeps_grow_out_of_small_ones() {
    let costs = Costs {
        witness: 10_000,
        call: 20_000,
        segment: 1_000,
    };
    let sweeps = metered(costs, &[(0, 30), (60_000, 30)]);
    let reads: Vec<u64> = sweeps.iter().map(|(_, read, _)| *read).collect();
    assert_eq!(reads.get(1..30).unwrap(), [1; 29]);
    assert!(*reads.iter().skip(30).max().unwrap() >= 15, "{reads:?}");
    let over = sweeps.iter().skip(30).find(|(nanos, ..)| *nanos > 60_000);
    assert_eq!(over, None);
}
