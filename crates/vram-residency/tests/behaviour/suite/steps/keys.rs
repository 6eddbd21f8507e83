//! Keys and the tags they make.

use std::sync::Arc;

use cucumber::{then, when};
use vram_residency::key::{KeyContext, KeyError, KeyProvider as _, RootKey, SealKey, SealTag};
use vram_residency::seal::Record;
use vram_residency::verify::check_record;

use super::size::Size;
use crate::suite::stage::Stage;

const OTHER_TOKEN: &[u8] = b"another-token-of-forty-characters-0123456";

pub(super) fn other_key() -> RootKey {
    RootKey::from_token(OTHER_TOKEN).unwrap()
}

fn derived(root: &RootKey, record: &Record) -> Arc<dyn SealKey> {
    let context = KeyContext {
        salt: &record.key_salt,
        worker: &record.worker_id,
        device: record.device_uuid,
    };
    root.seal_key(&context).unwrap()
}

#[when(regex = "^a key is made from (.+)$")]
fn make_key(stage: &mut Stage, what: String) {
    let varied = |len: u8| {
        (0..=255)
            .cycle()
            .take(usize::from(len))
            .collect::<Vec<u8>>()
    };
    let token = match what.as_str() {
        "a token of no bytes" => Vec::new(),
        "a token of 16 bytes" => varied(16),
        "a token of 1024 bytes" => (0..=255).cycle().take(1024).collect(),
        "a token of 2048 bytes" => (0..=255).cycle().take(2048).collect(),
        "32 bytes of 0x00" => vec![0; 32],
        "32 bytes of 0xFF" => vec![0xFF; 32],
        other => panic!("no such token: {other}"),
    };
    stage.notes = vec![match RootKey::from_token(&token) {
        Ok(_) => "made".to_owned(),
        Err(KeyError::TokenLength { len }) if len == token.len() => "token length".to_owned(),
        Err(KeyError::Entropy) => "entropy".to_owned(),
        Err(other) => other.to_string(),
    }];
}

#[then(regex = "^no key is made: (.+)$")]
fn no_key(stage: &mut Stage, why: String) {
    assert_eq!(stage.notes, [why]);
}

#[then("a key is made")]
fn a_key(stage: &mut Stage) {
    assert_eq!(stage.notes, ["made"]);
}

#[when(expr = "the tag of the record of {string} is computed {int} times")]
fn compute(stage: &mut Stage, name: String, times: usize) {
    let record = stage.record(&name);
    let key = derived(&stage.root_key(), &record);
    let same = |_| key.tag(&record.statement()).unwrap() == record.tag;
    stage.answers = (0..times).map(same).collect();
}

#[then("every tag is the one in the record")]
fn all_same(stage: &mut Stage) {
    assert!(!stage.answers.is_empty() && stage.answers.iter().all(|same| *same));
}

#[when(expr = "the tag of the record of {string} is computed under another token")]
fn compute_other(stage: &mut Stage, name: String) {
    let record = stage.record(&name);
    let tag = derived(&other_key(), &record).tag(&record.statement());
    stage.answers = vec![tag.unwrap() == record.tag];
}

#[then("it is not the one in the record")]
fn not_same(stage: &mut Stage) {
    assert_eq!(stage.answers, [false]);
}

#[then(expr = "the tags of {string} and {string} differ")]
fn tags_differ(stage: &mut Stage, one: String, other: String) {
    assert!(stage.record(&one).tag != stage.record(&other).tag);
}

#[when(expr = "the record of {string} is checked under another token")]
fn check_other(stage: &mut Stage, name: String) {
    let record = stage.record(&name);
    stage.outcome = Some(check_record(&record, &other_key()).map(drop));
}

#[when(expr = "the record of {string} is checked {int} times")]
fn check_often(stage: &mut Stage, name: String, times: usize) {
    let (record, root) = (stage.record(&name), stage.root_key());
    let check = |_| check_record(&record, &root).map(drop);
    stage.results = (0..times).map(check).collect();
}

#[when(expr = "a statement like that of {string} about {size} is tagged")]
fn tag_bytes(stage: &mut Stage, name: String, len: Size) {
    let mut record = Record {
        vram_bytes: len.0,
        ..stage.record(&name)
    };
    let key = derived(&stage.root_key(), &record);
    record.tag = key.tag(&record.statement()).unwrap();
    stage.kept = Some(record);
}

#[then(expr = "the tag checks out for {size} and for no other length")]
fn tag_binds_length(stage: &mut Stage, len: Size) {
    let (record, root) = (stage.kept.clone().unwrap(), stage.root_key());
    assert_eq!(record.vram_bytes, len.0);
    assert!(check_record(&record, &root).is_ok());
    for bit in 0..64 {
        let forged = Record {
            vram_bytes: len.0 ^ (1 << bit),
            ..record.clone()
        };
        assert!(check_record(&forged, &root).is_err(), "bit {bit}");
    }
    let forged = Record {
        tag: SealTag::from_bytes([0; 32]),
        ..record
    };
    assert!(check_record(&forged, &root).is_err());
}

#[when("the key is rotated")]
fn rotate(stage: &mut Stage) {
    stage.manager().rotate_key(&other_key()).unwrap();
}

#[when("earlier keys are retired")]
fn retire(stage: &mut Stage) {
    stage.manager().retire_old_keys().unwrap();
}
