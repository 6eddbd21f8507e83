//! No failure is silent: every operation of the manager meets every device
//! failure, and whatever it answers with, an event says so.
//!
//! requirement: AU-3, AU-5, AU-7, RP-005

mod common;

use std::time::Duration;

use common::disguise::{Disguise, gpu_info};
use common::{Rig, root_key, weights};
use vram_residency::audit::Severity;
use vram_residency::capacity::plan::PlanPart;
use vram_residency::device::DeviceError;
use vram_residency::error::{Error, Misuse, VerifyError};
use vram_residency::policy::{OnFailure, PolicyError};
use vram_residency::receipt::Nonce;
use vram_residency::sim::{Op, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, SealedGroup, SealedShard};

/// Events that say that something failed or was refused.
const FAILURES: [&str; 9] = [
    "vram.allocation_failed",
    "vram.seal_failed",
    "vram.stranded",
    "seal.verification_failed",
    "shard.migration_failed",
    "policy.violation",
    "lease.refused",
    "operation.failed",
    "device.lost",
];

/// Two devices, one shard of a known name, and a group of two.
struct Stage {
    rig: Rig,
    shard: SealedShard,
    group: SealedGroup,
}

const LEN: usize = 9000;

/// A small model with one tensor that is all of its data.
fn model() -> Vec<u8> {
    let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{LEN}],"data_offsets":[0,{LEN}]}}}}"#);
    let len = (header.len() as u64).to_le_bytes();
    [&len[..], header.as_bytes(), &weights(LEN, 1)].concat()
}

fn stage() -> Stage {
    let policy = Policy {
        allow_repair: true,
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    };
    let options: Vec<_> = (0..2)
        .map(|i| SimOptions::new(1 << 20).ordinal(i))
        .collect();
    let rig = Rig::build(&options, policy, |b| b);
    let bytes = model();
    let members = (0..2)
        .map(|i| SealRequest::bytes(&bytes).device(i))
        .collect();
    let group = rig.manager.seal_group(members).unwrap();
    let format =
        vram_residency::load::FormatChoice::Exactly(vram_residency::format::Format::Safetensors);
    let request = SealRequest::bytes(&bytes).id("subject").format(format);
    let shard = rig.manager.seal(request).unwrap();
    Stage { rig, shard, group }
}

/// Does one thing with the manager.
type Operation = fn(&Stage) -> Result<(), Error>;

/// Every operation that can touch a device.
const OPERATIONS: [(&str, Operation); 22] = [
    ("seal", |s| {
        s.rig.manager.seal(SealRequest::bytes(&model())).map(drop)
    }),
    ("reserve", |s| s.rig.manager.reserve(0, 10).map(drop)),
    ("can_admit", |s| s.rig.manager.can_admit(0, 10).map(drop)),
    ("driver_memory", |s| {
        s.rig.manager.driver_memory(0).map(drop)
    }),
    ("plan", |s| {
        let part = PlanPart {
            name: "part".to_owned(),
            bytes: 5,
            padding: 0,
        };
        s.rig.manager.plan(&[part], 0).map(drop)
    }),
    ("verify full", |s| {
        s.rig.manager.verify_sealed(&s.shard, Mode::Full).map(drop)
    }),
    ("verify keyed", |s| {
        s.rig.manager.verify_sealed(&s.shard, Mode::Keyed).map(drop)
    }),
    ("verify sweep", |s| {
        let mode = Mode::Sweep {
            budget: Duration::from_millis(1),
        };
        s.rig.manager.verify_sealed(&s.shard, mode).map(drop)
    }),
    ("verify record", |s| {
        let record = s.shard.record();
        s.rig.manager.verify_record(record, Mode::Full).map(drop)
    }),
    ("verify integrity", |s| {
        s.rig.manager.verify_shard_integrity(&s.shard).map(drop)
    }),
    ("verify group", |s| {
        s.rig.manager.verify_group(&s.group, Mode::Full).map(drop)
    }),
    ("scrub", |s| {
        // Every shard has its turn, in whatever order.
        (0..3).try_for_each(|_| {
            s.rig.clock.advance(1);
            s.rig.manager.scrub_step(1 << 20).map(drop)
        })
    }),
    ("lease", |s| {
        s.rig.manager.lease(&s.shard, Mode::TagOnly).map(drop)
    }),
    ("read tensor", |s| {
        let lease = s.rig.manager.lease(&s.shard, Mode::TagOnly)?;
        lease.tensor("w")?.read(5, &mut [0; 10])
    }),
    ("export", |s| s.rig.manager.unseal_model(&s.shard).map(drop)),
    ("attest", |s| {
        let nonce = Some(&[7; 16][..]);
        let attested = s.rig.manager.attest_vram_residency(&s.shard, nonce);
        attested.map(drop)
    }),
    ("measure", |s| {
        let nonce = Nonce::new(&[7; 16]).unwrap();
        s.rig.manager.measure_residency(&s.shard, &nonce).map(drop)
    }),
    ("migrate", |s| {
        s.rig.manager.migrate_shard(&s.shard, 1).map(drop)
    }),
    ("repair", |s| {
        s.rig.flip_newest(&s.shard, 4097, 1);
        let repaired = s.rig.manager.repair(&s.shard, &model().as_slice());
        repaired.map(drop)
    }),
    ("free", |s| s.rig.manager.deallocate(&s.shard)),
    ("enforce policy", |s| {
        s.rig.manager.enforce_vram_only_policy()
    }),
    ("verify and free", |s| {
        s.rig.manager.unseal_and_free(&s.shard)
    }),
];

/// Runs one operation against one failing call; tells whether it failed.
fn strike(name: &str, run: Operation, device: usize, op: Op, fault: &DeviceError) -> bool {
    let stage = stage();
    let before = stage.rig.sink.events().len();
    stage.rig.devices[device].fail(op, 1, fault.clone());
    let answer = run(&stage);
    let Err(error) = answer else {
        return false;
    };
    let what = format!("{name}, {op:?} on device {device}: {error}");
    assert!(!error.is_refusal(), "{what}");
    let events = stage.rig.sink.types();
    let told = events[before..]
        .iter()
        .filter(|event| FAILURES.contains(&event.as_str()))
        .count();
    assert!(told > 0, "{what} is silent: {:?}", &events[before..]);
    let losses = events.iter().filter(|e| *e == "device.lost").count();
    assert_eq!(losses, usize::from(fault.is_loss()), "{what}");
    stage.rig.assert_balanced();
    true
}

fn strike_all(fault: &DeviceError) {
    for (name, run) in OPERATIONS {
        let mut failed = 0;
        for op in Op::ALL {
            for device in 0..2 {
                failed += usize::from(strike(name, run, device, op, fault));
            }
        }
        assert!(failed > 0, "{name} never fails");
    }
}

// requirement: AU-3, AU-5, AU-13, OP-4
#[test]
fn every_operation_tells_of_every_failing_call() {
    strike_all(&DeviceError::Unsupported { what: "test" });
}

// requirement: CO-2, AU-3, AU-5
#[test]
fn every_operation_tells_of_a_lost_device() {
    strike_all(&DeviceError::Lost {
        op: "test",
        code: 719,
        text: "gone".to_owned(),
    });
}

// requirement: AU-7, WORKER-4163
#[test]
fn refused_exports_and_repairs_are_violations() {
    let device = Disguise::new(gpu_info(2 << 30));
    let rig = Rig::build(&[], Policy::default(), |b| b.device(device.clone()));
    let bytes = model();
    let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
    let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
    let skip = rig.sink.events().len();
    let refused = |answer: Result<(), Error>, what: &str, rule: &str| {
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::Policy(_)), "{what}: {error}");
        let event = rig.sink.events().pop().unwrap();
        assert_eq!(event.severity, Severity::Critical, "{what}");
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event_type"], "policy.violation", "{what}");
        assert_eq!(json["policy"], rule, "{what}");
        assert_eq!(json["action_taken"], "refused", "{what}");
        assert_eq!(json["violation"], error.to_string(), "{what}");
    };
    let manager = &rig.manager;
    refused(manager.unseal_model(&shard).map(drop), "unseal", "export");
    let part = manager.read_shard_at_offset(&shard, 1, 2);
    refused(part.map(drop), "read", "export");
    drop(lease);
    let repaired = manager.repair(&shard, &bytes.as_slice());
    refused(repaired.map(drop), "repair", "repair");
    assert_eq!(rig.sink.events().len(), skip + 3, "one each");
}

// requirement: AU-7, API-F24
#[test]
fn tensor_bytes_that_leave_or_may_not_are_audited() {
    let bytes = model();
    let format =
        vram_residency::load::FormatChoice::Exactly(vram_residency::format::Format::Safetensors);
    for allow_export in [false, true] {
        let policy = Policy {
            allow_export,
            ..Policy::default()
        };
        let device = Disguise::new(gpu_info(2 << 30));
        let rig = Rig::build(&[], policy, |b| b.device(device.clone()));
        let request = SealRequest::bytes(&bytes).format(format);
        let shard = rig.manager.seal(request).unwrap();
        let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
        let mut out = [0; 10];
        let answer = lease.tensor("w").unwrap().read(5, &mut out);
        let event = serde_json::to_value(rig.sink.events().pop().unwrap()).unwrap();
        if allow_export {
            answer.unwrap();
            assert_eq!(out[..], weights(LEN, 1)[5..15]);
            assert_eq!(event["event_type"], "shard.exported");
            let start = bytes.len() - LEN + 5;
            assert_eq!(
                (&event["offset"], &event["len"]),
                (&start.into(), &10.into())
            );
        } else {
            let error = answer.unwrap_err();
            assert!(matches!(error, Error::Policy(PolicyError::ExportOff)));
            assert_eq!(event["event_type"], "policy.violation");
            assert_eq!(out, [0; 10], "nothing came out");
        }
    }
}

// requirement: AU-2, WORKER-4121, WORKER-4122
#[test]
fn every_lease_leaves_one_event_granted_or_refused() {
    let policy = Policy {
        max_lease_age: Some(Duration::from_secs(10)),
        ..Policy::default()
    };
    let rig = Rig::build(&[SimOptions::new(1 << 20)], policy, |b| b);
    let shard = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
    let last = |skip: usize| {
        let events = rig.sink.events();
        assert_eq!(events.len(), skip + 1, "{:?}", rig.sink.types());
        serde_json::to_value(&events[skip]).unwrap()
    };
    drop(rig.manager.lease(&shard, Mode::Full).unwrap());
    assert_eq!(last(4)["event_type"], "seal.verified");
    rig.clock.advance(5);
    drop(rig.manager.lease(&shard, Mode::Full).unwrap());
    let reused = last(5);
    assert_eq!(reused["event_type"], "lease.reused");
    assert_eq!(
        (&reused["mode"], &reused["age_nanos"]),
        (&"full".into(), &5.into())
    );
    rig.manager.stop("by hand").unwrap();
    let error = rig.manager.lease(&shard, Mode::Full).unwrap_err();
    assert!(matches!(error, Error::Misuse(Misuse::Stopped { .. })));
    let refused = last(7);
    assert_eq!(refused["event_type"], "lease.refused");
    assert_eq!(refused["severity"], "warning");
    assert_eq!(refused["reason"], error.to_string());
}

// requirement: PM-10, VP-006
#[test]
fn a_key_that_is_retired_during_an_attestation_is_named() {
    let device = common::disguise::Disguise::new(gpu_info(2 << 30));
    let rig = Rig::build(&[], Policy::default(), |b| b.device(device.clone()));
    let shard = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
    rig.manager.rotate_key(&root_key(9)).unwrap();
    let manager = rig.manager.clone();
    // Asked for free memory, after the verification and before the tag.
    device.on_memory(move || manager.retire_old_keys().unwrap());
    let error = rig.manager.attest_vram_residency(&shard, None).unwrap_err();
    let Error::Verify(VerifyError::UnknownKey { key_id, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(*key_id, shard.record().key_id.to_string());
    let event = serde_json::to_value(rig.sink.events().pop().unwrap()).unwrap();
    assert_eq!(event["event_type"], "operation.failed");
    assert_eq!(event["operation"], "attest");
    assert_eq!(event["code"], "SEAL_VERIFICATION_FAILED");
    assert_eq!(event["shard_id"], shard.id().as_str());
}

/// Who reads the event need not guess which of several devices or requests it was.
// requirement: AU-5, AU-7
#[test]
fn what_failed_is_told_with_what_it_was_about() {
    let stage = stage();
    let manager = &stage.rig.manager;
    let last = || serde_json::to_value(stage.rig.sink.events().pop().unwrap()).unwrap();
    let fault = DeviceError::Unsupported { what: "scripted" };
    stage.rig.devices[1].fail(Op::Memory, 1, fault);
    assert!(manager.driver_memory(1).is_err());
    let event = last();
    assert_eq!(event["operation"], "driver_memory");
    assert_eq!(event["gpu_device"], 1);
    assert!(event["shard_id"].is_null() && event["correlation_id"].is_null());

    let request = SealRequest::file("/nowhere/model").correlation_id("req-3");
    assert!(manager.seal(request).is_err());
    let event = last();
    assert_eq!(event["event_type"], "operation.failed");
    assert_eq!(event["correlation_id"], "req-3");
}
