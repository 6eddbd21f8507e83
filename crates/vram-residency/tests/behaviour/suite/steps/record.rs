//! Records that come back from outside.

use cucumber::{given, then, when};
use serde_json::json;
use vram_digest::FileDigest;
use vram_residency::key::SealTag;
use vram_residency::seal::Record;
use vram_residency::{Error, Mode};

use crate::suite::stage::Stage;

fn present(stage: &mut Stage, record: &Record) -> Result<(), Error> {
    stage.manager().verify_record(record, Mode::Full).map(drop)
}

fn flip(tag: &SealTag, bit: usize) -> SealTag {
    let mut bytes = *tag.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    SealTag::from_bytes(bytes)
}

fn changed(record: &Record, change: &str) -> Record {
    let mut record = record.clone();
    match change {
        "its digest zeroed" => record.digest = FileDigest::from_bytes([0; 32]),
        "another digest" => record.digest = vram_digest::digest(b"another"),
        "its tag zeroed" => record.tag = SealTag::from_bytes([0; 32]),
        "a forged tag" => record.tag = SealTag::from_bytes([0x42; 32]),
        "one bit of the tag flipped" => record.tag = flip(&record.tag, 200),
        "another name" => record.shard_id = "another".parse().unwrap(),
        "no bytes" => record.vram_bytes = 0,
        other => panic!("no such change: {other}"),
    }
    record
}

#[when(regex = r"^the record of .(\w+). is presented with (.+)$")]
fn presented_with(stage: &mut Stage, name: String, change: String) {
    let record = changed(&stage.record(&name), &change);
    stage.outcome = Some(present(stage, &record));
}

#[when(expr = "the record of {string} is presented as not sealed")]
fn presented_not_sealed(stage: &mut Stage, name: String) {
    let record = Record {
        sealed: false,
        ..stage.record(&name)
    };
    stage.outcome = Some(present(stage, &record));
}

#[given(expr = "the record of {string} is kept")]
fn keep(stage: &mut Stage, name: String) {
    stage.kept = Some(stage.record(&name));
}

#[when("the kept record is presented")]
fn present_kept(stage: &mut Stage) {
    let record = stage.kept.clone().unwrap();
    stage.outcome = Some(present(stage, &record));
}

#[when(expr = "the record of {string} is read back without its tag")]
fn without_tag(stage: &mut Stage, name: String) {
    let mut json = serde_json::to_value(stage.record(&name)).unwrap();
    json.as_object_mut().unwrap().remove("tag").unwrap();
    stage.outcome = Some(Record::from_json(&json.to_string()).map(drop));
}

#[when(regex = r"^the record of .(\w+). is read back with (\w+) set to (.+)$")]
fn read_back_with(stage: &mut Stage, name: String, field: String, value: String) {
    let value = match value.as_str() {
        "nothing" => String::new(),
        "Greek letters" => "\u{3b1}\u{3b2}\u{3b3}".to_owned(),
        "257 letters" => "n".repeat(257),
        "32 hex digits" => "0a".repeat(16),
        "128 hex digits" => "0a".repeat(64),
        other => panic!("no such value: {other}"),
    };
    let mut json = serde_json::to_value(stage.record(&name)).unwrap();
    assert!(
        Record::from_json(&json.to_string()).is_ok(),
        "as it was it can be read"
    );
    *json.get_mut(&field).unwrap() = json!(value);
    stage.outcome = Some(Record::from_json(&json.to_string()).map(drop));
}

#[when(expr = "each of the first 64 bits of the tag of {string} is flipped in turn")]
fn flip_each(stage: &mut Stage, name: String) {
    let record = stage.record(&name);
    for bit in 0..64 {
        let forged = Record {
            tag: flip(&record.tag, bit),
            ..record.clone()
        };
        let answer = present(stage, &forged);
        stage.results.push(answer);
    }
}

#[then("none of them is accepted")]
fn none_accepted(stage: &mut Stage) {
    assert_eq!(stage.results.len(), 64);
    for answer in &stage.results {
        let error = answer.as_ref().unwrap_err();
        assert_eq!(
            super::outcome::words(error),
            "the record does not match its tag"
        );
    }
}
