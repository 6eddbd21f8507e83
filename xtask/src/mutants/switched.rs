//! The quick way: mutants are built all at once, each under a switch, and only the test programs
//! run once for each.

use super::built::{self, Refused};
use super::campaign::PROFILE;
use super::mutant::Mutant;
use super::outcomes::{Outcome, Outcomes};
use super::targets::Target;
use super::trial::{self, Trials};
use crate::twin::Twin;
use std::sync::{Mutex, mpsc};
use std::thread;

/// After how many mutants the outcomes are written down.
const AT_ONCE: usize = 16;

/// Runs these mutants, of targets of one package, until it is `over`. Those that cannot be switched
/// get no outcome, nor do those that the end leaves out.
pub(super) fn run(
    twin: &Twin,
    todo: &[(&'static Target, Vec<Mutant>)],
    outcomes: &mut Outcomes,
    over: &(impl Fn() -> bool + Sync),
) -> Result<(), String> {
    let Some(package) = todo.first().map(|(target, _)| target.package) else {
        return Ok(());
    };
    let all = todo.iter().flat_map(|(target, mutants)| {
        let of_target = mutants.iter();
        of_target.map(|mutant| (*target, mutant))
    });
    let all: Vec<(u32, (&Target, &Mutant))> = (1..).zip(all).collect();
    let mutants: Vec<_> = all.iter().map(|(number, (_, m))| (*number, *m)).collect();
    let mut tests: Vec<&'static str> = todo.iter().flat_map(|(t, _)| t.stages.concat()).collect();
    tests.sort_unstable();
    tests.dedup();
    println!("=== {package}: {} mutants in one build", all.len());
    let (programs, refused) = built::build(twin, package, &mutants, || {
        let mut command = twin.cargo(&["test", "--quiet", "--profile", PROFILE]);
        command.args(["--package", package]).args(&tests);
        command
    })?;
    for (number, mutant) in &mutants {
        if refused.unviable.contains(number) {
            outcomes.note(mutant, Outcome::Unviable);
        }
    }
    outcomes.write()?;
    let trials = Trials::prepare(package, &tests, programs)?;
    try_all(&trials, &switchable(&all, &refused), outcomes, over)
}

fn switchable<'a>(
    all: &[(u32, (&'a Target, &'a Mutant))],
    refused: &Refused,
) -> Vec<(u32, (&'a Target, &'a Mutant))> {
    let mut kept = all.to_vec();
    kept.retain(|(number, _)| !refused.holds(*number));
    kept
}

fn try_all(
    trials: &Trials,
    mutants: &[(u32, (&Target, &Mutant))],
    outcomes: &mut Outcomes,
    over: &(impl Fn() -> bool + Sync),
) -> Result<(), String> {
    println!("    {} can be switched", mutants.len());
    let next = Mutex::new(mutants.iter());
    let take = || next.lock().unwrap().next().filter(|_| !over());
    let (results, inbox) = mpsc::channel();
    thread::scope(|scope| {
        for worker in 0..trial::workers() {
            let (results, take) = (results.clone(), &take);
            scope.spawn(move || {
                while let Some((number, (target, mutant))) = take() {
                    let outcome = trials.outcome(target, *number, worker);
                    if results.send((*mutant, outcome)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(results);
        for ((mutant, outcome), count) in inbox.into_iter().zip(1..) {
            let outcome = outcome?;
            if matches!(outcome, Outcome::Missed | Outcome::Timeout) {
                println!("    {}: {}", outcome.word(), mutant.exact);
            }
            outcomes.note(mutant, outcome);
            if count % AT_ONCE == 0 {
                outcomes.write()?;
            }
        }
        outcomes.write()
    })
}
