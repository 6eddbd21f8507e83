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

#[test]
fn every_cited_requirement_is_listed() {
    assert_eq!(failure_of(&["trace", "--summary"]), None);
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
