//! Every kind of error: who is to blame, whether a retry makes sense, whether
//! the worker may go on, the stable code, and words that a person can act on.

mod common;

use std::time::Duration;

use common::rig;
use vram_residency::SealRequest;
use vram_residency::audit::AuditError;
use vram_residency::device::{DeviceError, FreeError};
use vram_residency::error::{Code, Error, InputError, InsufficientVram, Misuse, VerifyError};
use vram_residency::key::KeyError;
use vram_residency::load::LoadError;
use vram_residency::policy::PolicyError;
use vram_residency::random::RandomError;
use vram_residency::receipt::ReceiptError;
use vram_residency::shard::ShardId;

fn id() -> ShardId {
    "shard-1".parse().unwrap()
}

fn lost() -> DeviceError {
    DeviceError::Lost {
        op: "cuMemcpyDtoH",
        code: 719,
        text: "unspecified launch failure".to_owned(),
    }
}

/// Error, code, retriable, fatal.
fn table() -> Vec<(Error, Code, bool, bool)> {
    let oom = DeviceError::OutOfMemory { requested: 1 };
    let host_oom = DeviceError::HostOutOfMemory { requested: 1 };
    let driver = DeviceError::Driver {
        op: "cuInit",
        code: 12_345,
        name: "unknown".to_owned(),
        text: "no text".to_owned(),
    };
    let stranded = |source| FreeError {
        stranded: 1,
        source,
    };
    let none = DeviceError::Unavailable {
        reason: "no libcuda.so.1".to_owned(),
    };
    let room = InsufficientVram {
        ordinal: 0,
        needed: 2,
        available: 1,
        total: 1,
        used: 0,
        shards: 0,
        stranded: 0,
        headroom: 0,
        driver_free: 1,
    };
    let name = || "model".to_owned();
    vec![
        (room.into(), Code::VramOom, true, false),
        (oom.into(), Code::VramOom, true, false),
        (host_oom.into(), Code::CudaError, true, false),
        (driver.clone().into(), Code::CudaError, false, false),
        (none.into(), Code::CudaError, false, false),
        (lost().into(), Code::CudaError, false, true),
        (stranded(driver).into(), Code::CudaError, false, false),
        (stranded(lost()).into(), Code::CudaError, false, true),
        (
            VerifyError::Tag { shard_id: id() }.into(),
            Code::SealVerificationFailed,
            false,
            true,
        ),
        (
            VerifyError::NotHeld { shard_id: id() }.into(),
            Code::SealVerificationFailed,
            false,
            true,
        ),
        (
            VerifyError::Quarantined { shard_id: id() }.into(),
            Code::SealVerificationFailed,
            false,
            true,
        ),
        (
            PolicyError::ExportOff.into(),
            Code::PolicyViolation,
            false,
            true,
        ),
        (
            PolicyError::Memory { reason: "managed" }.into(),
            Code::PolicyViolation,
            false,
            true,
        ),
        (
            PolicyError::NotSigned {
                digest: "00".repeat(32),
                len: 1,
            }
            .into(),
            Code::PolicyViolation,
            false,
            true,
        ),
        (
            InputError::Empty { field: "shard id" }.into(),
            Code::InvalidParams,
            false,
            false,
        ),
        (Misuse::NotSealed.into(), Code::InvalidParams, false, false),
        (
            Misuse::ForeignShard.into(),
            Code::InvalidParams,
            false,
            false,
        ),
        (
            Misuse::Busy {
                shard_id: id(),
                leases: 1,
            }
            .into(),
            Code::InvalidParams,
            true,
            false,
        ),
        (
            Misuse::Shared { shard_id: id() }.into(),
            Code::InvalidParams,
            false,
            false,
        ),
        (
            LoadError::Cancelled { name: name() }.into(),
            Code::ModelLoadFailed,
            false,
            false,
        ),
        (
            LoadError::Deadline { name: name() }.into(),
            Code::ModelLoadFailed,
            true,
            false,
        ),
        (
            LoadError::Changed {
                name: name(),
                what: "size",
            }
            .into(),
            Code::ModelLoadFailed,
            true,
            false,
        ),
        (
            LoadError::Read {
                name: name(),
                offset: 1,
                source: std::io::Error::other("the disk is away"),
            }
            .into(),
            Code::ModelLoadFailed,
            true,
            false,
        ),
        (KeyError::Entropy.into(), Code::AuthFailed, false, false),
        (
            AuditError {
                reason: "disk full".to_owned(),
            }
            .into(),
            Code::Internal,
            false,
            false,
        ),
        (
            RandomError::new("none").into(),
            Code::Internal,
            false,
            false,
        ),
        (
            Error::Internal("a fact that cannot be"),
            Code::Internal,
            false,
            false,
        ),
    ]
}

// requirement: ER-1..ER-9, WORKER-4150..4152, WORKER-4950, WORKER-4951, WORKER-4952, GC-7
#[test]
fn every_kind_has_its_class_and_its_stable_code() {
    for (error, code, retriable, fatal) in table() {
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.is_retriable(), retriable, "{error}");
        assert_eq!(error.is_fatal(), fatal, "{error}");
        assert_eq!(error.retry_after().is_some(), retriable, "{error}");
        assert!(
            !(retriable && fatal),
            "{error}: nobody retries what is fatal"
        );
    }
    let busy: Error = Misuse::Busy {
        shard_id: id(),
        leases: 1,
    }
    .into();
    assert_eq!(busy.retry_after(), Some(Duration::from_millis(100)));
}

// requirement: WORKER-4152, RP-004
#[test]
fn messages_are_plain_lower_case_and_end_without_a_stop() {
    for (error, ..) in table() {
        let text = error.to_string();
        let first = text.chars().next().unwrap();
        assert!(!first.is_uppercase() || text.starts_with("VRAM"), "{text}");
        assert!(!text.ends_with('.') && text.is_ascii(), "{text}");
        assert!(!text.contains("0x"), "{text}");
    }
    let unknown = table().swap_remove(3).0.to_string();
    assert_eq!(unknown, "cuInit failed: unknown (12345): no text");
}

// requirement: WORKER-4950
#[test]
fn codes_are_written_as_the_sources_name_them() {
    for (code, name) in [
        (Code::VramOom, "VRAM_OOM"),
        (Code::CudaError, "CUDA_ERROR"),
        (Code::ModelLoadFailed, "MODEL_LOAD_FAILED"),
        (Code::SealVerificationFailed, "SEAL_VERIFICATION_FAILED"),
        (Code::PolicyViolation, "POLICY_VIOLATION"),
        (Code::InvalidParams, "INVALID_PARAMS"),
        (Code::AuthFailed, "AUTH_FAILED"),
        (Code::Internal, "INTERNAL"),
    ] {
        assert_eq!(serde_json::to_value(code).unwrap(), name);
        assert_eq!(code.as_str(), name);
    }
}

// requirement: API-F37, TY-5, OB-2, OB-3
#[test]
fn metrics_count_what_happened() {
    use vram_residency::{Mode, manager::RunState};
    let rig = rig(10_000);
    let shard = rig.manager.seal(SealRequest::bytes(&[1; 2500])).unwrap();
    assert!(rig.manager.seal(SealRequest::bytes(&[1; 9000])).is_err());
    assert!(rig.manager.seal(SealRequest::bytes(&[])).is_err());
    let _ = rig.manager.verify_sealed(&shard, Mode::Full).unwrap();
    let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
    rig.clock.advance(5_000);
    let metrics = rig.manager.metrics();
    assert_eq!(metrics.state, RunState::Running);
    assert_eq!(
        (metrics.seal_attempts_total, metrics.seal_operations_total),
        (2, 1)
    );
    assert_eq!(metrics.allocation_failures_total, 1);
    assert_eq!(
        metrics.allocation_failures_by_reason,
        [("insufficient_vram", 1)].into()
    );
    assert_eq!(
        (
            metrics.allocation_attempts_total,
            metrics.concurrent_allocation_attempts_total
        ),
        (2, 0)
    );
    assert_eq!(metrics.verify_failures_by_reason, [].into());
    assert_eq!(
        (
            metrics.verify_operations_total,
            metrics.verify_failures_total
        ),
        (2, 0)
    );
    assert_eq!((metrics.leases_total, metrics.migrations_total), (1, 0));
    let device = &metrics.devices[0];
    assert_eq!(
        (device.shards, device.leases, device.quarantined),
        (1, 1, 0)
    );
    assert!((device.utilization_percent - 25.0).abs() < 1e-9);
    assert_eq!(device.oldest_verification_nanos, Some(5_000));
    lease.finish();
    rig.flip_newest(&shard, 0, 0);
    assert!(rig.manager.verify_sealed(&shard, Mode::Full).is_err());
    let metrics = rig.manager.metrics();
    assert!(matches!(metrics.state, RunState::Stopped { .. }));
    assert_eq!(
        (
            metrics.verify_failures_total,
            metrics.devices[0].quarantined
        ),
        (1, 1)
    );
    assert_eq!(
        metrics.devices[0].oldest_verification_nanos, None,
        "a failed one does not count"
    );
    assert_eq!(
        metrics.verify_failures_by_reason,
        [("digest_mismatch", 1)].into()
    );
    assert!(rig.manager.verify_sealed(&shard, Mode::Full).is_err());
    rig.manager.deallocate(&shard).unwrap();
    let json = serde_json::to_value(rig.manager.metrics()).unwrap();
    assert_eq!(json["verify_failures_by_reason"]["quarantined"], 1);
    assert_eq!(json["deallocations_total"], 1);
    assert_eq!(json["devices"][0]["capacity"]["used"], 0);
}

/// A shard without a verification that counts makes its device look no fresher.
// requirement: OB-2
#[test]
fn the_oldest_verification_is_unknown_while_a_shard_has_none() {
    use vram_residency::Mode;
    let rig = rig(1 << 20);
    let oldest = || rig.manager.metrics().devices[0].oldest_verification_nanos;
    let one = rig.manager.seal(SealRequest::bytes(&[1; 100])).unwrap();
    let _ = rig.manager.verify_sealed(&one, Mode::Full).unwrap();
    rig.clock.advance(5);
    assert_eq!(oldest(), Some(5));
    let sweep = Mode::Sweep {
        budget: std::time::Duration::ZERO,
    };
    for less in [Mode::TagOnly, sweep] {
        let _ = rig.manager.verify_sealed(&one, less).unwrap();
        assert_eq!(oldest(), Some(5), "{less} reads less than every byte");
    }
    let _ = rig.manager.verify_sealed(&one, Mode::Keyed).unwrap();
    assert_eq!(oldest(), Some(0));
    let two = rig.manager.seal(SealRequest::bytes(&[2; 100])).unwrap();
    assert_eq!(oldest(), None);
    let _ = rig.manager.verify_sealed(&two, Mode::TagOnly).unwrap();
    assert_eq!(oldest(), None, "no byte of it was read");
    rig.clock.advance(5);
    let _ = rig.manager.verify_sealed(&two, Mode::Full).unwrap();
    assert_eq!(oldest(), Some(5), "of the other one");
    drop((one, two));
    assert_eq!(oldest(), None);
}

/// Of two failures the one that says more about the bytes is told, whichever came first.
// requirement: AU-3
#[test]
fn what_was_found_out_about_the_bytes_is_told_before_anything_else() {
    use vram_residency::error::Gravity;
    type Made = fn(ShardId) -> Error;
    let ladder: [(Gravity, Made); 8] = [
        (Gravity::Ended, |_| {
            LoadError::Cancelled {
                name: "model".to_owned(),
            }
            .into()
        }),
        (Gravity::Unknown, |_| {
            DeviceError::NoResult { op: "test" }.into()
        }),
        (Gravity::Forbidden, |_| PolicyError::ExportOff.into()),
        (Gravity::Forbidden, |_| {
            PolicyError::SealAge { age_s: 2, max_s: 1 }.into()
        }),
        (Gravity::Forbidden, |shard_id| {
            let key_id = "0".to_owned();
            VerifyError::UnknownKey { shard_id, key_id }.into()
        }),
        (Gravity::Barred, |shard_id| {
            VerifyError::Quarantined { shard_id }.into()
        }),
        (Gravity::Finding, |shard_id| {
            VerifyError::ReadBack { shard_id, block: 1 }.into()
        }),
        (Gravity::Finding, |_| {
            PolicyError::NotSigned {
                digest: "0".to_owned(),
                len: 1,
            }
            .into()
        }),
    ];
    for (at, (gravity, error)) in ladder.iter().enumerate() {
        assert_eq!(error(id()).gravity(), *gravity);
        for (lesser, other) in &ladder[..at] {
            let told = error(id()).graver(other(id()));
            assert_eq!(told.to_string(), error(id()).to_string());
            let told = other(id()).graver(error(id()));
            let first = if lesser == gravity { other } else { error };
            assert_eq!(told.to_string(), first(id()).to_string());
        }
    }
}

// requirement: OB-3
#[test]
fn reasons_attempts_at_once_and_durations_are_counted() {
    use vram_residency::Mode;
    use vram_residency::clock::Clock;
    use vram_residency::sim::Op;
    let rig = rig(1 << 20);
    let manager = &rig.manager;
    for (fault, reason) in [
        (
            DeviceError::OutOfMemory { requested: 1 },
            "device_out_of_memory",
        ),
        (DeviceError::Unsupported { what: "test" }, "device_error"),
    ] {
        rig.device().fail(Op::Allocate, 1, fault);
        assert!(manager.seal(SealRequest::bytes(&[1; 100])).is_err());
        assert_eq!(manager.metrics().allocation_failures_by_reason[reason], 1);
    }
    assert_eq!(manager.metrics().concurrent_allocation_attempts_total, 0);
    let shard = manager.seal(SealRequest::bytes(&[1; 100])).unwrap();
    let before = rig.clock.monotonic();
    rig.clock.advance(1);
    let verified = manager.verify_sealed(&shard, Mode::Full).unwrap();
    let nanos = verified.verification().nanos;
    assert!(nanos <= rig.clock.monotonic() - before);
    assert_eq!(manager.metrics().verify_nanos_total, nanos);
    assert_eq!(manager.metrics().allocation_attempts_total, 3);
}

// requirement: ER-11
#[test]
fn every_error_leads_to_an_http_status() {
    let not_found = LoadError::Open {
        name: "model".to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    };
    let denied = LoadError::Open {
        name: "model".to_owned(),
        source: std::io::ErrorKind::PermissionDenied.into(),
    };
    let busy = Misuse::Busy {
        shard_id: id(),
        leases: 1,
    };
    let stopped = Misuse::Stopped {
        reason: "test".to_owned(),
    };
    let unexpected = VerifyError::Unexpected {
        algorithm: "sha256",
        expected: String::new(),
        actual: String::new(),
    };
    let oom = DeviceError::OutOfMemory { requested: 1 };
    let cases: Vec<(Error, u16)> = vec![
        (InputError::Empty { field: "shard id" }.into(), 400),
        (InputError::ModelSize { len: 0, max: 9 }.into(), 400),
        (InputError::ModelSize { len: 10, max: 9 }.into(), 413),
        (unexpected.into(), 400),
        (not_found.into(), 404),
        (denied.into(), 500),
        (Misuse::NotSealed.into(), 404),
        (busy.into(), 409),
        (stopped.into(), 503),
        (PolicyError::ExportOff.into(), 403),
        (PolicyError::RepairOff.into(), 403),
        (oom.into(), 507),
        (VerifyError::Tag { shard_id: id() }.into(), 500),
        (lost().into(), 500),
        (Error::Internal("test"), 500),
    ];
    for (error, status) in cases {
        assert_eq!(error.http_status(), status, "{error}");
    }
    for (error, ..) in table() {
        let status = error.http_status();
        assert!((400..600).contains(&status), "{error}: {status}");
        let oom = error.code() == Code::VramOom;
        assert_eq!(status == 507, oom, "{error}: {status}");
    }
}

/// What a key cannot do is said in the key's own words by everything that uses one.
#[test]
fn an_error_of_a_key_keeps_its_words() {
    let words = || KeyError::Memory {
        reason: "mlock refused".to_owned(),
    };
    let receipt = ReceiptError::from(words());
    assert_eq!(receipt, ReceiptError::Key(words()));
    assert_eq!(receipt.to_string(), words().to_string());
    let error = Error::from(words());
    assert_eq!(error.to_string(), words().to_string());
}
