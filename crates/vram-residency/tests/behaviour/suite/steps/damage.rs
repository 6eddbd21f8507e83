//! Verifications, and what happens to bytes before them.

use cucumber::{then, when};
use vram_residency::error::{Error, VerifyError};

use crate::suite::stage::{Stage, weights};

/// In the second block of whatever has one.
const OFFSET: u64 = 5000;

#[when(expr = "a bit of {string} flips in device memory")]
fn flip(stage: &mut Stage, name: String) {
    let (gpu, allocated) = stage.buffers[&name];
    stage.taps[gpu].flip(allocated.id, OFFSET);
}

#[when(expr = "{string} is verified in full")]
fn verify(stage: &mut Stage, name: String) {
    stage.outcome = Some(stage.verify(&name));
}

#[then(expr = "every byte of {string} was checked")]
fn every_byte(stage: &mut Stage, name: String) {
    let verified = serde_json::to_value(stage.events("seal.verified").pop().unwrap()).unwrap();
    assert_eq!(verified["bytes_checked"], stage.record(&name).vram_bytes);
    assert_eq!(verified["mode"], "full");
}

#[then(expr = "the damage of {string} is named to the block")]
fn named(stage: &mut Stage, name: String) {
    let Error::Verify(VerifyError::Contents {
        shard_id, damage, ..
    }) = stage.error()
    else {
        panic!("{}", stage.error());
    };
    assert_eq!(shard_id.as_str(), name);
    assert_eq!(
        (damage.blocks, damage.runs.as_slice()),
        (Some(1), &[(OFFSET / 4096, 1)][..])
    );
}

fn repair(stage: &mut Stage, name: &str, source: &[u8]) {
    let answer = stage.manager().repair(stage.shard(name), &source);
    stage.outcome = Some(answer.map(|repaired| stage.blocks = repaired.blocks));
}

#[when(expr = "{string} is repaired from its weights")]
fn repair_right(stage: &mut Stage, name: String) {
    let source = stage.models[&name].clone();
    repair(stage, &name, &source);
}

#[when(expr = "{string} is repaired from other weights")]
fn repair_wrong(stage: &mut Stage, name: String) {
    let source = weights("other", stage.models[&name].len() as u64);
    repair(stage, &name, &source);
}

#[then(expr = "{int} block was rewritten")]
fn rewritten(stage: &mut Stage, blocks: u64) {
    assert_eq!(stage.blocks, blocks);
}
