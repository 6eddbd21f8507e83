//! No check can be skipped: every bit of the weights, every bit of the
//! statement, every field of the record and every bit of the tag counts.
//!
//! requirement: WORKER-4113, CI-007

mod common;

use std::sync::Arc;

use common::disguise::{Disguise, gpu_info};
use common::{newest, root_key, weights};
use serde_json::{Value, json};
use vram_residency::error::{Error, VerifyError};
use vram_residency::key::{KeyContext, SealKey, SealTag};
use vram_residency::policy::OnFailure;
use vram_residency::seal::Record;
use vram_residency::sim::SimDevice;
use vram_residency::verify::check_record;
use vram_residency::{Mode, Policy, SealRequest, VramManager};

/// One block and a bit.
const LEN: usize = 4096 + 64;

fn lenient() -> Policy {
    Policy {
        allow_repair: true,
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    }
}

/// A record whose every optional field is set.
fn full_record() -> Record {
    let manager = VramManager::builder()
        .device(Disguise::new(gpu_info(8 << 30)))
        .key(root_key(1))
        .build()
        .unwrap();
    let bytes = weights(5000, 1);
    let member = || SealRequest::bytes(&bytes).with_content_digest();
    let members = vec![member().model_ref("llama"), member()];
    let group = manager.seal_group(members).unwrap();
    let record = group.shards()[0].record().clone();
    assert!(record.driver.is_some() && record.content_sha256.is_some());
    assert!(record.group.is_some() && record.position.is_some());
    record
}

fn derived(record: &Record) -> Arc<dyn SealKey> {
    let context = KeyContext {
        salt: &record.key_salt,
        worker: &record.worker_id,
        device: record.device_uuid,
    };
    Arc::new(root_key(1).derive(&context).unwrap())
}

// requirement: DG-1, DG-2, CI-007, WORKER-4245, API-F29, OP-5
#[test]
fn every_flipped_bit_of_a_shard_is_found_and_its_block_named() {
    let device = SimDevice::new(1 << 20);
    let builder = VramManager::builder()
        .device(device.clone())
        .key(root_key(1));
    let manager = builder.policy(lenient()).build().unwrap();
    let bytes = weights(LEN, 7);
    let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
    let buffer = newest(&device);
    for offset in 0..LEN as u64 {
        for bit in 0..8 {
            device.flip_bit(buffer, offset, bit).unwrap();
            let error = manager.verify_sealed(&shard, Mode::Full).err().unwrap();
            let Error::Verify(VerifyError::Contents {
                expected,
                actual,
                damage,
                ..
            }) = error
            else {
                panic!("byte {offset} bit {bit}: {error}");
            };
            assert_eq!(
                (damage.blocks, &damage.runs[..]),
                (Some(1), &[(offset / 4096, 1)][..])
            );
            assert_eq!(damage.first_offset(), Some(offset / 4096 * 4096));
            assert!(expected == shard.digest() && actual != expected);
            device.flip_bit(buffer, offset, bit).unwrap();
            // Nothing is bad any more, and still only a repair lifts the bar.
            assert!(shard.is_quarantined());
            let repaired = manager.repair(&shard, &bytes.as_slice()).unwrap();
            assert_eq!(repaired.blocks, 0);
        }
    }
}

// requirement: DG-2, MS-007
#[test]
fn damage_over_many_blocks_is_listed_as_runs() {
    let rig = common::Rig::build(
        &[vram_residency::sim::SimOptions::new(8 << 20)],
        lenient(),
        |b| b,
    );
    let shard = rig
        .manager
        .seal(SealRequest::bytes(&weights(100 * 4096 + 5, 3)))
        .unwrap();
    for block in [0_u64, 1, 2, 50, 99, 100] {
        rig.flip_newest(&shard, block * 4096 + 4, 0);
    }
    let error = rig.manager.verify_sealed(&shard, Mode::Full).err().unwrap();
    let text = error.to_string();
    let Error::Verify(VerifyError::Contents { damage, .. }) = error else {
        panic!("{text}");
    };
    assert_eq!(damage.runs, [(0, 3), (50, 1), (99, 2)]);
    assert_eq!(damage.blocks, Some(6));
    assert!(
        text.contains("6 bad 4 KiB block(s), the first at file offset 0"),
        "{text}"
    );
}

// requirement: CI-001, WORKER-4120, SG-4
#[test]
fn every_bit_of_the_statement_counts() {
    let record = full_record();
    let key = derived(&record);
    let statement = record.statement();
    assert!(key.check(&statement, &record.tag).unwrap());
    for i in 0..statement.len() * 8 {
        let mut forged = statement.clone();
        forged[i / 8] ^= 1 << (i % 8);
        assert!(!key.check(&forged, &record.tag).unwrap(), "bit {i}");
    }
    for end in 0..statement.len() {
        assert!(
            !key.check(&statement[..end], &record.tag).unwrap(),
            "cut at {end}"
        );
    }
}

// requirement: CI-003, SG-4
#[test]
fn every_bit_of_the_tag_counts() {
    let record = full_record();
    for i in 0..256 {
        let mut tag = *record.tag.as_bytes();
        tag[i / 8] ^= 1 << (i % 8);
        let forged = Record {
            tag: SealTag::from_bytes(tag),
            ..record.clone()
        };
        let refused = check_record(&forged, &root_key(1)).err().unwrap();
        assert!(
            matches!(refused, Error::Verify(VerifyError::Tag { .. })),
            "bit {i}"
        );
    }
}

/// Every leaf of a JSON value, as a path of keys.
fn leaves(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaves(value, &format!("{path}/{key}"), out);
            }
        }
        _ => out.push(path.to_owned()),
    }
}

/// Other values of the same shape as `value`.
fn alternatives(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Bool(b) => vec![json!(!b)],
        Value::Number(n) => {
            let n = n.as_u64().unwrap();
            vec![
                json!(n + 1),
                json!(n.saturating_sub(1)),
                json!(n ^ 0x100),
                json!(0),
            ]
        }
        Value::String(s) => {
            let mut all: Vec<Value> = ["device", "host", "managed", "simulated", "cuda"]
                .into_iter()
                .chain(["unknown", "read-write", "read-only", ""])
                .map(|word| json!(word))
                .collect();
            for i in 0..s.len() {
                let swap = |(at, c): (usize, char)| match c {
                    _ if at != i => c,
                    'a' => 'b',
                    '0' => '1',
                    '-' => '-',
                    _ => {
                        if c.is_ascii_digit() {
                            '0'
                        } else {
                            'a'
                        }
                    }
                };
                all.push(json!(s.chars().enumerate().map(swap).collect::<String>()));
            }
            all
        }
        Value::Array(_) | Value::Object(_) => unreachable!("a leaf"),
    }
}

// requirement: CI-002, SG-3, TY-1, WORKER-4110, WORKER-4001
#[test]
fn signature_coverage() {
    // It reaches every field of the record.
    let record = full_record();
    let original = serde_json::to_value(&record).unwrap();
    let mut paths = Vec::new();
    leaves(&original, "", &mut paths);
    // schema is fixed by the parser; the tag has a test of its own.
    paths.retain(|path| path != "/schema" && path != "/tag");
    assert_eq!(paths.len(), 26, "{paths:?}");
    for path in paths {
        let mut tried = 0;
        for other in alternatives(original.pointer(&path).unwrap()) {
            let mut edited = original.clone();
            *edited.pointer_mut(&path).unwrap() = other;
            let Ok(forged) = Record::from_json(&edited.to_string()) else {
                continue;
            };
            if forged == record {
                continue;
            }
            tried += 1;
            assert_ne!(forged.statement(), record.statement(), "{path}");
            assert!(
                check_record(&forged, &root_key(1)).is_err(),
                "{path} is not covered"
            );
        }
        assert!(tried > 0, "no other value of {path} could be tried");
    }
}

// requirement: CI-002
#[test]
fn an_optional_field_cannot_be_dropped() {
    let record = full_record();
    let without = |strip: fn(&mut Record)| {
        let mut forged = record.clone();
        strip(&mut forged);
        check_record(&forged, &root_key(1)).is_err()
    };
    assert!(without(|r| r.content_sha256 = None));
    assert!(without(|r| r.driver = None));
    assert!(without(|r| r.position = None));
    assert!(without(|r| r.group = None));
    assert!(!without(|_| ()));
}
