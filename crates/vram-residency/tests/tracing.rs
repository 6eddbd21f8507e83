//! What the library tells through `tracing`: everything that it records, how
//! each operation ended and how long it took, and no secret.

mod common;

use std::collections::BTreeMap;

use common::{Rig, days, rig, root_key, weights};
use serde_json::Value;
use test_listener as listen;
use vram_residency::audit::Severity;
use vram_residency::key::{Scope, SigningKey};
use vram_residency::receipt::{Nonce, Signer};
use vram_residency::sim::SimOptions;
use vram_residency::{Mode, Policy, SealRequest};

/// The fields of each line that has this one.
fn with<'v>(lines: &'v [Value], field: &str) -> Vec<&'v Value> {
    let has = |line: &&Value| !line["fields"][field].is_null();
    lines.iter().filter(has).collect()
}

/// How the operations of a name ended.
fn ends<'v>(lines: &'v [Value], name: &str) -> Vec<&'v Value> {
    let ended = |line: &&&Value| {
        let spans = line["spans"].as_array();
        let inner = spans.and_then(|spans| spans.last());
        inner.is_some_and(|span| span["name"] == name) && line["fields"]["op"].is_null()
    };
    with(lines, "outcome")
        .iter()
        .filter(ended)
        .copied()
        .collect()
}

fn counted<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, u32> {
    let mut counts = BTreeMap::new();
    items.for_each(|item| *counts.entry(item).or_default() += 1);
    counts
}

// requirement: OB-1, OB-6
#[test]
fn all_that_is_recorded_is_told_at_its_severity() {
    let keeping = listen::keep();
    let rig = days::live();
    let (lines, text) = keeping.told();
    let told = with(&lines, "event").into_iter().map(|line| {
        let event = line["fields"]["event"].as_str().unwrap().to_owned();
        (event, line["level"].as_str().unwrap().to_owned())
    });
    let recorded = rig.sink.events().into_iter().map(|event| {
        let level = match event.severity {
            Severity::Info => "INFO",
            Severity::Warning => "WARN",
            Severity::Error | Severity::Critical => "ERROR",
        };
        (event.body.event_type(), level.to_owned())
    });
    let recorded = counted(recorded);
    assert!(recorded.len() >= 26, "{recorded:?}");
    assert_eq!(counted(told), recorded);
    assert!(text.contains("a verification failed event=\"seal.verification_failed\""));
}

// requirement: OB-1
#[test]
fn the_fields_are_those_of_the_event() {
    let keeping = listen::keep();
    let rig = rig(1 << 20);
    let bytes = weights(9000, 1);
    let request = SealRequest::bytes(&bytes).id("told");
    let shard = rig
        .manager
        .seal(request.correlation_id("request-7"))
        .unwrap();
    let _ = rig.manager.verify_sealed(&shard, Mode::Keyed).unwrap();
    rig.manager.deallocate(&shard).unwrap();
    let (lines, _) = keeping.told();
    let event = |name: &str| {
        let all = with(&lines, "event").into_iter();
        let mut named = all.filter(|line| line["fields"]["event"] == name);
        named.next().unwrap_or_else(|| panic!("no {name}"))["fields"].clone()
    };
    let sealed = event("vram.sealed");
    assert_eq!(sealed["shard_id"], "told");
    assert_eq!(sealed["vram_bytes"], 9000);
    assert_eq!(sealed["gpu_device"], 0);
    assert_eq!(sealed["digest"], shard.digest().to_string());
    assert_eq!(sealed["correlation_id"], "request-7");
    let allocated = event("vram.allocated");
    assert_eq!(allocated["requested_bytes"], 9000);
    assert_eq!(
        allocated["available_bytes"].as_u64(),
        Some((1 << 20) - 9000)
    );
    assert_eq!(event("seal.verified")["mode"], "keyed");
    assert_eq!(event("vram.deallocated")["freed_bytes"], 9000);
}

// requirement: OB-6, OB-7
#[test]
fn operations_end_with_a_result_and_a_duration() {
    let keeping = listen::keep();
    drop(days::live());
    let rig = rig(1 << 20);
    let shard = rig.manager.seal(SealRequest::bytes(b"scrubbed")).unwrap();
    rig.manager.scrub_step(1 << 20).unwrap().unwrap();
    let (lines, _) = keeping.told();
    for (name, outcomes) in [
        ("build", &["ok"][..]),
        ("seal", &["ok", "failed"]),
        ("verify", &["ok", "failed"]),
        ("verify_group", &["failed"]),
        ("group_load", &["ok"]),
        ("lease", &["ok", "refused"]),
        ("attest", &["ok"]),
        ("sign", &["ok"]),
        ("export", &["ok"]),
        ("repair", &["ok", "failed"]),
        ("migrate", &["ok", "failed"]),
        ("free", &["ok", "failed"]),
        ("scrub", &["ok"]),
    ] {
        let ends = ends(&lines, name);
        for outcome in outcomes {
            let mut like = ends
                .iter()
                .filter(|line| line["fields"]["outcome"] == **outcome);
            let end = like
                .next()
                .unwrap_or_else(|| panic!("no {name} that is {outcome}"));
            let fields = &end["fields"];
            assert!(fields["nanos"].is_u64(), "{end}");
            assert_eq!(fields["code"].is_string(), *outcome != "ok", "{end}");
        }
    }
    let scrub = &ends(&lines, "scrub")[0]["spans"][0];
    assert_eq!(
        (&scrub["bytes"], &scrub["shard_id"], &scrub["gpu_device"]),
        (&8.into(), &shard.id().as_str().into(), &0.into())
    );
}

/// A field of a line, or of a span that it stands in.
fn field<'v>(line: &'v Value, name: &str) -> &'v Value {
    let spans = line["spans"].as_array().into_iter().flatten().rev();
    let mut all = [&line["fields"]].into_iter().chain(spans);
    let found = all.find(|fields| !fields[name].is_null());
    found.map_or(&Value::Null, |fields| &fields[name])
}

/// Every operation of the list, what it did among it, and a question that is none.
// requirement: OB-6, AU-17
#[test]
fn what_is_told_names_device_request_and_duration() {
    let keeping = listen::keep();
    let policy = Policy {
        allow_repair: true,
        ..Policy::default()
    };
    let rig = Rig::build(&[SimOptions::new(1 << 20)], policy, |builder| builder);
    let manager = rig.manager.for_request("narrated");
    let bytes = weights(9000, 1);
    assert!(manager.seal(SealRequest::bytes(b"").device(0)).is_err());
    let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
    manager.lease(&shard, Mode::Full).unwrap().finish();
    let key = SigningKey::scoped(&root_key(3), Scope::Test).unwrap();
    let signer = Signer {
        key: &key,
        certificate: None,
    };
    manager.issue_receipt(&shard, &signer).map(drop).unwrap();
    let nonce = Nonce::new(&[1; 16]).unwrap();
    manager.answer(&shard, &nonce, &signer).map(drop).unwrap();
    manager.unseal_model(&shard).map(drop).unwrap();
    let _ = manager.repair(&shard, &bytes.as_slice()).unwrap();
    assert!(manager.capacity(0).is_ok());
    manager.deallocate(&shard).unwrap();
    let (lines, _) = keeping.told();
    let said = |line: &&Value, words: &str| line["fields"]["message"] == words;
    let ours = |line: &&Value| field(line, "correlation_id") == "narrated";
    for words in [
        "seal was refused",
        "the digest was measured in VRAM",
        "the statement was tagged",
        "seal is done",
        "verify is done",
        "lease is done",
        "attest is done",
        "sign is done",
        "export is done",
        "repair is done",
        "free is done",
        "the budget was asked for",
    ] {
        let told = lines.iter().filter(ours).find(|line| said(line, words));
        let told = told.unwrap_or_else(|| panic!("no {words:?}"));
        assert!(told["fields"]["nanos"].is_u64(), "{told}");
        assert_eq!(field(told, "gpu_device"), 0, "{told}");
        let of_none = ["seal was refused", "the budget was asked for"].contains(&words);
        let shard_id = field(told, "shard_id");
        assert_eq!(shard_id == shard.id().as_str(), !of_none, "{told}");
    }
    // And every event between them.
    let events = lines
        .iter()
        .filter(|line| !line["fields"]["event"].is_null());
    assert!(events.filter(ours).count() >= 10);
}

// requirement: OB-6
#[test]
fn stages_of_a_load_calls_of_the_device_and_refusals_are_told() {
    let keeping = listen::keep();
    let rig = rig(10_000);
    let manager = &rig.manager;
    let shard = manager.seal(SealRequest::bytes(&weights(9500, 3))).unwrap();
    assert!(manager.seal(SealRequest::bytes(b"")).is_err());
    assert!(manager.capacity(0).is_ok());
    manager.deallocate(&shard).unwrap();
    let (lines, text) = keeping.told();
    for stage in [
        "every byte was read and handed to the device",
        "the device hashed what it holds",
        "source and device agree",
        "the digest was measured in VRAM",
        "the statement was tagged",
        "little VRAM is left",
        "the budget was asked for",
        "seal was refused",
    ] {
        assert!(text.contains(stage), "{stage}\n{text}");
    }
    let calls = with(&lines, "op");
    let ops = counted(
        calls
            .iter()
            .filter_map(|line| line["fields"]["op"].as_str()),
    );
    for op in [
        "allocate",
        "upload",
        "upload_finish",
        "protect",
        "witness",
        "free",
    ] {
        assert!(ops.contains_key(op), "{op} in {ops:?}");
    }
    assert!(calls.iter().all(|line| line["fields"]["nanos"].is_u64()));
}

/// Less than a tenth is little; a tenth is not.
// requirement: OB-1
#[test]
fn little_vram_is_told_below_a_tenth_of_the_budget() {
    for (bytes, told) in [(8999, false), (9000, false), (9001, true)] {
        let keeping = listen::keep();
        let rig = rig(10_000);
        let bytes = weights(bytes, 3);
        let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
        let (_, text) = keeping.told();
        assert_eq!(
            text.contains("little VRAM is left"),
            told,
            "{}",
            bytes.len()
        );
        rig.manager.deallocate(&shard).unwrap();
    }
}
