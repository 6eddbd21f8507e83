//! `cargo xtask properties`: the property tests with more cases than every run has time for.
//! requirement: TP-4

use crate::tree::{File, Tree};
use crate::{Task, exec, report};
use serde_json::json;

pub(crate) const TASK: Task = Task {
    usage: "properties [PROGRAM..] [--cases N] [--seed N]",
    summary: "Run the property tests with many cases each",
    help: "\
PROGRAM     only these test programs; without, every one that has properties
--cases N   cases of each property (default 10000)
--seed N    what the cases follow from (default: the tests' own, the same in every run)
Builds with optimisation. Goes on after a failure, and fails at the end; what came of each program
goes to target/xtask/properties.json.
example: cargo xtask properties
example: cargo xtask properties properties bounds --cases 100000 --seed 7",
    run,
};

/// A test program that has properties: package and name.
pub(crate) type Program = (String, String);

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    programs: Vec<Program>,
    cases: u32,
    seed: Option<u64>,
}

impl Plan {
    fn read(args: &[String], known: Vec<Program>) -> Result<Self, String> {
        let (mut cases, mut seed, mut names) = (10_000, None, Vec::new());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("`{arg}` needs a number"));
            let whole = |value: &str| format!("`{arg} {value}`: give a whole number");
            match arg.as_str() {
                "--cases" => {
                    let value = value()?;
                    let number = value.parse().ok().filter(|cases| *cases > 0);
                    cases = number.ok_or(whole(value) + " above zero")?;
                }
                "--seed" => {
                    let value = value()?;
                    seed = Some(value.parse().map_err(|_| whole(value))?);
                }
                name if known.iter().any(|(_, known)| known == name) => names.push(arg),
                _ => {
                    let known: Vec<&str> = known.iter().map(|(_, name)| name.as_str()).collect();
                    let known = known.join(" ");
                    return Err(format!("`{arg}` is no option and no program of: {known}"));
                }
            }
        }
        let mut programs = known;
        programs.retain(|(_, name)| names.is_empty() || names.contains(&name));
        Ok(Self {
            programs,
            cases,
            seed,
        })
    }
}

fn run(args: &[String]) -> Result<(), String> {
    let plan = Plan::read(args, programs(&Tree::read(&exec::root())?))?;
    let (mut failed, mut rows) = (Vec::new(), Vec::new());
    for (package, name) in &plan.programs {
        println!("=== {name}: {} cases of each property", plan.cases);
        let mut command = exec::cargo(&["test", "--release", "--package", package]);
        command
            .args(["--test", name])
            .env("PROPTEST_CASES", plan.cases.to_string());
        if let Some(seed) = plan.seed {
            command.env("PROPTEST_RNG_SEED", seed.to_string());
        }
        // However long it takes: a hundred thousand cases may take hours.
        let status = command.status().map_err(|error| error.to_string())?;
        if !status.success() {
            failed.push(name.as_str());
        }
        let outcome = if status.success() { "passed" } else { "failed" };
        rows.push(
            json!({ "name": name, "cases": plan.cases, "seed": plan.seed, "outcome": outcome }),
        );
    }
    report::leave_rows("properties", "programs", rows)?;
    match failed.as_slice() {
        [] => Ok(()),
        some => Err(format!("failed: {}", some.join(", "))),
    }
}

/// Every test program of the tree that has properties, by package and name.
pub(crate) fn programs(tree: &Tree) -> Vec<Program> {
    let mut found: Vec<Program> = tree.rust().filter_map(program).collect();
    found.sort();
    found.dedup();
    found
}

/// The program that a file with properties is part of.
fn program(file: &File) -> Option<Program> {
    let (package, rest) = file.path.strip_prefix("crates/")?.split_once("/tests/")?;
    let begins = |line: &str| line.trim_start().starts_with("proptest!");
    file.lines().find(|(_, line)| begins(line))?;
    let name = rest.split('/').next()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    Some((package.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn known() -> Vec<Program> {
        let program = |name: &str| ("vram".to_owned(), name.to_owned());
        ["bounds", "model"].map(program).into()
    }

    // requirement: TP-4
    #[test]
    fn programs_with_properties_are_found_by_what_they_hold() {
        let tree = Tree::of(&[
            (
                "crates/a/tests/one.rs",
                "fn f() {\n    proptest!(|(n: u8)| {});\n}\n",
            ),
            ("crates/a/tests/two/main.rs", "mod steps;\n"),
            ("crates/a/tests/two/steps.rs", "proptest! {\n}\n"),
            ("crates/a/tests/three.rs", "// proptest! is not used here\n"),
            ("crates/a/src/lib.rs", "proptest! {\n}\n"),
        ]);
        let names = ["one", "two"].map(|name| ("a".to_owned(), name.to_owned()));
        assert_eq!(programs(&tree), names);
        let ours = programs(&Tree::read(&exec::root()).unwrap());
        let names: Vec<&str> = ours.iter().map(|(_, name)| name.as_str()).collect();
        assert!(
            names.contains(&"properties") && names.contains(&"model"),
            "{names:?}"
        );
    }

    /// A number that a program fixes by itself is one that nobody can raise.
    #[test]
    fn every_property_takes_its_cases_from_the_command_line() {
        let tree = Tree::read(&exec::root()).unwrap();
        for file in tree.rust().filter(|file| program(file).is_some()) {
            let fixed = ["ProptestConfig::", "Config::with_cases"];
            for (number, line) in file.lines() {
                let fixes = fixed.iter().any(|word| line.contains(word));
                assert!(!fixes, "{}:{number}: take `common::cases`", file.path);
            }
            let text = file.text.as_deref().unwrap();
            assert!(text.contains("cases("), "{}", file.path);
        }
    }

    #[test]
    fn programs_and_options_are_read_and_others_refused() {
        let plan = Plan::read(&words("model --cases 7 --seed 0"), known()).unwrap();
        assert_eq!((plan.cases, plan.seed), (7, Some(0)));
        assert_eq!(plan.programs, known()[1..]);
        let all = Plan::read(&[], known()).unwrap();
        assert_eq!((all.programs, all.cases, all.seed), (known(), 10_000, None));
        for bad in ["--cases", "--cases 0", "--seed x", "modle", "--quick"] {
            let error = Plan::read(&words(bad), known()).unwrap_err();
            assert!(error.contains(words(bad)[0].as_str()), "{error}");
        }
    }
}
