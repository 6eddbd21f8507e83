//! The counts of a campaign, and what is wrong with it.

use super::listed::Listed;
use super::mutant::Mutant;
use super::outcomes::{Outcome, Outcomes};
use super::targets::Target;
use crate::exec;
use serde_json::{Value, json};
use std::fs;

/// How many mutants of a target ended how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    generated: usize,
    caught: usize,
    /// Survivors whose reason is listed.
    listed: usize,
    missed: usize,
    timeout: usize,
    unviable: usize,
    not_run: usize,
}

/// Prints and writes the counts; the error names every survivor without a reason and every reason
/// without a survivor.
pub(super) fn give(
    mutants: &[(&'static Target, Vec<Mutant>)],
    outcomes: &Outcomes,
    listed: &[Listed],
) -> Result<(), String> {
    let mut modules = Vec::new();
    for (target, mutants) in mutants {
        let counts = count(mutants, outcomes, listed);
        println!("{}", line(target.name, &counts));
        modules.push(to_json(target.name, &counts));
    }
    let path = exec::root().join("target/mutants/results.json");
    let text = format!("{:#}\n", json!({ "modules": modules }));
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    let all: Vec<&Mutant> = mutants.iter().flat_map(|(_, mutants)| mutants).collect();
    let wrong = wrong(&all, outcomes, listed);
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

fn count(mutants: &[Mutant], outcomes: &Outcomes, listed: &[Listed]) -> Counts {
    let mut counts = Counts::default();
    for mutant in mutants {
        counts.generated += 1;
        let slot = match outcomes.of(mutant) {
            Some(Outcome::Caught) => &mut counts.caught,
            Some(Outcome::Missed) if is_listed(mutant, listed) => &mut counts.listed,
            Some(Outcome::Missed) => &mut counts.missed,
            Some(Outcome::Timeout) => &mut counts.timeout,
            Some(Outcome::Unviable) => &mut counts.unviable,
            None => &mut counts.not_run,
        };
        *slot += 1;
    }
    counts
}

fn is_listed(mutant: &Mutant, listed: &[Listed]) -> bool {
    listed.iter().any(|entry| entry.name == mutant.name)
}

/// Everything that makes a campaign fail.
fn wrong(mutants: &[&Mutant], outcomes: &Outcomes, listed: &[Listed]) -> Vec<String> {
    let mut wrong = Vec::new();
    for mutant in mutants {
        match outcomes.of(mutant) {
            Some(Outcome::Missed) if !is_listed(mutant, listed) => {
                wrong.push(format!("no test notices: {}", mutant.exact));
            }
            Some(Outcome::Caught | Outcome::Unviable) if is_listed(mutant, listed) => {
                wrong.push(format!("listed, and no survivor any more: {}", mutant.name));
            }
            _ => {}
        }
    }
    let gone = |entry: &&Listed| !mutants.iter().any(|mutant| mutant.name == entry.name);
    wrong.extend(
        listed
            .iter()
            .filter(gone)
            .map(|entry| format!("listed, and no mutant any more: {}", entry.name)),
    );
    wrong
}

fn line(name: &str, counts: &Counts) -> String {
    let Counts {
        generated,
        caught,
        listed,
        missed,
        timeout,
        unviable,
        not_run,
    } = counts;
    format!(
        "{name}: {generated} mutants: {caught} caught, {missed} missed, {listed} listed with a \
         reason, {timeout} timed out, {unviable} did not compile, {not_run} not run"
    )
}

fn to_json(name: &str, counts: &Counts) -> Value {
    json!({
        "name": name,
        "generated": counts.generated,
        "caught": counts.caught,
        "listed": counts.listed,
        "missed": counts.missed,
        "timeout": counts.timeout,
        "unviable": counts.unviable,
        "not_run": counts.not_run,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn mutant(number: usize) -> Mutant {
        Mutant {
            file: "a.rs".to_owned(),
            exact: format!("a.rs:{number}:1: change {number}"),
            name: format!("a.rs: change {number}"),
            digest: "x".to_owned(),
        }
    }

    fn list(names: &[&str]) -> Vec<Listed> {
        let entry = |name: &&str| Listed {
            name: (*name).to_owned(),
            reason: "because".to_owned(),
        };
        names.iter().map(entry).collect()
    }

    /// Six mutants: caught, missed, missed, timeout, unviable, not run.
    fn known() -> (Vec<Mutant>, Outcomes) {
        let mutants: Vec<Mutant> = (0..6).map(mutant).collect();
        let words = [
            "CaughtMutant",
            "MissedMutant",
            "MissedMutant",
            "Timeout",
            "Unviable",
        ];
        let entries: Vec<Value> = words
            .iter()
            .zip(&mutants)
            .map(|(word, mutant)| {
                json!({ "scenario": { "Mutant": { "name": mutant.exact } }, "summary": word })
            })
            .collect();
        let name = format!(
            "target/xtask/verdict-{:?}.json",
            std::thread::current().id()
        );
        let path = exec::root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut outcomes = Outcomes::read(Path::new(&path)).unwrap();
        let report = json!({ "outcomes": entries }).to_string();
        outcomes.add(&report, &mutants).unwrap();
        fs::remove_file(path).unwrap();
        (mutants, outcomes)
    }

    #[test]
    fn every_mutant_is_counted_once() {
        let (mutants, outcomes) = known();
        let counts = count(&mutants, &outcomes, &list(&["a.rs: change 1"]));
        let expected = Counts {
            generated: 6,
            caught: 1,
            listed: 1,
            missed: 1,
            timeout: 1,
            unviable: 1,
            not_run: 1,
        };
        assert_eq!(counts, expected);
        assert!(line("seal", &counts).contains("6 mutants: 1 caught, 1 missed"));
        assert_eq!(to_json("seal", &counts)["not_run"], json!(1));
    }

    #[test]
    fn survivors_and_the_list_must_agree() {
        let (mutants, outcomes) = known();
        let mutants: Vec<&Mutant> = mutants.iter().collect();
        let both = ["a.rs: change 1", "a.rs: change 2"];
        assert!(wrong(&mutants, &outcomes, &list(&both)).is_empty());
        // One that was never run may be listed: the campaign has not come to it.
        let early = ["a.rs: change 1", "a.rs: change 2", "a.rs: change 5"];
        assert!(wrong(&mutants, &outcomes, &list(&early)).is_empty());
        let found = wrong(
            &mutants,
            &outcomes,
            &list(&["a.rs: change 0", "a.rs: change 2", "a.rs: gone"]),
        );
        assert_eq!(
            found,
            [
                "listed, and no survivor any more: a.rs: change 0",
                "no test notices: a.rs:1:1: change 1",
                "listed, and no mutant any more: a.rs: gone",
            ]
        );
    }
}
