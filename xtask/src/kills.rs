//! `cargo xtask kills`: what a kill may leave behind, asked a thousand times. Every run of the tests
//! asks it a few times. requirement: TP-6

use serde_json::json;

use crate::{Task, exec, only_options, report};

pub(crate) const TASK: Task = Task {
    usage: "kills",
    summary: "Kill `vram seal --hold` and a writer of the audit log a thousand times each",
    help: "\
Builds with optimisation and takes about an hour. Goes on after a failure, and fails at the end;
what came of each goes to target/xtask/kills.json.
example: cargo xtask kills",
    run,
};

const KILLS: u32 = 1000;

/// Who is killed: its name, then package, program and name of the test that does it.
const VICTIMS: &[(&str, &str, &str, &str)] = &[
    (
        "vram seal --hold",
        "vram",
        "chaos",
        "killed_a_thousand_times_it_leaves_whole_files",
    ),
    (
        "a writer of the audit log",
        "vram-residency",
        "audit_log_crash",
        "a_thousand_kills_lose_no_acknowledged_event",
    ),
];

fn run(args: &[String]) -> Result<(), String> {
    only_options(args, &[])?;
    let (mut failed, mut rows) = (Vec::new(), Vec::new());
    for (victim, package, program, test) in VICTIMS {
        println!("=== {victim}: {KILLS} kills");
        let mut command = exec::cargo(&["test", "--release", "--package", package]);
        command.args(["--test", program, "--", "--ignored", "--exact", test]);
        // However long it takes.
        let status = command.status().map_err(|error| error.to_string())?;
        let outcome = if status.success() { "passed" } else { "failed" };
        rows.push(json!({ "name": victim, "kills": KILLS, "outcome": outcome }));
        if !status.success() {
            failed.push(*victim);
        }
    }
    report::leave_rows("kills", "victims", rows)?;
    match failed.as_slice() {
        [] => Ok(()),
        some => Err(format!("failed: {}", some.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    /// A test of another name would not be run, and nothing would fail.
    // requirement: AU-16
    #[test]
    fn every_test_that_kills_so_often_is_there() {
        let tree = Tree::read(&exec::root()).unwrap();
        for (_, package, program, test) in VICTIMS {
            let file = tree.get(&format!("crates/{package}/tests/{program}.rs"));
            let text = file.unwrap().text.as_deref().unwrap();
            let (before, after) = text.split_once(&format!("fn {test}() {{")).unwrap();
            let (_, attributes) = before.rsplit_once("#[test]").unwrap();
            assert!(attributes.contains("#[ignore = "), "{test}");
            assert!(
                after
                    .trim_start()
                    .split(';')
                    .next()
                    .unwrap()
                    .contains(&KILLS.to_string())
            );
        }
    }
}
