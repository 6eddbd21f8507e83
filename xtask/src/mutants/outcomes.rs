//! What came of each mutant, kept across runs in one file.

use crate::mutants::mutant::Mutant;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How the tests took one mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A test failed.
    Caught,
    /// Every test passed.
    Missed,
    /// The tests did not end: it was noticed, though by no assertion.
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

    fn word(self) -> &'static str {
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

/// The file of outcomes.
pub(super) struct Outcomes {
    path: PathBuf,
    /// By the mutant's name: the digest of its file at the time, and what came of it.
    by_name: BTreeMap<String, (String, Outcome)>,
}

impl Outcomes {
    /// Reads the file; without one there are no outcomes yet.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let say = |why: String| format!("{}: {why}", path.display());
        let mut by_name = BTreeMap::new();
        if path.exists() {
            let text = fs::read_to_string(path).map_err(|error| say(error.to_string()))?;
            let kept: Value =
                serde_json::from_str(&text).map_err(|error| say(error.to_string()))?;
            let kept = kept
                .as_object()
                .ok_or_else(|| say("no object".to_owned()))?;
            for (name, entry) in kept {
                let digest = entry["digest"].as_str();
                let outcome = entry["outcome"].as_str().and_then(Outcome::from_word);
                let (Some(digest), Some(outcome)) = (digest, outcome) else {
                    return Err(say(format!("`{name}` has no outcome")));
                };
                by_name.insert(name.clone(), (digest.to_owned(), outcome));
            }
        }
        let path = path.to_owned();
        Ok(Self { path, by_name })
    }

    /// What came of this mutant of this very text.
    pub(super) fn of(&self, mutant: &Mutant) -> Option<Outcome> {
        let (digest, outcome) = self.by_name.get(&mutant.name)?;
        (*digest == mutant.digest).then_some(*outcome)
    }

    /// Takes over what cargo-mutants wrote about these mutants, and writes it down.
    pub(super) fn add(&mut self, report: &str, mutants: &[Mutant]) -> Result<(), String> {
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
                let kept = (mutant.digest.clone(), outcome);
                self.by_name.insert(mutant.name.clone(), kept);
            }
        }
        self.write()
    }

    fn write(&self) -> Result<(), String> {
        let entries: serde_json::Map<String, Value> = self
            .by_name
            .iter()
            .map(|(name, (digest, outcome))| {
                let entry = json!({ "digest": digest, "outcome": outcome.word() });
                (name.clone(), entry)
            })
            .collect();
        let text = format!("{:#}\n", Value::Object(entries));
        fs::write(&self.path, text).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(line: u32, digest: &str) -> Mutant {
        Mutant {
            file: "a.rs".to_owned(),
            exact: format!("a.rs:{line}:1: change {line}"),
            name: format!("a.rs: change {line}"),
            digest: digest.to_owned(),
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
    fn outcomes_of_several_runs_add_up_until_the_file_changes() {
        let name = format!("outcomes-{}.json", std::process::id());
        let path = crate::exec::root().join("target/xtask").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let both = [mutant(1, "x"), mutant(2, "x"), mutant(3, "x")];
        let mut outcomes = Outcomes::read(&path).unwrap();
        outcomes
            .add(&report(&[(1, "CaughtMutant"), (2, "MissedMutant")]), &both)
            .unwrap();
        let mut outcomes = Outcomes::read(&path).unwrap();
        outcomes
            .add(&report(&[(2, "Timeout"), (3, "Unviable")]), &both)
            .unwrap();
        let outcomes = Outcomes::read(&path).unwrap();
        let found: Vec<_> = both.iter().map(|mutant| outcomes.of(mutant)).collect();
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
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn words_that_nobody_knows_are_refused() {
        let path = Path::new("no/such/folder/outcomes.json");
        let mut outcomes = Outcomes::read(path).unwrap();
        let error = outcomes.add(&report(&[(1, "Failure")]), &[mutant(1, "x")]);
        assert!(error.unwrap_err().contains("`Failure` of a.rs:1:1"));
        assert!(outcomes.add("{}", &[]).is_err());
    }
}
