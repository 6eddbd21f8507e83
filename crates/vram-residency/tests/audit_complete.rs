//! Each event that the library declares is truly emitted, by a manager that
//! lives through everything.

mod common;

use std::collections::BTreeSet;

use common::days;

const EVENTS: &str = include_str!("../src/audit/event.rs");

/// Events of faults that nothing outside the library can cause, and who tests them.
const ELSEWHERE: [(&str, &str); 1] = [(
    "seal.hashes_replaced",
    "manager/hashes.rs: the host's memory goes bad there",
)];

/// The `event_type` of every event that is declared. Those of the log about
/// itself are tested with the log.
fn declared() -> BTreeSet<String> {
    let names = EVENTS.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("#[serde(rename = \"")?;
        name.strip_suffix("\")]").map(str::to_owned)
    });
    let elsewhere = |name: &String| ELSEWHERE.iter().any(|(known, _)| known == name);
    names
        .filter(|name| !name.starts_with("audit.") && !elsewhere(name))
        .collect()
}

// requirement: AU-1..AU-7, AU-9, RP-005
#[test]
fn each_audit_event_truly_emitted() {
    let rig = days::live();
    let emitted: BTreeSet<String> = rig.sink.types().into_iter().collect();
    let declared = declared();
    assert!(declared.len() >= 26, "found only {declared:?}");
    let silent: Vec<_> = declared.difference(&emitted).collect();
    assert!(silent.is_empty(), "declared and never emitted: {silent:?}");
    let unknown: Vec<_> = emitted.difference(&declared).collect();
    assert!(unknown.is_empty(), "emitted and not declared: {unknown:?}");
}
