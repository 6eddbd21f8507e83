//! The ledger: exact sums, exact fits, headroom, races and refusals.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::disguise::{Disguise, Grant, gpu_info};
use common::{Rig, assert_balanced, cases, rig, weights};
use proptest::prelude::*;
use vram_residency::capacity::Sharing;
use vram_residency::capacity::plan::{MAX_PADDING, PlanPart};
use vram_residency::compat::{s1, s4};
use vram_residency::device::{DeviceError, MemoryInfo};
use vram_residency::error::{Code, Error, InsufficientVram};
use vram_residency::load::PatternSource;
use vram_residency::sim::{Op, SimDevice, SimOptions};
use vram_residency::{Policy, SealRequest, SealedShard, VramManager};

const MIB: u64 = 1 << 20;

fn seal(rig: &Rig, len: u64) -> vram_residency::Result<SealedShard> {
    rig.manager
        .seal(SealRequest::bytes(&weights(len as usize, len)))
}

fn refusal<T>(answer: vram_residency::Result<T>) -> InsufficientVram {
    match answer {
        Err(Error::InsufficientVram(refusal)) => refusal,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("admitted"),
    }
}

/// One device, its budget and its sharing chosen.
fn shared(device: &SimDevice, budget: Option<u64>, sharing: Sharing) -> VramManager {
    VramManager::builder()
        .device_with(Arc::new(device.clone()), budget, sharing)
        .key(common::root_key(1))
        .build()
        .unwrap()
}

// requirement: CAP-3, VP-004, WORKER-4103
#[test]
fn capacity_enforcement() {
    // An exact fit is accepted, one byte more refused.
    let rig = rig(10 * MIB);
    let refused = refusal(seal(&rig, 10 * MIB + 1));
    assert_eq!(
        (refused.needed, refused.available),
        (10 * MIB + 1, 10 * MIB)
    );
    assert_eq!(
        rig.device().calls(Op::Upload),
        0,
        "refused before anything is copied"
    );
    let shard = seal(&rig, 10 * MIB).unwrap();
    assert_eq!(rig.manager.available_vram(), 0);
    assert_eq!(refusal(seal(&rig, 1)).available, 0);
    drop(shard);
    rig.assert_empty();
}

// requirement: CAP-4
#[test]
fn several_shards_are_counted_exactly() {
    let rig = rig(40 * MIB);
    let three: Vec<_> = (0..3).map(|_| seal(&rig, 5 * MIB).unwrap()).collect();
    assert_eq!(rig.manager.used_vram(), 15 * MIB);
    assert_eq!(rig.manager.shards().len(), 3);
    assert_eq!(rig.manager.capacity(0).unwrap().holders, 3);
    drop(three);
    let sizes = [MIB, 10 * MIB, 20 * MIB];
    let shards: Vec<_> = sizes
        .iter()
        .map(|size| seal(&rig, *size).unwrap())
        .collect();
    let reported: Vec<_> = shards.iter().map(|s| s.record().vram_bytes).collect();
    assert_eq!(reported, sizes);
    assert_eq!(rig.manager.used_vram(), 31 * MIB);
}

// requirement: CAP-5, CAP-2
#[test]
fn a_refused_seal_leaves_room_for_the_next() {
    let rig = rig(2 * MIB);
    for _ in 0..10 {
        refusal(seal(&rig, 3 * MIB));
        drop(seal(&rig, 2 * MIB).unwrap());
    }
    rig.assert_empty();
}

/// What a caller may log: the device and how much is held there.
#[test]
fn a_reservation_says_where_and_how_much() {
    let device = SimDevice::with_options(SimOptions::new(4 * MIB).ordinal(3));
    let manager = shared(&device, None, Sharing::Dedicated);
    let held = manager.reserve(3, MIB).unwrap();
    let said = format!("{held:?}");
    assert_eq!(said, "Reservation { gpu_device: 3, bytes: 1048576, .. }");
}

// requirement: ER-1, RP-004, WORKER-4150, WORKER-4151, WORKER-4153, WORKER-4950, WORKER-4951, GC-10
#[test]
fn insufficient_vram() {
    // The refusal says everything that is needed to act.
    let device = SimDevice::with_options(SimOptions::new(100 * MIB).ordinal(3));
    let manager = shared(&device, Some(50 * MIB), Sharing::Headroom(8 * MIB));
    let _a = manager
        .seal(SealRequest::bytes(&weights(MIB as usize, 1)))
        .unwrap();
    let _b = manager.reserve(3, 20 * MIB).unwrap();
    let error = manager.reserve(3, 30 * MIB).err().unwrap();
    assert!(error.is_retriable() && !error.is_fatal() && error.retry_after().is_some());
    assert_eq!(error.code(), Code::VramOom);
    assert_eq!(
        error.to_string(),
        "not enough VRAM on device 3: 31457280 bytes needed, 22020096 available (52428800 managed, \
         22020096 in use by 2 shards, 0 stranded, 8388608 headroom, the driver reports 103809024 \
         free); free a shard or choose another device"
    );
}

// requirement: CAP-8, CAP-9, API-F34, GC-3, GC-8
#[test]
fn headroom_is_never_handed_out() {
    assert_eq!(Sharing::Dedicated.headroom(80 << 30), 0);
    assert_eq!(Sharing::Shared.headroom(12 << 30), 2 << 30);
    assert_eq!(Sharing::Shared.headroom(80 << 30), 8 << 30);
    assert_eq!(Sharing::Headroom(5).headroom(80 << 30), 5);
    // A device smaller than its headroom offers nothing and does not underflow.
    let manager = shared(&SimDevice::new(1 << 30), None, Sharing::Shared);
    assert_eq!(manager.effective_available_vram(), 0);
    assert_eq!(manager.available_vram(), 1 << 30);
    assert!(!manager.can_admit(0, 1).unwrap());
}

// requirement: API-F3, API-F4, CAP-11
#[test]
fn the_budget_is_capped_by_the_device() {
    let device = SimDevice::new(10 * MIB);
    assert_eq!(
        shared(&device, None, Sharing::Dedicated).total_vram(),
        10 * MIB
    );
    assert_eq!(
        shared(&device, Some(4 * MIB), Sharing::Dedicated).total_vram(),
        4 * MIB
    );
    assert_eq!(
        shared(&device, Some(u64::MAX), Sharing::Dedicated).total_vram(),
        10 * MIB
    );
}

// requirement: RP-001, CAP-9, GC-1
#[test]
fn what_others_took_is_not_handed_out_again() {
    let device = SimDevice::new(10 * MIB);
    let (ours, theirs) = (
        shared(&device, None, Sharing::Dedicated),
        shared(&device, None, Sharing::Dedicated),
    );
    let _shard = theirs
        .seal(SealRequest::bytes(&weights(6 << 20, 1)))
        .unwrap();
    // Our budget is whole and the driver has less: the smaller counts.
    assert_eq!(ours.available_vram(), 10 * MIB);
    let refused = refusal(ours.reserve(0, 5 * MIB));
    assert_eq!((refused.available, refused.driver_free), (4 * MIB, 4 * MIB));
    // Two reservations together may not exceed what the driver has either.
    let _three = ours.reserve(0, 3 * MIB).unwrap();
    assert_eq!(refusal(ours.reserve(0, 2 * MIB)).available, MIB);
    device.lie_memory(Some(MemoryInfo {
        free: u64::MAX,
        total: u64::MAX,
    }));
    assert_eq!(
        refusal(ours.reserve(0, 8 * MIB)).available,
        7 * MIB,
        "a lie adds no budget"
    );
}

// requirement: CAP-9, GC-6, TY-9
#[test]
fn a_reservation_race_has_exactly_one_winner() {
    for _ in 0..50 {
        let rig = rig(MIB);
        let wins = AtomicU64::new(0);
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let held = rig.manager.reserve(0, MIB / 2 + 1);
                    wins.fetch_add(u64::from(held.is_ok()), Ordering::SeqCst);
                    barrier.wait();
                    drop(held);
                });
            }
        });
        assert_eq!(wins.load(Ordering::SeqCst), 1);
        rig.assert_empty();
    }
}

// requirement: CAP-10, MS-003
#[test]
fn allocation_overflow_prevented() {
    let policy = Policy {
        max_model_bytes: u64::MAX,
        ..Policy::default()
    };
    for granularity in [1, 3, 2 * MIB, u64::MAX] {
        let options = SimOptions::new(64 * MIB).granularity(granularity);
        let rig = Rig::build(&[options], policy.clone(), |b| b);
        for bytes in [u64::MAX, u64::MAX - 1, u64::MAX - MIB, 1 << 63] {
            assert!(refusal(rig.manager.reserve(0, bytes)).needed >= bytes);
            let source = PatternSource::new(bytes, 0);
            refusal(rig.manager.seal(SealRequest::source(source)));
        }
        assert_eq!(rig.device().calls(Op::Allocate), 0);
        rig.assert_empty();
    }
}

// requirement: IV-001, VA-3, RP-003, WORKER-4170
#[test]
fn max_model_size_enforced() {
    let rig = Rig::build(&[SimOptions::new(1 << 40)], Policy::default(), |b| b);
    let limit = 100_u64 << 30;
    assert!(
        rig.manager.reserve(0, limit).is_ok(),
        "the boundary is accepted"
    );
    for bytes in [0, limit + 1] {
        let error = rig.manager.reserve(0, bytes).err().unwrap();
        assert_eq!(error.code(), Code::InvalidParams);
        let request = SealRequest::source(PatternSource::new(bytes, 0));
        let error = rig.manager.seal(request).unwrap_err().to_string();
        assert!(
            error.contains(&format!("the limits are 1 and {limit}")),
            "{error}"
        );
    }
    assert_eq!(
        rig.count("vram.allocation_failed"),
        0,
        "refused input is no event"
    );
}

// requirement: RP-003, WORKER-4170, TY-4
#[test]
fn configurable_limits() {
    for max_model_bytes in [1, 10, 4096] {
        let small = Policy {
            max_model_bytes,
            ..Policy::default()
        };
        let rig = Rig::build(&[SimOptions::new(MIB)], small, |b| b);
        assert!(seal(&rig, max_model_bytes).is_ok());
        let error = seal(&rig, max_model_bytes + 1).unwrap_err();
        assert_eq!(error.code(), Code::InvalidParams);
        let limits = format!("the limits are 1 and {max_model_bytes}");
        assert!(error.to_string().contains(&limits), "{error}");
    }
    // So are the budget and what is kept free for others.
    let device = SimDevice::new(10 * MIB);
    let manager = shared(&device, Some(4 * MIB), Sharing::Headroom(MIB));
    assert_eq!(manager.total_vram(), 4 * MIB);
    assert_eq!(manager.effective_available_vram(), 3 * MIB);
    assert!(manager.reserve(0, 3 * MIB).is_ok());
    assert_eq!(refusal(manager.reserve(0, 3 * MIB + 1)).headroom, MIB);
}

// requirement: CAP-12, CAP-1
#[test]
fn granularity_is_accounted_for() {
    let options = SimOptions::new(20 * MIB).granularity(2 * MIB);
    let rig = Rig::build(&[options], Policy::default(), |b| b);
    let shard = seal(&rig, 1).unwrap();
    assert_eq!(rig.manager.used_vram(), 2 * MIB);
    let other = seal(&rig, 2 * MIB + 1).unwrap();
    assert_eq!(rig.manager.used_vram(), 6 * MIB);
    assert_eq!(refusal(seal(&rig, 14 * MIB + 1)).needed, 16 * MIB);
    drop((shard, other));
    rig.assert_empty();
}

// requirement: CAP-1, RP-001, MS-003
#[test]
fn a_device_that_gives_more_or_less_than_asked_cannot_break_the_sum() {
    let device = Disguise::new(gpu_info(1 << 30));
    let budget = Some(10_000);
    let rig = Rig::build(&[], Policy::default(), |b| {
        b.device_with(Arc::new(device.clone()), budget, Sharing::Dedicated)
    });
    // More than was asked for, and there is room: it is counted.
    device.claim_to_grant(|len| len + 100);
    let shard = seal(&rig, 5000).unwrap();
    assert_eq!(rig.assert_balanced()[0].used, 5100);
    // More than the budget holds, or less than was asked for: given back.
    let wrong: [Grant; 3] = [|_| u64::MAX, |len| len + 5000, |len| len - 1];
    for grant in wrong {
        device.claim_to_grant(grant);
        let error = seal(&rig, 4000).unwrap_err();
        assert!(matches!(error, Error::Device(_)), "{error}");
        assert_eq!(device.sim.buffers().len(), 1, "only the first shard's");
        assert_eq!(rig.assert_balanced()[0].used, 5100);
        assert_eq!(rig.sink.types().pop().unwrap(), "vram.allocation_failed");
    }
    // And a free that strands more than was ever there.
    device.claim_to_grant(|_| u64::MAX);
    device
        .sim
        .fail(Op::Free, 1, DeviceError::Unsupported { what: "test" });
    assert!(seal(&rig, 4000).is_err());
    let capacity = rig.assert_balanced()[0];
    assert_eq!(capacity.stranded, 4000);
    device.claim_to_grant(|len| len);
    drop(shard);
    assert_eq!(rig.assert_balanced()[0].used, 0);
}

// requirement: CAP-1, MS-004
#[test]
fn stranded_bytes_leave_the_budget_and_stay_in_the_sum() {
    let rig = rig(10 * MIB);
    let shard = seal(&rig, 3 * MIB).unwrap();
    let fault = DeviceError::Unsupported { what: "scrubbing" };
    rig.device().fail(Op::Free, 1, fault);
    let error = rig.manager.deallocate(&shard).unwrap_err();
    assert!(
        matches!(&error, Error::Free(free) if free.stranded == 3 * MIB),
        "{error}"
    );
    assert!(!shard.is_sealed());
    let capacity = rig.assert_balanced()[0];
    assert_eq!(
        (capacity.used, capacity.stranded, capacity.free),
        (0, 3 * MIB, 7 * MIB)
    );
    assert_eq!(refusal(seal(&rig, 8 * MIB)).stranded, 3 * MIB);
    drop(seal(&rig, 7 * MIB).unwrap());
    assert_eq!(rig.count("vram.stranded"), 1);
}

// requirement: API-F12, API-F13, API-F17, API-F33, API-F14
#[test]
fn the_sources_shapes_reach_the_same_ledger() {
    let rig = rig(MIB);
    let one = s1::SealModel::seal_model(&rig.manager, b"12345", 0).unwrap();
    let two = s4::SealModel::seal_model(&rig.manager, "test", 0, b"123").unwrap();
    let same = s4::SealModel::seal_model(&rig.manager, "test", 0, b"123").unwrap();
    assert_eq!(two.record().model_ref, same.record().model_ref);
    assert!(two.id() != same.id() && two.id().as_str().len() > 20);
    let part = s1::SealModel::seal_model_shard(&rig.manager, b"1", 0, 1, 4).unwrap();
    assert_eq!(part.record().position.map(|p| p.index), Some(1));
    let (used, free) = (
        s4::SealModel::get_used_vram(&rig.manager, 0).unwrap(),
        s4::SealModel::get_free_vram(&rig.manager, 0).unwrap(),
    );
    assert_eq!((used, used + free), (12, rig.manager.total_vram()));
    assert!(s1::SealModel::seal_model(&rig.manager, b"1", 1).is_err());
    assert_balanced(&rig.manager);
    drop(one);
}

// requirement: CAP-1, CAP-4
#[test]
fn capacity_tracking_accurate() {
    proptest!(cases(1000), |(mibs in prop::collection::vec(1..1000_u64, 1..50))| {
        let capacity = 50_000 * MIB;
        let rig = Rig::build(&[SimOptions::new(capacity)], Policy::default(), |b| b);
        let mut held = Vec::new();
        let mut sum = 0;
        for mib in mibs {
            held.push(rig.manager.reserve(0, mib * MIB).unwrap());
            sum += mib * MIB;
            let now = rig.manager.capacity(0).unwrap();
            prop_assert_eq!((now.used, now.free), (sum, capacity - sum));
            prop_assert_eq!(now.holders, held.len() as u64);
        }
    });
}

// requirement: CAP-2
#[test]
fn freeing_restores_capacity() {
    proptest!(cases(1000), |(lens in prop::collection::vec(1..5000_u64, 1..10), order in any::<prop::sample::Index>())| {
        let rig = rig(MIB);
        let mut sum: u64 = lens.iter().sum();
        let mut held: Vec<_> = lens.iter().map(|len| seal(&rig, *len).unwrap()).collect();
        while !held.is_empty() {
            let shard = held.remove(order.index(held.len()));
            sum -= shard.record().vram_bytes;
            rig.manager.deallocate(&shard).unwrap();
            prop_assert_eq!(rig.manager.available_vram(), MIB - sum);
        }
        rig.assert_empty();
    });
}

// requirement: CAP-10, RP-002
#[test]
fn vram_mb_to_bytes_safe() {
    let policy = Policy {
        max_model_bytes: u64::MAX,
        ..Policy::default()
    };
    proptest!(cases(1000), |(device in 1..=1_000_000_u64, asked in 1..=1_000_000_u64)| {
        let (total, bytes) = (device.checked_mul(MIB).unwrap(), asked.checked_mul(MIB).unwrap());
        let rig = Rig::build(&[SimOptions::new(total)], policy.clone(), |b| b);
        prop_assert_eq!(rig.manager.total_vram() / MIB, device);
        prop_assert_eq!(rig.manager.can_admit(0, bytes).unwrap(), asked <= device);
        match rig.manager.reserve(0, bytes) {
            Ok(room) => prop_assert_eq!((room.bytes(), rig.manager.available_vram()), (bytes, total - bytes)),
            Err(error) => prop_assert!(asked > device, "{}", error),
        }
    });
}

// requirement: CAP-10, RP-002
#[test]
fn shard_size_calculations_safe() {
    let policy = Policy {
        max_model_bytes: u64::MAX,
        ..Policy::default()
    };
    proptest!(cases(1000), |(mib in 1..=100_000_u64, overhead in 0..=1_000_000_u64, granularity in 1..=4 * MIB)| {
        let bytes = mib * MIB + overhead;
        let options = SimOptions::new(200_000 * MIB).granularity(granularity);
        let rig = Rig::build(&[options], policy.clone(), |b| b);
        let part = PlanPart { name: "part".to_owned(), bytes, padding: MAX_PADDING };
        let plan = rig.manager.plan(&[part], 0).unwrap();
        let room = rig.manager.reserve(0, bytes).unwrap();
        prop_assert!(room.bytes() >= bytes && room.bytes() - bytes < granularity);
        // What the plan counts leaves room for alignment and is rounded likewise.
        let planned = plan.placements[0].bytes;
        prop_assert!(plan.fits && planned >= room.bytes() && planned.is_multiple_of(granularity));
        prop_assert!(planned - bytes < 2 * granularity + 255);
    });
}

// requirement: CAP-10, MS-003, RP-002
#[test]
fn integer_overflow_prevented() {
    let sizes = prop_oneof![
        any::<u64>(),
        (u64::MAX - 5000)..=u64::MAX,
        1..1_000_000 * MIB
    ];
    let policy = Policy {
        max_model_bytes: u64::MAX,
        ..Policy::default()
    };
    proptest!(cases(1000), |(bytes in sizes, granularity in 1..=(1_u64 << 40))| {
        let options = SimOptions::new(100_000 * MIB).granularity(granularity);
        let rig = Rig::build(&[options], policy.clone(), |b| b);
        match rig.manager.reserve(0, bytes) {
            Ok(room) => {
                prop_assert!(room.bytes() >= bytes && room.bytes() <= 100_000 * MIB);
                prop_assert_eq!(room.bytes() % granularity, 0);
            }
            Err(Error::InsufficientVram(refusal)) => prop_assert!(refusal.needed > refusal.available),
            Err(error) => prop_assert!(bytes == 0, "{}", error),
        }
        rig.assert_empty();
    });
}

// requirement: RP-001, CAP-6
#[test]
fn vram_allocation_never_exceeds_capacity() {
    proptest!(cases(100), |(lens in prop::collection::vec(1..40_000_u64, 1..30), granularity in 1..5000_u64)| {
        let options = SimOptions::new(256 << 10).granularity(granularity);
        let rig = Rig::build(&[options], Policy::default(), |b| b);
        let mut held = Vec::new();
        for (i, len) in lens.into_iter().enumerate() {
            let request = SealRequest::source(PatternSource::new(len, i as u64));
            held.extend(rig.manager.seal(request).ok());
            rig.assert_balanced();
            prop_assert!(rig.manager.used_vram() <= 256 << 10);
        }
        for shard in &held {
            prop_assert!(rig.manager.verify_shard_integrity(shard).unwrap());
        }
    });
}
