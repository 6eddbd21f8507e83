//! A name twice in one JSON object: which of the two counts would be the
//! reader's choice, so every decoder refuses it, at every depth and however the
//! second one is spelled.
//!
//! requirement: TP-9

use std::collections::BTreeMap;

use serde_json::Value;
use vram_residency::audit::check::{self, Filter};
use vram_residency::audit::proof::Proof;
use vram_residency::clock::Timestamp;
use vram_residency::format::index::parse as parse_index;
use vram_residency::format::{Format, Limits, parse};
use vram_residency::key::VerifyingKey;
use vram_residency::receipt::{Attested, Certificate, Receipt, Revocations, Tagged};
use vram_residency::seal::Record;
use vram_residency::shard::GroupRecord;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../testdata/receipt_vectors.json")).unwrap()
}

/// Every way to write one member of one object of `value` a second time: the
/// same value again, another value, and the name in an escaped spelling.
fn doubled(value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    match value {
        Value::Object(object) => {
            for (name, member) in object {
                let rest = &value.to_string()[1..];
                let first = name.chars().next().unwrap();
                let escaped = format!("\\u{:04x}{}", u32::from(first), &name[first.len_utf8()..]);
                for (name, member) in [(name, member), (name, &Value::Null), (&escaped, member)] {
                    out.push(format!("{{\"{name}\":{member},{rest}"));
                }
                for inner in doubled(member) {
                    let name = Value::from(name.as_str());
                    let others = object.iter().filter(|(other, _)| name != other.as_str());
                    let others = others.map(|(name, member)| format!(",\"{name}\":{member}"));
                    out.push(format!("{{{name}:{inner}{}}}", others.collect::<String>()));
                }
            }
        }
        Value::Array(list) => {
            for (at, item) in list.iter().enumerate() {
                for inner in doubled(item) {
                    let mut items: Vec<String> = list.iter().map(Value::to_string).collect();
                    items[at] = inner;
                    out.push(format!("[{}]", items.join(",")));
                }
            }
        }
        _ => {}
    }
    out
}

/// Asserts that `accepts` takes `value` and none of its doublings, of which
/// there are at least `least`.
fn refused(what: &str, value: &Value, least: usize, accepts: impl Fn(&str) -> bool) {
    assert!(accepts(&value.to_string()), "{what}: {value}");
    let doubled = doubled(value);
    assert!(doubled.len() >= least, "{what}: {} ways", doubled.len());
    for text in doubled {
        assert!(!accepts(&text), "{what}: {text}");
    }
}

#[test]
fn records_and_groups_of_them() {
    let record = &vectors()["vectors"][1]["receipt"]["record"];
    refused("record", record, 60, |text| Record::from_json(text).is_ok());
    let mut member = record.clone();
    member["group"] = "0123456789abcdef0123456789abcdef".into();
    member["position"] = serde_json::json!({ "index": 0, "total": 1 });
    let group = serde_json::json!({
        "schema": "vram-residency/group/v1",
        "group": "0123456789abcdef0123456789abcdef",
        "members": [member],
    });
    refused("group", &group, 70, |text| {
        GroupRecord::from_json(text).is_ok()
    });
}

#[test]
fn receipts_attestations_certificates_and_revocations() {
    let file = vectors();
    let operator = VerifyingKey::from_hex(file["operator_key"].as_str().unwrap()).unwrap();
    let vector = &file["vectors"][3];
    let receipt = &vector["receipt"];
    refused("receipt", receipt, 90, |text| {
        Receipt::from_json(text).is_ok()
    });
    refused("attested", &vector["attested"], 120, |text| {
        Attested::from_json(text).is_ok()
    });
    refused("tagged", &vector["tagged"], 100, |text| {
        Tagged::from_json(text).is_ok()
    });
    let certificate = &receipt["signed"]["certificate"];
    refused("certificate", certificate, 18, |text| {
        Certificate::from_json(text).is_ok()
    });
    refused("revocations", &file["revocations"], 15, |text| {
        Revocations::from_json(
            text,
            std::slice::from_ref(&operator),
            Timestamp::from_nanos(u64::MAX),
        )
        .is_ok()
    });
}

/// The parser takes a list of bare values for a structure, in which no name is
/// checked at all.
#[test]
fn a_list_of_values_is_no_paper() {
    let file = vectors();
    let receipt = &file["vectors"][3]["receipt"];
    let signed = &receipt["signed"];
    let certificate = &signed["certificate"];
    let list = |object: &Value, names: &[&str]| -> Value {
        names.iter().map(|name| object[*name].clone()).collect()
    };
    let bare = list(
        certificate,
        &[
            "operator_key",
            "worker_key",
            "worker_id",
            "not_before",
            "not_after",
            "signature",
        ],
    );
    assert!(Certificate::from_json(&bare.to_string()).is_err());
    let refused = |at: &str, by: Value| {
        let mut changed = receipt.clone();
        *changed.pointer_mut(at).unwrap() = by;
        let error = Receipt::from_json(&changed.to_string()).unwrap_err();
        assert!(error.to_string().contains("a list stands"), "{at}: {error}");
    };
    refused("", list(receipt, &["schema", "record", "signed"]));
    let names = ["key_id", "public_key", "certificate", "signature"];
    refused("/signed", list(signed, &names));
    refused("/signed/certificate", bare);
    let tagged = &file["vectors"][3]["tagged"];
    assert!(Tagged::from_json(&tagged.to_string()).is_ok());
    let bare = list(tagged, &["schema", "facts", "tag"]);
    assert!(Tagged::from_json(&bare.to_string()).is_err());
    let mut changed = tagged.clone();
    changed["facts"] = changed["facts"]
        .as_object()
        .unwrap()
        .values()
        .cloned()
        .collect();
    assert!(Tagged::from_json(&changed.to_string()).is_err());
}

#[test]
fn headers_and_indices_of_models() {
    let header = serde_json::json!({
        "__metadata__": { "format": "pt", "made": "by a test" },
        "a": { "dtype": "F32", "shape": [2], "data_offsets": [0, 8] },
        "b": { "dtype": "U8", "shape": [4], "data_offsets": [8, 12] },
    });
    refused("safetensors", &header, 30, |text| {
        let mut file = (text.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(text.as_bytes());
        file.extend_from_slice(&[0; 12]);
        parse(Format::Safetensors, &file).is_ok()
    });
    let index = serde_json::json!({
        "metadata": { "total_size": 12 },
        "weight_map": { "a": "one.safetensors", "b": "two.safetensors" },
    });
    refused("index", &index, 12, |text| {
        parse_index(&text.as_bytes(), &Limits::default()).is_ok()
    });
}

/// Whether `vram audit show` would show this line.
fn shown(line: &str) -> bool {
    // The members that the log puts first keep their place.
    let start = "{\"seq\":7,\"time\":\"2023-11-14T22:13:20.000000001Z\",";
    let line = format!("{start}{}\n", &line[1..]);
    let files = BTreeMap::from([("events.jsonl".to_owned(), line.into_bytes())]);
    let mut count = 0;
    check::show(&files, &Filter::default(), &mut |_| {
        count += 1;
        Ok(())
    })
    .unwrap();
    count == 1
}

#[test]
fn lines_of_the_audit_log() {
    let event = serde_json::json!({
        "audit_id": 1, "timestamp": 1_700_000_000_000_000_001_u64, "worker_id": "w",
        "severity": "critical", "event_type": "manager.stopped", "reason": "r",
    });
    refused("event", &event, 18, shown);
    for again in ["\"seq\":8", "\"time\":\"later\"", "\"s\\u0065q\":8"] {
        let line = format!("{{{again},{}", &event.to_string()[1..]);
        assert!(!shown(&line), "{line}");
    }
}

#[test]
fn proofs_of_the_audit_log() {
    let event = serde_json::json!({
        "schema": "vram-residency/audit-inclusion/v1",
        "checkpoint": "a note", "seq": 3, "line": "{}", "path": ["00"],
    });
    let mut inclusion = event.clone();
    inclusion["handovers"] = serde_json::json!([event]);
    let growth = serde_json::json!({
        "schema": "vram-residency/audit-consistency/v1",
        "checkpoint": "a note", "earlier": "another", "path": ["00"], "handovers": [event],
    });
    for (what, proof) in [("inclusion", inclusion), ("consistency", growth)] {
        refused(what, &proof, 30, |text| Proof::from_json(text).is_ok());
    }
}
