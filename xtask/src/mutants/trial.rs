//! Test programs, run with one mutant switched on.

use super::campaign::CASES;
use super::outcomes::Outcome;
use super::switch::VARIABLE;
use super::targets::Target;
use crate::exec::{self, Ended};
use crate::programs::Program;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Address space of a test program in KiB; a loop without an end may ask for all there is.
const MEMORY_KIB: u64 = 32 << 20;

/// How much longer than without a mutant a program may take, and how much longer at least.
const SLOWER: u32 = 5;
const LONGER: Duration = Duration::from_secs(20);

/// The sources of the audit and its unit tests, which are all that a change of them must get past:
/// few others look at an event, and those that do look at what the manager puts there.
const AUDIT: (&str, &str) = ("/audit/", "audit::");

/// Unit tests that take a log through power failures for a minute: what writes logs must get past
/// them after all others, nothing else at all.
const SWEEP: (&str, &str) = ("audit::log::sweep", "/audit/log/");

/// The programs that a build made, as cargo's options for tests name them.
pub(super) struct Trials {
    programs: BTreeMap<&'static str, Program>,
    limits: BTreeMap<&'static str, Duration>,
}

impl Trials {
    /// Runs all of these without a mutant, as many at once as mutants will be: what fails by
    /// itself, or beside another, would catch every mutant.
    pub(super) fn prepare(
        package: &str,
        tests: &[&'static str],
        built: Vec<Program>,
    ) -> Result<Self, String> {
        let mut left = built;
        let mut programs = BTreeMap::new();
        for test in tests {
            let name = test.strip_prefix("--test=").map(str::to_owned);
            let name = name.unwrap_or_else(|| package.replace('-', "_"));
            let index = left.iter().position(|p| p.is_test && p.name == name);
            let index = index.ok_or_else(|| format!("no program of `{test}` was built"))?;
            programs.insert(*test, left.swap_remove(index));
        }
        let mut trials = Self {
            programs,
            limits: BTreeMap::new(),
        };
        for test in tests {
            let times = Mutex::new(Vec::new());
            let run = |worker: usize| {
                let start = Instant::now();
                let ended = trials.run(test, &[], 0, worker);
                times.lock().unwrap().push((start.elapsed(), ended));
            };
            thread::scope(|scope| {
                (0..workers()).for_each(|worker| drop(scope.spawn(move || run(worker))));
            });
            let mut limit = Duration::ZERO;
            for (time, outcome) in times.into_inner().unwrap() {
                if outcome? != Outcome::Missed {
                    return Err(format!("{package} {test}: fails without a mutant"));
                }
                limit = limit.max(time * SLOWER + LONGER);
            }
            trials.limits.insert(test, limit);
        }
        Ok(trials)
    }

    /// What a target's tests say of its mutant with this number, the quickest first: all are built.
    pub(super) fn outcome(
        &self,
        target: &Target,
        number: u32,
        worker: usize,
    ) -> Result<Outcome, String> {
        let mut tests = target.stages.concat();
        tests.sort_by_key(|test| self.limits[test]);
        let of_audit = target.files.contains(AUDIT.0);
        for test in &tests {
            let which: &[&str] = match *test {
                "--lib" if of_audit => &[AUDIT.1, "--skip", SWEEP.0],
                _ => &["--skip", SWEEP.0],
            };
            let outcome = self.run(test, which, number, worker)?;
            if outcome != Outcome::Missed {
                return Ok(outcome);
            }
        }
        if target.files.contains(SWEEP.1) && tests.contains(&"--lib") {
            return self.run("--lib", &[SWEEP.0], number, worker);
        }
        Ok(Outcome::Missed)
    }

    fn run(
        &self,
        test: &str,
        which: &[&str],
        number: u32,
        worker: usize,
    ) -> Result<Outcome, String> {
        let program = &self.programs[test];
        let limit = self.limits.get(test).copied().unwrap_or(exec::LIMIT);
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\""))
            .arg(&program.path)
            .args(["-Z", "unstable-options", "--fail-fast", "--quiet"])
            .args(which)
            .current_dir(&program.folder)
            .env("CARGO_MANIFEST_DIR", &program.folder)
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            // For `--fail-fast`.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUST_BACKTRACE", "0")
            .env(CASES.0, CASES.1)
            .env(VARIABLE, number.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let scratch = Scratch::make(worker)?;
        command.env("TMPDIR", &scratch.0);
        Ok(match exec::run_within(&mut command, limit, &log(worker))? {
            Ended::TimedOut => Outcome::Timeout,
            Ended::Exited { success: true, .. } => Outcome::Missed,
            Ended::Exited { success: false, .. } => Outcome::Caught,
        })
    }
}

/// Where a test program puts its files, for one run: one that is ended leaves them there, and
/// where there is no room left every mutant would seem to be noticed.
struct Scratch(PathBuf);

/// Logs wait for the disk at every flush, ten times longer than they compute. Here is none.
const MEMORY_DISK: &str = "/dev/shm";

/// Room that the programs need in it.
const ROOM_KIB: u64 = 2 << 20;

impl Scratch {
    fn make(worker: usize) -> Result<Self, String> {
        let name = format!("vram-mutants-{}-{worker}", std::process::id());
        let in_memory = Path::new(MEMORY_DISK).join(&name);
        let made = free_kib(MEMORY_DISK) >= ROOM_KIB && fs::create_dir(&in_memory).is_ok();
        if made {
            return Ok(Self(in_memory));
        }
        let path = exec::root().join("target/mutants").join(name);
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// As `df` says; none where it says nothing.
fn free_kib(path: &str) -> u64 {
    let output = Command::new("df").args(["-Pk", path]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text.unwrap_or_default().lines().nth(1).map(str::to_owned);
    let free = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    free.unwrap_or(0)
}

/// How many test programs run at once.
pub(super) fn workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn log(worker: usize) -> PathBuf {
    exec::root().join(format!("target/mutants/trial-{worker}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Of the next program.
    static NUMBER: AtomicU32 = AtomicU32::new(0);

    /// A program that runs this script; another process writes it, so that ours never holds it
    /// open while a test beside this one starts a process.
    fn program(name: &str, script: &str) -> Program {
        let folder = exec::root().join("target/xtask");
        std::fs::create_dir_all(&folder).unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("trial-{}-{number}", std::process::id()));
        let write = "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod +x \"$0\"";
        let mut command = Command::new("sh");
        exec::run(command.args(["-c", write]).arg(&path).arg(script)).unwrap();
        Program {
            package: "a".to_owned(),
            name: name.to_owned(),
            path,
            folder,
            is_test: true,
        }
    }

    const STAGES: &[&[&str]] = &[&["--test=one"], &["--test=two"]];

    fn target(files: &'static str) -> Target {
        Target {
            name: "a",
            package: "a-b",
            files,
            stages: STAGES,
        }
    }

    fn done(trials: Trials) {
        for program in trials.programs.into_values() {
            std::fs::remove_file(program.path).unwrap();
        }
    }

    #[test]
    fn the_first_program_that_notices_or_hangs_tells_the_outcome() {
        let one = program(
            "one",
            "case $XTASK_MUTANT in 1) exit 1;; 2) sleep 600;; esac",
        );
        let two = program("two", "test $XTASK_MUTANT -ne 3");
        let tests = STAGES.concat();
        let mut trials = Trials::prepare("a-b", &tests, vec![two, one]).unwrap();
        assert!(trials.limits.values().all(|limit| *limit >= LONGER));
        let outcome =
            |trials: &Trials, number| trials.outcome(&target("src/seal/**"), number, 7).unwrap();
        assert_eq!(outcome(&trials, 1), Outcome::Caught);
        assert_eq!(outcome(&trials, 3), Outcome::Caught, "by the second");
        assert_eq!(outcome(&trials, 4), Outcome::Missed);
        trials.limits.insert(tests[0], Duration::ZERO);
        assert_eq!(outcome(&trials, 2), Outcome::Timeout);
        trials.limits.insert(tests[0], 2 * trials.limits[tests[1]]);
        let both = "case $XTASK_MUTANT in 2) exit 1;; esac";
        let other = trials.programs.insert(tests[1], program("two", both));
        std::fs::remove_file(other.unwrap().path).unwrap();
        assert_eq!(
            outcome(&trials, 2),
            Outcome::Caught,
            "the quicker one is first"
        );
        done(trials);
        std::fs::remove_file(log(7)).unwrap();
    }

    #[test]
    fn what_a_program_leaves_is_gone_before_the_next() {
        let leaves = "test -z \"$(ls $TMPDIR)\" && touch $TMPDIR/left";
        let trials = Trials::prepare("a-b", &["--lib"], vec![program("a_b", leaves)]).unwrap();
        let run = || trials.run("--lib", &[], 1, 9).unwrap();
        assert_eq!([run(), run()], [Outcome::Missed; 2]);
        let left = Scratch::make(9).unwrap();
        assert!(fs::read_dir(&left.0).unwrap().next().is_none());
        done(trials);
        fs::remove_file(log(9)).unwrap();
    }

    #[test]
    fn only_what_changes_the_audit_meets_its_long_tests() {
        let unit = "case \"$*\" in *--skip*) exit 0;; *sweep*) exit 1;; esac";
        let trials = Trials::prepare("a-b", &["--lib"], vec![program("a_b", unit)]).unwrap();
        let outcome = |files| {
            let stages: &[&[&str]] = const { &[&["--lib"]] };
            let target = Target {
                stages,
                ..target(files)
            };
            trials.outcome(&target, 1, 8).unwrap()
        };
        assert_eq!(outcome("src/audit/log/**"), Outcome::Caught);
        assert_eq!(outcome("src/audit/check/**"), Outcome::Missed);
        assert_eq!(
            outcome("src/seal/**"),
            Outcome::Missed,
            "it was told to skip them"
        );
        done(trials);
        std::fs::remove_file(log(8)).unwrap();
    }

    #[test]
    fn a_program_that_fails_by_itself_or_is_not_there_stops_the_campaign() {
        let failing = program("a_b", "exit 1");
        let path = failing.path.clone();
        let error = Trials::prepare("a-b", &["--lib"], vec![failing]).err();
        assert_eq!(error.unwrap(), "a-b --lib: fails without a mutant");
        std::fs::remove_file(path).unwrap();
        let error = Trials::prepare("a-b", &["--test=one"], Vec::new()).err();
        assert_eq!(error.unwrap(), "no program of `--test=one` was built");
    }
}
