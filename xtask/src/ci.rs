//! `cargo xtask ci`: every check of the repository, in one run.
//! requirement: CI-JOB-1, CI-JOB-2, CI-JOB-3, CI-JOB-4, CI-JOB-5, CI-JOB-6, CI-JOB-7

mod needs;
mod steps;
mod times;

use crate::tally::Tally;
use crate::{Task, coverage, faults, races, report, tidy, trace};
use needs::test_needs;
use serde_json::{Value, json};
use std::thread::{self, JoinHandle};
use steps::from_result;
use times::{Clock, Took};

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

/// A step's name, what it runs, whether only `--long` runs it, and whether it begins beside the step
/// before it: for what uses one core, takes nothing from earlier steps and leaves nothing to them.
#[derive(Clone, Copy)]
struct Step {
    name: &'static str,
    run: fn(&mut Earlier) -> Outcome,
    long: bool,
    beside: bool,
}

/// What a step leaves for those after it.
#[derive(Default)]
struct Earlier {
    /// The instrumented build, and what its tests came to; none where nothing was measured.
    measured: Option<(coverage::Build, Tally)>,
}

const fn step(name: &'static str, run: fn(&mut Earlier) -> Outcome) -> Step {
    let (long, beside) = (false, false);
    Step {
        name,
        run,
        long,
        beside,
    }
}

/// One that builds everything once more, in a way of its own.
const fn long(name: &'static str, run: fn(&mut Earlier) -> Outcome) -> Step {
    Step {
        long: true,
        ..step(name, run)
    }
}

/// A long one on one core.
const fn beside(name: &'static str, run: fn(&mut Earlier) -> Outcome) -> Step {
    Step {
        beside: true,
        ..long(name, run)
    }
}

/// Cheap steps first, so that a slip shows within seconds; tests last, so that their closing
/// lines stand at the end.
const STEPS: &[Step] = &[
    step("format", |_| steps::format()),
    step("tidy", |_| from_result(tidy::check())),
    step("trace", |_| from_result(trace::check())),
    step("test needs", |_| test_needs()),
    step("dependency policy", |_| steps::dependencies()),
    step("advisories", |_| steps::advisories()),
    step("mutants", |_| steps::mutants()),
    step("kernels", |_| steps::check_kernels()),
    step("clippy", |_| steps::clippy()),
    step("docs", |_| steps::docs()),
    step("faults", |_| from_result(faults::check())),
    long("coverage", steps::measure),
    long("fuzz", |_| steps::smoke()),
    long("races", |_| from_result(races::check())),
    beside("miri", |_| steps::stricter(&races::MIRI)),
    long("thread sanitizer", |_| steps::stricter(&races::TSAN)),
    step("test", steps::test),
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
    let mut runner = Runner::default();
    for (at, step) in wish.steps.iter().enumerate() {
        let name = &step.name;
        println!("\n=== {name}");
        let clock = Clock::start();
        let outcome = runner.run(*step, wish.steps.get(at + 1).copied());
        let took = clock.stop();
        println!("=== {name}: {} ({:.1} s)", describe(&outcome), took.seconds);
        results.push((*name, outcome));
        times.push(took);
        if wish.whole {
            // After each step, so that a run that is broken off leaves what it did.
            report::leave("ci", &as_json(wish.steps.len(), &results, &times))?;
        }
    }
    println!("{}", times::table(&results, &times));
    let seconds = times.iter().map(|took| took.seconds).sum();
    println!("{}", closing(&results, seconds));
    verdict(&results, wish.no_skips)
}

/// Runs steps in their order.
#[derive(Default)]
struct Runner {
    earlier: Earlier,
    /// The next step, where it has begun.
    begun: Option<JoinHandle<Outcome>>,
}

impl Runner {
    fn run(&mut self, step: Step, next: Option<Step>) -> Outcome {
        let begun = self.begun.take();
        if let Some(next) = next.filter(|next| next.beside) {
            println!("=== {} begins beside it", next.name);
            self.begun = Some(thread::spawn(move || (next.run)(&mut Earlier::default())));
        }
        match begun {
            None => (step.run)(&mut self.earlier),
            Some(begun) => begun
                .join()
                .unwrap_or_else(|_| Outcome::Failed("it panicked, see above".to_owned())),
        }
    }
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
fn as_json(of_steps: usize, results: &[(&str, Outcome)], times: &[Took]) -> Value {
    let steps = results.iter().zip(times).map(|((name, outcome), took)| {
        let (word, why) = match outcome {
            Outcome::Passed => ("passed", ""),
            Outcome::Failed(why) => ("failed", why.as_str()),
            Outcome::Skipped(why) => ("skipped", why.as_str()),
            Outcome::Unreachable(why) => ("not checked", why.as_str()),
        };
        let (seconds, processor) = (took.seconds, took.processor);
        json!({ "name": name, "outcome": word, "why": why, "seconds": seconds,
                "processor_seconds": processor })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

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
    fn a_step_on_one_core_runs_beside_the_one_before_it_and_ends_in_its_place() {
        static MEET: Barrier = Barrier::new(2);
        let first = step("first", |_| {
            MEET.wait();
            Outcome::Passed
        });
        let second = beside("second", |_| {
            MEET.wait();
            Outcome::Failed("broken".to_owned())
        });
        let third = beside("third", |_| panic!("meant"));
        let mut runner = Runner::default();
        assert_eq!(runner.run(first, Some(second)), Outcome::Passed);
        let broken = Outcome::Failed("broken".to_owned());
        assert_eq!(runner.run(second, Some(third)), broken);
        assert!(
            matches!(runner.run(third, None), Outcome::Failed(why) if why.contains("panicked"))
        );
        // By itself it begins when it is its turn.
        let alone = beside("alone", |_| Outcome::Passed);
        assert_eq!(runner.run(alone, Some(first)), Outcome::Passed);
        assert!(runner.begun.is_none());
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
        let times = [(0.5, Some(0.25)), (2.0, None)];
        let times = times.map(|(seconds, processor)| Took { seconds, processor });
        let json = as_json(13, &results, &times);
        assert_eq!(json["steps"][0]["outcome"], "passed");
        assert_eq!(json["steps"][1]["why"], "broken");
        assert_eq!(json["steps"][1]["seconds"], 2.0);
        assert_eq!(json["steps"][0]["processor_seconds"], 0.25);
        assert!(json["steps"][1]["processor_seconds"].is_null());
    }
}
