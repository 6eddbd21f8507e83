//! Running mutants: those that can be switched from one build, and the others a few at a time by
//! cargo-mutants, each few written down before the next.

use super::Wish;
use super::mutant::{self, Mutant};
use super::outcomes::{Outcome, Outcomes};
use super::switched;
use super::targets::Target;
use crate::exec;
use crate::twin::Twin;
use std::fs;
use std::time::{Duration, Instant};

/// How many mutants one start of cargo-mutants takes; so many are lost when it is killed.
const AT_ONCE: usize = 16;

/// Seconds that the tests of one mutant may take. They take a few, on a busy machine sixty.
const TEST_SECONDS: &str = "120";

/// Seconds that its build may take.
const BUILD_SECONDS: &str = "900";

/// The build profile: see `Cargo.toml`.
pub(super) const PROFILE: &str = "mutants";

/// Cases of a property test, for proptest: a change that is to be noticed fails in the first few,
/// and a thousand take longer than the build.
pub(super) const CASES: (&str, &str) = ("PROPTEST_CASES", "50");

/// Runs what is wished and not yet known.
pub(super) fn run(
    wish: &Wish,
    targets: &[&'static Target],
    outcomes: &mut Outcomes,
) -> Result<(), String> {
    let twin = Twin::take()?;
    let end = wish
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let over = || end.is_some_and(|end| Instant::now() >= end);
    let mut todo = Vec::new();
    for target in targets {
        // Of the twin: here the sources may change meanwhile.
        let all = mutant::list(twin.root(), target)?;
        outcomes.drop_gone(target, &all);
        let mutants = pending(&all, wish, outcomes);
        outcomes.forget(&mutants);
        todo.push((*target, mutants));
    }
    todo.retain(|(_, mutants)| !mutants.is_empty());
    for todo in todo.chunk_by(|(one, _), (next, _)| one.package == next.package) {
        if !over() {
            switched::run(&twin, todo, outcomes, &over)?;
        }
    }
    for (target, mutants) in &mut todo {
        mutants.retain(|mutant| outcomes.of(mutant).is_none());
        if !mutants.is_empty() && !over() {
            one_by_one(&twin, target, mutants, outcomes, &over)?;
        }
    }
    Ok(())
}

/// Runs what cannot be switched.
fn one_by_one(
    twin: &Twin,
    target: &Target,
    mutants: &[Mutant],
    outcomes: &mut Outcomes,
    over: &impl Fn() -> bool,
) -> Result<(), String> {
    println!("=== {}: {} mutants to build", target.name, mutants.len());
    baseline(twin, target)?;
    let of_one_file = mutants.chunk_by(|one, next| one.file == next.file);
    let few = of_one_file.flat_map(|mutants| mutants.chunks(AT_ONCE));
    for few in few.take_while(|_| !over()) {
        stages(twin, target, few, outcomes)?;
        outcomes.write()?;
    }
    Ok(())
}

/// Lets the tests at these mutants, stage by stage.
fn stages(
    twin: &Twin,
    target: &Target,
    mutants: &[Mutant],
    outcomes: &mut Outcomes,
) -> Result<(), String> {
    let mut left = mutants.to_vec();
    for tests in target.stages {
        let report = mutate(twin, target, tests, &left)?;
        // Of these only, for it may have run more than it was asked to.
        outcomes.take_over(&report, &left)?;
        if let Some(mutant) = left.iter().find(|mutant| outcomes.of(mutant).is_none()) {
            return Err(format!("`cargo mutants` stopped before {}", mutant.exact));
        }
        left.retain(|mutant| outcomes.of(mutant) == Some(Outcome::Missed));
        if left.is_empty() {
            break;
        }
    }
    Ok(())
}

/// The mutants of this shard that have no outcome, or one that is asked for again.
fn pending(mutants: &[Mutant], wish: &Wish, outcomes: &Outcomes) -> Vec<Mutant> {
    let (part, parts) = wish.shard;
    let wanted = |mutant: &Mutant| match outcomes.of(mutant) {
        None => true,
        Some(Outcome::Missed | Outcome::Timeout) => wish.again,
        Some(Outcome::Caught | Outcome::Unviable) => false,
    };
    let ours = mutants.iter().enumerate();
    ours.filter(|(index, mutant)| index % parts == part && wanted(mutant))
        .map(|(_, mutant)| mutant.clone())
        .collect()
}

/// Tests that fail by themselves would catch every mutant.
fn baseline(twin: &Twin, target: &Target) -> Result<(), String> {
    let mut command = twin.cargo(&["test", "--quiet", "--profile", PROFILE]);
    command.args(["--package", target.package]);
    command.env(CASES.0, CASES.1);
    exec::run(command.args(target.stages.concat()))
        .map_err(|end| format!("{}: the tests fail without a mutant: {end}", target.name))
}

/// Lets cargo-mutants make and test these changes of one file; returns its report. Version 27
/// takes every `delete field` of the file along, asked for or not.
fn mutate(
    twin: &Twin,
    target: &Target,
    tests: &[&str],
    mutants: &[Mutant],
) -> Result<String, String> {
    let folder = exec::root().join("target/mutants");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let report = folder.join("mutants.out/outcomes.json");
    // A report that is left over would count for mutants that were not run.
    let _ = fs::remove_file(&report);
    let mut command = twin.cargo(&["mutants", "--in-place", "--baseline=skip", "--caught"]);
    command
        .env(CASES.0, CASES.1)
        .args(["--profile", PROFILE])
        .args(["--package", target.package, "--file", &mutants[0].file])
        .args(["--timeout", TEST_SECONDS, "--build-timeout", BUILD_SECONDS])
        .args(["--colors=never", "--output"])
        .arg(&folder);
    for test in tests {
        command.arg(format!("--cargo-arg={test}"));
    }
    for mutant in mutants {
        command.args(["--re", &mutant::pattern(mutant)]);
    }
    // Its exit status tells of survivors, which the report names; without a report it failed.
    let ended = exec::run(&mut command);
    fs::read_to_string(&report).map_err(|error| {
        let end = ended.err().unwrap_or_default();
        format!("`cargo mutants` left no report ({error}): {end}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::switch::Change;
    use serde_json::json;

    fn mutant(number: u32) -> Mutant {
        Mutant {
            file: "a.rs".to_owned(),
            exact: format!("a.rs:{number}:1: change {number}"),
            name: format!("a.rs: change {number}"),
            digest: "x".to_owned(),
            change: Change::default(),
        }
    }

    fn wish(shard: (usize, usize), again: bool) -> Wish {
        Wish {
            modules: Vec::new(),
            shard,
            minutes: None,
            again,
            check: false,
        }
    }

    #[test]
    fn what_is_known_is_not_run_again_unless_it_survived_and_is_asked_for() {
        let all: Vec<Mutant> = (0..5).map(mutant).collect();
        let entry = |number: usize, word: &str| json!({ "scenario": { "Mutant": { "name": all[number].exact } }, "summary": word });
        let report = json!({ "outcomes": [
            entry(0, "CaughtMutant"), entry(1, "MissedMutant"), entry(2, "Unviable"),
            entry(3, "Timeout"),
        ] });
        let mut outcomes = Outcomes::default();
        outcomes.take_over(&report.to_string(), &all).unwrap();
        let left = |shard, again| -> Vec<String> {
            let left = pending(&all, &wish(shard, again), &outcomes);
            left.into_iter().map(|mutant| mutant.name).collect()
        };
        assert_eq!(left((0, 1), false), ["a.rs: change 4"]);
        let again = ["a.rs: change 1", "a.rs: change 3", "a.rs: change 4"];
        assert_eq!(left((0, 1), true), again);
        assert_eq!(left((1, 2), true), again[..2]);
        assert_eq!(left((0, 2), true), again[2..]);
    }
}
