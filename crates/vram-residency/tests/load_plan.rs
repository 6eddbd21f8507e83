//! What the plan says and what sealing then does agree.

mod common;

use common::{Rig, weights};
use vram_residency::capacity::plan::PlanPart;
use vram_residency::error::Error;
use vram_residency::sim::SimOptions;
use vram_residency::{Mode, Policy, SealRequest};

fn part(bytes: u64) -> PlanPart {
    PlanPart {
        name: "part".to_owned(),
        bytes,
    }
}

/// One device of 1 MiB in pages of 4 KiB.
fn rig() -> Rig {
    let options = SimOptions::new(1 << 20).granularity(4096);
    Rig::build(&[options], Policy::default(), |b| b)
}

// requirement: CAP-3
#[test]
fn what_the_plan_accepts_can_be_sealed_and_what_it_refuses_cannot() {
    let rig = rig();
    let held = rig
        .manager
        .seal(SealRequest::bytes(&weights(300_000, 1)).id("held"))
        .unwrap();
    let room = rig.manager.capacity(0).unwrap().available;
    for (bytes, fits) in [(room - 255, true), (room + 1, false)] {
        let plan = rig.manager.plan(&[part(bytes)], 0).unwrap();
        assert_eq!(plan.fits, fits, "{bytes}: {plan:?}");
        let weights = weights(usize::try_from(bytes).unwrap(), 2);
        let sealed = rig.manager.seal(SealRequest::bytes(&weights));
        assert_eq!(sealed.is_ok(), fits, "{bytes}");
    }
    // The dry run names the shard; without it the same request is accepted.
    let plan = rig.manager.plan(&[part(room + 1)], 0).unwrap();
    let named: Vec<_> = plan.devices[0].would_free.iter().collect();
    assert_eq!(named.len(), 1);
    assert_eq!(named[0].shard_id, "held");
    assert!(plan.fits_after_freeing);
    rig.manager.deallocate(&held).unwrap();
    assert_eq!(
        rig.manager.capacity(0).unwrap().available,
        room + named[0].bytes
    );
    assert!(rig.manager.plan(&[part(room + 1)], 0).unwrap().fits);
}

#[test]
fn leased_shards_and_reserves_are_respected() {
    let rig = rig();
    let shard = rig
        .manager
        .seal(SealRequest::bytes(&weights(600_000, 1)))
        .unwrap();
    let ask = || rig.manager.plan(&[part(600_000)], 0).unwrap();
    assert!(ask().fits_after_freeing);
    let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
    assert!(!ask().fits_after_freeing, "a leased shard cannot go");
    lease.finish();
    rig.manager.deallocate(&shard).unwrap();
    assert!(ask().fits);
    let plan = rig.manager.plan(&[part(600_000)], 1 << 19).unwrap();
    assert!(!plan.fits, "the reserve is kept free");
    assert!(plan.placements[0].ordinal.is_none());
    rig.assert_empty();
}

#[test]
fn a_driver_that_does_not_answer_is_an_error() {
    let rig = rig();
    let down = vram_residency::device::DeviceError::Unsupported { what: "test" };
    rig.device().fail(vram_residency::sim::Op::Memory, 1, down);
    let answer = rig.manager.plan(&[part(1)], 0);
    assert!(matches!(answer, Err(Error::Device(_))));
}
