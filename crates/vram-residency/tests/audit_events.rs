//! Every event is really emitted, with the right fields, in the right order,
//! and once; refused input emits nothing; a log that fails is dealt with.
//!
//! requirement: RP-005, AU-14

mod common;

use std::sync::Arc;

use common::{Rig, START_NS, rig, rig_of, weights};
use serde_json::{Value, json};
use vram_residency::audit::{AuditMode, Body, Event, MemorySink, Severity};
use vram_residency::device::{DeviceError, Witness};
use vram_residency::error::Error;
use vram_residency::policy::OnFailure;
use vram_residency::sim::{Op, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, SealedShard};

fn seal(rig: &Rig) -> SealedShard {
    let bytes = weights(5000, 1);
    let request = SealRequest::bytes(&bytes).id("audited").model_ref("m/1");
    rig.manager.seal(request.correlation_id("req-7")).unwrap()
}

/// The events after the first `skip`, as JSON.
fn after(rig: &Rig, skip: usize) -> Vec<Value> {
    let events = rig.sink.events();
    let json = |event: &Event| serde_json::to_value(event).unwrap();
    events.iter().skip(skip).map(json).collect()
}

/// Every field of `expected` is in `event` with that value.
fn assert_fields(event: &Value, expected: &Value) {
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(event.get(field), Some(value), "{field} of {event}");
    }
}

// requirement: AU-1, AU-4, AU-9, AU-17, WORKER-4160, SG-8, API-F9
#[test]
fn seal_audited() {
    let rig = rig(1 << 20);
    let shard = seal(&rig);
    let events = after(&rig, 0);
    assert_eq!(events.len(), 4);
    assert_fields(
        &events[0],
        &json!({
            "audit_id": 1, "event_type": "vram.allocated", "shard_id": "audited",
            "requested_bytes": 5000, "allocated_bytes": 5000, "used_bytes": 5000,
            "available_bytes": (1 << 20) - 5000, "gpu_device": 0, "severity": "info",
            "timestamp": START_NS, "worker_id": "worker", "correlation_id": "req-7",
        }),
    );
    let expected = [
        json!({
            "audit_id": 2, "event_type": "model.load_started", "shard_id": "audited",
            "gpu_device": 0, "source": "bytes", "bytes": 5000, "correlation_id": "req-7",
        }),
        json!({
            "audit_id": 3, "event_type": "model.load_completed", "shard_id": "audited",
            "gpu_device": 0, "bytes": 5000, "tensors": 0, "correlation_id": "req-7",
        }),
    ];
    for (event, expected) in events[1..].iter().zip(&expected) {
        assert_fields(event, expected);
    }
    assert_fields(
        &events[3],
        &json!({
            "audit_id": 4, "event_type": "vram.sealed", "shard_id": "audited", "model_ref": "m/1",
            "gpu_device": 0, "vram_bytes": 5000, "digest": shard.digest().to_string(),
            "device_kind": "simulated", "sequence": 1, "correlation_id": "req-7",
            "device_uuid": shard.record().device_uuid.to_string(),
        }),
    );
    for event in rig.sink.events() {
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}

// requirement: AU-8, WORKER-4390..4393
#[test]
fn a_load_is_audited_with_what_was_expected_of_it() {
    let rig = rig(1 << 20);
    let bytes = weights(5000, 1);
    let digest = vram_digest::digest(&bytes).to_string();
    let request = || SealRequest::bytes(&bytes).id("loaded");
    drop(rig.manager.seal(request().expect(&digest)).unwrap());
    let events = after(&rig, 1);
    let expected = [
        json!({"event_type": "model.load_started", "expected_digest": digest}),
        json!({"event_type": "model.hash_verified", "shard_id": "loaded", "digest": digest}),
        json!({"event_type": "model.load_completed", "bytes": 5000}),
        json!({"event_type": "vram.sealed", "digest": digest}),
    ];
    for (event, expected) in events.iter().zip(&expected) {
        assert_fields(event, expected);
    }
    let skip = rig.sink.events().len();
    let wrong = "0".repeat(64);
    assert!(rig.manager.seal(request().expect(&wrong)).is_err());
    let events = after(&rig, skip + 1);
    let expected = [
        json!({"event_type": "model.load_started", "expected_digest": wrong}),
        json!({"event_type": "vram.deallocated"}),
        json!({
            "event_type": "model.hash_mismatch", "severity": "critical", "shard_id": "loaded",
            "algorithm": "fs-verity", "expected_digest": wrong, "actual_digest": digest,
        }),
        json!({"event_type": "vram.seal_failed", "shard_id": "loaded", "severity": "error"}),
    ];
    assert_eq!(events.len(), expected.len(), "{events:#?}");
    for (event, expected) in events.iter().zip(&expected) {
        assert_fields(event, expected);
    }
    assert!(events[3]["reason"].as_str().unwrap().contains(&digest));
}

// requirement: AU-2
#[test]
fn a_passed_verification_is_audited_with_mode_and_device() {
    let rig = rig_of(2, 1 << 20, Policy::default());
    let shard = rig
        .manager
        .seal(SealRequest::bytes(b"12345").device(1))
        .unwrap();
    let _ = rig.manager.verify_sealed(&shard, Mode::Full).unwrap();
    let _ = rig.manager.verify_sealed(&shard, Mode::TagOnly).unwrap();
    rig.manager.lease(&shard, Mode::Full).unwrap().finish();
    let events = after(&rig, 4);
    let expect = |mode, bytes| {
        json!({
            "event_type": "seal.verified", "shard_id": shard.id().as_str(), "gpu_device": 1,
            "result": "pass", "mode": mode, "bytes_checked": bytes, "severity": "info",
        })
    };
    assert_eq!(events.len(), 3);
    assert_fields(&events[0], &expect("full", 5));
    assert_fields(&events[1], &expect("tag-only", 0));
    assert_fields(&events[2], &expect("full", 5));
}

// requirement: AU-3, WORKER-4161
#[test]
fn verification_failure_audited() {
    // Whatever the reason.
    let policy = Policy {
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    };
    let rig = rig_of(1, 1 << 20, policy);
    let shard = seal(&rig);
    let last = || after(&rig, 0).pop().unwrap();
    let expect = |reason| {
        json!({
            "event_type": "seal.verification_failed", "severity": "critical", "reason": reason,
            "shard_id": "audited", "expected_digest": shard.digest().to_string(), "gpu_device": 0,
        })
    };
    let mut forged = shard.record().clone();
    forged.sequence += 1;
    assert!(rig.manager.verify_record(&forged, Mode::Full).is_err());
    assert_fields(&last(), &expect("tag_mismatch"));
    forged.key_id = vram_residency::key::KeyId::from_bytes([3; 8]);
    assert!(rig.manager.verify_record(&forged, Mode::Full).is_err());
    assert_fields(&last(), &expect("unknown_key"));
    forged.gpu_device = 5;
    assert!(rig.manager.verify_record(&forged, Mode::Full).is_err());
    assert_eq!(last()["reason"], "not_held");

    rig.device().fail(
        Op::BlockDigests,
        1,
        DeviceError::OutOfMemory { requested: 1 },
    );
    assert!(rig.manager.verify_sealed(&shard, Mode::Full).is_err());
    assert_fields(&last(), &expect("device_error"));
    rig.flip_newest(&shard, 0, 0);
    assert!(rig.manager.verify_sealed(&shard, Mode::Full).is_err());
    assert_fields(&last(), &expect("digest_mismatch"));
    let actual = last()["actual_digest"].as_str().unwrap().to_owned();
    assert!(actual.len() == 64 && actual != shard.digest().to_string());
    assert!(
        last()["details"]
            .as_str()
            .unwrap()
            .contains("file offset 0")
    );
    // The evidence, as SECURITY.md promises it.
    let sealed = serde_json::to_value(shard.record().witness).unwrap();
    let damage = json!({
        "blocks": 1, "runs": [[0, 1]], "tensors": [], "read_back": 1, "confirmed": 1,
    });
    assert_eq!(last()["damage"], damage);
    assert_eq!(last()["sealed_witness"], sealed);
    assert_eq!(last()["witness"], sealed);
    assert!(rig.manager.verify_sealed(&shard, Mode::Full).is_err());
    assert_fields(&last(), &expect("quarantined"));

    let other = rig.manager.seal(SealRequest::bytes(b"other")).unwrap();
    rig.device().lie_witness(Some(Witness {
        managed: true,
        ..other.record().witness
    }));
    assert!(rig.manager.verify_sealed(&other, Mode::Full).is_err());
    assert_eq!(last()["reason"], "witness_changed");
    assert_eq!(last()["sealed_witness"]["managed"], false);
    assert_eq!(last()["witness"]["managed"], true);
    assert!(last()["damage"].is_null(), "no byte was read");
}

// requirement: AU-5
#[test]
fn a_refused_allocation_is_audited() {
    let rig = rig(1000);
    let _held = rig.manager.reserve(0, 400).unwrap();
    assert!(rig.manager.seal(SealRequest::bytes(&[0; 601])).is_err());
    assert_fields(
        &after(&rig, 1)[0],
        &json!({
            "event_type": "vram.allocation_failed", "requested_bytes": 601, "available_bytes": 600,
            "reason": "insufficient_vram", "gpu_device": 0, "severity": "warning",
        }),
    );
    rig.device()
        .fail(Op::Allocate, 1, DeviceError::Unsupported { what: "test" });
    assert!(rig.manager.seal(SealRequest::bytes(&[0; 600])).is_err());
    let events = after(&rig, 2);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(
        events[0]["reason"]
            .as_str()
            .unwrap()
            .contains("not supported"),
        "{events:?}"
    );
}

// requirement: AU-4, AU-5, AU-6, TY-9, WORKER-4100
#[test]
fn reservations_and_their_refusals_are_audited() {
    let rig = rig(1000);
    let held = rig.manager.reserve(0, 400).unwrap();
    assert!(rig.manager.reserve(0, 601).is_err());
    assert!(!rig.manager.can_admit(0, 601).unwrap(), "only a question");
    drop(held);
    assert!(rig.manager.reserve(0, 0).is_err() && rig.manager.reserve(3, 1).is_err());
    let expected = [
        json!({
            "event_type": "vram.reserved", "reserved_bytes": 400, "available_bytes": 600,
            "used_bytes": 400, "gpu_device": 0, "severity": "info",
        }),
        json!({
            "event_type": "vram.allocation_failed", "requested_bytes": 601, "available_bytes": 600,
            "reason": "insufficient_vram", "gpu_device": 0, "severity": "warning",
        }),
        json!({
            "event_type": "vram.reservation_released", "freed_bytes": 400, "remaining_used": 0,
            "gpu_device": 0,
        }),
    ];
    let events = after(&rig, 0);
    assert_eq!(events.len(), expected.len(), "{events:#?}");
    for (event, expected) in events.iter().zip(&expected) {
        assert_fields(event, expected);
    }
    assert_eq!(rig.manager.metrics().allocation_failures_total, 1);
}

// requirement: AU-6, WORKER-4162
#[test]
fn deallocation_audited() {
    // On every way out.
    let rig = rig(1 << 20);
    let ways: [fn(&Rig, SealedShard); 4] = [
        |rig, shard| rig.manager.deallocate(&shard).unwrap(),
        |rig, shard| rig.manager.unseal_and_free(&shard).unwrap(),
        |_, shard| drop(shard),
        |rig, shard| {
            let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
            drop(shard);
            lease.finish();
        },
    ];
    let _other = rig.manager.seal(SealRequest::bytes(b"12")).unwrap();
    for way in ways {
        way(&rig, seal(&rig));
        assert_fields(
            after(&rig, 0).last().unwrap(),
            &json!({
                "event_type": "vram.deallocated", "shard_id": "audited", "freed_bytes": 5000,
                "remaining_used": 2, "gpu_device": 0,
            }),
        );
    }
    assert_eq!(rig.count("vram.deallocated"), ways.len(), "once each");
}

// requirement: AU-7, WORKER-4163
#[test]
fn policy_violation_audited() {
    let rig = rig(1 << 20);
    rig.device().ignore_protect(true);
    let request = SealRequest::bytes(b"weights").id("barred");
    assert!(rig.manager.seal(request.correlation_id("req-8")).is_err());
    let info = rig.manager.devices()[0];
    let (uuid, name) = (info.uuid, &info.name);
    assert_fields(
        &after(&rig, 3)[0],
        &json!({
            "event_type": "policy.violation", "policy": "vram_only", "severity": "critical",
            "action_taken": "seal_refused", "gpu_device": 0, "shard_id": "barred",
            "correlation_id": "req-8", "details": format!("simulated device 0 {uuid}, {name}, 1048576 bytes"),
            "violation": "policy violation: the driver does not confirm VRAM residency: \
                          the mapping is still writable",
        }),
    );
}

// requirement: AU-9
#[test]
fn other_state_changes_are_audited_too() {
    let policy = Policy {
        allow_repair: true,
        ..Policy::default()
    };
    let rig = rig_of(2, 1 << 20, policy);
    let shard = seal(&rig);
    assert_eq!(
        rig.manager
            .read_shard_at_offset(&shard, 10, 20)
            .unwrap()
            .len(),
        20
    );
    rig.flip_newest(&shard, 4096, 1);
    assert!(rig.manager.verify_sealed(&shard, Mode::Full).is_err());
    let _ = rig
        .manager
        .repair(&shard, &weights(5000, 1).as_slice())
        .unwrap();
    rig.manager.resume("checked\nby hand").unwrap();
    rig.manager.resume("already running").unwrap();
    let moved = rig.manager.migrate_shard(&shard, 1).unwrap();
    let key_ids = || json!([0, 1].map(|device| rig.manager.key_id(device).unwrap()));
    let before = key_ids();
    rig.manager.rotate_key(&common::root_key(8)).unwrap();
    rig.manager.retire_old_keys().unwrap();
    rig.devices[1].fail(Op::Free, 1, DeviceError::Unsupported { what: "scrubbing" });
    assert!(rig.manager.deallocate(&moved).is_err());
    let events = after(&rig, 4);
    let digest = moved.digest().to_string();
    let expected = [
        json!({"event_type": "shard.exported", "offset": 10, "len": 20, "severity": "warning"}),
        json!({"event_type": "seal.verification_failed", "reason": "digest_mismatch"}),
        json!({"event_type": "manager.stopped", "severity": "critical"}),
        json!({"event_type": "seal.verified"}),
        json!({
            "event_type": "shard.repaired", "blocks": 1, "shard_id": "audited", "gpu_device": 0,
            "source": "bytes", "runs": [[1, 1]], "digest_after": digest,
        }),
        json!({"event_type": "manager.resumed", "reason": "checked\\nby hand"}),
        json!({"event_type": "vram.allocated", "gpu_device": 1}),
        json!({"event_type": "vram.sealed", "gpu_device": 1, "sequence": 2}),
        json!({"event_type": "shard.migrated", "from_device": 0, "to_device": 1}),
        json!({"event_type": "vram.deallocated", "gpu_device": 0}),
        json!({"event_type": "key.rotated", "devices": 2, "from": before, "to": key_ids()}),
        json!({"event_type": "key.retired", "keys": 2, "key_ids": before}),
        json!({"event_type": "vram.stranded", "stranded_bytes": 5000, "severity": "error"}),
    ];
    assert_eq!(events.len(), expected.len(), "{events:#?}");
    for (event, expected) in events.iter().zip(&expected) {
        assert_fields(event, expected);
    }
    // What the repair found is what the verification before it had measured.
    assert_eq!(events[4]["digest_before"], events[1]["actual_digest"]);
    assert_ne!(events[4]["digest_before"], events[4]["digest_after"]);
    let ids: Vec<_> = rig
        .sink
        .events()
        .iter()
        .map(|event| event.audit_id)
        .collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
}

// requirement: AU-11
#[test]
fn hostile_text_is_clean_in_the_log() {
    let rig = rig(1 << 20);
    let bytes = [7; 10];
    let request = SealRequest::bytes(&bytes).correlation_id("a\u{1b}[2J\nfake \u{202e}event");
    drop(rig.manager.seal(request).unwrap());
    rig.manager
        .stop(&format!("x\r\n{}", "y".repeat(5000)))
        .unwrap();
    for event in rig.sink.events() {
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(vram_residency::text::printable(&line), line);
        let escapes = line.matches('\\').count();
        assert_eq!(escapes, 2 * line.matches("\\\\").count(), "{line}");
        assert!(line.len() < 3000, "{} characters", line.len());
    }
}

fn with_mode(mode: AuditMode) -> Rig {
    Rig::build(&[SimOptions::new(1 << 20)], Policy::default(), |b| {
        b.audit_mode(mode)
    })
}

// requirement: AU-13, AU-15
#[test]
fn best_effort_counts_what_the_log_lost_and_goes_on() {
    let rig = with_mode(AuditMode::BestEffort);
    rig.sink.set_broken(true);
    let shard = seal(&rig);
    rig.flip_newest(&shard, 0, 0);
    assert!(rig.manager.verify_sealed(&shard, Mode::Full).is_err());
    drop(shard);
    let metrics = rig.manager.metrics();
    // allocated, started, completed, sealed, failed, stopped, deallocated; two of
    // them critical.
    assert_eq!(metrics.audit_emit_failures_total, 7);
    assert_eq!(metrics.audit_critical_emit_failures_total, 2);
    assert!(rig.sink.events().is_empty());
    rig.assert_empty();
}

// requirement: AU-13, AU-15, EXP-AUDIT-6001
#[test]
fn required_refuses_to_work_without_a_log() {
    let rig = with_mode(AuditMode::Required);
    let (one, two) = (
        seal(&rig),
        rig.manager.seal(SealRequest::bytes(b"two")).unwrap(),
    );
    rig.sink.set_broken(true);
    let refused = |error: Error| assert!(matches!(error, Error::Audit(_)), "{error}");
    refused(rig.manager.seal(SealRequest::bytes(b"three")).unwrap_err());
    refused(rig.manager.verify_sealed(&one, Mode::Full).err().unwrap());
    refused(rig.manager.lease(&one, Mode::Full).err().unwrap());
    refused(rig.manager.unseal_model(&one).unwrap_err());
    assert_eq!(one.leases(), 0);
    assert_eq!(
        rig.manager.used_vram(),
        5003,
        "the refused seal left nothing"
    );
    refused(rig.manager.stop("by hand").unwrap_err());
    refused(rig.manager.resume("by hand").unwrap_err());
    assert!(
        rig.manager.lease(&two, Mode::Full).is_err(),
        "stopped, and it stays so"
    );
    // A failed verification has its effect even when nobody can write it down.
    rig.device()
        .flip_bit(rig.device().buffers()[0], 0, 0)
        .unwrap();
    assert!(rig.manager.verify_sealed(&one, Mode::Full).is_err());
    assert!(one.is_quarantined());
    // So has a free, and its caller is told that nobody wrote it down.
    let three = rig.manager.used_vram();
    refused(rig.manager.deallocate(&one).unwrap_err());
    assert!(!one.is_sealed());
    assert_eq!(rig.manager.used_vram(), three - 5000);
    rig.sink.set_broken(false);
    rig.manager.resume("the log is back").unwrap();
    rig.manager.lease(&two, Mode::Full).unwrap().finish();
}

/// Takes whatever is written; the log has no room from then on.
struct Filling(Arc<MemorySink>);

impl std::io::Write for Filling {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.set_broken(true);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The record of a failure is lost and counted; the failure itself is told.
// requirement: AU-3, AU-13, EXP-AUDIT-6001
#[test]
fn a_log_that_is_full_hides_no_failure() {
    type Ask = fn(&Rig, &SealedShard) -> Result<(), Error>;
    let asks: [(&str, Ask); 5] = [
        ("verify", |rig, shard| {
            rig.manager.verify_sealed(shard, Mode::Full).map(drop)
        }),
        ("lease", |rig, shard| {
            rig.manager.lease(shard, Mode::Keyed).map(drop)
        }),
        ("scrub", |rig, _| rig.manager.scrub_step(u64::MAX).map(drop)),
        ("export", |rig, shard| {
            // What begins it can be recorded.
            rig.sink.set_broken(false);
            let mut out = Filling(Arc::clone(&rig.sink));
            rig.manager.unseal_to(shard, &mut out).map(drop)
        }),
        ("integrity", |rig, shard| {
            assert!(!rig.manager.verify_shard_integrity(shard).unwrap());
            rig.manager.verify_sealed(shard, Mode::Full).map(drop)
        }),
    ];
    for (name, ask) in asks {
        let rig = Rig::build(&[SimOptions::new(8 << 20)], Policy::default(), |builder| {
            builder.audit_mode(AuditMode::Required)
        });
        let bytes = weights(2 << 20, 1);
        let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
        rig.flip_newest(&shard, (2 << 20) - 1, 1);
        rig.sink.set_broken(true);
        let error = ask(&rig, &shard).unwrap_err();
        assert!(matches!(error, Error::Verify(_)), "{name}: {error}");
        assert!(shard.is_quarantined(), "{name}");
        assert!(rig.manager.metrics().audit_critical_emit_failures_total > 0);
    }
}

// requirement: AU-12, AU-15
#[test]
fn every_sink_gets_every_event_and_is_flushed() {
    let second = Arc::new(MemorySink::new());
    let rig = Rig::build(&[SimOptions::new(1 << 20)], Policy::default(), |b| {
        b.sink(second.clone())
    });
    second.set_broken(true);
    let shard = seal(&rig);
    second.set_broken(false);
    drop(shard);
    assert_eq!(
        rig.sink.events().len(),
        5,
        "one sink's failure is not the other's"
    );
    assert_eq!(second.types(), ["vram.deallocated"]);
    rig.manager.flush_audit().unwrap();
    assert_eq!(rig.sink.flushes(), 1);
    let sink = rig.sink.clone();
    drop(rig);
    assert_eq!(sink.flushes(), 2, "and once more at the end");
    let critical = |event: &Event| {
        matches!(event.body, Body::VramSealed { .. }) && event.severity == Severity::Info
    };
    assert!(sink.events().iter().any(critical));
}
