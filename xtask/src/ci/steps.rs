//! What each step runs, and how its end is judged.

use std::time::Duration;

use super::{Earlier, Outcome};
use crate::exec::{self, Ended, answers, both, cargo};
use crate::tally::{self, Tally};
use crate::tree::{File, Tree};
use crate::{coverage, fuzz, kernels, mutants, races, report};

/// Longest time the advisory database may take before it counts as out of reach.
const ADVISORY_DEADLINE: Duration = Duration::from_secs(90);

/// Runs a cargo command as a step.
fn cargo_step(args: &[&str]) -> Outcome {
    from_result(exec::run(&mut cargo(args)))
}

pub(super) fn from_result(result: Result<(), String>) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Failed(why),
    }
}

/// Skips `step` when the cargo subcommand `tool` is not installed.
fn with_subcommand(tool: &str, how: &str, step: impl FnOnce() -> Outcome) -> Outcome {
    if answers(&mut cargo(&[tool, "--version"])) {
        step()
    } else {
        Outcome::Skipped(format!("`cargo {tool}` is not installed ({how})"))
    }
}

pub(super) fn format() -> Outcome {
    with_subcommand("fmt", "rustup component add rustfmt", || {
        cargo_step(&["fmt", "--all", "--check"])
    })
}

pub(super) fn dependencies() -> Outcome {
    with_subcommand("deny", "cargo install --locked cargo-deny", || {
        cargo_step(&[
            "deny",
            "--all-features",
            "check",
            "licenses",
            "sources",
            "bans",
        ])
    })
}

pub(super) fn advisories() -> Outcome {
    with_subcommand("deny", "cargo install --locked cargo-deny", || {
        let log = exec::root().join("target/xtask/advisories.log");
        let mut command = cargo(&["deny", "--all-features", "check", "advisories"]);
        match exec::run_within(&mut command, ADVISORY_DEADLINE, &log) {
            Ok(ended) => judge_advisories(&ended),
            Err(why) => Outcome::Failed(why),
        }
    })
}

/// Tells a database that cannot be fetched from an advisory that was found.
fn judge_advisories(ended: &Ended) -> Outcome {
    match ended {
        Ended::TimedOut => Outcome::Unreachable(format!(
            "the advisory database did not answer within {} s",
            ADVISORY_DEADLINE.as_secs()
        )),
        Ended::Exited { success: true, .. } => Outcome::Passed,
        Ended::Exited { stderr, .. } if stderr.contains("failed to fetch advisory database") => {
            Outcome::Unreachable("the advisory database cannot be reached from here".to_owned())
        }
        Ended::Exited { stderr, .. } => {
            eprint!("{stderr}");
            Outcome::Failed("see the advisories above".to_owned())
        }
    }
}

/// The committed PTX against its sources, with every compiler that can be had.
pub(super) fn check_kernels() -> Outcome {
    judge_kernels(kernels::run(&["--check", "--no-skips"].map(str::to_owned)))
}

/// Tells parts that were left out, each printed above, from parts that failed.
fn judge_kernels(result: Result<(), String>) -> Outcome {
    match result {
        Err(why) if why.ends_with("checks were skipped") => {
            Outcome::Skipped(format!("{why}, see above"))
        }
        other => from_result(other),
    }
}

pub(super) fn clippy() -> Outcome {
    with_subcommand("clippy", "rustup component add clippy", || {
        cargo_step(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
    })
}

/// The tests that are measured, and the floors of the coverage, on an instrumented build of its
/// own. Without one the step `test` runs everything.
pub(super) fn measure(earlier: &mut Earlier) -> Outcome {
    let tools = match coverage::tools() {
        Ok(tools) => tools,
        Err(why) => return Outcome::Skipped(why),
    };
    match coverage::build() {
        Ok(build) => {
            let (result, tally) = coverage::check(&tools, &build);
            earlier.measured = Some((build, tally));
            from_result(result)
        }
        Err(why) => Outcome::Failed(why),
    }
}

/// Unit, integration and documentation tests; goes on after a failing binary so that all
/// failures show.
pub(super) fn test(earlier: &mut Earlier) -> Outcome {
    let (result, tally) = match earlier.measured.take() {
        Some((build, tally)) => not_measured(&build, tally),
        None => tally::run(cargo(&["test", "--workspace", "--no-fail-fast"])),
    };
    println!("{}", tally.about_cuda());
    let left = report::leave("tests", &tally.as_json());
    match result.and(left).and_then(|()| scenarios_written()) {
        Ok(written) => judge_tests(&tally, written),
        Err(why) => Outcome::Failed(why),
    }
}

/// The tests that were not measured, and those of the tasks themselves; the counts are of all.
fn not_measured(build: &coverage::Build, mut all: Tally) -> (Result<(), String>, Tally) {
    let (rest, tally) = coverage::rest(build);
    all.add(tally);
    let (tasks, tally) = tally::run(cargo(&["test", "--package", "xtask", "--no-fail-fast"]));
    all.add(tally);
    (both(rest, tasks), all)
}

/// How many behaviour scenarios the sources have.
fn scenarios_written() -> Result<u64, String> {
    let tree = Tree::read(&exec::root())?;
    let features = tree
        .files
        .iter()
        .filter(|file| file.path.ends_with(".feature"));
    let lines = features.flat_map(File::lines);
    let begins = lines.filter(|(_, line)| line.trim_start().starts_with("Scenario"));
    Ok(begins.count() as u64)
}

/// Of tests that passed: whether the scenarios were among them, on the simulated device and on
/// CUDA, and what was left out.
fn judge_tests(tally: &Tally, scenarios_written: u64) -> Outcome {
    let (suites, scenarios) = (tally.suites, tally.scenarios);
    // Outlines run with each of their examples; that nothing else is left out the runner sees.
    if suites < 2 || scenarios < scenarios_written.saturating_mul(suites) {
        return Outcome::Failed(format!(
            "{scenarios} behaviour scenarios ran, on {suites} kinds of devices; \
             {scenarios_written} are written, for each of at least two"
        ));
    }
    if tally.simulated_first != Some(true) {
        return Outcome::Failed(
            "scenarios ran on a real GPU before they ran on a pretended one".to_owned(),
        );
    }
    match tally.left_out.as_slice() {
        [] => Outcome::Passed,
        some => Outcome::Unreachable(format!("tests left this out: {}", some.join("; "))),
    }
}

/// Which mutants have no outcome only cargo-mutants can tell.
pub(super) fn mutants() -> Outcome {
    match mutants::check() {
        Ok(None) => Outcome::Passed,
        Ok(Some(not_counted)) => Outcome::Unreachable(not_counted),
        Err(why) => Outcome::Failed(why),
    }
}

/// Only some nightly toolchains have what these need.
pub(super) fn stricter(part: &races::Part) -> Outcome {
    match part.missing() {
        None => from_result(part.run()),
        Some(what) => Outcome::Unreachable(what),
    }
}

/// Without the fuzzer the replay of the seeds among the tests is the smoke: the list at the end
/// says so, and it is no failure.
pub(super) fn smoke() -> Outcome {
    match fuzz::missing() {
        None => from_result(fuzz::smoke()),
        Some(what) => Outcome::Unreachable(format!(
            "{what}; only the seeds and seeded changes of them are tried, in the step `test`"
        )),
    }
}

pub(super) fn docs() -> Outcome {
    let mut command = cargo(&["doc", "--no-deps", "--workspace"]);
    from_result(exec::run(command.env("RUSTDOCFLAGS", "-D warnings")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(success: bool, stderr: &str) -> Ended {
        Ended::Exited {
            success,
            stderr: stderr.to_owned(),
        }
    }

    // requirement: CI-JOB-2, DM-1, DM-8
    #[test]
    fn scenarios_that_did_not_run_are_a_failure_and_what_was_left_out_is_told() {
        let tally = |suites, scenarios, left_out: &[&str]| Tally {
            suites,
            scenarios,
            left_out: left_out.iter().map(|what| (*what).to_owned()).collect(),
            simulated_first: Some(true),
            ..Tally::default()
        };
        assert_eq!(judge_tests(&tally(2, 200, &[]), 100), Outcome::Passed);
        for bad in [tally(0, 0, &[]), tally(1, 100, &[]), tally(2, 199, &["x"])] {
            assert!(matches!(judge_tests(&bad, 100), Outcome::Failed(_)));
        }
        let late = Tally {
            simulated_first: Some(false),
            ..tally(2, 200, &[])
        };
        assert!(matches!(judge_tests(&late, 100), Outcome::Failed(_)));
        let outcome = judge_tests(&tally(2, 200, &["no tmux"]), 100);
        assert!(matches!(outcome, Outcome::Unreachable(why) if why.contains("no tmux")));
        assert!(scenarios_written().unwrap() > 90);
    }

    #[test]
    fn kernel_checks_that_were_left_out_are_a_skip_and_others_a_failure() {
        assert_eq!(judge_kernels(Ok(())), Outcome::Passed);
        let left_out = judge_kernels(Err("2 checks were skipped".to_owned()));
        assert!(matches!(left_out, Outcome::Skipped(why) if why.starts_with("2 checks")));
        let stale = judge_kernels(Err("vram.ptx is not what the sources give".to_owned()));
        assert!(matches!(stale, Outcome::Failed(_)));
    }

    #[test]
    fn an_advisory_is_a_failure_and_a_missing_database_is_not() {
        assert_eq!(judge_advisories(&exited(true, "")), Outcome::Passed);
        let away = judge_advisories(&exited(false, "failed to fetch advisory database x"));
        assert!(matches!(away, Outcome::Unreachable(_)));
        assert!(matches!(
            judge_advisories(&Ended::TimedOut),
            Outcome::Unreachable(_)
        ));
        let found = judge_advisories(&exited(false, "error[vulnerability]: test sample\n"));
        assert!(matches!(found, Outcome::Failed(_)));
    }
}
