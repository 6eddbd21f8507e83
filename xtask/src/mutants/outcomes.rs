//! What came of each mutant, kept across runs in one committed file.
//!
//! A mutant has a line: the outcome, the digest of its function at the time, its name. The lines
//! stand by name, so that two shards are merged as git does it, or with `sort --unique`.

use crate::mutants::mutant::Mutant;
use crate::mutants::targets::Target;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const HEAD: &str = "\
# What came of each mutant: outcome, digest of the function that it changes, name.
# `cargo xtask mutants` writes this.
";

/// How the tests took one mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A test failed.
    Caught,
    /// Every test passed.
    Missed,
    /// The tests did not end in time. It may loop, or the machine was slow.
    Timeout,
    /// It does not compile.
    Unviable,
}

impl Outcome {
    /// From cargo-mutants' word for it.
    fn from_summary(word: &str) -> Option<Self> {
        Some(match word {
            "CaughtMutant" => Self::Caught,
            "MissedMutant" => Self::Missed,
            "Timeout" => Self::Timeout,
            "Unviable" => Self::Unviable,
            _ => return None,
        })
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::Missed => "missed",
            Self::Timeout => "timeout",
            Self::Unviable => "unviable",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Caught, Self::Missed, Self::Timeout, Self::Unviable]
            .into_iter()
            .find(|outcome| outcome.word() == word)
    }
}

/// What is known, by the mutant's name.
#[derive(Default)]
pub(super) struct Outcomes {
    path: PathBuf,
    by_name: BTreeMap<String, Known>,
}

#[derive(PartialEq, Eq)]
struct Known {
    outcome: Outcome,
    digest: String,
}

impl Outcomes {
    /// Reads the file; without one there are no outcomes yet.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let by_name = parse(&text).map_err(|why| format!("{}: {why}", path.display()))?;
        let path = path.to_owned();
        Ok(Self { path, by_name })
    }

    /// What came of this mutant of this very text.
    pub(super) fn of(&self, mutant: &Mutant) -> Option<Outcome> {
        let known = self.by_name.get(&mutant.name)?;
        (known.digest == mutant.digest).then_some(known.outcome)
    }

    /// Every line, also of text that has changed since.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Outcome)> {
        let all = self.by_name.iter();
        all.map(|(name, known)| (name.as_str(), known.outcome))
    }

    /// Takes over what cargo-mutants wrote about these mutants.
    pub(super) fn take_over(&mut self, report: &str, mutants: &[Mutant]) -> Result<(), String> {
        let report: Value = serde_json::from_str(report).map_err(|error| error.to_string())?;
        let entries = report["outcomes"].as_array();
        for entry in entries.ok_or("no outcomes in the report of `cargo mutants`")? {
            let Some(exact) = entry["scenario"]["Mutant"]["name"].as_str() else {
                continue;
            };
            let word = entry["summary"].as_str().unwrap_or_default();
            let outcome = Outcome::from_summary(word)
                .ok_or_else(|| format!("`cargo mutants` says `{word}` of {exact}"))?;
            if let Some(mutant) = mutants.iter().find(|mutant| mutant.exact == exact) {
                self.note(mutant, outcome);
            }
        }
        Ok(())
    }

    /// Takes down what came of one.
    pub(super) fn note(&mut self, mutant: &Mutant, outcome: Outcome) {
        let digest = mutant.digest.clone();
        let known = Known { outcome, digest };
        self.by_name.insert(mutant.name.clone(), known);
    }

    /// Drops what is known of these, which are run again.
    pub(super) fn forget(&mut self, mutants: &[Mutant]) {
        for mutant in mutants {
            self.by_name.remove(&mutant.name);
        }
    }

    /// Drops the lines of a target that name none of its mutants: the code is gone.
    pub(super) fn drop_gone(&mut self, target: &Target, mutants: &[Mutant]) {
        self.by_name.retain(|name, _| {
            !target.holds(name) || mutants.iter().any(|mutant| mutant.name == *name)
        });
    }

    pub(super) fn write(&self) -> Result<(), String> {
        let text = render(&self.by_name);
        fs::write(&self.path, text).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, Known>, String> {
    let mut by_name: BTreeMap<String, Known> = BTreeMap::new();
    for (line, number) in text.lines().zip(1..) {
        if line.starts_with('#') {
            continue;
        }
        let mut words = line.splitn(3, ' ');
        let outcome = words.next().and_then(Outcome::from_word);
        let (Some(outcome), Some(digest), Some(name)) = (outcome, words.next(), words.next())
        else {
            return Err(format!(
                "line {number}: not an outcome, a digest and a name"
            ));
        };
        let digest = digest.to_owned();
        let known = Known { outcome, digest };
        if by_name.get(name).is_some_and(|other| *other != known) {
            return Err(format!(
                "line {number}: another line says otherwise of {name}"
            ));
        }
        by_name.insert(name.to_owned(), known);
    }
    Ok(by_name)
}

fn render(by_name: &BTreeMap<String, Known>) -> String {
    let lines = by_name.iter().map(|(name, known)| {
        let (word, digest) = (known.outcome.word(), &known.digest);
        format!("{word} {digest} {name}\n")
    });
    HEAD.to_owned() + &lines.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::switch::Change;
    use crate::mutants::targets::TARGETS;
    use serde_json::json;

    fn mutant(line: u32, digest: &str) -> Mutant {
        Mutant {
            file: "a.rs".to_owned(),
            exact: format!("a.rs:{line}:1: change {line}"),
            name: format!("a.rs: change {line}"),
            digest: digest.to_owned(),
            change: Change::default(),
        }
    }

    fn report(entries: &[(u32, &str)]) -> String {
        let mut outcomes = vec![json!({ "scenario": "Baseline", "summary": "Success" })];
        outcomes.extend(entries.iter().map(|(line, word)| {
            let name = mutant(*line, "").exact;
            json!({ "scenario": { "Mutant": { "name": name } }, "summary": word })
        }));
        json!({ "outcomes": outcomes }).to_string()
    }

    #[test]
    fn outcomes_of_several_runs_add_up_until_the_function_changes() {
        let name = format!("outcomes-{}.txt", std::process::id());
        let path = crate::exec::root().join("target/xtask").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let all = [mutant(1, "x"), mutant(2, "x"), mutant(3, "x")];
        for run in [
            report(&[(1, "CaughtMutant"), (2, "MissedMutant")]),
            report(&[(2, "Timeout"), (3, "Unviable")]),
        ] {
            let mut outcomes = Outcomes::read(&path).unwrap();
            outcomes.take_over(&run, &all).unwrap();
            outcomes.write().unwrap();
        }
        let mut outcomes = Outcomes::read(&path).unwrap();
        fs::remove_file(path).unwrap();
        let found: Vec<_> = all.iter().map(|mutant| outcomes.of(mutant)).collect();
        assert_eq!(
            found,
            [
                Some(Outcome::Caught),
                Some(Outcome::Timeout),
                Some(Outcome::Unviable)
            ]
        );
        assert_eq!(outcomes.of(&mutant(1, "y")), None, "another text");
        assert_eq!(outcomes.of(&mutant(4, "x")), None, "never run");
        outcomes.forget(&all[..1]);
        assert_eq!(outcomes.of(&all[0]), None, "to be run again");
        assert_eq!(outcomes.of(&all[1]), Some(Outcome::Timeout));
    }

    #[test]
    fn the_lines_stand_by_name_and_those_of_two_shards_can_be_put_together() {
        let text = "caught 0a b.rs: change | with ^\nmissed 0b a.rs: change\n";
        let rendered = render(&parse(text).unwrap());
        let lines: Vec<&str> = rendered
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert_eq!(
            lines,
            ["missed 0b a.rs: change", "caught 0a b.rs: change | with ^"]
        );
        let twice = format!("{rendered}{rendered}");
        assert_eq!(render(&parse(&twice).unwrap()), rendered);
    }

    #[test]
    fn lines_that_say_nothing_or_differ_are_refused() {
        for (text, why) in [
            ("caught 0a\n", "line 1: not an outcome"),
            (
                "# head\nsurvived 0a a.rs: change\n",
                "line 2: not an outcome",
            ),
            (
                "missed 0a a.rs: change\ncaught 0a a.rs: change\n",
                "line 2: another line says otherwise of a.rs: change",
            ),
        ] {
            let error = parse(text).err().unwrap();
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn lines_of_code_that_is_gone_are_dropped_for_the_target_alone() {
        let target = TARGETS.iter().find(|target| target.name == "seal").unwrap();
        let here = "crates/vram-residency/src/seal/mod.rs: change";
        let gone = "crates/vram-residency/src/seal/mod.rs: gone";
        let other = "crates/vram-residency/src/verify/mod.rs: gone";
        let text = format!("caught 0a {here}\ncaught 0b {gone}\ncaught 0c {other}\n");
        let mut outcomes = Outcomes {
            path: PathBuf::new(),
            by_name: parse(&text).unwrap(),
        };
        let mut left = mutant(1, "0a");
        left.name = here.to_owned();
        outcomes.drop_gone(target, &[left]);
        let names: Vec<&str> = outcomes.all().map(|(name, _)| name).collect();
        assert_eq!(names, [here, other]);
    }

    #[test]
    fn words_that_nobody_knows_are_refused() {
        let mut outcomes = Outcomes::default();
        let error = outcomes.take_over(&report(&[(1, "Failure")]), &[mutant(1, "x")]);
        assert!(error.unwrap_err().contains("`Failure` of a.rs:1:1"));
        assert!(outcomes.take_over("{}", &[]).is_err());
    }

    #[test]
    fn the_committed_outcomes_can_be_read() {
        let path = crate::exec::root().join(super::super::OUTCOMES);
        assert!(Outcomes::read(&path).unwrap().all().count() > 0);
    }
}
