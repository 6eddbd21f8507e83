//! `cargo xtask mutants`: whether the tests notice changed code. cargo-mutants tells the changes;
//! one build of a copy of the tree holds each behind a switch, and those that cannot be switched
//! are left to cargo-mutants. Outcomes add up over runs, so that a campaign can be stopped and
//! taken up again. A survivor must be listed in `xtask/mutants.txt` with the reason.

mod built;
mod campaign;
mod listed;
mod mutant;
mod outcomes;
mod sites;
mod switch;
mod switched;
mod targets;
mod trial;
mod verdict;

use crate::{Task, exec};
use outcomes::Outcomes;
use std::fs;
use targets::Target;

/// The survivors that are no gap in the tests.
const LIST: &str = "xtask/mutants.txt";

/// What came of each mutant so far.
const OUTCOMES: &str = "xtask/mutant-outcomes.txt";

pub(crate) const TASK: Task = Task {
    usage: "mutants [MODULE..] [--shard K/N] [--minutes N] [--again] [--check]",
    summary: "Change the code in many small ways (cargo-mutants); the tests must notice each",
    help: "\
MODULE        of: seal verify capacity key policy audit digest, taken in this order; without,
              all of them
--shard K/N   only every N-th mutant, from the K-th, counted from 0
--minutes N   start nothing new after so long; what is left waits for the next run
--again       once more those that survived or did not end, for tests that were written since
--check       run nothing: count what is known and hold it against xtask/mutants.txt; without
              cargo-mutants nothing tells which mutants there are, and only the two files are
              held against each other
One build holds every change that can be switched on by itself, and the tests run once for each;
the others are built one by one, which takes far longer.
Outcomes add up in xtask/mutant-outcomes.txt, each until its function changes. Fails on a survivor
that the list does not name, the same for one whose tests did not end in time, and on a listed
one that is caught or no longer there.
example: cargo xtask mutants seal verify --minutes 60
example: cargo xtask mutants --shard 0/4
example: cargo xtask mutants --check",
    run,
};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    modules: Vec<String>,
    /// Which of how many parts.
    shard: (usize, usize),
    minutes: Option<u64>,
    again: bool,
    check: bool,
}

impl Wish {
    fn parse(args: &[String]) -> Result<Self, String> {
        let mut wish = Self {
            modules: Vec::new(),
            shard: (0, 1),
            minutes: None,
            again: false,
            check: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--again" => wish.again = true,
                "--check" => wish.check = true,
                "--shard" => {
                    let value = args.next().map(String::as_str).unwrap_or_default();
                    wish.shard = shard(value)
                        .ok_or_else(|| format!("`--shard {value}`: give K/N with K below N"))?;
                }
                "--minutes" => {
                    let value = args.next().map(String::as_str).unwrap_or_default();
                    let minutes = value.parse();
                    wish.minutes =
                        Some(minutes.map_err(|_| format!("`--minutes {value}`: give a number"))?);
                }
                option if option.starts_with('-') => {
                    return Err(format!("unknown argument `{option}`, see --help"));
                }
                module => wish.modules.push(module.to_owned()),
            }
        }
        Ok(wish)
    }
}

fn shard(text: &str) -> Option<(usize, usize)> {
    let (part, parts) = text.split_once('/')?;
    let (part, parts) = (part.parse().ok()?, parts.parse().ok()?);
    (part < parts).then_some((part, parts))
}

fn run(args: &[String]) -> Result<(), String> {
    if let Some(not_counted) = run_and_judge(args)? {
        println!("NOT COUNTED: {not_counted}");
    }
    Ok(())
}

/// Tells what could not be counted although nothing is wrong.
fn run_and_judge(args: &[String]) -> Result<Option<String>, String> {
    let wish = Wish::parse(args)?;
    let names: Vec<&str> = wish.modules.iter().map(String::as_str).collect();
    let chosen = targets::chosen(&names)?;
    let path = exec::root().join(LIST);
    let text = fs::read_to_string(path).map_err(|error| format!("{LIST}: {error}"))?;
    let listed = listed::parse(&text).map_err(|why| format!("{LIST}: {why}"))?;
    let mut outcomes = Outcomes::read(&exec::root().join(OUTCOMES))?;
    if !wish.check {
        campaign::run(&wish, &chosen, &mut outcomes)?;
    }
    if exec::answers(&mut exec::cargo(&["mutants", "--version"])) {
        verdict::give(&all_mutants()?, &outcomes, &listed)?;
        Ok(None)
    } else {
        verdict::without_mutants(&outcomes, &listed)?;
        Ok(Some(
            "cargo-mutants is not installed (cargo install --locked cargo-mutants), so that \
             mutants without an outcome are not known; the outcomes and the list agree"
                .to_owned(),
        ))
    }
}

/// What is known, held against the list.
pub(crate) fn check() -> Result<Option<String>, String> {
    run_and_judge(&["--check".to_owned()])
}

/// Every mutant there is, by target. All of them, also when few were chosen: the list of
/// survivors is for all.
fn all_mutants() -> Result<Vec<(&'static Target, Vec<mutant::Mutant>)>, String> {
    let root = exec::root();
    let list = |target: &'static Target| Ok((target, mutant::list(&root, target)?));
    targets::TARGETS.iter().map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Wish, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Wish::parse(&args)
    }

    /// What `--check` judges where nothing lists the mutants; here it shows before CI does.
    #[test]
    fn the_committed_outcomes_and_the_list_agree() {
        let root = exec::root();
        let outcomes = Outcomes::read(&root.join(OUTCOMES)).unwrap();
        let listed = listed::parse(&fs::read_to_string(root.join(LIST)).unwrap()).unwrap();
        let wrong = verdict::wrong_without_mutants(&outcomes, &listed);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn options_and_modules_are_read() {
        let wish = parse("seal --shard 1/4 verify --minutes 30 --again").unwrap();
        assert_eq!(wish.modules, ["seal", "verify"]);
        assert_eq!((wish.shard, wish.minutes), ((1, 4), Some(30)));
        assert!(wish.again && !wish.check);
        assert!(parse("--check").unwrap().check);
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        for (line, why) in [
            ("--shard 4/4", "`--shard 4/4`"),
            ("--shard 1", "`--shard 1`"),
            ("--shard", "`--shard `"),
            ("--minutes soon", "`--minutes soon`"),
            ("--shards 1/2", "`--shards`"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
