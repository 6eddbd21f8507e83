//! New keys, the overlap, and what ends with it.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Rig, rig, rig_of, root_key, weights};
use vram_residency::audit::{AuditMode, Body};
use vram_residency::error::{Error, VerifyError};
use vram_residency::key::{KeyContext, KeyError, KeyId, KeyProvider, SealKey};
use vram_residency::manager::VramManagerBuilder;
use vram_residency::sim::SimOptions;
use vram_residency::verify::check_record;
use vram_residency::{Mode, Policy, SealRequest};

// requirement: KD-10, PM-10
#[test]
fn rotation_overlaps_and_ends() {
    let rig = rig_of(2, 1 << 20, Policy::default());
    let old = rig
        .manager
        .seal(SealRequest::bytes(&weights(100, 1)))
        .unwrap();
    let before = rig.manager.key_id(0).unwrap().unwrap();
    assert_eq!(old.record().key_id, before);
    assert_ne!(
        Some(before),
        rig.manager.key_id(1).unwrap(),
        "devices have keys of their own"
    );

    rig.manager.rotate_key(&root_key(50)).unwrap();
    let new = rig
        .manager
        .seal(SealRequest::bytes(&weights(100, 2)))
        .unwrap();
    assert_ne!(new.record().key_id, before);
    for shard in [&old, &new] {
        assert!(
            rig.manager.verify_shard_integrity(shard).unwrap(),
            "both keys are accepted"
        );
    }
    // A shard that moves during the overlap is sealed anew under the new key.
    let moved = rig.manager.migrate_shard(&old, 1).unwrap();
    assert_eq!(Some(moved.record().key_id), rig.manager.key_id(1).unwrap());
    assert!(check_record(moved.record(), &root_key(50)).is_ok());
    let stale = rig
        .manager
        .seal(SealRequest::bytes(&weights(100, 3)))
        .unwrap();
    rig.manager.rotate_key(&root_key(51)).unwrap();
    rig.manager.rotate_key(&root_key(50)).unwrap();
    rig.manager.retire_old_keys().unwrap();
    for shard in [&moved, &new, &stale] {
        assert!(rig.manager.verify_shard_integrity(shard).unwrap());
    }
    assert_eq!((rig.count("key.rotated"), rig.count("key.retired")), (3, 1));
}

// requirement: KD-10, PM-10
#[test]
fn a_retired_key_vouches_for_nothing_any_more() {
    let rig = rig(1 << 20);
    let shard = rig
        .manager
        .seal(SealRequest::bytes(&weights(100, 1)))
        .unwrap();
    rig.manager.rotate_key(&root_key(50)).unwrap();
    rig.manager.retire_old_keys().unwrap();
    let error = rig
        .manager
        .verify_sealed(&shard, Mode::TagOnly)
        .err()
        .unwrap();
    assert!(
        matches!(error, Error::Verify(VerifyError::UnknownKey { .. })),
        "{error}"
    );
    assert!(rig.manager.unseal_model(&shard).is_err());
    // It proves nothing against the shard either.
    let answer = rig.manager.verify_shard_integrity(&shard);
    assert!(
        matches!(answer, Err(Error::Verify(VerifyError::UnknownKey { .. }))),
        "{answer:?}"
    );
    assert!(!shard.is_quarantined());
}

/// Keys go when the log says which: where it cannot be written, they stay, and the next
/// call says so.
// requirement: KD-10, AU-12
#[test]
fn no_key_is_retired_that_the_log_does_not_name() {
    let sim = [
        SimOptions::new(1 << 20),
        SimOptions::new(1 << 20).ordinal(1),
    ];
    let required = |builder: VramManagerBuilder| builder.audit_mode(AuditMode::Required);
    let rig = Rig::build(&sim, Policy::default(), required);
    let shard = rig
        .manager
        .seal(SealRequest::bytes(&weights(100, 1)))
        .unwrap();
    let old = [0, 1].map(|device| rig.manager.key_id(device).unwrap().unwrap());
    rig.manager.rotate_key(&root_key(50)).unwrap();
    rig.sink.set_broken(true);
    let error = rig.manager.retire_old_keys().unwrap_err();
    assert!(matches!(error, Error::Audit(_)), "{error}");
    rig.sink.set_broken(false);
    assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
    rig.manager.retire_old_keys().unwrap();
    let error = rig.manager.verify_shard_integrity(&shard).unwrap_err();
    assert!(matches!(
        error,
        Error::Verify(VerifyError::UnknownKey { .. })
    ));
    let named = rig
        .sink
        .events()
        .into_iter()
        .find_map(|event| match event.body {
            Body::KeyRetired { keys, key_ids } => Some((keys, key_ids)),
            _ => None,
        });
    assert_eq!(named, Some((2, old.to_vec())));
}

/// It cannot be checked any more: that is said once a minute, and others are
/// scrubbed meanwhile.
// requirement: KD-10, PM-8
#[test]
fn the_scrubber_does_not_dwell_on_a_shard_whose_key_was_retired() {
    const MINUTE: u64 = 60_000_000_000;
    let rig = rig(2 << 20);
    let seal = |id: &str| {
        let bytes = weights(100, 1);
        rig.manager.seal(SealRequest::bytes(&bytes).id(id)).unwrap()
    };
    let _old = seal("old");
    rig.manager.rotate_key(&root_key(50)).unwrap();
    rig.manager.retire_old_keys().unwrap();
    let _new = seal("new");
    let scrub = || {
        rig.clock.advance(1);
        rig.manager.scrub_step(1 << 20)
    };
    for minute in 1..=3 {
        let mut failed = 0;
        for _ in 0..20 {
            match scrub() {
                Ok(step) => assert_eq!(step.unwrap().shard_id.as_str(), "new"),
                Err(Error::Verify(VerifyError::UnknownKey { .. })) => failed += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((failed, rig.count("seal.verification_failed")), (1, minute));
        rig.clock.advance(MINUTE - 25);
        assert!(scrub().is_ok(), "not yet");
        rig.clock.advance(25);
    }
}

// requirement: KD-10, DG-7
#[test]
fn a_fresh_verification_is_not_reused_after_its_key_was_retired() {
    let policy = Policy {
        max_lease_age: Some(Duration::from_secs(60)),
        ..Policy::default()
    };
    let rig = rig_of(1, 1 << 20, policy);
    let shard = rig
        .manager
        .seal(SealRequest::bytes(&weights(100, 1)))
        .unwrap();
    rig.manager.lease(&shard, Mode::Full).unwrap().finish();
    rig.manager.rotate_key(&root_key(50)).unwrap();
    assert!(
        rig.manager
            .lease(&shard, Mode::Full)
            .unwrap()
            .verification()
            .reused
    );
    rig.manager.retire_old_keys().unwrap();
    let error = rig.manager.lease(&shard, Mode::Full).err().unwrap();
    assert!(
        matches!(error, Error::Verify(VerifyError::UnknownKey { .. })),
        "{error}"
    );
}

/// A provider that fails after some keys.
struct Failing(AtomicU32);

impl KeyProvider for Failing {
    fn seal_key(&self, context: &KeyContext<'_>) -> Result<Arc<dyn SealKey>, KeyError> {
        let left = self.0.fetch_sub(1, Ordering::SeqCst);
        if left == 0 {
            let reason = "the token was pulled out".to_owned();
            return Err(KeyError::Provider { reason });
        }
        root_key(9).seal_key(context)
    }

    fn id(&self) -> Result<KeyId, KeyError> {
        root_key(9).id()
    }
}

// requirement: KD-7, KD-10
#[test]
fn a_rotation_that_fails_half_way_changes_no_device() {
    let rig: Rig = rig_of(2, 1 << 20, Policy::default());
    let ids = || [0, 1].map(|device| rig.manager.key_id(device).unwrap());
    let before = ids();
    let error = rig.manager.rotate_key(&Failing(1.into())).unwrap_err();
    assert!(error.to_string().contains("pulled out"), "{error}");
    assert_eq!(ids(), before);
    assert_eq!(rig.count("key.rotated"), 0);
}
