//! Records from outside are untrusted: strict JSON, and a statement that an
//! implementation of its own computes byte for byte.

mod common;

use std::process::Command;

use common::{rig, skipped, weights};
use serde_json::{Value, json};
use vram_residency::error::{Error, InputError};
use vram_residency::key::RootKey;
use vram_residency::seal::Record;
use vram_residency::shard::GroupRecord;
use vram_residency::verify::check_record;
use vram_residency::{Mode, SealRequest};

const VECTORS: &str = include_str!("../testdata/seal_vectors.json");
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/seal_reference.py");

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |i| u8::from_str_radix(hex.get(i..i + 2).unwrap(), 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

// requirement: SG-3, SG-6, CI-001, CI-002, KD-1
#[test]
fn seal_signature() {
    // Tag and statement match the checked-in vectors.
    let vectors = vectors();
    assert_eq!(vectors.len(), 9);
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let record = Record::from_json(&vector["record"].to_string()).unwrap();
        let expected = bytes(vector["statement"].as_str().unwrap());
        assert_eq!(record.statement(), expected, "{name}");
        // The encoding without a signer is as it was before there were any.
        let first: &[u8; 12] = match record.signer {
            None => b"VRAMSEAL\x01\0\x01\x01",
            Some(_) => b"VRAMSEAL\x02\0\x01\x01",
        };
        assert_eq!(&record.statement()[..12], first, "{name}");
        let secret = bytes(vector["secret"].as_str().unwrap());
        let key = RootKey::from_token(&secret).unwrap();
        check_record(&record, &key).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again: Value = serde_json::from_str(&record.to_json().unwrap()).unwrap();
        assert_eq!(again, vector["record"], "{name}: written as it was read");
    }
}

// requirement: TP-6
#[test]
fn an_independent_reference_computes_the_same_vectors() {
    match Command::new("python3").arg(REFERENCE).arg("check").output() {
        Ok(output) => {
            let (out, err) = (output.stdout, output.stderr);
            let text = String::from_utf8_lossy(&out) + String::from_utf8_lossy(&err);
            assert!(output.status.success(), "{text}");
            assert!(text.contains("seal_vectors.json: 9 vectors"), "{text}");
        }
        Err(error) => skipped(&format!(
            "seal vectors against the reference, which python3 cannot run ({error})"
        )),
    }
}

fn refusal(text: &str) -> String {
    match Record::from_json(text) {
        Err(Error::Input(error)) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("accepted: {text}"),
    }
}

fn edited(edit: impl FnOnce(&mut Value)) -> String {
    let mut record = vectors()[1]["record"].clone();
    edit(&mut record);
    record.to_string()
}

// requirement: ER-8, IV-003, IV-004, IV-005, VA-4
#[test]
fn bad_fields_are_refused_by_name() {
    assert!(Record::from_json(&edited(|_| {})).is_ok());
    let set = |path: &str, value: Value| edited(|r| *r.pointer_mut(path).unwrap() = value);
    let cases = [
        (
            "/schema",
            json!("vram-residency/record/v3"),
            "unknown schema",
        ),
        (
            "/schema",
            json!("vram-residency/record/v2"),
            "a signer stands",
        ),
        ("/schema", json!(1), "string"),
        ("/digest", json!("00"), "64"),
        ("/digest", json!("AB".repeat(32)), "lower case"),
        ("/digest", json!("zz".repeat(32)), "hex"),
        (
            "/content_sha256",
            json!("AB".repeat(32)),
            "64 lower-case hex",
        ),
        ("/key_salt", json!("00"), "64 lower-case hex"),
        ("/tag", json!(""), "seal tag"),
        ("/tag", json!("00".repeat(31)), "seal tag"),
        ("/tag", json!("00".repeat(64)), "seal tag"),
        ("/tag", json!("AB".repeat(32)), "seal tag"),
        ("/key_id", json!("00"), "key id"),
        ("/instance", json!("xyz"), "32 lower-case hex"),
        ("/group", json!("00".repeat(17)), "32 lower-case hex"),
        (
            "/device_uuid",
            json!("A1B2c3d4-0f1e-2d3c-4b5a-69788796a5b4"),
            "UUID",
        ),
        (
            "/device_uuid",
            json!("a1b2c3d40f1e2d3c4b5a69788796a5b4"),
            "UUID",
        ),
        ("/device_kind", json!("CUDA"), "unknown variant"),
        ("/witness/memory", json!("l2-cache"), "unknown variant"),
        ("/witness/protection", json!("none"), "unknown variant"),
        ("/witness/managed", json!(0), "boolean"),
        ("/shard_id", json!(""), "empty"),
        ("/shard_id", json!("a".repeat(257)), "257 bytes"),
        ("/shard_id", json!("../etc/passwd"), "path traversal"),
        ("/shard_id", json!("a\0b"), "NUL"),
        ("/worker_id", json!("w\u{f6}rker"), "worker id"),
        ("/model_ref", json!("a\nb"), "model reference"),
        ("/model_ref", json!("x".repeat(1025)), "1025 bytes"),
        ("/vram_bytes", json!(-1), "u64"),
        ("/vram_bytes", json!(1.5), "u64"),
        ("/vram_bytes", json!("1"), "u64"),
        ("/gpu_device", json!(4_294_967_296_u64), "u32"),
        ("/sequence", json!(null), "u64"),
        ("/sealed", json!("true"), "boolean"),
        ("/position/index", json!(4), "index must be below"),
        ("/position/total", json!(0), "index must be below"),
    ];
    for (path, value, expected) in cases {
        let error = refusal(&set(path, value.clone()));
        assert!(error.contains(expected), "{path} = {value}: {error}");
    }
}

// requirement: PM-15, CI-002
#[test]
fn a_signer_stands_where_the_schema_says_so_and_is_covered() {
    let vectors = vectors();
    let vector = vectors.iter().find(|v| v["record"]["signer"].is_string());
    let vector = vector.unwrap();
    let key = RootKey::from_token(&bytes(vector["secret"].as_str().unwrap())).unwrap();
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut record = vector["record"].clone();
        edit(&mut record);
        record.to_string()
    };
    let remove = |record: &mut Value| drop(record.as_object_mut().unwrap().remove("signer"));
    assert!(refusal(&with(&remove)).contains("a signer stands"));
    let other = |record: &mut Value| record["schema"] = json!("vram-residency/record/v1");
    assert!(refusal(&with(&other)).contains("a signer stands"));
    for bad in [
        json!(""),
        json!("somebody"),
        json!("key:sha256:00"),
        json!(7),
    ] {
        refusal(&with(&|record| record["signer"] = bad.clone()));
    }
    assert!(refusal(&edited(|record| record["signer"] = json!("x"))).contains("signer"));
    // Another signer, or none: the tag covers it.
    let good = Record::from_json(&with(&|_| {})).unwrap();
    assert!(check_record(&good, &key).is_ok());
    let digits = format!("key:sha256:{}", "0".repeat(64));
    let forged = with(&|record| record["signer"] = json!(digits));
    assert!(check_record(&Record::from_json(&forged).unwrap(), &key).is_err());
    let none = |record: &mut Value| {
        remove(record);
        other(record);
    };
    assert!(check_record(&Record::from_json(&with(&none)).unwrap(), &key).is_err());
    // As a part of another paper as well, where a fuzzer once found it accepted.
    let mut unsigned = vector["record"].clone();
    remove(&mut unsigned);
    let group = json!({
        "schema": "vram-residency/group/v1",
        "group": "0123456789abcdef0123456789abcdef",
        "members": [unsigned],
    });
    let error = GroupRecord::from_json(&group.to_string()).unwrap_err();
    assert!(error.to_string().contains("a signer stands"), "{error}");
    let mut placed = vector["record"].clone();
    placed["position"] = json!({ "index": 2, "total": 2 });
    let error = serde_json::from_value::<Record>(placed).unwrap_err();
    assert!(error.to_string().contains("index must be below"), "{error}");
    // Not only what is read: whatever is put together by hand.
    let mut odd = good.clone();
    odd.schema = "vram-residency/record/v1".to_owned();
    assert_eq!(odd.statement()[8..10], [0, 0]);
    assert!(check_record(&odd, &key).is_err());
}

// requirement: ER-8, VA-4
/// The parser would take values by their position, and names would go unchecked.
#[test]
fn a_list_is_no_record() {
    let names = [
        "memory",
        "managed",
        "host_pointer",
        "ordinal",
        "pinned_on_device",
        "protection",
    ];
    let text = edited(|record| {
        let values = names.map(|name| record["witness"][name].clone());
        record["witness"] = Value::from(values.to_vec());
    });
    assert!(refusal(&text).contains("a list stands where an object must"));
}

#[test]
fn unknown_duplicate_missing_and_huge_are_refused() {
    let good = edited(|_| {});
    assert!(refusal(&edited(|r| r["extra"] = json!(1))).contains("unknown field"));
    assert!(refusal(&edited(|r| r["witness"]["extra"] = json!(1))).contains("unknown field"));
    assert!(refusal(&edited(|r| r["driver"]["extra"] = json!(1))).contains("unknown field"));
    let twice = good.replacen('{', "{\"sequence\":5,", 1);
    assert!(refusal(&twice).contains("duplicate field `sequence`"));
    let twice = good.replace("\"memory\":", "\"memory\":\"host\",\"memory\":");
    assert!(refusal(&twice).contains("duplicate field `memory`"));
    for name in [
        "tag",
        "digest",
        "witness",
        "schema",
        "sealed",
        "content_sha256",
    ] {
        let error = refusal(&edited(|r| drop(r.as_object_mut().unwrap().remove(name))));
        assert!(
            error.contains(&format!("missing field `{name}`")),
            "{error}"
        );
    }
    for huge in [
        "1e400",
        "18446744073709551616",
        "99999999999999999999999999",
        "0x10",
        "01",
    ] {
        let text = good.replace("\"sequence\":77", &format!("\"sequence\":{huge}"));
        assert_ne!(text, good);
        refusal(&text);
    }
    refusal("");
    refusal("null");
    refusal("[]");
    refusal(good.strip_suffix('}').unwrap());
    refusal(&format!("{good}{good}"));
    refusal(&"[".repeat(60_000));
    // The limit itself is allowed.
    let most = format!("{good}{}", " ".repeat((64 << 10) - good.len()));
    assert!(Record::from_json(&most).is_ok());
    let long = format!("{most} ");
    assert!(refusal(&long).contains("the limit is 65536"));
}

// requirement: VA-4, AU-11
#[test]
fn refusals_do_not_echo_control_characters() {
    let escape = "\u{1b}[31m\u{7}red\nline";
    let error = refusal(&edited(|r| r[escape] = json!(1)));
    assert!(error.contains("red"), "{error:?}");
    assert!(!error.chars().any(char::is_control), "{error:?}");
    let error = refusal(&edited(|r| r["device_kind"] = json!(escape)));
    assert!(!error.chars().any(char::is_control), "{error:?}");
    let name = "x".repeat(50_000);
    let error = refusal(&edited(|r| r[&name] = json!(1)));
    assert!(error.len() < 2000, "{} bytes", error.len());
}

// requirement: ER-7, WORKER-4112
#[test]
fn a_record_that_says_unsealed_is_not_sealed() {
    let rig = rig(1 << 20);
    let shard = rig
        .manager
        .seal(SealRequest::bytes(&weights(100, 1)))
        .unwrap();
    let text = shard
        .record()
        .to_json()
        .unwrap()
        .replace("\"sealed\":true", "\"sealed\":false");
    let record = Record::from_json(&text).unwrap();
    let error = rig
        .manager
        .verify_record(&record, Mode::Full)
        .err()
        .unwrap();
    assert!(
        matches!(
            error,
            Error::Misuse(vram_residency::error::Misuse::NotSealed)
        ),
        "{error}"
    );
    assert!(!error.is_retriable() && !error.is_fatal());
}

// requirement: TY-1, API-F23
#[test]
fn a_record_survives_its_json() {
    let rig = rig(1 << 20);
    let request = SealRequest::bytes(b"weights")
        .id("round")
        .with_content_digest();
    let shard = rig
        .manager
        .seal(request.position(1, 3).model_ref("a model"))
        .unwrap();
    let text = shard.record().to_json().unwrap();
    assert!(!text.contains('\n'));
    let back = Record::from_json(&text).unwrap();
    assert_eq!(&back, shard.record());
    assert_eq!(rig.manager.get_shard(&back.shard_id), Some(back.clone()));
    assert!(rig.manager.verify_record(&back, Mode::Full).is_ok());
    assert_eq!(back.position.map(|p| (p.index, p.total)), Some((1, 3)));
    let known = InputError::ShardPosition { index: 3, total: 3 };
    let error = rig
        .manager
        .seal(SealRequest::bytes(b"w").position(3, 3))
        .unwrap_err();
    assert_eq!(error.to_string(), known.to_string());
}

// requirement: TY-3, WORKER-4110
#[test]
fn the_sources_name_of_a_record_still_names_it() {
    use vram_residency::compat::ModelShardHandle;
    let handle: ModelShardHandle = Record::from_json(&edited(|_| ())).unwrap();
    assert!(handle.sealed && handle.vram_bytes > 0);
    assert_eq!(handle.digest.to_string().len(), 64);
    let (_, _): (u32, &str) = (handle.gpu_device, handle.model_ref.as_str());
}
