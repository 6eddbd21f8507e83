//! How long each step took, and how long the processors worked for it: of two cores that are never
//! idle the second is twice the first. What ran beside a step counts with the one during which it
//! ended.

use std::time::Instant;

use super::{Outcome, describe};

/// What a step took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) seconds: f64,
    /// Seconds of processors, ours and of every command that has ended; none where the system does
    /// not tell.
    pub(super) processor: Option<f64>,
}

/// Runs from the start of a step.
pub(super) struct Clock {
    start: Instant,
    processor: Option<f64>,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            processor: processor(),
        }
    }

    pub(super) fn stop(&self) -> Took {
        let before = self.processor;
        Took {
            seconds: self.start.elapsed().as_secs_f64(),
            processor: processor().and_then(|now| Some(now - before?)),
        }
    }
}

/// What this process and its ended children have used so far.
fn processor() -> Option<f64> {
    used(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// The times in a line of `/proc/PID/stat`: in user mode and in the kernel, of the process and of
/// its children.
fn used(stat: &str) -> Option<f64> {
    /// What Linux tells these times in, on every kind of processor that we know.
    const TICKS: f64 = 100.0;
    // The name of the program stands in parentheses and may hold anything. Behind it stand eleven
    // fields that are no times.
    let (_, fields) = stat.rsplit_once(')')?;
    let times: Vec<&str> = fields.split_whitespace().skip(11).take(4).collect();
    let ticks = times.iter().map(|field| field.parse::<u32>().ok());
    let ticks = ticks.sum::<Option<u32>>()?;
    (times.len() == 4).then(|| f64::from(ticks) / TICKS)
}

/// One line for each step, and one for all.
pub(super) fn table(results: &[(&str, Outcome)], times: &[Took]) -> String {
    let mut text = String::from("\n=== times\nstep                 seconds  of processors");
    for ((name, outcome), took) in results.iter().zip(times) {
        text += &row(name, *took);
        if *outcome != Outcome::Passed {
            let words = describe(outcome);
            let word = words.split(':').next().unwrap_or_default();
            text += &format!("  {word}");
        }
    }
    let all = Took {
        seconds: times.iter().map(|took| took.seconds).sum(),
        processor: times.iter().map(|took| took.processor).sum(),
    };
    text + &row("all", all)
}

fn row(name: &str, took: Took) -> String {
    let processor = took.processor;
    let processor =
        processor.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.1}"));
    format!("\n{name:<18} {:>9.1} {processor:>14}", took.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_ended_children_count() {
        let line = "7 (a b) c) S 1 7 7 0 -1 4194304 100 200 0 0 150 50 1000 300 20 0 1 0 99\n";
        assert_eq!(used(line), Some(15.0));
        assert_eq!(
            used("7 (a) S 1 7 7 0 -1 4194304 100 200 0 0 150 50 1000"),
            None
        );
        assert_eq!(
            used("7 (a) S 1 7 7 0 -1 4194304 100 200 0 0 150 50 1000 x 20"),
            None
        );
        assert!(processor().is_none_or(|seconds| seconds >= 0.0));
    }

    #[test]
    fn every_step_has_a_line_and_all_have_a_sum() {
        let results = [
            ("format", Outcome::Passed),
            ("docs", Outcome::Failed("broken".to_owned())),
        ];
        let took = |seconds, processor| Took { seconds, processor };
        let text = table(&results, &[took(1.5, Some(2.25)), took(10.0, Some(4.0))]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .skip(3)
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["format", "1.5", "2.2"]);
        assert_eq!(lines[1], ["docs", "10.0", "4.0", "FAILED"]);
        assert_eq!(lines[2], ["all", "11.5", "6.2"]);
        let text = table(&results, &[took(1.5, Some(2.25)), took(10.0, None)]);
        assert!(text.ends_with("11.5        unknown"), "{text}");
    }
}
