//! Several devices: moves and groups.

use cucumber::{given, then, when};
use vram_residency::{Error, Mode, SealRequest};

use super::size::Size;
use crate::suite::stage::{Stage, weights};

#[when(expr = "{string} is moved to device {int}")]
fn move_to(stage: &mut Stage, name: String, ordinal: u32) {
    let moved = stage.manager().migrate_shard(stage.shard(&name), ordinal);
    stage.outcome = Some(moved.map(|moved| {
        stage.shards.insert(name, moved);
    }));
}

#[when("the next copy between devices is damaged")]
fn damage_copy(stage: &mut Stage) {
    stage.taps[0].script().damage_copy = true;
}

fn seal_parts(stage: &mut Stage, parts: usize, len: u64) -> Result<(), Error> {
    let bytes: Vec<_> = (0..parts)
        .map(|i| weights(&format!("part {i}"), len))
        .collect();
    let ordinal = |i: usize| i as u32 % stage.devices;
    let request = |(i, bytes)| SealRequest::bytes(bytes).device(ordinal(i));
    let requests = bytes
        .iter()
        .map(Vec::as_slice)
        .enumerate()
        .map(request)
        .collect();
    let manager = stage.manager();
    stage.group = Some(manager.seal_group(requests)?);
    Ok(())
}

#[given(expr = "{int} parts of {size} each sealed as one model over the devices")]
fn parts_sealed(stage: &mut Stage, parts: usize, len: Size) {
    seal_parts(stage, parts, len.0).unwrap();
}

#[when(expr = "{int} parts of {size} each are sealed as one model over the devices")]
fn parts_are_sealed(stage: &mut Stage, parts: usize, len: Size) {
    stage.outcome = Some(seal_parts(stage, parts, len.0));
}

#[then(expr = "the group has {int} members in order")]
fn members(stage: &mut Stage, count: u32) {
    let group = stage.group.as_ref().unwrap();
    let found = group.shards().iter().map(|shard| {
        let record = shard.record();
        assert_eq!(record.group, Some(group.id()));
        let position = record.position.unwrap();
        (position.index, position.total)
    });
    let expected: Vec<_> = (0..count).map(|i| (i, count)).collect();
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[then("the group is verified in parallel and is ready once it passed")]
fn ready(stage: &mut Stage) {
    let manager = stage.manager();
    let group = stage.group.as_ref().unwrap();
    let verified = manager.verify_group(group, Mode::Full).unwrap();
    assert_eq!(verified.len(), group.shards().len());
    assert!(manager.group_ready(group));
}

#[when(expr = "a bit of part {int} flips in device memory")]
fn flip_part(stage: &mut Stage, part: usize) {
    // Parts go to the devices in turn, so this is the n-th of its device.
    let devices = stage.devices as usize;
    let tap = &stage.taps[part % devices];
    let buffer = tap.script().live[part / devices].id;
    tap.flip(buffer, 5000);
}

#[when("the group is verified")]
fn verify(stage: &mut Stage) {
    let manager = stage.manager();
    let answer = manager.verify_group(stage.group.as_ref().unwrap(), Mode::Full);
    stage.outcome = Some(answer.map(drop));
}

#[then(expr = "{int} members are quarantined")]
fn quarantined(stage: &mut Stage, count: usize) {
    let members = stage.group.as_ref().unwrap().shards().iter();
    assert_eq!(
        members.filter(|shard| shard.is_quarantined()).count(),
        count
    );
}
