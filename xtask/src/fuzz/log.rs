//! What libFuzzer wrote about one run.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

/// One run of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    executions: u64,
    /// Edges of the program that some input reached.
    edges: u64,
    /// Inputs in the corpus: when the seeds were read, and at the end.
    corpus: (u64, u64),
    peak_mib: u64,
    crashes: Vec<PathBuf>,
    /// How it ended when it did not hold, in libFuzzer's words.
    failure: Option<String>,
}

impl Run {
    /// From what it wrote, how it exited, and the inputs that it left as crashes.
    pub(super) fn read(log: &str, success: bool, crashes: Vec<PathBuf>) -> Self {
        let statistic = |name: &str| {
            let line = log.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok())
        };
        let of = |line: Option<&str>, name: &str| line.map_or(0, |line| after(line, name));
        let started = log.lines().find(|line| line.contains("\tINITED "));
        let last = log.lines().rfind(|line| line.contains(" corp: "));
        let reason = log
            .lines()
            .find(|line| line.starts_with("SUMMARY: ") || line.contains(" panicked at "));
        let failure = (!success || !crashes.is_empty())
            .then(|| reason.unwrap_or("it ended without a word").to_owned());
        Self {
            executions: statistic("stat::number_of_executed_units").unwrap_or(0),
            edges: of(last, "cov:"),
            corpus: (of(started, "corp:"), of(last, "corp:")),
            peak_mib: statistic("stat::peak_rss_mb").unwrap_or(0),
            crashes,
            failure,
        }
    }

    /// Whether every claim held, and inputs were tried at all.
    pub(super) fn held(&self) -> bool {
        self.failure.is_none() && self.executions > 0
    }

    /// How it ended, in words.
    pub(super) fn ended(&self) -> String {
        match &self.failure {
            None if self.executions == 0 => "no input was tried".to_owned(),
            None => "no crash".to_owned(),
            Some(why) => {
                let crashes = self.crashes.iter().map(|path| path.display().to_string());
                let crashes: Vec<String> = crashes.collect();
                format!("{why} ({})", crashes.join(", "))
            }
        }
    }

    /// The row of this run for the report.
    pub(super) fn as_json(&self, name: &str, seconds: u64) -> Value {
        json!({
            "name": name,
            "seconds": seconds,
            "executions": self.executions,
            "edges": self.edges,
            "corpus_before": self.corpus.0,
            "corpus_after": self.corpus.1,
            "peak_mib": self.peak_mib,
            "crashes": self.crashes.len(),
            "ended": self.ended(),
        })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            executions,
            edges,
            corpus: (before, after),
            peak_mib,
            ..
        } = self;
        write!(
            f,
            "{executions} executions, {edges} edges, corpus {before} to {after}, {peak_mib} MiB: {}",
            self.ended()
        )
    }
}

/// The number after the word `name`, up to a `/`.
fn after(line: &str, name: &str) -> u64 {
    let mut words = line.split_whitespace().skip_while(|word| *word != name);
    let number = words.nth(1).and_then(|word| word.split('/').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
