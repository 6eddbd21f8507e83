//! Receipts: what anybody can check.

use cucumber::{given, then, when};
use serde_json::{Value, json};
use vram_residency::device::DeviceKind;
use vram_residency::key::{Scope, SigningKey};
use vram_residency::receipt::{Receipt, ReceiptError, Signer, Trust};
use vram_residency::verify::check_record;

use super::keys::other_key;
use crate::suite::stage::Stage;

/// A key in production scope signs for real devices only.
fn worker(stage: &Stage) -> SigningKey {
    let scope = match stage.taps[0].info.kind {
        DeviceKind::Cuda => Scope::Production,
        _ => Scope::Test,
    };
    SigningKey::scoped(&stage.root_key(), scope).unwrap()
}

#[given(expr = "a receipt for {string}")]
fn make(stage: &mut Stage, name: String) {
    let record = stage.record(&name);
    let root = stage.root_key();
    let authentic = check_record(&record, &root).unwrap();
    let key = worker(stage);
    let signer = Signer {
        key: &key,
        certificate: None,
    };
    let made = Receipt::sign(&authentic, &signer).unwrap();
    // As it comes back from somebody else.
    stage.receipt = Some(Receipt::from_json(&made.to_json().unwrap()).unwrap());
}

fn check(stage: &mut Stage, key: &SigningKey, simulated: bool) {
    let keys = [key.public().clone()];
    let trust = Trust {
        keys: &keys,
        simulated,
        ..Trust::default()
    };
    stage.notes = vec![
        match stage.receipt.as_ref().unwrap().check(&trust) {
            Ok(_) => "believed",
            Err(ReceiptError::Untrusted { .. }) => "untrusted",
            Err(ReceiptError::Signature) => "wrong signature",
            Err(ReceiptError::Simulated) => "simulated",
            Err(_) => "for another reason",
        }
        .to_owned(),
    ];
}

#[when("the receipt is checked with the worker's public key")]
fn check_worker(stage: &mut Stage) {
    check(stage, &worker(stage), true);
}

#[when("the receipt is checked with a stranger's public key")]
fn check_stranger(stage: &mut Stage) {
    check(stage, &SigningKey::new(&other_key()).unwrap(), true);
}

#[when("the receipt is checked as one of a GPU")]
fn check_gpu(stage: &mut Stage) {
    check(stage, &worker(stage), false);
}

#[then("the receipt says what the device is")]
fn says_kind(stage: &mut Stage) {
    let expected = match stage.taps[0].info.kind {
        DeviceKind::Cuda => "believed",
        _ => "simulated",
    };
    assert_eq!(stage.notes, [expected]);
}

#[then("the receipt is believed")]
fn believed(stage: &mut Stage) {
    assert_eq!(stage.notes, ["believed"]);
}

#[then(regex = "^the receipt is not believed: (.+)$")]
fn not_believed(stage: &mut Stage, why: String) {
    assert_eq!(stage.notes, [why]);
}

#[then(expr = "it describes the weights of {string} and no others")]
fn describes(stage: &mut Stage, name: String) {
    let keys = [worker(stage).public().clone()];
    let trust = Trust {
        keys: &keys,
        simulated: true,
        ..Trust::default()
    };
    let checked = stage.receipt.as_ref().unwrap().check(&trust).unwrap();
    let model = &stage.models[&name];
    let (digest, len) = (vram_digest::digest(model), model.len() as u64);
    assert!(checked.describes(&digest, len));
    assert!(!checked.describes(&digest, len - 1));
    assert!(!checked.describes(&vram_digest::digest(&model[1..]), len));
}

fn edit(stage: &mut Stage, edit: impl Fn(&mut Value)) {
    let receipt = stage.receipt.as_ref().unwrap();
    let mut json: Value = serde_json::from_str(&receipt.to_json().unwrap()).unwrap();
    edit(&mut json);
    stage.receipt = Some(Receipt::from_json(&json.to_string()).unwrap());
}

#[when("one digit of the receipt's signature is changed")]
fn edit_signature(stage: &mut Stage) {
    edit(stage, |json| {
        let signature = json["signed"]["signature"].as_str().unwrap();
        let (first, rest) = signature.split_at(1);
        let other = if first == "0" { "1" } else { "0" };
        json["signed"]["signature"] = json!(format!("{other}{rest}"));
    });
}

#[when("the receipt's digest is replaced")]
fn edit_digest(stage: &mut Stage) {
    let other = vram_digest::digest(b"other").to_string();
    edit(stage, |json| json["record"]["digest"] = json!(other));
}
