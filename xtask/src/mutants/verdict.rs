//! The counts of a campaign, and what is wrong with it.

use super::listed::Listed;
use super::mutant::Mutant;
use super::outcomes::{Outcome, Outcomes};
use super::targets::{TARGETS, Target};
use crate::report;
use serde_json::{Value, json};

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

impl Counts {
    /// Where a mutant with this outcome counts.
    fn slot(&mut self, outcome: Option<Outcome>, listed: bool) -> &mut usize {
        match outcome {
            Some(Outcome::Caught) => &mut self.caught,
            Some(Outcome::Missed | Outcome::Timeout) if listed => &mut self.listed,
            Some(Outcome::Missed) => &mut self.missed,
            Some(Outcome::Timeout) => &mut self.timeout,
            Some(Outcome::Unviable) => &mut self.unviable,
            None => &mut self.not_run,
        }
    }
}

/// Prints the counts and leaves them for the report; the error names every survivor without a
/// reason and every reason without a survivor.
pub(super) fn give(
    mutants: &[(&'static Target, Vec<Mutant>)],
    outcomes: &Outcomes,
    listed: &[Listed],
) -> Result<(), String> {
    let mut modules = Vec::new();
    let mut not_run = 0;
    for targets in mutants.chunk_by(|(one, _), (next, _)| one.name == next.name) {
        let name = targets[0].0.name;
        let of_module = targets.iter().flat_map(|(_, mutants)| mutants);
        let counts = count(of_module, outcomes, listed);
        println!("{}", line(name, &counts));
        modules.push(to_json(name, &counts));
        not_run += counts.not_run;
    }
    println!("{not_run} mutants have no outcome yet");
    let all: Vec<&Mutant> = mutants.iter().flat_map(|(_, mutants)| mutants).collect();
    let known = all
        .iter()
        .filter_map(|mutant| Some((mutant.name.as_str(), outcomes.of(mutant)?)));
    let mut wrong = disagreements(known, listed);
    wrong.extend(unknown(listed, "no mutant any more", |name| {
        all.iter().any(|mutant| mutant.name == name)
    }));
    report::leave("mutants", &json!({ "modules": modules, "wrong": wrong }))?;
    joined(wrong)
}

/// The same from the outcomes alone, where nothing can tell which mutants there are.
pub(super) fn without_mutants(outcomes: &Outcomes, listed: &[Listed]) -> Result<(), String> {
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.dedup();
    let of_module = |name: &&str| known_of(name, outcomes, listed);
    let modules: Vec<Value> = names.iter().map(of_module).collect();
    let wrong = wrong_without_mutants(outcomes, listed);
    report::leave("mutants", &json!({ "modules": modules, "wrong": wrong }))?;
    joined(wrong)
}

/// The counts of a module's outcomes, also of code that has changed since; how many mutants there
/// are is not known.
fn known_of(name: &str, outcomes: &Outcomes, listed: &[Listed]) -> Value {
    let ours = |mutant: &str| TARGETS.iter().any(|t| t.name == name && t.holds(mutant));
    let known = outcomes.all().filter(|(mutant, _)| ours(mutant));
    let mut counts = Counts::default();
    for (mutant, outcome) in known {
        *counts.slot(Some(outcome), is_listed(mutant, listed)) += 1;
    }
    let mut row = to_json(name, &counts);
    (row["generated"], row["not_run"]) = (Value::Null, Value::Null);
    row
}

pub(super) fn wrong_without_mutants(outcomes: &Outcomes, listed: &[Listed]) -> Vec<String> {
    let mut wrong = disagreements(outcomes.all(), listed);
    wrong.extend(unknown(listed, "was never run", |name| {
        outcomes.all().any(|(known, _)| known == name)
    }));
    wrong
}

fn joined(wrong: Vec<String>) -> Result<(), String> {
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

fn count<'a>(
    mutants: impl IntoIterator<Item = &'a Mutant>,
    outcomes: &Outcomes,
    listed: &[Listed],
) -> Counts {
    let mut counts = Counts::default();
    for mutant in mutants {
        counts.generated += 1;
        *counts.slot(outcomes.of(mutant), is_listed(&mutant.name, listed)) += 1;
    }
    counts
}

fn is_listed(name: &str, listed: &[Listed]) -> bool {
    listed.iter().any(|entry| entry.name == name)
}

/// Where outcomes and list say different things of a mutant.
fn disagreements<'a>(
    known: impl Iterator<Item = (&'a str, Outcome)>,
    listed: &[Listed],
) -> Vec<String> {
    let wrong = known.filter_map(|(name, outcome)| {
        let why = match (outcome, is_listed(name, listed)) {
            (Outcome::Missed, false) => "no test notices",
            (Outcome::Timeout, false) => "the tests did not end in time",
            (Outcome::Caught | Outcome::Unviable, true) => "listed, and no survivor any more",
            (Outcome::Missed | Outcome::Timeout, true)
            | (Outcome::Caught | Outcome::Unviable, false) => return None,
        };
        Some(format!("{why}: {name}"))
    });
    wrong.collect()
}

/// Entries of the list that name nothing that is known.
fn unknown(listed: &[Listed], why: &str, is_known: impl Fn(&str) -> bool) -> Vec<String> {
    let gone = listed.iter().filter(|entry| !is_known(&entry.name));
    gone.map(|entry| format!("listed, and {why}: {}", entry.name))
        .collect()
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
    use crate::mutants::switch::Change;

    fn mutant(number: usize) -> Mutant {
        Mutant {
            file: "a.rs".to_owned(),
            exact: format!("a.rs:{number}:1: change {number}"),
            name: format!("a.rs: change {number}"),
            digest: "x".to_owned(),
            change: Change::default(),
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
        let mut outcomes = Outcomes::default();
        let report = json!({ "outcomes": entries }).to_string();
        outcomes.take_over(&report, &mutants).unwrap();
        (mutants, outcomes)
    }

    #[test]
    fn every_mutant_is_counted_once() {
        let (mutants, outcomes) = known();
        let listed = list(&["a.rs: change 1", "a.rs: change 3"]);
        let counts = count(&mutants, &outcomes, &listed);
        let expected = Counts {
            generated: 6,
            caught: 1,
            listed: 2,
            missed: 1,
            timeout: 0,
            unviable: 1,
            not_run: 1,
        };
        assert_eq!(counts, expected);
        assert_eq!(count(&mutants, &outcomes, &[]).timeout, 1);
        assert!(line("seal", &counts).contains("6 mutants: 1 caught, 1 missed"));
        assert_eq!(to_json("seal", &counts)["not_run"], json!(1));
    }

    #[test]
    fn outcomes_are_counted_by_module_where_nothing_lists_the_mutants() {
        let mutants = ["seal/mod.rs: one", "seal/mod.rs: two", "policy.rs: one"];
        let mutants = mutants.map(|name| Mutant {
            name: format!("crates/vram-residency/src/{name}"),
            exact: name.to_owned(),
            ..mutant(0)
        });
        let entry = |mutant: &Mutant, word| json!({ "scenario": { "Mutant": { "name": mutant.exact } }, "summary": word });
        let words = ["CaughtMutant", "MissedMutant", "Timeout"];
        let entries: Vec<Value> = mutants
            .iter()
            .zip(words)
            .map(|(m, w)| entry(m, w))
            .collect();
        let mut outcomes = Outcomes::default();
        let report = json!({ "outcomes": entries }).to_string();
        outcomes.take_over(&report, &mutants).unwrap();
        let seal = known_of("seal", &outcomes, &list(&[&mutants[1].name]));
        assert_eq!(
            seal,
            json!({ "name": "seal", "generated": null, "caught": 1, "listed": 1, "missed": 0,
                    "timeout": 0, "unviable": 0, "not_run": null })
        );
        assert_eq!(known_of("policy", &outcomes, &[])["timeout"], 1);
    }

    #[test]
    fn survivors_and_the_list_must_agree() {
        let (_, outcomes) = known();
        let wrong = |names: &[&str]| disagreements(outcomes.all(), &list(names));
        let survivors = ["a.rs: change 1", "a.rs: change 2", "a.rs: change 3"];
        assert_eq!(wrong(&survivors), Vec::<String>::new());
        assert_eq!(
            wrong(&["a.rs: change 0", "a.rs: change 2", "a.rs: change 4"]),
            [
                "listed, and no survivor any more: a.rs: change 0",
                "no test notices: a.rs: change 1",
                "the tests did not end in time: a.rs: change 3",
                "listed, and no survivor any more: a.rs: change 4",
            ]
        );
    }

    #[test]
    fn an_entry_of_the_list_must_name_something() {
        let (_, outcomes) = known();
        let survivors = ["a.rs: change 1", "a.rs: change 2", "a.rs: change 3"];
        assert!(wrong_without_mutants(&outcomes, &list(&survivors)).is_empty());
        let more = [&survivors[..], &["a.rs: change 5"]].concat();
        assert_eq!(
            wrong_without_mutants(&outcomes, &list(&more)),
            ["listed, and was never run: a.rs: change 5"]
        );
        let gone = unknown(&list(&more), "no mutant any more", |_| false);
        assert_eq!(gone[3], "listed, and no mutant any more: a.rs: change 5");
    }
}
