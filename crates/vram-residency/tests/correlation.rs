//! Every event of an operation carries the id of the request that it was for.
//!
//! requirement: AU-17

mod common;

use std::time::Duration;

use common::{Rig, root_key, wait_until, weights};
use vram_residency::device::DeviceError;
use vram_residency::key::{Scope, SigningKey};
use vram_residency::manager::{RunState, Scrubber};
use vram_residency::receipt::{Nonce, Signer};
use vram_residency::sim::{Op, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};

fn two_devices() -> Rig {
    let policy = Policy {
        allow_repair: true,
        max_lease_age: Some(Duration::from_secs(60)),
        ..Policy::default()
    };
    let options: Vec<_> = (0..2)
        .map(|ordinal| SimOptions::new(1 << 20).ordinal(ordinal))
        .collect();
    Rig::build(&options, policy, |builder| builder)
}

fn seal(manager: &VramManager) -> SealedShard {
    let bytes = weights(9000, 1);
    manager.seal(SealRequest::bytes(&bytes)).unwrap()
}

/// What is asked of the request's handle, on a shard that was sealed for nobody.
type Ask = fn(&Rig, &VramManager, &SealedShard);

/// Each operation, and an event that it leaves.
const ASKED: [(&str, Ask); 19] = [
    ("vram.sealed", |_, of, _| drop(seal(of))),
    ("vram.allocation_failed", |_, of, _| {
        assert!(of.reserve(0, 2 << 20).is_err());
    }),
    ("vram.reservation_released", |_, of, _| {
        drop(of.reserve(0, 100).unwrap());
    }),
    ("seal.verified", |_, of, shard| {
        drop(of.lease(shard, Mode::Full).unwrap());
    }),
    ("lease.reused", |_, of, shard| {
        of.verify_sealed(shard, Mode::Full).map(drop).unwrap();
        drop(of.lease(shard, Mode::Full).unwrap());
    }),
    ("lease.refused", |_, of, shard| {
        of.stop("by hand").unwrap();
        assert!(of.lease(shard, Mode::Full).is_err());
    }),
    ("manager.resumed", |_, of, _| {
        of.stop("by hand").unwrap();
        of.resume("by hand").unwrap();
    }),
    ("seal.verification_failed", |rig, of, shard| {
        rig.flip_newest(shard, 5, 1);
        assert!(of.verify_record(shard.record(), Mode::Full).is_err());
    }),
    ("vram.attested", |_, of, shard| {
        of.attest_vram_residency(shard, None).map(drop).unwrap();
    }),
    ("receipt.issued", |_, of, shard| {
        let (key, nonce) = (signing_key(), Nonce::new(&[1; 16]).unwrap());
        let signer = Signer {
            key: &key,
            certificate: None,
        };
        of.issue_receipt(shard, &signer).map(drop).unwrap();
        of.answer(shard, &nonce, &signer).map(drop).unwrap();
    }),
    ("shard.exported", |_, of, shard| {
        of.unseal_model(shard).map(drop).unwrap();
    }),
    ("shard.repaired", |rig, of, shard| {
        rig.flip_newest(shard, 5000, 1);
        let source = weights(9000, 1);
        let _ = of.repair(shard, &source.as_slice()).unwrap();
    }),
    ("shard.repair_failed", |rig, of, shard| {
        rig.flip_newest(shard, 5000, 1);
        let source = weights(9000, 2);
        assert!(of.repair(shard, &source.as_slice()).is_err());
    }),
    ("shard.migrated", |_, of, shard| {
        drop(of.migrate_shard(shard, 1).unwrap());
    }),
    ("shard.migration_failed", |rig, of, shard| {
        let fault = DeviceError::Unsupported { what: "test" };
        rig.devices[1].fail(Op::BlockDigests, 1, fault);
        assert!(of.migrate_shard(shard, 1).is_err());
    }),
    ("vram.deallocated", |_, of, shard| {
        of.unseal_and_free(shard).unwrap();
    }),
    ("key.retired", |_, of, _| {
        of.rotate_key(&root_key(5)).unwrap();
        of.retire_old_keys().unwrap();
    }),
    ("device.lost", |rig, of, _| {
        let gone = DeviceError::Lost {
            op: "test",
            code: 1,
            text: "gone".to_owned(),
        };
        rig.device().fail(Op::Memory, 1, gone);
        assert!(of.driver_memory(0).is_err());
    }),
    ("operation.failed", |rig, of, _| {
        let fault = DeviceError::Unsupported { what: "test" };
        rig.device().fail(Op::Memory, 1, fault);
        assert!(of.driver_memory(0).is_err());
    }),
];

fn signing_key() -> SigningKey {
    SigningKey::scoped(&root_key(3), Scope::Test).unwrap()
}

#[test]
fn every_event_of_a_request_carries_its_id() {
    for (wanted, ask) in ASKED {
        let rig = two_devices();
        let shard = seal(&rig.manager);
        let before = rig.sink.events().len();
        ask(&rig, &rig.manager.for_request("request-7"), &shard);
        let events = rig.sink.events().split_off(before);
        let of_type = |name: &str| events.iter().any(|e| e.body.event_type() == name);
        assert!(of_type(wanted), "{wanted}: {events:?}");
        for event in &events {
            let id = event.correlation_id.as_ref().map(|id| id.as_str());
            assert_eq!(id, Some("request-7"), "{wanted}: {event:?}");
        }
        // The manager itself goes on for nobody.
        drop(rig.manager.reserve(1, 1).unwrap());
        assert_eq!(rig.sink.events().last().unwrap().correlation_id, None);
    }
}

/// The id of the newest event of a type.
fn id_of(rig: &Rig, event_type: &str) -> Option<String> {
    let events = rig.sink.events();
    let mut newest = events.iter().rev();
    let event = newest.find(|event| event.body.event_type() == event_type);
    let id = event.unwrap().correlation_id.clone();
    id.map(|id| id.as_str().to_owned())
}

#[test]
fn a_seals_own_id_comes_first_and_memory_is_of_who_took_it() {
    let rig = two_devices();
    let (one, two) = (
        rig.manager.for_request("one"),
        rig.manager.for_request("two\n"),
    );
    let mine = SealRequest::bytes(b"weights").correlation_id("mine");
    let shard = one.seal(mine).unwrap();
    assert_eq!(id_of(&rig, "vram.sealed").as_deref(), Some("mine"));
    drop(shard);
    assert_eq!(id_of(&rig, "vram.deallocated").as_deref(), Some("mine"));
    drop(seal(&one));
    assert_eq!(id_of(&rig, "vram.deallocated").as_deref(), Some("one"));
    two.deallocate(&seal(&one)).unwrap();
    assert_eq!(id_of(&rig, "vram.deallocated").as_deref(), Some("two\\n"));
    // A handle is the manager, another one's shards included.
    let lease = two.lease(&seal(&one), Mode::Full).unwrap();
    lease.finish();
}

/// It goes on when the request is long over.
#[test]
fn a_scrubber_works_for_no_request() {
    let rig = two_devices();
    let shard = seal(&rig.manager);
    rig.flip_newest(&shard, 5, 1);
    let scrubber = Scrubber::start(&rig.manager.for_request("over"), 1 << 40).unwrap();
    wait_until(|| rig.manager.state() != RunState::Running);
    assert!(scrubber.end().is_some());
    assert_eq!(id_of(&rig, "seal.verification_failed"), None);
    assert_eq!(id_of(&rig, "manager.stopped"), None);
}

#[test]
fn a_start_is_for_a_request_too() {
    let start = |more: fn(_) -> _| Rig::build(&[SimOptions::new(1 << 20)], Policy::default(), more);
    let rig =
        start(|builder: vram_residency::manager::VramManagerBuilder| builder.for_request("start"));
    drop(seal(&rig.manager));
    let events = rig.sink.events();
    let all = events.iter().all(|e| e.correlation_id.is_some());
    assert!(!events.is_empty() && all, "{events:?}");
}
