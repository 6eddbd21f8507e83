//! Counts what `cargo test` says while it says it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Command;

use serde_json::{Value, json};

use crate::exec;

/// What the closing lines of all test programs add up to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Programs that ended with a closing line.
    pub(crate) programs: u64,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Behaviour scenarios, which are no test functions; the same for their failures.
    pub(crate) scenarios: u64,
    pub(crate) scenarios_failed: u64,
}

impl Tally {
    /// Takes one line of output.
    fn note(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.programs += 1;
            self.passed += before(rest, "passed");
            self.failed += before(rest, "failed");
            self.ignored += before(rest, "ignored");
        } else if before(line, "scenarios") + before(line, "scenario") > 0 {
            self.scenarios += before(line, "scenarios") + before(line, "scenario");
            self.scenarios_failed += before(line, "failed");
        }
    }

    pub(crate) fn as_json(self) -> Value {
        json!({
            "programs": self.programs,
            "passed": self.passed,
            "failed": self.failed,
            "ignored": self.ignored,
            "scenarios": self.scenarios,
            "scenarios_failed": self.scenarios_failed,
        })
    }
}

/// The number that stands before `word`, punctuation and brackets aside; 0 when there is none.
fn before(line: &str, word: &str) -> u64 {
    let mut last = 0;
    for part in line
        .split(|c: char| !c.is_alphanumeric())
        .filter(|p| !p.is_empty())
    {
        if part == word {
            return last;
        }
        last = part.parse().unwrap_or(0);
    }
    0
}

/// Runs `command` with its output on ours; how it ended, and the counts.
pub(crate) fn run(mut command: Command) -> (Result<(), String>, Tally) {
    let (output, end) = match std::io::pipe() {
        Ok(pipe) => pipe,
        Err(error) => return (Err(error.to_string()), Tally::default()),
    };
    let reader = std::thread::spawn(|| follow(output, &mut std::io::stdout().lock()));
    let result = exec::run(command.stdout(end));
    // Our copy of the pipe's end goes with the command, so that the reader sees the end.
    drop(command);
    match reader.join() {
        Ok(Ok(tally)) => (result, tally),
        Ok(Err(error)) => (result.and(Err(error.to_string())), Tally::default()),
        Err(_) => (
            result.and(Err("the reader broke".to_owned())),
            Tally::default(),
        ),
    }
}

/// Passes every line on and counts.
fn follow(output: impl Read, here: &mut impl Write) -> std::io::Result<Tally> {
    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        here.write_all(&line)?;
        here.write_all(b"\n")?;
        here.flush()?;
        tally.note(&String::from_utf8_lossy(&line));
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_passed_on_and_added_up() {
        let said = "\
running 2 tests
test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.1s
test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
31 scenarios (30 passed, 1 failed)
1 scenario (1 passed)
9 features
";
        let mut passed_on = Vec::new();
        let tally = follow(said.as_bytes(), &mut passed_on).unwrap();
        assert_eq!(String::from_utf8(passed_on).unwrap(), said);
        let expected = Tally {
            programs: 2,
            passed: 43,
            failed: 1,
            ignored: 2,
            scenarios: 32,
            scenarios_failed: 1,
        };
        assert_eq!(tally, expected);
        assert_eq!(tally.as_json()["scenarios"], 32);
    }

    #[test]
    fn how_the_command_ended_is_told_when_its_output_has_ended() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 3"]);
        let (result, tally) = run(command);
        assert!(result.unwrap_err().contains('3'));
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let (result, tally) = run(Command::new("no-such-program-here"));
        assert!(result.is_err());
        assert_eq!(tally, Tally::default());
    }
}
