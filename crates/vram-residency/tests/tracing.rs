//! What the library tells through `tracing`: everything that it records, how
//! each operation ended and how long it took, and no secret.

mod common;

use std::collections::BTreeMap;

use common::{days, rig, weights};
use serde_json::Value;
use test_listener as listen;
use vram_residency::audit::Severity;
use vram_residency::{Mode, SealRequest};

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
            assert_eq!(fields["nanos"].is_u64(), *outcome != "refused", "{end}");
            assert_eq!(fields["code"].is_string(), *outcome != "ok", "{end}");
        }
    }
    let scrub = &ends(&lines, "scrub")[0]["spans"][0];
    assert_eq!(
        (&scrub["bytes"], &scrub["shard_id"]),
        (&8.into(), &shard.id().as_str().into())
    );
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
