//! What the plan says and what sealing then does agree.

mod common;

use common::{Rig, weights};
use vram_residency::audit::AuditMode;
use vram_residency::capacity::plan::{Plan, PlanPart, padding};
use vram_residency::error::{Error, InputError};
use vram_residency::format::Format;
use vram_residency::load::FormatChoice;
use vram_residency::sim::SimOptions;
use vram_residency::{Mode, Policy, SealRequest};

fn part(bytes: u64) -> PlanPart {
    PlanPart {
        name: "part".to_owned(),
        bytes,
        padding: 0,
    }
}

/// One device of 1 MiB in pages of 4 KiB.
fn rig() -> Rig {
    let options = SimOptions::new(1 << 20).granularity(4096);
    Rig::build(&[options], Policy::default(), |b| b)
}

// requirement: AU-5, AU-13, OB-3
#[test]
fn a_load_that_does_not_fit_is_counted_and_told_although_the_log_is_full() {
    let rig = Rig::build(&[SimOptions::new(1 << 20)], Policy::default(), |b| {
        b.audit_mode(AuditMode::Required)
    });
    rig.sink.set_broken(true);
    let refused = rig.manager.plan_spread(&[part(2 << 20)], 0).unwrap();
    assert!(!refused.fits);
    let metrics = rig.manager.metrics();
    assert_eq!(metrics.allocation_failures_total, 1);
    let reasons = metrics.allocation_failures_by_reason;
    assert_eq!(reasons, [("insufficient_vram", 1)].into());
    assert_eq!(metrics.audit_emit_failures_total, 1);
    assert!(rig.manager.plan_spread(&[part(1000)], 0).unwrap().fits);
    assert_eq!(rig.manager.metrics().allocation_failures_total, 1);
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
    for (bytes, fits) in [(room, true), (room + 1, false)] {
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
    // A file whose tensor data begins at byte 120 takes 136 bytes more, no others.
    let file = safetensors(112, 64);
    let part = PlanPart {
        padding: padding(120),
        ..part(file.len() as u64)
    };
    for total in 180..=450 {
        let rig = Rig::build(&[SimOptions::new(total)], Policy::default(), |b| b);
        let plan = rig.manager.plan(std::slice::from_ref(&part), 0).unwrap();
        let choice = FormatChoice::Exactly(Format::Safetensors);
        let sealed = rig.manager.seal(SealRequest::bytes(&file).format(choice));
        assert_eq!(plan.fits, sealed.is_ok(), "{total}: {plan:?}");
        assert_eq!(plan.fits, total >= 320, "{total}");
    }
}

/// A file with a header of `header` bytes and one tensor of `len` bytes.
fn safetensors(header: usize, len: usize) -> Vec<u8> {
    let json = format!(r#"{{"a":{{"dtype":"U8","shape":[{len}],"data_offsets":[0,{len}]}}}}"#);
    let mut file = (header as u64).to_le_bytes().to_vec();
    file.extend(format!("{json:<header$}").bytes());
    file.extend(weights(len, 3));
    file
}

// requirement: CAP-3, VA-3
#[test]
fn a_part_that_the_policy_would_not_seal_does_not_fit() {
    let policy = Policy {
        max_model_bytes: 1000,
        ..Policy::default()
    };
    let rig = Rig::build(&[SimOptions::new(1 << 20)], policy, |b| b);
    assert!(rig.manager.plan(&[part(1000)], 0).unwrap().fits);
    let answer = rig.manager.plan(&[part(1), part(1001)], 0);
    assert_eq!(refused_size(answer), (1001, 1000));
    let sealed = rig.manager.seal(SealRequest::bytes(&weights(1001, 1)));
    assert!(matches!(sealed, Err(Error::Input(_))));
}

/// The size that a part has, and the largest that the policy admits.
fn refused_size(answer: Result<Plan, Error>) -> (u64, u64) {
    let error = answer.unwrap_err();
    let Error::Input(InputError::SourceSize { len, max, .. }) = &error else {
        panic!("{error}");
    };
    assert!(error.to_string().starts_with("part: "), "{error}");
    (*len, *max)
}

// requirement: PM-1, CAP-3
#[test]
fn a_rank_may_be_larger_than_a_file() {
    let policy = Policy {
        max_model_bytes: 1000,
        ..Policy::default()
    };
    let devices = [0, 1].map(|ordinal| SimOptions::new(4000).ordinal(ordinal));
    let rig = Rig::build(&devices, policy, |b| b);
    let ask = |ranks: &[PlanPart]| rig.manager.plan_ranks(ranks, 0);
    assert!(ask(&[part(1001), part(4000)]).unwrap().fits);
    assert!(!ask(&[part(1001), part(4001)]).unwrap().fits);
    assert_eq!(refused_size(ask(&[part(1), part(0)])), (0, 1000));
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
