//! Leases, the operator, and the end of things.

use cucumber::{then, when};
use vram_residency::device::Extent;
use vram_residency::receipt::{Facts, Nonce, ReceiptError, Tagged, Trust};
use vram_residency::{Error, Mode};

use crate::suite::stage::Stage;

const NONCE: [u8; 32] = [7; 32];

#[when(expr = "{string} is leased")]
fn lease(stage: &mut Stage, name: String) {
    let answer = stage.manager().lease(stage.shard(&name), Mode::Full);
    stage.outcome = Some(answer.map(|lease| stage.leases.push(lease)));
}

#[when(expr = "{string} is leased and given back {int} times")]
fn lease_often(stage: &mut Stage, name: String, times: usize) {
    for _ in 0..times {
        stage
            .manager()
            .lease(stage.shard(&name), Mode::Full)
            .unwrap()
            .finish();
    }
}

#[when("the lease ends")]
fn end_lease(stage: &mut Stage) {
    stage.leases.pop().unwrap().finish();
}

#[then("the lease was verified in full, now")]
fn verified_now(stage: &mut Stage) {
    let verified = stage.leases.last().unwrap().verification();
    assert_eq!(
        (verified.mode, verified.reused, verified.age_nanos),
        (Mode::Full, false, 0)
    );
    assert_eq!(verified.bytes_checked, verified.bytes_total);
}

#[when(expr = "{string} is freed")]
fn free(stage: &mut Stage, name: String) {
    let answer = stage.manager().deallocate(stage.shard(&name));
    stage.outcome = Some(answer);
}

#[when(expr = "the operator stops the worker: {string}")]
fn stop(stage: &mut Stage, reason: String) {
    stage.manager().stop(&reason).unwrap();
}

#[when(expr = "the operator resumes the worker: {string}")]
fn resume(stage: &mut Stage, reason: String) {
    stage.manager().resume(&reason).unwrap();
}

#[when(expr = "{int} seconds pass")]
fn wait(stage: &mut Stage, seconds: u64) {
    stage.clock.advance(seconds * 1_000_000_000);
}

#[when("the device is lost at the next check")]
fn lose(stage: &mut Stage) {
    stage.taps[0].script().lose_at_check = true;
}

#[when("the driver cannot scrub what is freed next")]
fn fail_free(stage: &mut Stage) {
    stage.taps[0].script().fail_free = true;
}

#[when("the worker ends")]
fn end(stage: &mut Stage) {
    stage.end();
}

#[when(expr = "the residency of {string} is attested for a nonce")]
fn attest(stage: &mut Stage, name: String) {
    let attested = stage
        .manager()
        .attest_vram_residency(stage.shard(&name), Some(&NONCE));
    stage.attestation = Some(attested.unwrap());
}

/// What its reader, who has the sealing key, says of the text.
fn answered(stage: &Stage, nonce: [u8; 32]) -> Result<Facts, Error> {
    let text = stage.attestation.as_ref().unwrap().to_json().unwrap();
    let trust = Trust {
        simulated: true,
        ..Trust::default()
    };
    let nonce = Nonce::new(&nonce).unwrap();
    let tagged = Tagged::from_json(&text).unwrap();
    let answered = tagged.check(&stage.root_key(), &trust, Some(&nonce));
    answered.map(|answered| answered.facts().clone())
}

#[then("the attestation carries the nonce, a full verification and a good tag")]
fn attested(stage: &mut Stage) {
    let facts = answered(stage, NONCE).unwrap();
    assert_eq!(facts.bytes_checked, facts.record.vram_bytes);
}

#[then("no other nonce fits it")]
fn other_nonce(stage: &mut Stage) {
    let refused = answered(stage, [8; 32]).unwrap_err();
    assert!(matches!(refused, Error::Receipt(ReceiptError::Nonce)));
}

#[then(expr = "nothing of {string} is in the memory that the device gives next")]
fn scrubbed(stage: &mut Stage, name: String) {
    let model = &stage.models[&name];
    let device = &stage.taps[0].inner;
    let len = model.len() as u64;
    let buffer = device.allocate(len).unwrap().id;
    let mut found = vec![0; model.len()];
    let extent = Extent {
        buffer,
        start: 0,
        len,
    };
    device.read(extent, 0, &mut found).unwrap();
    device.free(buffer).unwrap();
    let pairs = model.chunks_exact(16).zip(found.chunks_exact(16));
    assert_eq!(pairs.filter(|(was, is)| was == is).count(), 0);
}
