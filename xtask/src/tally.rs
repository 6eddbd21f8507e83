//! Counts what `cargo test` says while it says it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Command;

use serde_json::{Value, json};

use crate::exec;

/// How the scenarios' programs say that they ran on a real GPU, and that there is none.
const REAL_CUDA: &str = "behaviour on CUDA with real GPUs:";
const NO_REAL_CUDA: &str = "behaviour: real GPUs did NOT run";

/// How they begin to say what they ran on, whatever it is.
const RAN_ON: &str = "behaviour on ";

/// How a test says that it left something out, past the harness that hides what others print.
const LEFT_OUT: &str = "*** SKIPPED: ";

/// What the closing lines of all test programs add up to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Programs that ended with a closing line.
    pub(crate) programs: u64,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Behaviour scenarios, which are no test functions; the same for their failures.
    pub(crate) scenarios: u64,
    pub(crate) scenarios_failed: u64,
    /// How many times some scenarios ran: once for each kind of device.
    pub(crate) suites: u64,
    /// What tests said that they left out.
    pub(crate) left_out: Vec<String>,
    /// Whether the scenarios ran on a real GPU; `None` when no program said.
    pub(crate) real_cuda: Option<bool>,
    /// Whether each program ran its scenarios on devices that are none before it did on a real
    /// GPU; `None` when no scenario ran.
    pub(crate) simulated_first: Option<bool>,
}

impl Tally {
    /// Takes one line of output.
    fn note(&mut self, line: &str) {
        if line.starts_with(RAN_ON) {
            self.simulated_first
                .get_or_insert(!line.starts_with(REAL_CUDA));
        }
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.programs += 1;
            self.passed += before(rest, "passed");
            self.failed += before(rest, "failed");
            self.ignored += before(rest, "ignored");
        } else if let Some((_, what)) = line.split_once(LEFT_OUT) {
            let what = what.trim_end_matches(['*', ' ']).to_owned();
            self.leave_out(what);
        } else if before(line, "scenarios") + before(line, "scenario") > 0 {
            self.suites += 1;
            self.scenarios += before(line, "scenarios") + before(line, "scenario");
            self.scenarios_failed += before(line, "failed");
        } else if line.starts_with(REAL_CUDA) {
            self.real_cuda = Some(true);
        } else if line.starts_with(NO_REAL_CUDA) {
            self.real_cuda = Some(false);
        }
    }

    /// Once, however many tests meet the same lack.
    fn leave_out(&mut self, what: String) {
        if !self.left_out.contains(&what) {
            self.left_out.push(what);
        }
    }

    /// Takes all lines of a program that has ended.
    pub(crate) fn note_all(&mut self, said: &str) {
        said.lines().for_each(|line| self.note(line));
    }

    /// Adds what another part of the tests came to.
    pub(crate) fn add(&mut self, other: Self) {
        self.programs += other.programs;
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.scenarios += other.scenarios;
        self.scenarios_failed += other.scenarios_failed;
        self.suites += other.suites;
        for what in other.left_out {
            self.leave_out(what);
        }
        self.real_cuda = self.real_cuda.or(other.real_cuda);
        let both = self.simulated_first.zip(other.simulated_first);
        let one = self.simulated_first.or(other.simulated_first);
        self.simulated_first = both.map_or(one, |(ours, theirs)| Some(ours && theirs));
    }

    /// For the end of a run. requirement: DM-6
    pub(crate) const fn about_cuda(&self) -> &'static str {
        match self.real_cuda {
            Some(true) => "real CUDA: ran",
            Some(false) => {
                "real CUDA: did NOT run, there is no GPU; not verified are the real driver's FFI, \
                 real memory, protection and timing (`cargo xtask gpu-suite` carries the tests to one)"
            }
            None => "real CUDA: NOT known, the tests that tell did not run",
        }
    }

    pub(crate) fn as_json(&self) -> Value {
        let left_out = self.left_out.iter().map(|what| json!({ "left out": what }));
        json!({
            "programs": self.programs,
            "passed": self.passed,
            "failed": self.failed,
            "ignored": self.ignored,
            "scenarios": self.scenarios,
            "scenarios_failed": self.scenarios_failed,
            "suites": self.suites,
            "left_out": left_out.collect::<Vec<_>>(),
            "real_cuda": self.real_cuda,
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

/// Runs `command` with all that it prints on our output; how it ended, and the counts.
pub(crate) fn run(command: Command) -> (Result<(), String>, Tally) {
    run_onto(command, std::io::stdout())
}

fn run_onto(
    mut command: Command,
    mut here: impl Write + Send + 'static,
) -> (Result<(), String>, Tally) {
    let (output, end) = match std::io::pipe() {
        Ok(pipe) => pipe,
        Err(error) => return (Err(error.to_string()), Tally::default()),
    };
    let messages = match end.try_clone() {
        Ok(end) => end,
        Err(error) => return (Err(error.to_string()), Tally::default()),
    };
    let reader = std::thread::spawn(move || follow(output, &mut here));
    let result = exec::run(command.stdout(end).stderr(messages));
    // Our copies of the pipe's end go with the command, so that the reader sees the end.
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
    use crate::modules::Sources;
    use crate::tree::Tree;

    #[test]
    fn closing_lines_are_passed_on_and_added_up() {
        let said = "\
running 2 tests
test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.1s
test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
31 scenarios (30 passed, 1 failed)
1 scenario (1 passed)
0 scenarios
9 features
test it ... *** SKIPPED: tmux is not there ***
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
            suites: 2,
            left_out: vec!["tmux is not there".to_owned()],
            real_cuda: None,
            simulated_first: None,
        };
        assert_eq!(tally, expected);
        assert_eq!(tally.as_json()["scenarios"], 32);
        let left_out = json!([{ "left out": "tmux is not there" }]);
        assert_eq!(tally.as_json()["left_out"], left_out);
    }

    #[test]
    fn parts_of_the_tests_add_up_to_what_one_run_would_have_said() {
        let first = "test result: FAILED. 3 passed; 1 failed; 2 ignored\n*** SKIPPED: a ***\n\
                     4 scenarios (3 passed, 1 failed)\n*** SKIPPED: a ***\nbehaviour: real GPUs did NOT run\n";
        let second = "test result: ok. 40 passed; 0 failed; 5 ignored\n*** SKIPPED: b ***\n\
                      1 scenario (1 passed)\n";
        let mut sum = Tally::default();
        for said in [first, second] {
            let mut part = Tally::default();
            part.note_all(said);
            sum.add(part);
        }
        let mut whole = Tally::default();
        whole.note_all(&[first, second].concat());
        assert_eq!(
            (whole.passed, whole.suites, whole.left_out.len()),
            (43, 2, 2)
        );
        assert_eq!(whole.real_cuda, Some(false));
        assert_eq!(sum, whole);
    }

    // requirement: DM-6
    #[test]
    fn the_end_says_whether_real_cuda_ran() {
        let about = |said: &str| {
            follow(said.as_bytes(), &mut Vec::new())
                .unwrap()
                .about_cuda()
        };
        assert!(about("9 features\n").contains("NOT known"));
        let none = "behaviour on CUDA with the fake driver:\nbehaviour: real GPUs did NOT run, there is none\n";
        assert!(about(none).contains("did NOT run") && about(none).contains("not verified"));
        assert_eq!(
            about("behaviour on CUDA with real GPUs:\n[Summary]\n"),
            "real CUDA: ran"
        );
    }

    // requirement: DM-1
    #[test]
    fn a_real_gpu_before_a_pretended_one_is_noticed_in_each_program() {
        let (sim, fake) = (
            "behaviour on the simulated device:\n",
            "behaviour on CUDA with the fake driver:\n",
        );
        let (real, late) = (
            format!("{fake}{REAL_CUDA}\n"),
            format!("{REAL_CUDA}\n{fake}"),
        );
        let (real, late) = (real.as_str(), late.as_str());
        for (programs, first) in [
            (vec![], None),
            (vec![sim, real], Some(true)),
            // Programs run beside each other, and end in any order.
            (vec![real, sim], Some(true)),
            (vec![sim, late], Some(false)),
            (vec![late, sim], Some(false)),
        ] {
            let mut all = Tally::default();
            for said in programs {
                let mut one = Tally::default();
                one.note_all(said);
                all.add(one);
            }
            assert_eq!(all.simulated_first, first);
        }
    }

    /// In other words, or by a macro that the harness listens to, nobody would hear of it.
    #[test]
    fn tests_say_what_they_leave_out_in_words_that_are_counted() {
        let tree = Tree::read(&exec::root()).unwrap();
        let sources = Sources::read(&tree);
        let mut said = 0;
        for file in tree.rust().filter(|file| file.path.starts_with("crates/")) {
            let (mut previous, mut muttered) = ("", 0);
            for (number, line) in file.lines() {
                if !sources.is_test(&file.path, number) {
                    continue;
                }
                if line.contains("println!(") {
                    muttered = number;
                }
                let gives_up = line.trim_start().starts_with("return") && muttered + 2 >= number;
                assert!(!gives_up, "{}:{number}: nobody hears why", file.path);
                let place = format!("{}:{number}", file.path);
                assert!(!line.contains("\"NOT TESTED"), "{place}: say `{LEFT_OUT}`");
                if line.contains("SKIPPED: ") {
                    said += 1;
                    assert!(line.contains(LEFT_OUT), "{place}: say `{LEFT_OUT}`");
                    let heard = |line: &str| line.contains("println!(");
                    assert!(
                        !heard(line) && !heard(previous),
                        "{place}: the harness hides it"
                    );
                }
                previous = line;
            }
        }
        assert!(said > 3, "{said} lines");
    }

    /// The lines are made elsewhere.
    #[test]
    fn the_scenarios_say_it_in_these_words() {
        let text = |path: &str| std::fs::read_to_string(exec::root().join(path)).unwrap();
        let cuda = text("crates/vram-residency-cuda/tests/behaviour.rs");
        assert!(cuda.contains(NO_REAL_CUDA) && cuda.contains("\"CUDA with real GPUs\""));
        let suite = text("crates/vram-residency/tests/behaviour/suite/run.rs");
        assert!(suite.contains("\"behaviour on {name}:\\n{}\""));
    }

    #[test]
    fn how_the_command_ended_is_told_when_its_output_has_ended() {
        let mut command = Command::new("sh");
        let script = "echo '*** SKIPPED: a ***'; echo '*** SKIPPED: b ***' >&2; exit 3";
        command.args(["-c", script]);
        let (result, tally) = run_onto(command, std::io::sink());
        assert!(result.unwrap_err().contains('3'));
        assert_eq!(tally.left_out, ["a", "b"]);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let (result, tally) = run(Command::new("no-such-program-here"));
        assert!(result.is_err());
        assert_eq!(tally, Tally::default());
    }
}
