//! The repository polices itself: the same checks as `cargo xtask ci`, as ordinary tests.

use std::process::Command;

/// Runs a task on this repository and gives back what it printed when it failed.
fn failure_of(task: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(task)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(text)
}

#[test]
fn the_tree_is_tidy() {
    assert_eq!(failure_of(&["tidy"]), None);
}

// requirement: DOC-2
#[test]
fn every_cited_requirement_is_listed() {
    assert_eq!(failure_of(&["trace", "--strict", "--summary"]), None);
}

#[test]
fn unknown_tasks_and_options_are_refused() {
    assert!(
        failure_of(&["no-such-task"])
            .unwrap()
            .contains("no-such-task")
    );
    assert!(
        failure_of(&["tidy", "--no-such-option"])
            .unwrap()
            .contains("--no-such-option")
    );
}

/// A file of the repository.
fn read(path: &str) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap();
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// What may stand nowhere, and what every unsafe block must say.
const DENIED: [&str; 5] = [
    "mem_forget",
    "todo",
    "unimplemented",
    "undocumented_unsafe_blocks",
    "multiple_unsafe_ops_per_block",
];

/// A crate of tests: what it finds, it says by a panic.
const TESTS: &str = "crates/fuzz-targets";

// What crate roots deny is a rule of `tidy`. requirement: HY-3, CI-JOB-4
#[test]
fn every_shipped_crate_denies_the_lints_of_the_house() {
    let workspace = read("Cargo.toml");
    assert!(workspace.contains(TESTS));
    for lint in DENIED {
        let denied = format!("\n{lint} = \"deny\"\n");
        assert!(workspace.contains(&denied), "{lint} is not denied");
    }
    let members = workspace.lines().find(|line| line.starts_with("members"));
    let members: Vec<&str> = members.unwrap().split('"').skip(1).step_by(2).collect();
    assert!(members.len() >= 5, "{members:?}");
    for member in members
        .iter()
        .filter(|member| member.starts_with("crates/") && **member != TESTS)
    {
        let manifest = read(&format!("{member}/Cargo.toml"));
        assert!(
            manifest.contains("[lints]\nworkspace = true\n"),
            "{member} does not take the lints of the workspace"
        );
    }
}
