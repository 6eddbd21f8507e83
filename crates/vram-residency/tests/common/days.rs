//! A manager that lives through everything: each event of the library happens.

use std::time::Duration;

use vram_residency::device::DeviceError;
use vram_residency::key::{Scope, SigningKey};
use vram_residency::receipt::{Nonce, Signer};
use vram_residency::sim::{Flip, Moment, Op, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, SealedShard};

use super::{Rig, root_key, weights};

/// Two devices and their days, good and bad.
pub(crate) fn live() -> Rig {
    let policy = Policy {
        allow_repair: true,
        max_lease_age: Some(Duration::from_secs(60)),
        ..Policy::default()
    };
    let options: Vec<_> = (0..2)
        .map(|i| SimOptions::new(1 << 20).ordinal(i))
        .collect();
    let rig = Rig::build(&options, policy, |b| b);
    good_days(&rig);
    bad_days(&rig);
    last_days(&rig);
    rig
}

fn seal(rig: &Rig, id: &str) -> SealedShard {
    let bytes = weights(9000, 1);
    rig.manager.seal(SealRequest::bytes(&bytes).id(id)).unwrap()
}

/// Everything that goes well.
fn good_days(rig: &Rig) {
    let manager = &rig.manager;
    drop(manager.reserve(0, 100).unwrap());
    let shard = seal(rig, "good");
    let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
    drop(manager.lease(&shard, Mode::Full).unwrap());
    let digest = shard.digest().to_string();
    let bytes = weights(9000, 1);
    let twin = SealRequest::bytes(&bytes).expect(&digest).dedupe();
    drop(manager.seal(twin).unwrap());
    let expected = SealRequest::bytes(&bytes).expect(&digest);
    drop(manager.seal(expected).unwrap());
    assert_eq!(manager.unseal_model(&shard).unwrap(), bytes);
    let nonce = Nonce::new(&[1; 16]).unwrap();
    manager.measure_residency(&shard, &nonce).map(drop).unwrap();
    let test = SigningKey::scoped(&root_key(3), Scope::Test).unwrap();
    let signer = Signer {
        key: &test,
        certificate: None,
    };
    manager.issue_receipt(&shard, &signer).map(drop).unwrap();
    let moved = manager.migrate_shard(&shard, 1).unwrap();
    manager.rotate_key(&root_key(5)).unwrap();
    manager.retire_old_keys().unwrap();
    manager.deallocate(&moved).unwrap();
}

/// Damage, what follows from it, and how it is healed.
fn bad_days(rig: &Rig) {
    let manager = &rig.manager;
    let members = (0..2)
        .map(|i| SealRequest::bytes(b"part").device(i))
        .collect();
    let group = manager.seal_group(members).unwrap();
    rig.flip_newest(&group.shards()[0], 0, 0);
    assert!(manager.verify_group(&group, Mode::Full).is_err());
    drop(group);
    let shard = seal(rig, "bad");
    assert!(manager.lease(&shard, Mode::Full).is_err(), "stopped");
    manager.resume("test").unwrap();
    // A checker that errs once: wrong when it looks, right again afterwards.
    for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
        rig.device().flip_at(Flip {
            moment,
            offset: 5000,
            bit: 1,
        });
    }
    let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
    rig.flip_newest(&shard, 5000, 1);
    let source = weights(9000, 1);
    let _ = manager.repair(&shard, &source.as_slice()).unwrap();
    let wrong = weights(9000, 2);
    rig.flip_newest(&shard, 5000, 1);
    assert!(manager.repair(&shard, &wrong.as_slice()).is_err());
}

/// Refusals and devices that fail.
fn last_days(rig: &Rig) {
    let manager = &rig.manager;
    let fault = || DeviceError::Unsupported { what: "test" };
    assert!(manager.reserve(0, 2 << 20).is_err());
    let shard = seal(rig, "last");
    rig.devices[1].fail(Op::BlockDigests, 1, fault());
    assert!(manager.migrate_shard(&shard, 1).is_err());
    assert!(
        manager
            .seal(SealRequest::bytes(b"x").expect(&"0".repeat(64)))
            .is_err()
    );
    rig.device().ignore_protect(true);
    assert!(manager.seal(SealRequest::bytes(b"writable")).is_err());
    rig.device().fail(Op::Free, 1, fault());
    assert!(manager.deallocate(&shard).is_err());
    let gone = DeviceError::Lost {
        op: "test",
        code: 1,
        text: "gone".to_owned(),
    };
    rig.device().fail(Op::Memory, 1, gone);
    assert!(manager.driver_memory(0).is_err());
}
