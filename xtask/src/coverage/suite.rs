//! The tests, built to count lines and run two programs at a time: one that is down to its last
//! test would leave a core idle.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::SHIPPED;
use crate::exec;
use crate::programs::{self, Program};
use crate::tally::Tally;

/// The longest takes minutes on two cores; one that hangs is a failure by its own name.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Tests that add no lines: they run without counting. Package, test, reason.
pub(super) const LEFT_OUT: &[(&str, &str, &str)] = &[
    (
        "vram-residency-cuda",
        "fault_sweep",
        "thousands of failed driver calls on the interpreter",
    ),
    (
        "vram-residency",
        "audit_log_crash",
        "its processes are killed, which leaves no data",
    ),
    (
        "vram-residency",
        "cycles",
        "one seal and free, ten thousand times",
    ),
    (
        "vram",
        "chaos",
        "its processes are killed, which leaves no data",
    ),
];

/// All programs of one build.
pub(crate) struct Build(Vec<Program>);

impl Build {
    /// What lines are read from.
    pub(super) fn shipped(&self) -> impl Iterator<Item = &Program> {
        self.0.iter().filter(|program| ships(program))
    }

    /// The tests that are run to count lines.
    pub(super) fn measured(&self) -> impl Iterator<Item = &Program> {
        let tests = self.0.iter().filter(|program| program.is_test);
        tests.filter(|test| is_measured(test))
    }

    /// All other tests.
    pub(super) fn rest(&self) -> impl Iterator<Item = &Program> {
        let tests = self.0.iter().filter(|program| program.is_test);
        tests.filter(|test| !is_measured(test))
    }
}

fn ships(program: &Program) -> bool {
    SHIPPED.contains(&program.package.as_str())
}

fn is_measured(test: &Program) -> bool {
    ships(test) && left_out(test).is_none()
}

/// Cargo's tests of the instrumented build, of all that is tested but the tasks themselves.
fn cargo_test(selection: &[&str]) -> Command {
    let wrapper = exec::root().join("xtask/src/coverage/rustc.sh");
    let mut command = exec::cargo(&["test", "--workspace", "--exclude", "xtask"]);
    command
        .args(["--profile", "coverage"])
        .args(selection)
        .env("RUSTC_WORKSPACE_WRAPPER", wrapper);
    command
}

/// The tests in documentation, which are built when they run; they count no lines.
pub(super) fn doc_tests() -> Command {
    let mut command = cargo_test(&["--doc", "--no-fail-fast"]);
    command.env("LLVM_PROFILE_FILE", "/dev/null");
    command
}

/// Builds every test but those of the tasks, and the command that they start; in a folder of their
/// own those that count branches as well.
pub(super) fn build(branches: bool) -> Result<Build, String> {
    // No selection of targets: only so are the examples built that tests run.
    let mut command = cargo_test(&["--no-run"]);
    if branches {
        command
            .env("VRAM_COVERAGE_BRANCHES", "1")
            .env("CARGO_TARGET_DIR", exec::root().join("target/branches"));
    }
    let mut programs = programs::build(&mut command)?;
    programs.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(Build(programs))
}

/// The package whose tests run on a real GPU where there is one, and say what of its memory is free:
/// no two of its programs run at a time.
const ON_GPU: &str = "vram-residency-cuda";

/// Runs these tests, all of them whatever fails, and tells what they came to. Their data goes to
/// `data`, and that of the children that they start; one that is killed leaves none. What one
/// prints goes to `log`, or to one beside it; here it is shown when it fails, or leaves something
/// out.
pub(super) fn run<'p>(
    tests: impl Iterator<Item = &'p Program>,
    data: &Path,
    log: &Path,
) -> (Result<(), String>, Tally) {
    let done = Mutex::new((Vec::new(), Tally::default()));
    let beside = log.with_extension("beside.log");
    two_at_a_time(tests, |test, first| {
        let (failed, tally) = run_and_tell(test, data, if first { log } else { &beside });
        let mut done = lock(&done);
        done.0.extend(failed);
        done.1.add(tally);
    });
    let (mut failed, all) = done.into_inner().unwrap_or_else(|lock| lock.into_inner());
    failed.sort();
    match failed.as_slice() {
        [] => (Ok(()), all),
        some => (Err(format!("tests failed: {}", some.join(", "))), all),
    }
}

/// Calls `run` with each, and with whether it is of the first row of calls or of that beside it.
fn two_at_a_time<'p>(
    tests: impl Iterator<Item = &'p Program>,
    run: impl Fn(&Program, bool) + Sync,
) {
    let (on_gpu, others): (Vec<_>, Vec<_>) = tests.partition(|test| test.package == ON_GPU);
    let others = Mutex::new(others.into_iter());
    let next = || lock(&others).next();
    thread::scope(|scope| {
        scope.spawn(|| std::iter::from_fn(next).for_each(|test| run(test, false)));
        let first = on_gpu.into_iter().chain(std::iter::from_fn(next));
        first.for_each(|test| run(test, true));
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

/// Runs one and says how it ended: its name when it failed, and what it came to.
fn run_and_tell(test: &Program, data: &Path, log: &Path) -> (Option<String>, Tally) {
    let label = format!("{} {}", test.package, test.name);
    let start = Instant::now();
    let (result, said) = run_one(test, data, log);
    let seconds = start.elapsed().as_secs_f64();
    let mut tally = Tally::default();
    tally.note_all(&said);
    match result {
        Ok(()) => {
            let left_out = tally.left_out.iter();
            left_out.for_each(|what| println!("*** SKIPPED: {what} ***"));
            println!("{label}: passed ({seconds:.1} s)");
            (None, tally)
        }
        Err(why) => {
            println!("{said}{label}: {why} ({seconds:.1} s)");
            (Some(label), tally)
        }
    }
}

/// How a test ended, and what it printed until then.
fn run_one(test: &Program, data: &Path, log: &Path) -> (Result<(), String>, String) {
    let started = File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
    let (out, err) = match started {
        Ok(files) => files,
        Err(error) => return (Err(format!("{}: {error}", log.display())), String::new()),
    };
    let mut command = Command::new(&test.path);
    command
        .current_dir(&test.folder)
        .env("CARGO_MANIFEST_DIR", &test.folder)
        // `%8m` is a pool of 8 files a binary, each added to by one process at a time.
        .env("LLVM_PROFILE_FILE", data)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    let result = exec::run_for(&mut command, LIMIT);
    match std::fs::read(log) {
        Ok(said) => (result, String::from_utf8_lossy(&said).into_owned()),
        Err(error) => (Err(format!("{}: {error}", log.display())), String::new()),
    }
}

fn left_out(test: &Program) -> Option<&'static (&'static str, &'static str, &'static str)> {
    LEFT_OUT
        .iter()
        .find(|(package, name, _)| *package == test.package && *name == test.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn program(package: &str, name: &str, is_test: bool) -> Program {
        Program {
            package: package.to_owned(),
            name: name.to_owned(),
            path: "/t/x-1".into(),
            folder: "/r/crates/vram".into(),
            is_test,
        }
    }

    /// Of the tests each is in one of the two runs.
    #[test]
    fn no_test_is_lost_between_what_is_measured_and_the_rest() {
        let build = Build(vec![
            program("vram", "vram", false),
            program("vram", "hold", true),
            program("vram", "chaos", true),
            program("fuzz-targets", "replay", true),
        ]);
        let names = |programs: Vec<&Program>| -> Vec<String> {
            programs
                .iter()
                .map(|program| program.name.clone())
                .collect()
        };
        assert_eq!(names(build.measured().collect()), ["hold"]);
        assert_eq!(names(build.rest().collect()), ["chaos", "replay"]);
        assert_eq!(names(build.shipped().collect()), ["vram", "hold", "chaos"]);
    }

    /// `false` fails; `env` passes and prints where its data is to go.
    #[test]
    fn a_failing_test_fails_the_run_and_the_others_still_run() {
        let of = [("vram", "false"), ("vram", "env"), (ON_GPU, "false")];
        let tests = of.map(|(package, path)| Program {
            path: path.into(),
            folder: exec::root(),
            ..program(package, path, true)
        });
        let folder = exec::root().join(format!("target/xtask/suite-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let data = Path::new("*** SKIPPED: it ***");
        let (result, tally) = run(tests.iter(), data, &folder.join("a.log"));
        std::fs::remove_dir_all(folder).unwrap();
        let failed = "tests failed: vram false, vram-residency-cuda false";
        assert_eq!(result, Err(failed.to_owned()));
        assert_eq!(tally.left_out, ["it"]);
    }

    #[test]
    fn two_run_at_a_time_and_never_two_that_want_the_gpu() {
        let of = [ON_GPU, ON_GPU, ON_GPU, "vram", "vram", "vram"];
        let tests = of.map(|package| program(package, package, true));
        let (meet, on_gpu) = (Barrier::new(2), AtomicU32::new(0));
        // Each waits for another that runs with it.
        two_at_a_time(tests.iter(), |test, first| {
            assert_eq!(test.package == ON_GPU, first);
            let mine = u32::from(first);
            assert!(on_gpu.fetch_add(mine, Ordering::SeqCst) + mine <= 1);
            meet.wait();
            on_gpu.fetch_sub(mine, Ordering::SeqCst);
        });
        // With nothing else left both rows take what may run beside each other.
        let rows = [AtomicU32::new(0), AtomicU32::new(0)];
        two_at_a_time(tests[3..5].iter(), |_, first| {
            rows[usize::from(first)].fetch_add(1, Ordering::SeqCst);
            meet.wait();
        });
        assert_eq!(rows.map(AtomicU32::into_inner), [1, 1]);
    }

    #[test]
    fn what_is_left_out_exists() {
        for (package, name, _) in LEFT_OUT {
            let path = format!("crates/{package}/tests/{name}.rs");
            assert!(exec::root().join(&path).is_file(), "{path}");
        }
    }
}
