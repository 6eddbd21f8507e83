//! `cargo xtask faults`: the fault campaign of `crates/vram-residency/examples/faults`.

use std::process::Command;
use std::time::Duration;

use crate::exec;
use crate::{Task, programs, report};

/// The task.
pub(crate) const TASK: Task = Task {
    usage: "faults [--trials N] [--seed N] [--only TEXT] [--json FILE]",
    summary: "strike every class of fault many times on the simulated device and count",
    help: "  --trials N    trials of each class (default 1000; 10000 by hand)\n  \
           --seed N      seed of every choice (default 1); printed\n  \
           --only TEXT   only classes whose name holds TEXT\n  \
           --json FILE   the table as JSON as well\n\n\
           Fails when a claimed class was missed even once, or a clean check raised an alarm;\n  \
           with exit code 2 when no class is asked for.\n\n\
           Examples:\n  cargo xtask faults --trials 10000\n  cargo xtask faults --only flip --seed 7",
    run,
};

fn run(args: &[String]) -> Result<(), String> {
    let mut command = exec::cargo(&["run", "--quiet", "--release", "--package", "vram-residency"]);
    command.args(["--example", "faults", "--"]).args(args);
    campaign(&mut command, exec::NO_LIMIT)
}

fn campaign(command: &mut Command, limit: Duration) -> Result<(), String> {
    let status = exec::status_within(command, limit)?;
    match status.code() {
        Some(0) => Ok(()),
        // It has said what it can be asked for.
        Some(USAGE) => std::process::exit(USAGE),
        _ => Err(format!(
            "the campaign contradicts a claim: it ended with {status}"
        )),
    }
}

/// Exit code of a campaign that was asked for nothing there is, and ours then.
const USAGE: i32 = 2;

/// A thousand trials of each class, as every run of the checks makes them; the table is kept for
/// `cargo xtask report`.
pub(crate) fn check() -> Result<(), String> {
    let folder = exec::root().join("target/xtask");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let program = programs::build(&mut quick_build())?
        .into_iter()
        .find(|program| program.name == "faults")
        .ok_or("the build made no program `faults`")?;
    let table = folder.join("faults.json");
    let mut command = Command::new(program.path);
    command.current_dir(exec::root());
    campaign(command.arg("--json").arg(&table), exec::LIMIT)?;
    // With the commit, which the campaign does not know.
    let text = std::fs::read(&table).map_err(|error| format!("{}: {error}", table.display()))?;
    let told = serde_json::from_slice(&text);
    let told = told.map_err(|error| format!("{}: {error}", table.display()))?;
    report::leave("faults", &told)
}

/// Only what is struck is optimised. What it depends on is built as the step `coverage` wants it,
/// and for both of them: the profile and the selection are the same.
fn quick_build() -> Command {
    let mut command = exec::cargo(&["build", "--workspace", "--exclude", "xtask"]);
    command
        .args(["--profile", "coverage", "--example", "faults"])
        .args([
            "--config",
            "profile.coverage.package.vram-residency.opt-level=2",
        ]);
    command
}
