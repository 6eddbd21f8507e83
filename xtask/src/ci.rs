//! `cargo xtask ci`: every check of the repository, in one run.
//! requirement: CI-JOB-1, CI-JOB-2, CI-JOB-3, CI-JOB-4, CI-JOB-5, CI-JOB-6, CI-JOB-7

use crate::exec::{self, Ended, answers, both, cargo};
use crate::tally::{self, Tally};
use crate::tree::{File, Tree};
use crate::{Task, coverage, faults, fuzz, kernels, mutants, races, report, tidy, trace};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const TASK: Task = Task {
    usage: "ci [--no-skips] [--long] [--only STEP]..",
    summary: "Run every check: format, tidy, trace, dependencies, kernels, lints, docs, tests",
    help: "\
--no-skips   a check that cannot run here is a failure, not a skip
--long       also coverage with its floors, a smoke of each fuzz target, race models, and Miri and
             ThreadSanitizer where the nightly toolchain has them: longer than all the rest.
             The tests run once: instrumented where they are measured, and the step `test` runs
             the others
--only STEP  only this step, of those that either kind of run has; may be given several times
example: cargo xtask ci
example: cargo xtask ci --long
example: cargo xtask ci --no-skips
example: cargo xtask ci --only coverage --only test",
    run,
};

/// Longest time the advisory database may take before it counts as out of reach.
const ADVISORY_DEADLINE: Duration = Duration::from_secs(90);

/// Something that some tests need and that a machine may lack.
struct Need {
    /// A program, `root`, a command when it has options, a file by its path from the root when it
    /// has a `/`, or an `import` of Python.
    what: &'static str,
    /// How to get it.
    how: &'static str,
    /// What is not checked without it.
    lost: &'static str,
}

/// What tests use where it is there. Tests skip loudly without; the harness hides much of that,
/// so it is looked for here too.
const TEST_NEEDS: &[Need] = &[
    Need {
        what: "fsverity",
        how: "Debian package fsverity",
        lost: "digests are compared with checked-in vectors only",
    },
    Need {
        what: "tmux",
        how: "Debian package tmux",
        lost: "nothing is drawn on a terminal",
    },
    Need {
        what: "import cryptography",
        how: "pip install --require-hashes -r testdata/signed/requirements.txt",
        lost: "checkpoints, receipts and attestations are judged by our own code only",
    },
    Need {
        what: "import model_signing, OpenSSL",
        how: "the same file",
        lost: "no model is signed or checked with the real tool",
    },
    Need {
        what: "target/testdata/minilm/model.safetensors",
        how: "python3 testdata/fetch_real.py minilm",
        lost: "no real safetensors model is read",
    },
    Need {
        what: "target/testdata/gemma3-270m/model.gguf",
        how: "python3 testdata/fetch_real.py gemma3-270m",
        lost: "no real GGUF model is read",
    },
    Need {
        what: "setpriv",
        how: "Debian package util-linux",
        lost: "as root, no unreadable file is refused",
    },
    Need {
        what: "shellcheck",
        how: "Debian package shellcheck",
        lost: "the script for GPU machines is not linted",
    },
];

/// What the machine itself must allow; nothing that could be installed.
const MACHINE_NEEDS: &[Need] = &[
    Need {
        what: "root",
        how: "run the checks as root",
        lost: "keys and logs of another user are not refused before our eyes",
    },
    Need {
        what: "unshare --mount --map-root-user true",
        how: "allow user namespaces",
        lost: "no audit log meets a disk that turns read-only",
    },
];

/// How one step ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(String),
    /// It needs a tool that is not installed; a failure under `--no-skips`.
    Skipped(String),
    /// It needs something outside this machine; reported, never a failure.
    Unreachable(String),
}

/// A step's name, what it runs, and whether only `--long` runs it.
#[derive(Clone, Copy)]
struct Step {
    name: &'static str,
    run: fn(&mut Earlier) -> Outcome,
    long: bool,
}

/// What a step leaves for those after it.
#[derive(Default)]
struct Earlier {
    /// The instrumented build, and what its tests came to; none where nothing was measured.
    measured: Option<(coverage::Build, Tally)>,
}

const fn step(name: &'static str, run: fn(&mut Earlier) -> Outcome) -> Step {
    let long = false;
    Step { name, run, long }
}

/// One that builds everything once more, in a way of its own.
const fn long(name: &'static str, run: fn(&mut Earlier) -> Outcome) -> Step {
    let long = true;
    Step { name, run, long }
}

/// Cheap steps first, so that a slip shows within seconds; tests last, so that their closing
/// lines stand at the end.
const STEPS: &[Step] = &[
    step("format", |_| format()),
    step("tidy", |_| from_result(tidy::check())),
    step("trace", |_| from_result(trace::check())),
    step("test needs", |_| test_needs()),
    step("dependency policy", |_| dependencies()),
    step("advisories", |_| advisories()),
    step("mutants", |_| mutants()),
    step("kernels", |_| judge_kernels(check_kernels())),
    step("clippy", |_| clippy()),
    step("docs", |_| docs()),
    step("faults", |_| from_result(faults::check())),
    long("coverage", measure),
    long("fuzz", |_| smoke()),
    long("races", |_| from_result(races::check())),
    long("miri", |_| stricter(&races::MIRI)),
    long("thread sanitizer", |_| stricter(&races::TSAN)),
    step("test", test),
];

/// What the command line asks for.
struct Wish {
    steps: Vec<Step>,
    no_skips: bool,
    /// Whether these are all steps of a run.
    whole: bool,
}

impl Wish {
    fn read(args: &[String]) -> Result<Self, String> {
        let (mut no_skips, mut with_long, mut only) = (false, false, Vec::new());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--no-skips" => no_skips = true,
                "--long" => with_long = true,
                "--only" => {
                    let name = args.next().map(String::as_str).unwrap_or_default();
                    let found = STEPS.iter().find(|step| step.name == name);
                    only.push(found.ok_or_else(|| no_step(name))?.name);
                }
                _ => return Err(format!("unknown argument `{arg}`, see --help")),
            }
        }
        let wanted = |step: &&Step| match only.as_slice() {
            [] => with_long || !step.long,
            only => only.contains(&step.name),
        };
        Ok(Self {
            steps: STEPS.iter().filter(wanted).copied().collect(),
            no_skips,
            whole: only.is_empty(),
        })
    }
}

fn no_step(name: &str) -> String {
    let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    format!("`--only {name}`: give one of: {}", known.join(", "))
}

fn run(args: &[String]) -> Result<(), String> {
    let wish = Wish::read(args)?;
    let (mut results, mut times) = (Vec::new(), Vec::new());
    let mut earlier = Earlier::default();
    for Step { name, run, .. } in &wish.steps {
        println!("\n=== {name}");
        let start = Instant::now();
        let outcome = run(&mut earlier);
        let seconds = start.elapsed().as_secs_f64();
        println!("=== {name}: {} ({seconds:.1} s)", describe(&outcome));
        results.push((*name, outcome));
        times.push(seconds);
        if wish.whole {
            // After each step, so that a run that is broken off leaves what it did.
            report::leave("ci", &as_json(wish.steps.len(), &results, &times))?;
        }
    }
    println!("{}", closing(&results, times.iter().sum()));
    verdict(&results, wish.no_skips)
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Failed(why) => format!("FAILED: {why}"),
        Outcome::Skipped(why) => format!("SKIPPED: {why}"),
        Outcome::Unreachable(why) => format!("NOT CHECKED: {why}"),
    }
}

/// The steps for `cargo xtask report`.
fn as_json(of_steps: usize, results: &[(&str, Outcome)], seconds: &[f64]) -> Value {
    let steps = results
        .iter()
        .zip(seconds)
        .map(|((name, outcome), seconds)| {
            let (word, why) = match outcome {
                Outcome::Passed => ("passed", ""),
                Outcome::Failed(why) => ("failed", why.as_str()),
                Outcome::Skipped(why) => ("skipped", why.as_str()),
                Outcome::Unreachable(why) => ("not checked", why.as_str()),
            };
            json!({ "name": name, "outcome": word, "why": why, "seconds": seconds })
        });
    json!({ "of_steps": of_steps, "steps": steps.collect::<Vec<_>>() })
}

/// The list at the end: how long all took, and one line for each step that did not simply pass.
fn closing(results: &[(&str, Outcome)], seconds: f64) -> String {
    let mut text = String::from("\n=== summary");
    let passed = results
        .iter()
        .filter(|(_, outcome)| *outcome == Outcome::Passed)
        .count();
    let minutes = seconds / 60.0;
    text += &format!(
        "\n{passed} of {} steps passed in {minutes:.0} minutes",
        results.len()
    );
    for (name, outcome) in results
        .iter()
        .filter(|(_, outcome)| *outcome != Outcome::Passed)
    {
        text += &format!("\n{name}: {}", describe(outcome));
    }
    text
}

fn verdict(results: &[(&str, Outcome)], no_skips: bool) -> Result<(), String> {
    let bad: Vec<&str> = results
        .iter()
        .filter(|(_, outcome)| match outcome {
            Outcome::Passed | Outcome::Unreachable(_) => false,
            Outcome::Failed(_) => true,
            Outcome::Skipped(_) => no_skips,
        })
        .map(|(name, _)| *name)
        .collect();
    if bad.is_empty() {
        Ok(())
    } else {
        Err(format!("not passed: {}", bad.join(", ")))
    }
}

/// Runs a cargo command as a step.
fn cargo_step(args: &[&str]) -> Outcome {
    from_result(exec::run(&mut cargo(args)))
}

fn from_result(result: Result<(), String>) -> Outcome {
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

fn format() -> Outcome {
    with_subcommand("fmt", "rustup component add rustfmt", || {
        cargo_step(&["fmt", "--all", "--check"])
    })
}

/// What can be installed is a skip when it is missing; what the machine does not allow is only
/// reported.
fn test_needs() -> Outcome {
    let (tools, machine) = (
        missing(TEST_NEEDS, is_there),
        missing(MACHINE_NEEDS, is_there),
    );
    match (tools.as_slice(), machine.as_slice()) {
        ([], []) => Outcome::Passed,
        ([], _) => Outcome::Unreachable(machine.join("; ")),
        _ => Outcome::Skipped([tools, machine].concat().join("; ")),
    }
}

fn is_there(what: &str) -> bool {
    let words: Vec<&str> = what.split(' ').collect();
    match words.as_slice() {
        ["import", ..] => {
            let kept = exec::root().join("target/ci-tools/bin/python3");
            let mut pythons = [PathBuf::from("python3"), kept].into_iter();
            pythons.any(|python| answers(Command::new(python).args(["-c", what])))
        }
        ["root"] => {
            let id = Command::new("id").arg("-u").output();
            id.is_ok_and(|id| id.stdout == b"0\n")
        }
        [file] if file.contains('/') => exec::root().join(file).is_file(),
        [program] => exec::starts(program),
        [program, options @ ..] => answers(Command::new(program).args(options)),
        [] => false,
    }
}

fn missing(needs: &[Need], found: impl Fn(&str) -> bool) -> Vec<String> {
    let missing = needs.iter().filter(|need| !found(need.what));
    missing
        .map(|Need { what, how, lost }| format!("`{what}` is not there ({how}): {lost}"))
        .collect()
}

fn dependencies() -> Outcome {
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

fn advisories() -> Outcome {
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
fn check_kernels() -> Result<(), String> {
    kernels::run(&["--check".to_owned(), "--no-skips".to_owned()])
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

fn clippy() -> Outcome {
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
fn measure(earlier: &mut Earlier) -> Outcome {
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
fn test(earlier: &mut Earlier) -> Outcome {
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
    // Outlines are written once and run with each of their examples.
    if suites < 2 || scenarios < scenarios_written.saturating_mul(suites) {
        return Outcome::Failed(format!(
            "{scenarios} behaviour scenarios ran, on {suites} kinds of devices; \
             {scenarios_written} are written, for each of at least two"
        ));
    }
    match tally.left_out.as_slice() {
        [] => Outcome::Passed,
        some => Outcome::Unreachable(format!("tests left this out: {}", some.join("; "))),
    }
}

/// Which mutants have no outcome only cargo-mutants can tell.
fn mutants() -> Outcome {
    match mutants::check() {
        Ok(None) => Outcome::Passed,
        Ok(Some(not_counted)) => Outcome::Unreachable(not_counted),
        Err(why) => Outcome::Failed(why),
    }
}

/// Only some nightly toolchains have what these need.
fn stricter(part: &races::Part) -> Outcome {
    match part.missing() {
        None => from_result(part.run()),
        Some(what) => Outcome::Unreachable(what),
    }
}

/// Without the fuzzer the replay of the seeds among the tests is the smoke: the list at the end
/// says so, and it is no failure.
fn smoke() -> Outcome {
    match fuzz::missing() {
        None => from_result(fuzz::smoke()),
        Some(what) => Outcome::Unreachable(format!(
            "{what}; only the seeds and seeded changes of them are tried, in the step `test`"
        )),
    }
}

fn docs() -> Outcome {
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

    // requirement: CI-JOB-1, CI-JOB-2, CI-JOB-3, CI-JOB-4, CI-JOB-5, CI-JOB-6, CI-JOB-7, HY-4
    #[test]
    fn no_check_of_the_sources_list_is_left_out() {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        for needed in [
            "format",
            "tidy",
            "trace",
            "dependency policy",
            "advisories",
            "clippy",
            "docs",
            "coverage",
            "fuzz",
            "races",
            "miri",
            "thread sanitizer",
            "mutants",
            "test",
        ] {
            assert!(names.contains(&needed), "{needed} is not run");
        }
        assert_eq!(
            names.last(),
            Some(&"test"),
            "its closing lines stand at the end"
        );
    }

    #[test]
    fn the_command_line_chooses_steps_and_slips_are_refused() {
        let wish = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Wish::read(&args)
        };
        let names = |line: &str| -> Vec<&str> {
            wish(line)
                .unwrap()
                .steps
                .iter()
                .map(|step| step.name)
                .collect()
        };
        assert_eq!(names("--long").len(), STEPS.len());
        assert!(!names("").contains(&"coverage") && names("").contains(&"test"));
        // In the order in which one leaves what the other takes.
        assert_eq!(names("--only test --only coverage"), ["coverage", "test"]);
        assert!(wish("--long --no-skips").unwrap().no_skips);
        assert!(wish("--long").unwrap().whole && !wish("--only docs").unwrap().whole);
        for bad in ["--only", "--only tests", "--quick"] {
            assert!(wish(bad).is_err(), "{bad}");
        }
        assert!(
            wish("--only tests")
                .err()
                .unwrap()
                .contains("thread sanitizer")
        );
    }

    #[test]
    fn a_skip_fails_only_when_skips_are_forbidden() {
        let results = [
            ("a", Outcome::Passed),
            ("b", Outcome::Skipped("no tool".to_owned())),
        ];
        assert_eq!(verdict(&results, false), Ok(()));
        assert_eq!(verdict(&results, true), Err("not passed: b".to_owned()));
    }

    #[test]
    fn a_failure_fails_and_the_unreachable_is_only_reported() {
        let away = ("a", Outcome::Unreachable("away".to_owned()));
        assert_eq!(verdict(&[away], true), Ok(()));
        let bad = ("b", Outcome::Failed("broken".to_owned()));
        assert_eq!(verdict(&[bad], false), Err("not passed: b".to_owned()));
    }

    #[test]
    fn the_closing_list_names_everything_that_did_not_pass() {
        let results = [
            ("a", Outcome::Passed),
            ("b", Outcome::Skipped("no tool".to_owned())),
            ("c", Outcome::Failed("broken".to_owned())),
        ];
        let text = closing(&results, 150.0 * 60.0 + 10.0);
        assert!(
            text.contains("1 of 3 steps passed in 150 minutes"),
            "{text}"
        );
        assert!(text.contains("b: SKIPPED: no tool"), "{text}");
        assert!(text.contains("c: FAILED: broken"), "{text}");
        assert!(!text.contains("a: "), "{text}");
    }

    #[test]
    fn programs_get_every_step_with_its_reason() {
        let results = [
            ("a", Outcome::Passed),
            ("b", Outcome::Failed("broken".to_owned())),
        ];
        let json = as_json(13, &results, &[0.5, 2.0]);
        assert_eq!(json["steps"][0]["outcome"], "passed");
        assert_eq!(json["steps"][1]["why"], "broken");
        assert_eq!(json["steps"][1]["seconds"], 2.0);
    }

    #[test]
    fn a_missing_need_says_what_is_lost_and_how_to_get_it() {
        assert!(missing(TEST_NEEDS, |_| true).is_empty());
        let why = missing(TEST_NEEDS, |what| what != "fsverity").join("; ");
        assert!(
            why.contains("Debian package fsverity") && why.contains("vectors only"),
            "{why}"
        );
        assert!(!why.contains("GGUF"), "{why}");
    }

    #[test]
    fn needs_of_every_kind_are_looked_for() {
        for there in ["sh", "xtask/Cargo.toml", "sh -c true"] {
            assert!(is_there(there), "{there}");
        }
        for absent in [
            "no-such-program",
            "no/such/file",
            "sh -c false",
            "import no_such_module",
        ] {
            assert!(!is_there(absent), "{absent}");
        }
    }

    // requirement: CI-JOB-2
    #[test]
    fn scenarios_that_did_not_run_are_a_failure_and_what_was_left_out_is_told() {
        let tally = |suites, scenarios, left_out: &[&str]| Tally {
            suites,
            scenarios,
            left_out: left_out.iter().map(|what| (*what).to_owned()).collect(),
            ..Tally::default()
        };
        assert_eq!(judge_tests(&tally(2, 200, &[]), 100), Outcome::Passed);
        for bad in [tally(0, 0, &[]), tally(1, 100, &[]), tally(2, 199, &["x"])] {
            assert!(matches!(judge_tests(&bad, 100), Outcome::Failed(_)));
        }
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
