//! Forgery, replay, other tokens, and changes between check and use. What may
//! not leak is in `leaks.rs`.
//!
//! requirement: TP-6, TP-9

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Rig, manager_on, newest, rig, rig_of, root_key, weights};
use vram_digest::FileDigest;
use vram_residency::clock::Timestamp;
use vram_residency::device::DeviceKind;
use vram_residency::error::{Error, InputError, Misuse, VerifyError};
use vram_residency::key::{RootKey, SealTag};
use vram_residency::policy::{OnFailure, PolicyError};
use vram_residency::seal::Record;
use vram_residency::sim::{SimDevice, SimOptions};
use vram_residency::verify::{check_file, check_record};
use vram_residency::{Mode, Policy, SealRequest, SealedShard};

fn sealed(rig: &Rig) -> SealedShard {
    rig.manager
        .seal(SealRequest::bytes(&weights(9000, 4)).id("model-a"))
        .unwrap()
}

fn refusal(rig: &Rig, record: &Record) -> VerifyError {
    match rig.manager.verify_record(record, Mode::Full) {
        Err(Error::Verify(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("accepted"),
    }
}

// requirement: ER-4, AU-3, SG-4
#[test]
fn seal_forgery_rejected() {
    let rig = rig(1 << 20);
    let shard = sealed(&rig);
    let forgeries = [
        Record {
            tag: SealTag::from_bytes([0; 32]),
            ..shard.record().clone()
        },
        Record {
            tag: SealTag::from_bytes([0xFF; 32]),
            ..shard.record().clone()
        },
        Record {
            vram_bytes: 1,
            ..shard.record().clone()
        },
        Record {
            model_ref: "other".parse().unwrap(),
            ..shard.record().clone()
        },
        Record {
            device_kind: DeviceKind::Cuda,
            ..shard.record().clone()
        },
    ];
    for forged in &forgeries {
        assert!(matches!(refusal(&rig, forged), VerifyError::Tag { .. }));
    }
    assert_eq!(rig.count("seal.verification_failed"), forgeries.len());
    // Nobody can stop us by showing us forgeries.
    assert!(!shard.is_quarantined());
    rig.manager.lease(&shard, Mode::Full).unwrap().finish();
}

// requirement: VA-5, DG-3
#[test]
fn tampered_digest_rejected() {
    let rig = rig(1 << 20);
    let shard = sealed(&rig);
    for digest in [[0; 32], *vram_digest::digest(b"another model").as_bytes()] {
        let digest = FileDigest::from_bytes(digest);
        let forged = Record {
            digest,
            ..shard.record().clone()
        };
        assert!(matches!(refusal(&rig, &forged), VerifyError::Tag { .. }));
    }
}

// requirement: ER-5, PM-7
#[test]
fn seal_replay_rejected() {
    let first = rig(1 << 20);
    let shard = sealed(&first);
    let old = shard.record().clone();
    assert!(first.manager.verify_record(&old, Mode::Full).is_ok());

    // After the shard was freed, and after its name was taken by another seal
    // of the very same bytes.
    first.manager.deallocate(&shard).unwrap();
    assert!(matches!(refusal(&first, &old), VerifyError::NotHeld { .. }));
    let again = sealed(&first);
    assert!(matches!(refusal(&first, &old), VerifyError::NotHeld { .. }));
    assert!(
        first
            .manager
            .verify_record(again.record(), Mode::Full)
            .is_ok()
    );

    // Another boot: same device, same token, fresh salt and instance.
    let device = first.device().clone();
    let later = manager_on(&device, root_key(1), 77);
    let answer = later
        .verify_record(again.record(), Mode::Full)
        .err()
        .unwrap();
    assert!(
        matches!(answer, Error::Verify(VerifyError::UnknownKey { .. })),
        "{answer}"
    );

    // Another boot that even got the same salt back: the instance differs only
    // in random bytes, so equal randomness is the same instance, and the shard
    // is still not held there.
    let twin = rig(1 << 20);
    assert_eq!(twin.manager.instance(), first.manager.instance());
    assert!(matches!(
        refusal(&twin, again.record()),
        VerifyError::NotHeld { .. }
    ));
}

// requirement: KD-10
#[test]
fn a_seal_of_one_device_does_not_pass_for_another() {
    let rig = rig_of(2, 1 << 20, Policy::default());
    let shard = sealed(&rig);
    let uuid = rig.manager.devices()[1].uuid;
    let moved = Record {
        gpu_device: 1,
        ..shard.record().clone()
    };
    assert!(matches!(
        refusal(&rig, &moved),
        VerifyError::UnknownKey { .. }
    ));
    let moved = Record {
        device_uuid: uuid,
        ..moved
    };
    assert!(matches!(
        refusal(&rig, &moved),
        VerifyError::UnknownKey { .. }
    ));
    let elsewhere = Record {
        gpu_device: 9,
        ..shard.record().clone()
    };
    assert!(matches!(
        refusal(&rig, &elsewhere),
        VerifyError::NotHeld { .. }
    ));
}

// requirement: CI-001, CI-005, API-F21
#[test]
fn a_seal_under_token_a_is_refused_under_token_b() {
    let token = |c: u8| (c..c + 40).collect::<Vec<u8>>();
    let (a, b) = (
        RootKey::from_token(&token(1)),
        RootKey::from_token(&token(2)),
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    let manager = manager_on(&SimDevice::new(1 << 20), a, 5);
    let bytes = weights(9000, 4);
    let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
    let refused = check_record(shard.record(), &b).err().unwrap();
    assert!(matches!(
        refused,
        Error::Verify(VerifyError::UnknownKey { .. })
    ));
    // Even with the key id of the other token written over.
    let other = manager_on(&SimDevice::new(1 << 20), b, 5);
    let key_id = other.key_id(0).unwrap().unwrap();
    let forged = Record {
        key_id,
        ..shard.record().clone()
    };
    let refused = other.verify_record(&forged, Mode::Full).err().unwrap();
    assert!(
        matches!(refused, Error::Verify(VerifyError::Tag { .. })),
        "{refused}"
    );
    // Token A again, on another machine: tag and file both check out.
    let a = RootKey::from_token(&token(1)).unwrap();
    let record = check_record(shard.record(), &a).unwrap();
    assert!(check_file(&record, "model", &bytes[..]).unwrap().matches);
    assert!(!check_file(&record, "model", &bytes[1..]).unwrap().matches);
}

// requirement: API-F41
#[test]
fn a_handle_of_another_manager_is_refused() {
    let (one, two) = (
        rig(1 << 20),
        Rig::build(&[SimOptions::new(1 << 20)], Policy::default(), |b| {
            b.random(Arc::new(common::Seeded::new(99)))
        }),
    );
    let shard = sealed(&one);
    let foreign = |error: Error| {
        assert!(
            matches!(error, Error::Misuse(Misuse::ForeignShard)),
            "{error}"
        )
    };
    foreign(two.manager.verify_sealed(&shard, Mode::Full).err().unwrap());
    foreign(two.manager.lease(&shard, Mode::Full).err().unwrap());
    foreign(two.manager.deallocate(&shard).unwrap_err());
    foreign(two.manager.unseal_model(&shard).unwrap_err());
    foreign(two.manager.migrate_shard(&shard, 0).unwrap_err());
    assert!(one.manager.verify_shard_integrity(&shard).unwrap());
    assert!(two.sink.events().is_empty());
}

// requirement: DG-7, WORKER-4121
#[test]
fn digest_reverification() {
    // Between seal, verify and lease.
    let rig = rig(1 << 20);
    let shard = sealed(&rig);
    let _ = rig.manager.verify_sealed(&shard, Mode::Full).unwrap();
    // The attack: the bytes change after the check and before the use.
    rig.flip_newest(&shard, 8191, 7);
    let error = rig.manager.lease(&shard, Mode::Full).err().unwrap();
    assert!(
        matches!(error, Error::Verify(VerifyError::Contents { .. })),
        "{error}"
    );
    assert_eq!(shard.leases(), 0);
    let error = rig.manager.lease(&shard, Mode::Full).err().unwrap();
    assert!(
        matches!(error, Error::Misuse(Misuse::Stopped { .. })),
        "{error}"
    );
}

// requirement: DG-6, PM-7
#[test]
fn stale_digest_rejected() {
    let policy = Policy {
        max_seal_age: Some(Duration::from_secs(60)),
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    };
    let rig = rig_of(2, 1 << 20, policy);
    let shard = sealed(&rig);
    rig.clock.advance(60_000_000_000);
    assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
    rig.clock.advance(1);
    let error = rig.manager.verify_sealed(&shard, Mode::Full).err().unwrap();
    assert!(
        error.to_string().contains("60 s old") && error.is_fatal(),
        "{error}"
    );
    assert!(matches!(error, Error::Policy(PolicyError::SealAge { .. })));
    // That is no damage, and not told as if it were.
    let error = rig.manager.verify_shard_integrity(&shard).unwrap_err();
    assert!(matches!(error, Error::Policy(PolicyError::SealAge { .. })));
    // Another device has no new seal for it either.
    let error = rig.manager.migrate_shard(&shard, 1).unwrap_err();
    assert!(matches!(error, Error::Policy(PolicyError::SealAge { .. })));
    assert!(shard.is_sealed() && rig.count("vram.sealed") == 1);
    assert_eq!(rig.count("seal.verification_failed"), 3);
    // A clock set back makes no seal older than it is.
    let fresh = rig.manager.seal(SealRequest::bytes(b"fresh")).unwrap();
    rig.clock.set_wall(Timestamp::from_nanos(1));
    assert!(rig.manager.verify_shard_integrity(&fresh).unwrap());
    // Nor younger: the age counts on by the other clock.
    rig.clock.advance(60_000_000_000);
    assert!(rig.manager.verify_shard_integrity(&fresh).unwrap());
    rig.clock.advance(1);
    rig.clock.set_wall(fresh.record().sealed_at);
    let error = rig.manager.lease(&fresh, Mode::Full).err().unwrap();
    assert!(
        matches!(error, Error::Policy(PolicyError::SealAge { .. })),
        "{error}"
    );
}

// requirement: DG-6
#[test]
fn a_seal_dated_ahead_of_the_clock_is_refused_where_the_policy_says() {
    let policy = Policy {
        max_clock_skew: Some(Duration::from_secs(5)),
        ..Policy::default()
    };
    let rig = rig_of(1, 1 << 20, policy);
    let shard = sealed(&rig);
    let sealed_at = shard.record().sealed_at.nanos();
    let set = |nanos| rig.clock.set_wall(Timestamp::from_nanos(nanos));
    set(sealed_at - 5_000_000_000);
    assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
    set(sealed_at - 7_000_000_000);
    let error = rig.manager.lease(&shard, Mode::TagOnly).err().unwrap();
    assert!(error.to_string().contains("7 s ahead"), "{error}");
    assert!(matches!(error, Error::Policy(PolicyError::SealDate { .. })));
    // It says something of the clock and nothing of the shard.
    assert!(!shard.is_quarantined());
    set(sealed_at);
    assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
}

// requirement: DG-7
#[test]
fn concurrent_modification_detected() {
    let rig = rig_of(
        1,
        8 << 20,
        Policy {
            on_failure: OnFailure::Isolate,
            ..Policy::default()
        },
    );
    let shard = rig
        .manager
        .seal(SealRequest::bytes(&weights(4 << 20, 8)))
        .unwrap();
    let buffer = newest(rig.device());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut byte = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                // Never twice the same bit, so the shard never heals by chance.
                rig.device().flip_bit(buffer, byte % (4 << 20), 0).unwrap();
                byte += 4099;
            }
        });
        for _ in 0..1000 {
            let _ = rig.manager.verify_sealed(&shard, Mode::Full);
            if shard.is_quarantined() {
                break;
            }
        }
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    });
    assert!(shard.is_quarantined());
    assert!(rig.manager.lease(&shard, Mode::Full).is_err());
}

// requirement: CI-003, SG-7
#[test]
fn timing_safe_verification() {
    // Constant time is a matter of construction (subtle); what a test can show
    // is that no number of right leading bytes is enough.
    let rig = rig(1 << 20);
    let shard = sealed(&rig);
    let right = *shard.record().tag.as_bytes();
    for matching in 0..32 {
        let mut tag = right.map(|byte| !byte);
        tag[..matching].copy_from_slice(&right[..matching]);
        let forged = Record {
            tag: SealTag::from_bytes(tag),
            ..shard.record().clone()
        };
        assert!(
            matches!(refusal(&rig, &forged), VerifyError::Tag { .. }),
            "{matching} bytes"
        );
    }
}

// requirement: IV-001, IV-002, IV-003, IV-004, IV-005, VA-6, AU-14, ER-8
#[test]
fn bad_input_is_refused_before_anything_happens() {
    let rig = Rig::build(
        &[SimOptions::new(1 << 20)],
        Policy {
            max_model_bytes: 100,
            ..Policy::default()
        },
        |b| b,
    );
    let ok = || SealRequest::bytes(b"weights");
    let long = "a".repeat(257);
    let upper = "AB".repeat(32);
    let bad: Vec<(&str, SealRequest<'_>)> = vec![
        ("empty model", SealRequest::bytes(&[])),
        ("oversized model", SealRequest::bytes(&[0; 101])),
        ("no such device", ok().device(1)),
        ("traversal", ok().id("../etc/passwd")),
        ("NUL", ok().id("shard\0null")),
        ("characters", ok().id("@#$%")),
        ("not ASCII", ok().id("sh\u{e4}rd")),
        ("control", ok().id("a\nb")),
        ("257 bytes", ok().id(&long)),
        ("empty id", ok().id("")),
        ("NUL in model", ok().model_ref("a\0b")),
        ("short digest", ok().expect("00")),
        ("upper-case digest", ok().expect(&upper)),
        ("upper-case content digest", ok().expect_content(&upper)),
        ("position", ok().position(2, 2)),
        ("position of nothing", ok().position(0, 0)),
    ];
    for (what, request) in bad {
        let error = rig.manager.seal(request).unwrap_err();
        assert!(matches!(error, Error::Input(_)), "{what}: {error}");
        assert!(!error.is_retriable() && !error.is_fatal(), "{what}");
    }
    let held = rig.manager.seal(ok().id("taken")).unwrap();
    let before = rig.sink.events().len();
    let error = rig.manager.seal(ok().id("taken")).unwrap_err();
    assert!(
        matches!(error, Error::Input(InputError::DuplicateId { .. })),
        "{error}"
    );
    assert!(rig.manager.seal_group(Vec::new()).is_err());
    for nonce in [&[0; 15][..], &[0; 65]] {
        let answer = rig.manager.attest_vram_residency(&held, Some(nonce));
        assert!(
            matches!(answer, Err(Error::Input(InputError::Nonce { .. }))),
            "{} bytes",
            nonce.len()
        );
    }
    assert_eq!(rig.sink.events().len(), before, "refused input is no event");
    drop(held);
    rig.assert_empty();
}
