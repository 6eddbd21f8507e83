//! Leases: verified before every execution, reused only when the policy says
//! so, and never granted by a stopped manager or for a quarantined shard.

mod common;

use std::time::Duration;

use common::disguise::{Disguise, gpu_info};
use common::{Rig, holding, newest, rig, rig_of, root_key, weights};
use vram_residency::audit::Body;
use vram_residency::device::Device as _;
use vram_residency::error::{Error, InputError, Misuse, VerifyError};
use vram_residency::manager::RunState;
use vram_residency::policy::{OnFailure, PolicyError};
use vram_residency::sim::Op;
use vram_residency::{Lease, Mode, Policy, SealRequest, SealedShard, VramManager};

const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../testdata/small.safetensors"
);

fn seal(rig: &Rig) -> SealedShard {
    rig.manager
        .seal(SealRequest::bytes(&weights(9000, 1)).id("leased"))
        .unwrap()
}

fn fresh_for(seconds: u64) -> Policy {
    Policy {
        max_lease_age: Some(Duration::from_secs(seconds)),
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    }
}

// requirement: WORKER-4121, CI-007
#[test]
fn every_lease_verifies_by_default() {
    let rig = rig(1 << 20);
    let shard = seal(&rig);
    for i in 1..=3 {
        let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
        let verification = lease.verification();
        assert!(!verification.reused && verification.age_nanos == 0);
        assert_eq!(verification.bytes_checked, 9000);
        assert!((verification.coverage() - 1.0).abs() < f64::EPSILON);
        lease.finish();
        assert_eq!(rig.device().calls(Op::BlockDigests), i);
    }
    let lease = rig.manager.lease(&shard, Mode::TagOnly).unwrap();
    assert_eq!(
        (
            lease.verification().mode,
            lease.verification().bytes_checked
        ),
        (Mode::TagOnly, 0)
    );
    assert!(lease.verification().coverage() < f64::EPSILON);
}

// requirement: DG-7, WORKER-4121, PM-5, PM-6
#[test]
fn a_fresh_verification_is_reused_for_as_long_as_the_policy_says_and_says_so() {
    let rig = rig_of(1, 1 << 20, fresh_for(10));
    let shard = seal(&rig);
    let lease = |mode| {
        rig.manager
            .lease(&shard, mode)
            .unwrap()
            .verification()
            .clone()
    };
    assert!(!lease(Mode::Full).reused, "a seal is not a verification");
    rig.clock.advance(10_000_000_000);
    let reused = lease(Mode::Full);
    assert_eq!((reused.reused, reused.age_nanos), (true, 10_000_000_000));
    rig.clock.advance(1);
    assert!(!lease(Mode::Full).reused);
    assert!(
        lease(Mode::TagOnly).reused,
        "a full verification covers a lesser one"
    );
    rig.clock.advance(11_000_000_000);
    assert!(!lease(Mode::TagOnly).reused);
    assert!(
        !lease(Mode::Full).reused,
        "a lesser verification does not cover a full one"
    );
    // Wall-clock time set back makes nothing younger.
    rig.clock.advance(11_000_000_000);
    rig.clock
        .set_wall(vram_residency::clock::Timestamp::from_nanos(1));
    assert!(!lease(Mode::Full).reused);
}

/// An inert handle owns nothing, and keeps nothing of what the others gave up.
// requirement: API-F27, WORKER-4001, MS-004
#[test]
fn the_last_lease_frees_what_nobody_owns_any_more() {
    let rig = rig(1 << 20);
    let bytes = weights(9000, 1);
    let one = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
    let digest = one.digest().to_string();
    let again = SealRequest::bytes(&bytes).expect(&digest).dedupe();
    let other = rig.manager.seal(again).unwrap();
    rig.manager.deallocate(&one).unwrap();
    let leases = [0, 1].map(|_| rig.manager.lease(&other, Mode::Full).unwrap());
    drop(other);
    for lease in leases {
        assert_eq!(rig.manager.used_vram(), 9000, "it stays under the lease");
        lease.finish();
    }
    assert_eq!(rig.manager.used_vram(), 0);
    assert_eq!(rig.manager.get_shard(one.id()), None);
    assert!(rig.device().buffers().is_empty());
    assert_eq!(rig.count("vram.deallocated"), 1);
    drop(one);
    rig.assert_empty();
}

/// Each mode has an age of its own: a check of less makes no fuller one forgotten, and
/// none serves who asks for more.
// requirement: DG-7, PM-5, PM-6
#[test]
fn a_lesser_verification_neither_serves_nor_displaces_a_fuller_one() {
    let sweep = Mode::Sweep {
        budget: Duration::ZERO,
    };
    // Who asks, and which of the four may serve.
    let serves = [
        (Mode::Full, [true, false, false, false]),
        (Mode::Keyed, [true, true, false, false]),
        (sweep, [true, true, false, false]),
        (Mode::TagOnly, [true, true, true, true]),
    ];
    for (wanted, by) in serves {
        for (mode, enough) in [Mode::Full, Mode::Keyed, sweep, Mode::TagOnly]
            .into_iter()
            .zip(by)
        {
            let rig = rig_of(1, 1 << 20, fresh_for(10));
            let shard = seal(&rig);
            let _ = rig.manager.verify_sealed(&shard, mode).unwrap();
            rig.clock.advance(1);
            let lease = rig.manager.lease(&shard, wanted).unwrap();
            let verification = lease.verification();
            assert_eq!(verification.reused, enough, "{wanted} by {mode}");
        }
    }
    let rig = rig_of(1, 1 << 20, fresh_for(10));
    let shard = seal(&rig);
    for mode in [Mode::Full, Mode::Keyed, sweep, Mode::TagOnly] {
        let _ = rig.manager.verify_sealed(&shard, mode).unwrap();
        rig.clock.advance(1_000_000_000);
    }
    for (mode, age_s) in [
        (Mode::Full, 4),
        (Mode::Keyed, 3),
        (sweep, 3),
        (Mode::TagOnly, 1),
    ] {
        let lease = rig.manager.lease(&shard, mode).unwrap();
        let reused = lease.verification();
        assert_eq!(
            (reused.reused, reused.age_nanos),
            (true, age_s * 1_000_000_000)
        );
    }
}

/// A clock whose monotonic time is what the test says: also one that breaks its promise.
struct Broken(std::sync::atomic::AtomicU64);

impl vram_residency::clock::Clock for Broken {
    fn now(&self) -> vram_residency::clock::Timestamp {
        vram_residency::clock::Timestamp::from_nanos(common::START_NS)
    }

    fn monotonic(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

// requirement: DG-7, PM-6
#[test]
fn a_monotonic_clock_that_goes_back_makes_nothing_young() {
    const HOUR: u64 = 3_600_000_000_000;
    let clock = std::sync::Arc::new(Broken(HOUR.into()));
    let rig = Rig::build(
        &[vram_residency::sim::SimOptions::new(1 << 20)],
        fresh_for(10),
        |b| b.clock(clock.clone()),
    );
    let shard = seal(&rig);
    let reused = |mode| {
        let lease = rig.manager.lease(&shard, mode).unwrap();
        lease.verification().reused
    };
    assert!(!reused(Mode::Full) && reused(Mode::Full));
    clock.0.store(HOUR - 1, std::sync::atomic::Ordering::SeqCst);
    assert!(!reused(Mode::Full), "verified later than now");
    // The anchor of keyed checks, too: a tree pass, for nobody knows its age.
    clock.0.store(HOUR - 2, std::sync::atomic::Ordering::SeqCst);
    let trees = rig.device().calls(Op::BlockDigests);
    let _ = rig.manager.verify_sealed(&shard, Mode::Keyed).unwrap();
    assert_eq!(rig.device().calls(Op::BlockDigests), trees + 1);
    let _ = rig.manager.verify_sealed(&shard, Mode::Keyed).unwrap();
    assert_eq!(rig.device().calls(Op::BlockDigests), trees + 1);
}

// requirement: DG-7
#[test]
fn a_failure_ends_the_reuse_at_once() {
    let rig = rig_of(1, 1 << 20, fresh_for(3600));
    let shard = seal(&rig);
    rig.manager.lease(&shard, Mode::Full).unwrap().finish();
    rig.flip_newest(&shard, 1, 1);
    // The documented price of reuse: until somebody looks, it is not seen.
    assert!(
        rig.manager
            .lease(&shard, Mode::Full)
            .unwrap()
            .verification()
            .reused
    );
    assert!(!rig.manager.verify_shard_integrity(&shard).unwrap());
    let error = rig.manager.lease(&shard, Mode::Full).err().unwrap();
    assert!(
        matches!(error, Error::Verify(VerifyError::Quarantined { .. })),
        "{error}"
    );
}

// requirement: WORKER-4122, ER-4
#[test]
fn a_failed_verification_stops_the_manager_until_it_is_resumed() {
    let rig = rig_of(
        1,
        1 << 20,
        Policy {
            allow_repair: true,
            ..Policy::default()
        },
    );
    let (bad, good) = (
        seal(&rig),
        rig.manager.seal(SealRequest::bytes(b"good")).unwrap(),
    );
    let bytes = weights(9000, 1);
    rig.device()
        .flip_bit(rig.device().buffers()[0], 0, 0)
        .unwrap();
    assert!(rig.manager.verify_sealed(&bad, Mode::Full).is_err());
    assert!(matches!(rig.manager.state(), RunState::Stopped { .. }));
    let stopped = |shard| {
        matches!(
            rig.manager.lease(shard, Mode::Full).err().unwrap(),
            Error::Misuse(Misuse::Stopped { reason }) if reason.contains("leased")
        )
    };
    assert!(stopped(&bad) && stopped(&good));
    // Seal, verify, repair and free go on.
    drop(rig.manager.seal(SealRequest::bytes(b"new")).unwrap());
    assert!(rig.manager.verify_shard_integrity(&good).unwrap());
    let repaired = rig.manager.repair(&bad, &bytes.as_slice()).unwrap();
    assert_eq!(repaired.blocks, 1);
    assert!(stopped(&good), "a repair does not start the manager");
    rig.manager.resume("replaced the cooler").unwrap();
    assert_eq!(rig.manager.state(), RunState::Running);
    for shard in [&bad, &good] {
        rig.manager.lease(shard, Mode::Full).unwrap().finish();
    }
    let order: Vec<_> = rig.sink.types();
    let at = |name: &str| order.iter().position(|found| found == name).unwrap();
    assert!(at("seal.verification_failed") < at("manager.stopped"));
    assert!(at("manager.stopped") < at("shard.repaired"));
    assert!(at("shard.repaired") < at("manager.resumed"));
    assert_eq!(
        (rig.count("manager.stopped"), rig.count("manager.resumed")),
        (1, 1)
    );
}

// requirement: WORKER-4122
#[test]
fn isolate_stops_only_the_shard_and_only_repair_lifts_the_quarantine() {
    let policy = Policy {
        allow_repair: true,
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    };
    let rig = rig_of(1, 1 << 20, policy);
    let (other, bad) = (
        rig.manager.seal(SealRequest::bytes(b"other")).unwrap(),
        seal(&rig),
    );
    rig.flip_newest(&bad, 8999, 7);
    assert!(rig.manager.lease(&bad, Mode::Full).is_err());
    assert_eq!(rig.manager.state(), RunState::Running);
    rig.manager.lease(&other, Mode::Full).unwrap().finish();
    // The flip undone by hand: still quarantined, because nobody proved it.
    rig.flip_newest(&bad, 8999, 7);
    assert!(!rig.manager.verify_shard_integrity(&bad).unwrap());
    let wrong = weights(9000, 2);
    rig.flip_newest(&bad, 8999, 7);
    let error = rig.manager.repair(&bad, &wrong.as_slice()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Verify(VerifyError::RepairSource { block: 2, .. })
        ),
        "{error}"
    );
    assert!(bad.is_quarantined());
    let _ = rig
        .manager
        .repair(&bad, &weights(9000, 1).as_slice())
        .unwrap();
    rig.manager.lease(&bad, Mode::Full).unwrap().finish();
    assert_eq!(rig.manager.metrics().devices[0].quarantined, 0);
}

// requirement: AU-3, WORKER-4122
#[test]
fn damage_that_a_failed_repair_finds_condemns_the_shard() {
    let rig = rig_of(
        1,
        1 << 20,
        Policy {
            allow_repair: true,
            ..fresh_for(3600)
        },
    );
    let shard = seal(&rig);
    rig.manager.lease(&shard, Mode::Full).unwrap().finish();
    rig.flip_newest(&shard, 0, 0);
    let wrong = weights(9000, 2);
    assert!(rig.manager.repair(&shard, &wrong.as_slice()).is_err());
    assert!(shard.is_quarantined(), "what was found must not be leased");
    assert!(rig.manager.lease(&shard, Mode::Full).is_err());
    let failed = |body: &Body| matches!(body, Body::SealVerificationFailed { reason, .. } if reason.as_str() == "digest_mismatch");
    assert!(rig.bodies().iter().any(failed));
}

/// A repair that heals what it finds hides nothing: the failure is on record, and
/// stops what any failed verification stops.
// requirement: AU-3, WORKER-4122, WORKER-4161, PM-3
#[test]
fn damage_that_a_repair_finds_is_a_failed_verification() {
    let policy = Policy {
        allow_repair: true,
        ..Policy::default()
    };
    let rig = rig_of(1, 1 << 20, policy);
    let (first, bytes) = (weights(9000, 2), weights(9000, 1));
    let requests = [&first, &bytes].into_iter();
    let requests = requests.map(|bytes| SealRequest::bytes(bytes));
    let group = rig.manager.seal_group(requests.collect()).unwrap();
    let [other, damaged] = group.shards() else {
        panic!("two members")
    };
    let buffer = holding(rig.device(), &bytes);
    rig.device().flip_bit(buffer, 5000, 3).unwrap();
    let before = rig.sink.types().len();
    let repaired = rig.manager.repair(damaged, &bytes.as_slice()).unwrap();
    assert_eq!(repaired.blocks, 1);
    let events = [
        "seal.verification_failed",
        "shard.quarantined",
        "manager.stopped",
        "seal.verified",
        "shard.repaired",
    ];
    assert_eq!(rig.sink.types()[before..], events);
    assert!(matches!(rig.manager.state(), RunState::Stopped { .. }));
    assert!(!damaged.is_quarantined());
    assert!(other.is_quarantined(), "it failed with its group");
    // What is whole is not touched, and one verification is enough.
    let calls = rig.device().calls(Op::Protect);
    let before = rig.sink.types().len();
    let repaired = rig.manager.repair(damaged, &bytes.as_slice()).unwrap();
    assert_eq!(repaired.blocks, 0);
    assert_eq!(
        rig.sink.types()[before..],
        ["seal.verified", "shard.repaired"]
    );
    assert_eq!(rig.device().calls(Op::Protect), calls);
}

/// A source whose second block cannot be read.
struct HalfReadable(Vec<u8>);

impl vram_residency::format::ReadAt for HalfReadable {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        if offset >= 4096 {
            return Err(std::io::Error::other("a bad sector"));
        }
        out.copy_from_slice(&self.0[offset as usize..offset as usize + out.len()]);
        Ok(())
    }
}

impl vram_residency::load::Source for HalfReadable {
    fn name(&self) -> String {
        "half".to_owned()
    }
}

/// Whatever ends a repair half way, a verification from before it counts no more
/// and what was found bad is not leased, in no mode.
// requirement: AU-3, DG-7, WORKER-4122
#[test]
fn a_repair_that_ends_half_way_leaves_nothing_to_lease() {
    type Break = fn(&Rig, &SealedShard) -> Error;
    let breaks: [(&str, Break); 4] = [
        ("source", |rig, shard| {
            let source = HalfReadable(weights(9000, 1));
            rig.manager.repair(shard, &source).map(drop).unwrap_err()
        }),
        ("write", |rig, shard| broken(rig, shard, Op::Write, 2)),
        ("protect", |rig, shard| broken(rig, shard, Op::Protect, 2)),
        // The blocks are whole again, and nobody saw it.
        ("verification", |rig, shard| {
            broken(rig, shard, Op::BlockDigests, 3)
        }),
    ];
    for (what, strike) in breaks {
        let policy = Policy {
            allow_repair: true,
            ..fresh_for(3600)
        };
        let rig = rig_of(1, 1 << 20, policy);
        let shard = seal(&rig);
        rig.manager.lease(&shard, Mode::Full).unwrap().finish();
        rig.flip_newest(&shard, 0, 0);
        rig.flip_newest(&shard, 5000, 0);
        let error = strike(&rig, &shard);
        assert!(!matches!(error, Error::Verify(_)), "{what}: {error}");
        assert!(shard.is_quarantined(), "{what}");
        for mode in [Mode::Full, Mode::Keyed, SWEEP, Mode::TagOnly] {
            assert!(rig.manager.lease(&shard, mode).is_err(), "{what}, {mode}");
        }
        let _ = rig
            .manager
            .repair(&shard, &weights(9000, 1).as_slice())
            .unwrap();
        rig.manager.resume("repaired").unwrap();
        let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
        assert!(lease.verification().reused, "by the repair's own: {what}");
    }
}

/// A repair during which the n-th call of `op` fails.
fn broken(rig: &Rig, shard: &SealedShard, op: Op, nth: u64) -> Error {
    let fault = vram_residency::device::DeviceError::Driver {
        op: "repair",
        code: 1,
        name: "invalid".to_owned(),
        text: "scripted".to_owned(),
    };
    rig.device().fail(op, nth, fault);
    let answer = rig.manager.repair(shard, &weights(9000, 1).as_slice());
    answer.map(drop).unwrap_err()
}

// requirement: API-F26, API-F27, EXP-VRAM-7001
#[test]
fn leases_keep_the_memory_and_make_others_wait() {
    let rig = rig_of(
        1,
        1 << 20,
        Policy {
            allow_repair: true,
            ..Policy::default()
        },
    );
    let shard = seal(&rig);
    let (one, two) = (
        rig.manager.lease(&shard, Mode::Full),
        rig.manager.lease(&shard, Mode::Full),
    );
    let busy = |error: Error| {
        assert!(
            matches!(error, Error::Misuse(Misuse::Busy { leases: 2, .. })),
            "{error}"
        );
        assert!(error.is_retriable());
    };
    busy(rig.manager.deallocate(&shard).unwrap_err());
    busy(rig.manager.unseal_and_free(&shard).unwrap_err());
    busy(
        rig.manager
            .repair(&shard, &weights(9000, 1).as_slice())
            .unwrap_err(),
    );
    assert!(shard.is_sealed() && shard.leases() == 2);
    drop(shard);
    assert_eq!(rig.manager.used_vram(), 9000, "the leases keep it");
    std::thread::spawn(move || drop(one)).join().unwrap();
    assert_eq!(rig.device().buffers().len(), 1);
    drop(two);
    rig.assert_empty();
}

/// Sums a tensor's bytes: the simulator's execution.
fn execute(lease: &Lease, name: &str) -> u64 {
    let tensor = lease.tensor(name).unwrap();
    let mut bytes = vec![0; tensor.bytes as usize];
    tensor.read(0, &mut bytes).unwrap();
    bytes.into_iter().map(u64::from).sum()
}

// requirement: WORKER-4245, MS-007, VA-8
#[test]
fn seal_execute_verify_end_to_end() {
    let rig = rig(1 << 20);
    let shard = rig.manager.seal(SealRequest::file(MODEL)).unwrap();
    let file = std::fs::read(MODEL).unwrap();
    assert!(shard.tensors().tensors().len() > 5);
    let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
    for (name, view) in lease.tensors().unwrap() {
        let info = shard.tensors().get(name).unwrap();
        let expected = &file[info.offset as usize..(info.offset + info.len) as usize];
        assert_eq!((view.bytes, view.shape), (info.len, &info.shape[..]));
        let sum: u64 = expected.iter().map(|byte| u64::from(*byte)).sum();
        assert_eq!(execute(&lease, name), sum, "{name}");
        let error = view.read(view.bytes, &mut [0]).unwrap_err();
        assert!(
            matches!(error, Error::Input(InputError::Range { .. })),
            "{error}"
        );
        assert!(view.read(u64::MAX, &mut [0; 2]).is_err());
    }
    let error = lease.tensor("no\u{1b}[31m").err().unwrap().to_string();
    assert!(error.contains("no tensor named 'no[31m'"), "{error:?}");
    assert_eq!(
        lease.tensors().unwrap().len(),
        shard.tensors().tensors().len()
    );
    let shown = format!("{lease:?}");
    let (id, bytes) = (shard.id().as_str(), file.len());
    assert!(
        shown.contains(&format!("shard_id: {id:?}, bytes: {bytes}")),
        "{shown}"
    );
    let (name, view) = lease.tensors().unwrap().swap_remove(0);
    let shown = format!("{view:?}");
    let (kind, len) = (view.dtype, view.bytes);
    assert!(
        shown.contains(&format!("dtype: {kind:?}")),
        "{name}: {shown}"
    );
    assert!(shown.contains(&format!("bytes: {len}")), "{name}: {shown}");
    lease.finish();
    rig.manager.unseal_and_free(&shard).unwrap();
    rig.assert_empty();
}

// requirement: WORKER-4111, MS-006
#[test]
fn pointer_arithmetic_safe() {
    // Addresses of tensors lie inside the lease.
    let device = Disguise::new(gpu_info(2 << 30));
    let builder = VramManager::builder()
        .device(device.clone())
        .key(root_key(1));
    let manager = builder.build().unwrap();
    let shard = manager.seal(SealRequest::file(MODEL)).unwrap();
    let lease = manager.lease(&shard, Mode::Full).unwrap();
    let base = lease.address().unwrap().raw();
    let allocation = device.sim.simulated_address(newest(&device.sim)).unwrap();
    assert_eq!(
        (base + shard.tensors().data_start()) % 256,
        0,
        "data is aligned for kernels"
    );
    assert!(base >= allocation && base < allocation + 256);
    for (name, view) in lease.tensors().unwrap() {
        let (address, offset) = (
            view.address.unwrap().raw(),
            shard.tensors().get(name).unwrap().offset,
        );
        assert_eq!(address, base + offset);
        assert!(address + view.bytes <= base + lease.bytes());
        let error = view.read(0, &mut [0]).unwrap_err();
        assert!(
            matches!(error, Error::Policy(PolicyError::ExportOff)),
            "{error}"
        );
    }
}

// requirement: WORKER-4112, MS-007
#[test]
fn sealed_memory_refuses_writes() {
    let rig = rig(1 << 20);
    let shard = rig
        .manager
        .seal(SealRequest::bytes(&weights(5000, 1)))
        .unwrap();
    let extent = vram_residency::device::Extent {
        buffer: newest(rig.device()),
        start: 0,
        len: 5000,
    };
    assert!(rig.device().write(extent, 0, b"stray").is_err());
    assert!(rig.device().fill(extent, 0).is_err());
    assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
}

/// A sweep of some budget.
const SWEEP: Mode = Mode::Sweep {
    budget: Duration::from_millis(5),
};

#[test]
fn modes_have_the_names_that_events_give_them() {
    let named = [
        (Mode::Full, "full"),
        (Mode::Keyed, "keyed"),
        (SWEEP, "sweep"),
        (Mode::TagOnly, "tag-only"),
    ];
    for (mode, name) in named {
        assert_eq!(mode.to_string(), name);
        assert_eq!(serde_json::to_value(mode).unwrap(), name);
    }
}

// requirement: PM-6
#[test]
fn a_check_covers_what_proves_no_more_than_it() {
    let modes = [Mode::Full, Mode::Keyed, SWEEP, Mode::TagOnly];
    for (rank, mode) in modes.into_iter().enumerate() {
        for (wanted_rank, wanted) in modes.into_iter().enumerate() {
            // Two sweeps look at different segments: neither is the other.
            let covers = rank <= wanted_rank && (mode, wanted) != (SWEEP, SWEEP);
            assert_eq!(mode.covers(wanted), covers, "{mode} for {wanted}");
        }
    }
}

/// Sixteen threads want the shard at once; one of them checks it.
// requirement: PM-5, PM-6, WORKER-4121
#[test]
fn leases_at_the_same_time_share_one_verification() {
    for (mode, event) in [(Mode::Full, "full"), (Mode::Keyed, "keyed")] {
        let rig = rig_of(1, 1 << 20, fresh_for(3600));
        let shard = seal(&rig);
        let barrier = std::sync::Barrier::new(16);
        let leases: Vec<Lease> = std::thread::scope(|scope| {
            let lease = || {
                barrier.wait();
                rig.manager.lease(&shard, mode).unwrap()
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(lease)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let reused = leases.iter().filter(|l| l.verification().reused).count();
        assert_eq!((reused, shard.leases()), (15, 16), "{event}");
        assert_eq!(rig.count("seal.verified"), 1, "{event}");
        assert_eq!(rig.count("lease.reused"), 15, "{event}");
        assert!(leases.iter().all(|l| l.verification().mode == mode));
    }
}
