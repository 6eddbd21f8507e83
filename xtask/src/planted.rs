//! `cargo xtask planted`: whether the tests find faults that are planted on purpose. Each goes
//! into a copy of the tree; the test that is named for it must pass without and fail with it.

mod faults;
mod trial;

use crate::twin::Twin;
use crate::{Task, report};
use faults::{FAULTS, Fault};
use serde_json::{Value, json};
use std::fs;
use std::time::Instant;
use trial::Ran;

pub(crate) const TASK: Task = Task {
    usage: "planted [NAME..] [--json]",
    summary: "Plant deliberate faults in a copy of the tree, one by one; a named test must fail",
    help: "\
NAME     only these faults; without, all ten, and target/xtask/planted.json is written
--json   the results as JSON on standard output
example: cargo xtask planted
example: cargo xtask planted tag-not-compared lease-not-counted",
    run,
};

/// What came of one fault.
struct Finding {
    fault: &'static Fault,
    /// What the test said when it failed; an error when it did not find the fault, or could not
    /// tell.
    answer: Result<String, String>,
    seconds: f64,
}

fn run(args: &[String]) -> Result<(), String> {
    let (options, names): (Vec<&String>, Vec<&String>) =
        args.iter().partition(|arg| arg.starts_with('-'));
    if let Some(option) = options.iter().find(|option| **option != "--json") {
        return Err(format!("unknown argument `{option}`; known: NAME --json"));
    }
    let chosen = chosen(&names)?;
    let twin = Twin::take()?;
    let mut findings = Vec::new();
    for fault in chosen {
        let start = Instant::now();
        let answer = try_fault(&twin, fault);
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{}", line(fault, &answer, seconds));
        findings.push(Finding {
            fault,
            answer,
            seconds,
        });
    }
    let results = to_json(&findings);
    if names.is_empty() {
        report::leave("planted", &results)?;
    }
    if !options.is_empty() {
        println!("{results:#}");
    }
    verdict(&findings)
}

/// The faults of these names; all without names.
fn chosen(names: &[&String]) -> Result<Vec<&'static Fault>, String> {
    if names.is_empty() {
        return Ok(FAULTS.iter().collect());
    }
    let find = |name: &&String| {
        let fault = FAULTS.iter().find(|fault| fault.name == name.as_str());
        fault.ok_or_else(|| {
            let known: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
            format!("there is no fault `{name}`; known: {}", known.join(" "))
        })
    };
    names.iter().map(find).collect()
}

/// Runs the named test without the fault and with it.
fn try_fault(twin: &Twin, fault: &Fault) -> Result<String, String> {
    let path = twin.root().join(fault.file);
    let good = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", fault.file))?;
    let bad = fault.planted(&good)?;
    let (package, binary, function) = fault.test_parts().ok_or("the test has no full name")?;
    match trial::run(twin, package, binary, function) {
        Ok(Ran::Passed) => {}
        Ok(Ran::Failed(said)) => return Err(format!("the test fails without the fault: {said}")),
        Err(why) => return Err(format!("without the fault: {why}")),
    }
    let _planted = twin.plant(fault.file, &bad)?;
    match trial::run(twin, package, binary, function) {
        Ok(Ran::Failed(said)) => Ok(said),
        Ok(Ran::Passed) => Err("the test passes with the fault".to_owned()),
        Err(why) => Err(format!("with the fault: {why}")),
    }
}

fn line(fault: &Fault, answer: &Result<String, String>, seconds: f64) -> String {
    let (name, test) = (fault.name, fault.test);
    match answer {
        Ok(said) => format!("{name}: found by {test} ({seconds:.0} s): {said}"),
        Err(why) => format!("{name}: NOT FOUND by {test} ({seconds:.0} s): {why}"),
    }
}

fn to_json(findings: &[Finding]) -> Value {
    let faults: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "name": finding.fault.name,
                "harm": finding.fault.harm,
                "file": finding.fault.file,
                "test": finding.fault.test,
                "found": finding.answer.is_ok(),
                "said": finding.answer.as_ref().unwrap_or_else(|why| why),
                "seconds": finding.seconds,
            })
        })
        .collect();
    let found = findings.iter().filter(|finding| finding.answer.is_ok());
    json!({ "planted": findings.len(), "found": found.count(), "faults": faults })
}

fn verdict(findings: &[Finding]) -> Result<(), String> {
    let missed: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.answer.is_err())
        .map(|finding| finding.fault.name)
        .collect();
    if missed.is_empty() {
        eprintln!("{0} of {0} planted faults found", findings.len());
        return Ok(());
    }
    Err(format!("not found: {}", missed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec;
    use crate::modules::Sources;
    use crate::tree::Tree;

    #[test]
    fn every_fault_still_has_its_place_and_its_test() {
        let tree = Tree::read(&exec::root()).unwrap();
        let sources = Sources::read(&tree);
        for fault in FAULTS {
            let file = tree.get(fault.file).expect(fault.file);
            let text = file.text.as_ref().expect(fault.file);
            let bad = fault.planted(text).unwrap_or_else(|why| panic!("{why}"));
            assert_ne!(&bad, text, "{}", fault.name);
            let (package, binary, function) = fault.test_parts().unwrap();
            let path = format!("crates/{package}/tests/{binary}.rs");
            let source = sources.get(&path).expect(&path);
            assert!(
                source.test_functions.iter().any(|name| name == function),
                "{path} has no test `{function}`"
            );
        }
    }

    #[test]
    fn the_ten_faults_of_the_list_are_planted() {
        let names: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
        assert_eq!(
            names,
            [
                "tag-not-compared",
                "policy-call-removed",
                "ledger-release-forgotten",
                "free-without-scrub",
                "wrong-block-index",
                "lease-not-counted",
                "audit-event-dropped",
                "expected-digest-ignored",
                "protection-not-applied",
                "stale-generation-accepted",
            ]
        );
        let picked = chosen(&[&"lease-not-counted".to_owned()]).unwrap();
        assert_eq!(picked.len(), 1);
        let error = chosen(&[&"lease".to_owned()]).err().unwrap();
        assert!(error.contains("lease-not-counted"), "{error}");
    }

    #[test]
    fn a_text_that_moved_or_stands_twice_is_refused() {
        let fault = &FAULTS[0];
        let once = format!("a {} b", fault.good);
        assert!(fault.planted(&once).unwrap().contains(fault.bad));
        for count in [0, 2] {
            let error = fault.planted(&fault.good.repeat(count)).unwrap_err();
            assert!(error.contains(&format!("{count} times")), "{error}");
        }
    }

    #[test]
    fn a_fault_that_is_not_found_fails_the_task() {
        let finding = |answer| Finding {
            fault: &FAULTS[0],
            answer,
            seconds: 1.0,
        };
        let found = finding(Ok("left: 1".to_owned()));
        assert_eq!(verdict(&[found]), Ok(()));
        let missed = [finding(Err("the test passes with the fault".to_owned()))];
        assert!(verdict(&missed).unwrap_err().contains(FAULTS[0].name));
        let results = to_json(&missed);
        assert_eq!(
            (&results["planted"], &results["found"]),
            (&json!(1), &json!(0))
        );
        assert_eq!(results["faults"][0]["found"], json!(false));
    }
}
