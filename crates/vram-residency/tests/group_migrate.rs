//! Models of several shards, all or nothing; and moves that are verified on
//! arrival and rolled back on any failure.

mod common;

use std::sync::Arc;

use common::{Rig, rig_of, weights};
use vram_residency::audit::{AuditError, AuditMode, Body, Event, Sink};
use vram_residency::device::{DeviceError, Witness};
use vram_residency::error::{Error, Misuse, VerifyError};
use vram_residency::manager::RunState;
use vram_residency::policy::{OnFailure, OnGroupFailure};
use vram_residency::seal::Record;
use vram_residency::shard::{GroupRecord, MAX_GROUP_RECORD_BYTES};
use vram_residency::sim::{Flip, Moment, Op, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, SealedGroup, SealedShard};

const LEN: usize = 20_000;

fn policy(on_group_failure: OnGroupFailure) -> Policy {
    Policy {
        on_failure: OnFailure::Isolate,
        on_group_failure,
        ..Policy::default()
    }
}

fn requests(parts: &[Vec<u8>]) -> Vec<SealRequest<'_>> {
    let request = |(i, bytes)| SealRequest::bytes(bytes).device(i).model_ref("llama-70b");
    (0..)
        .zip(parts.iter().map(Vec::as_slice))
        .map(request)
        .collect()
}

fn parts(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|i| weights(LEN, i)).collect()
}

fn group(rig: &Rig) -> SealedGroup {
    let parts = parts(rig.devices.len() as u64);
    rig.manager.seal_group(requests(&parts)).unwrap()
}

fn one(rig: &Rig) -> SealedShard {
    rig.manager
        .seal(SealRequest::bytes(&weights(LEN, 1)).id("mover"))
        .unwrap()
}

// requirement: API-F17, PM-1, PM-3, WORKER-4230, VA-6
#[test]
fn a_group_lies_on_the_devices_it_names_and_is_ready_once_verified() {
    let rig = rig_of(4, 1 << 20, Policy::default());
    let group = group(&rig);
    for (i, shard) in group.shards().iter().enumerate() {
        let record = shard.record();
        assert_eq!(record.gpu_device as usize, i, "the right device was chosen");
        assert_eq!(
            record.position.map(|p| (p.index as usize, p.total)),
            Some((i, 4))
        );
        assert_eq!(record.group, Some(group.id()));
        assert_eq!(rig.manager.capacity(i as u32).unwrap().used, LEN as u64);
        assert_eq!(rig.devices[i].buffers().len(), 1);
    }
    assert!(!rig.manager.group_ready(&group), "nothing was verified yet");
    let _ = rig.manager.verify_group(&group, Mode::TagOnly).unwrap();
    assert!(!rig.manager.group_ready(&group), "no byte was read yet");
    let proofs = rig.manager.verify_group(&group, Mode::Full).unwrap();
    assert_eq!(proofs.len(), 4);
    assert!(rig.manager.group_ready(&group));
    let _ = rig.manager.verify_group(&group, Mode::TagOnly).unwrap();
    assert!(rig.manager.group_ready(&group), "what was read was read");
    let record = group.record();
    assert_eq!((record.members.len(), record.group), (4, group.id()));
    // Members can neither be swapped nor left out: the tag covers the position.
    let mut swapped: Record = record.members[0].clone();
    swapped.position = record.members[1].position;
    assert!(rig.manager.verify_record(&swapped, Mode::Full).is_err());
    drop(group);
    rig.assert_empty();
}

// requirement: PM-3, CAP-5
#[test]
fn a_group_is_sealed_whole_or_not_at_all() {
    let rig = rig_of(3, 1 << 20, Policy::default());
    let parts = parts(3);
    rig.devices[2].fail(Op::Finish, 1, DeviceError::Unsupported { what: "test" });
    assert!(rig.manager.seal_group(requests(&parts)).is_err());
    rig.assert_empty();
    // The devices load at the same time: how far the others came is their luck.
    let taken = rig.count("vram.allocated");
    assert!((1..=3).contains(&taken));
    assert_eq!(rig.count("vram.deallocated"), taken);

    // Refused input of the last member: the first was not even begun.
    let before = rig.devices[0].calls(Op::Allocate);
    let mut bad = requests(&parts);
    bad.push(SealRequest::bytes(&parts[0]).device(9));
    assert!(matches!(rig.manager.seal_group(bad), Err(Error::Input(_))));
    assert_eq!(rig.devices[0].calls(Op::Allocate), before);

    let twins = vec![
        SealRequest::bytes(b"a").id("twin"),
        SealRequest::bytes(b"b").id("twin"),
    ];
    assert!(matches!(
        rig.manager.seal_group(twins),
        Err(Error::Input(_))
    ));
    assert!(
        rig.manager
            .seal_group(vec![SealRequest::bytes(b"a").dedupe()])
            .is_err()
    );
    rig.assert_empty();
    group(&rig).into_shards().into_iter().for_each(drop);
    rig.assert_empty();
}

// requirement: PM-3, WORKER-4122
#[test]
fn one_bad_member_fails_the_group() {
    let rig = rig_of(3, 1 << 20, policy(OnGroupFailure::FailAll));
    let group = group(&rig);
    let bystander = rig
        .manager
        .seal(SealRequest::bytes(b"not a member"))
        .unwrap();
    rig.devices[1]
        .flip_bit(rig.devices[1].buffers()[0], 5, 5)
        .unwrap();
    assert!(rig.manager.verify_group(&group, Mode::Full).is_err());
    assert!(group.shards().iter().all(SealedShard::is_quarantined));
    assert!(!rig.manager.group_ready(&group));
    for shard in group.shards() {
        assert!(rig.manager.lease(shard, Mode::Full).is_err());
    }
    let mut because: Vec<_> = rig
        .bodies()
        .into_iter()
        .filter_map(|body| match body {
            Body::ShardQuarantined {
                shard_id,
                because_of,
            } => Some((shard_id, because_of)),
            _ => None,
        })
        .collect();
    let id = |member: usize| group.shards()[member].id().clone();
    let mut expected = [0, 2].map(|member| (id(member), id(1)));
    expected.sort();
    because.sort();
    assert_eq!(because, expected);
    rig.manager.lease(&bystander, Mode::Full).unwrap().finish();
}

/// A device that does not answer, a member that fails with its group: neither hides which
/// member is damaged, and where.
// requirement: PM-3, AU-3
#[test]
fn damage_of_one_member_is_told_before_other_failures() {
    for isolates in [OnGroupFailure::FailAll, OnGroupFailure::IsolateMember] {
        for bad in 0..3 {
            let rig = rig_of(3, 1 << 20, policy(isolates));
            let group = group(&rig);
            for (at, device) in rig.devices.iter().enumerate() {
                if at == bad {
                    device.flip_bit(device.buffers()[0], 5, 5).unwrap();
                } else {
                    let away = DeviceError::Unsupported { what: "test" };
                    device.fail(Op::BlockDigests, 1, away);
                }
            }
            let error = rig.manager.verify_group(&group, Mode::Full).err().unwrap();
            let Error::Verify(VerifyError::Contents { shard_id, .. }) = &error else {
                panic!("{error}");
            };
            assert_eq!(shard_id, group.shards()[bad].id());
        }
    }
}

// requirement: PM-3
#[test]
fn one_bad_member_can_be_isolated() {
    let rig = rig_of(3, 1 << 20, policy(OnGroupFailure::IsolateMember));
    let group = group(&rig);
    rig.devices[1]
        .flip_bit(rig.devices[1].buffers()[0], 5, 5)
        .unwrap();
    let error = rig.manager.verify_group(&group, Mode::Full).err().unwrap();
    assert!(
        error.to_string().contains(group.shards()[1].id().as_str()),
        "{error}"
    );
    let barred: Vec<_> = group
        .shards()
        .iter()
        .map(SealedShard::is_quarantined)
        .collect();
    assert_eq!(barred, [false, true, false]);
    rig.manager
        .lease(&group.shards()[0], Mode::Full)
        .unwrap()
        .finish();
    assert_eq!(rig.count("shard.quarantined"), 0);
}

// requirement: API-F30, PM-4
#[test]
fn migration_verified_on_arrival_and_source_scrubbed() {
    let rig = rig_of(2, 1 << 20, Policy::default());
    let group = rig.manager.seal_group(requests(&parts(1))).unwrap();
    let old = group.into_shards().pop().unwrap();
    let moved = rig.manager.migrate_shard(&old, 1).unwrap();
    let (before, after) = (old.record(), moved.record());
    assert_eq!((after.gpu_device, &after.shard_id), (1, &before.shard_id));
    assert_eq!(
        (after.digest, after.group, after.position),
        (before.digest, before.group, before.position)
    );
    assert!(after.sequence > before.sequence && after.tag != before.tag);
    assert_eq!(after.device_uuid, rig.manager.devices()[1].uuid);
    assert!(rig.devices[0].buffers().is_empty(), "the source is gone");
    assert!(!old.is_sealed());
    let inert = rig.manager.verify_sealed(&old, Mode::Full).err().unwrap();
    assert!(matches!(inert, Error::Misuse(Misuse::NotSealed)), "{inert}");
    // The record of the place it left is a replay now.
    let replay = rig.manager.verify_record(before, Mode::Full).err().unwrap();
    assert!(
        matches!(replay, Error::Verify(VerifyError::NotHeld { .. })),
        "{replay}"
    );
    assert!(rig.manager.verify_record(after, Mode::Full).is_ok());
    assert_eq!(rig.manager.unseal_model(&moved).unwrap(), weights(LEN, 0));
    assert_eq!(rig.manager.metrics().migrations_total, 1);
    drop(old);
    assert_eq!(rig.manager.get_shard(moved.id()).as_ref(), Some(after));
    drop(moved);
    rig.assert_empty();
}

/// The source must be as it was: leasable, alone, and found by its name.
fn assert_rolled_back(rig: &Rig, shard: &SealedShard) {
    assert!(
        rig.devices[1].buffers().is_empty(),
        "something is left on the target"
    );
    assert_eq!(rig.manager.capacity(1).unwrap().used, 0);
    assert_eq!(rig.manager.used_vram(), LEN as u64);
    assert_eq!(
        rig.manager.get_shard(shard.id()).as_ref(),
        Some(shard.record())
    );
    assert!(
        rig.manager
            .verify_record(shard.record(), Mode::Full)
            .is_ok()
    );
    rig.manager.lease(shard, Mode::Full).unwrap().finish();
    assert_eq!(rig.count("shard.migrated"), 0);
}

// requirement: PM-4
#[test]
fn a_failed_migration_is_rolled_back() {
    let rig = rig_of(2, 1 << 20, policy(OnGroupFailure::FailAll));
    let shard = one(&rig);
    // Bytes that change on the way are seen on arrival; the source is innocent.
    rig.devices[1].flip_at(Flip {
        moment: Moment::BeforeCheck,
        offset: 4097,
        bit: 1,
    });
    let error = rig.manager.migrate_shard(&shard, 1).unwrap_err();
    assert!(
        matches!(error, Error::Verify(VerifyError::Unexpected { .. })),
        "{error}"
    );
    assert_eq!(rig.count("shard.migration_failed"), 1);
    assert_rolled_back(&rig, &shard);
    // A target whose memory is not what it should be.
    let honest = Witness {
        ordinal: 1,
        ..shard.record().witness
    };
    rig.devices[1].lie_witness(Some(Witness {
        managed: true,
        ..honest
    }));
    assert!(matches!(
        rig.manager.migrate_shard(&shard, 1),
        Err(Error::Policy(_))
    ));
    rig.devices[1].lie_witness(None);
    assert_rolled_back(&rig, &shard);
    // No room, and no such device.
    let fill = rig.manager.reserve(1, (1 << 20) - 100).unwrap();
    assert!(matches!(
        rig.manager.migrate_shard(&shard, 1),
        Err(Error::InsufficientVram(_))
    ));
    drop(fill);
    assert!(matches!(
        rig.manager.migrate_shard(&shard, 7),
        Err(Error::Input(_))
    ));
    assert_rolled_back(&rig, &shard);
    drop(rig.manager.migrate_shard(&shard, 1).unwrap());
    rig.assert_empty();
}

// requirement: PM-4, DG-7
#[test]
fn a_damaged_source_does_not_move() {
    let rig = rig_of(2, 1 << 20, policy(OnGroupFailure::FailAll));
    let shard = one(&rig);
    rig.flip_newest(&shard, 9000, 0);
    let error = rig.manager.migrate_shard(&shard, 1).unwrap_err();
    assert!(
        matches!(error, Error::Verify(VerifyError::Contents { .. })),
        "{error}"
    );
    assert!(shard.is_quarantined() && shard.is_sealed());
    assert!(rig.devices[1].buffers().is_empty());
    let error = rig.manager.migrate_shard(&shard, 1).unwrap_err();
    assert!(
        matches!(error, Error::Verify(VerifyError::Quarantined { .. })),
        "{error}"
    );
}

/// What arrived was not what was sealed, and then the source could not be read: it is in
/// doubt, also where the log takes no record of the move, and what was seen is told.
// requirement: PM-4, DG-2, DG-7, AU-3
#[test]
fn a_source_of_a_bad_arrival_is_in_doubt_until_the_tree_has_told() {
    for damaged in [true, false] {
        let policy = Policy {
            max_lease_age: Some(std::time::Duration::from_secs(3600)),
            ..policy(OnGroupFailure::FailAll)
        };
        let options = [0, 1].map(|i| SimOptions::new(1 << 20).ordinal(i));
        let rig = Rig::build(&options, policy, |builder| {
            let picky = Arc::new(Picky("shard.migration_failed"));
            builder.sink(picky).audit_mode(AuditMode::Required)
        });
        let shard = one(&rig);
        rig.manager.lease(&shard, Mode::Full).unwrap().finish();
        if damaged {
            rig.flip_newest(&shard, 9000, 0);
        } else {
            rig.devices[1].flip_at(Flip {
                moment: Moment::BeforeCheck,
                offset: 9000,
                bit: 1,
            });
        }
        let away = || DeviceError::Unsupported { what: "test" };
        rig.devices[0].fail(Op::BlockDigests, 1, away());
        let error = rig.manager.migrate_shard(&shard, 1).unwrap_err();
        let arrival = matches!(error, Error::Verify(VerifyError::Unexpected { .. }));
        assert!(arrival, "{error}");
        // Neither the verification before it nor the tag is enough now.
        for mode in [Mode::Full, Mode::TagOnly] {
            rig.devices[0].fail(Op::BlockDigests, 1, away());
            assert!(rig.manager.lease(&shard, mode).is_err());
        }
        assert_eq!(rig.manager.lease(&shard, Mode::TagOnly).is_err(), damaged);
        assert_eq!(shard.is_quarantined(), damaged);
        let faults = rig.manager.metrics().checker_faults_total;
        assert_eq!(faults, 0, "the way or the target erred");
    }
}

// requirement: PM-4, API-F18
#[test]
fn leases_and_other_handles_hold_a_shard_in_place() {
    let rig = rig_of(2, 1 << 20, Policy::default());
    let shard = one(&rig);
    let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
    let error = rig.manager.migrate_shard(&shard, 1).unwrap_err();
    assert!(
        matches!(error, Error::Misuse(Misuse::Busy { leases: 1, .. })),
        "{error}"
    );
    assert!(error.is_retriable() && error.retry_after().is_some());
    lease.finish();
    let bytes = weights(LEN, 1);
    let digest = shard.digest().to_string();
    let again = || {
        rig.manager
            .seal(SealRequest::bytes(&bytes).expect(&digest).dedupe())
            .unwrap()
    };
    let other = again();
    assert_eq!(
        (other.id(), rig.manager.used_vram()),
        (shard.id(), LEN as u64)
    );
    let error = rig.manager.migrate_shard(&shard, 1).unwrap_err();
    assert!(
        matches!(error, Error::Misuse(Misuse::Shared { .. })),
        "{error}"
    );
    drop(other);
    assert!(
        shard.is_sealed(),
        "a shared shard stays until its last handle"
    );
    let moved = rig.manager.migrate_shard(&shard, 1).unwrap();
    // What lies on the first device now is another copy.
    assert_ne!(again().id(), moved.id());
}

/// Refuses one type of event.
struct Picky(&'static str);

impl Sink for Picky {
    fn record(&self, event: &Event) -> Result<(), AuditError> {
        if event.body.event_type() == self.0 {
            return Err(AuditError {
                reason: "no room in the log".to_owned(),
            });
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), AuditError> {
        Ok(())
    }
}

// requirement: RP-005, PM-4, AU-13
#[test]
fn a_move_that_cannot_be_recorded_is_undone() {
    let options = [
        SimOptions::new(1 << 20),
        SimOptions::new(1 << 20).ordinal(1),
    ];
    let rig = Rig::build(&options, Policy::default(), |builder| {
        let picky = Arc::new(Picky("shard.migrated"));
        builder.sink(picky).audit_mode(AuditMode::Required)
    });
    let shard = one(&rig);
    let error = rig.manager.migrate_shard(&shard, 1).unwrap_err();
    assert!(matches!(error, Error::Audit(_)), "{error}");
    assert_eq!(rig.manager.state(), RunState::Running);
    assert!(rig.devices[1].buffers().is_empty());
    assert_eq!(
        rig.manager.get_shard(shard.id()).as_ref(),
        Some(shard.record())
    );
    assert!(
        rig.manager
            .verify_record(shard.record(), Mode::Full)
            .is_ok()
    );
}

// requirement: PM-1, PM-4, API-F30
#[test]
fn a_member_moves_within_its_group() {
    let rig = rig_of(3, 1 << 20, policy(OnGroupFailure::FailAll));
    let mut group = group(&rig);
    let count = group.shards().len() as u32;
    let before = group.record();
    let (id, digest) = (group.shards()[1].id().clone(), group.shards()[1].digest());
    rig.manager.migrate_member(&mut group, 1, 2).unwrap();
    let moved = &group.shards()[1];
    assert_eq!((moved.id(), moved.digest()), (&id, digest));
    assert_eq!(moved.record().gpu_device, 2);
    assert!(moved.is_sealed());
    let proofs = rig.manager.verify_group(&group, Mode::Full).unwrap();
    assert_eq!(proofs.len() as u32, count);
    assert!(rig.manager.group_ready(&group));
    // The record of the whole is still one.
    let text = serde_json::to_string(&group.record()).unwrap();
    let read = GroupRecord::from_json(&text).unwrap();
    assert_eq!(read.group, before.group);
    assert_eq!(read.members[1].gpu_device, 2);
    // A move that fails leaves the group as it is.
    let error = rig.manager.migrate_member(&mut group, 1, 9).unwrap_err();
    assert!(matches!(error, Error::Input(_)), "{error}");
    let error = rig
        .manager
        .migrate_member(&mut group, count, 0)
        .unwrap_err();
    assert!(matches!(error, Error::Input(_)), "{error}");
    let fault = DeviceError::Unsupported { what: "test" };
    rig.devices[0].fail(Op::BlockDigests, 1, fault);
    assert!(rig.manager.migrate_member(&mut group, 1, 0).is_err());
    assert!(group.shards()[1].is_sealed() && rig.manager.group_ready(&group));
    drop(group);
    rig.assert_empty();
}

// requirement: PM-1, ER-8, VA-4
#[test]
fn a_group_record_must_be_whole_and_in_order() {
    let rig = rig_of(3, 1 << 20, policy(OnGroupFailure::FailAll));
    let (one, two) = (group(&rig), group(&rig));
    let record = one.record();
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(GroupRecord::from_json(&text).unwrap(), record);
    let last = record.members.len() - 1;
    let edits: [(&str, Edit); 5] = [
        ("a member is left out", |group, _| drop(group.members.pop())),
        ("swapped", |group, _| group.members.swap(0, 1)),
        ("twice", |group, _| {
            group.members[1] = group.members[0].clone()
        }),
        ("foreign", |group, other| {
            group.members[1] = other.members[1].clone()
        }),
        ("another group's name", |group, other| {
            group.group = other.group
        }),
    ];
    for (what, edit) in edits {
        let mut edited = record.clone();
        edit(&mut edited, &two.record());
        let text = serde_json::to_string(&edited).unwrap();
        let error = GroupRecord::from_json(&text).unwrap_err();
        let Error::Verify(VerifyError::GroupMember { index, .. }) = error else {
            panic!("{what}: {error}");
        };
        assert!(index as usize <= last, "{what}: {index}");
    }
    let mut empty = record.clone();
    empty.members.clear();
    let empty = serde_json::to_string(&empty).unwrap();
    let schema = text.replace("group/v1", "group/v2");
    let extra = text.replacen('{', "{\"more\":1,", 1);
    let twice = text.replacen('{', "{\"group\":\"00\",", 1);
    let huge = format!("{text}{}", " ".repeat(MAX_GROUP_RECORD_BYTES));
    for (bad, words) in [
        (empty.as_str(), "no members"),
        (&schema, "unknown schema"),
        (&extra, "unknown field"),
        (&twice, "id is 32"),
        (&huge, "the limit is"),
        ("[]", "invalid"),
        ("", "EOF"),
    ] {
        let error = GroupRecord::from_json(bad).unwrap_err();
        assert!(matches!(error, Error::Input(_)), "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

/// Spoils a record with the help of another group's.
type Edit = fn(&mut GroupRecord, &GroupRecord);
