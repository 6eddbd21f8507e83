//! Building and running one named test in the copy.

use crate::exec::{self, Ended};
use crate::programs;
use crate::twin::Twin;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A test takes seconds; a fault that makes it wait for ever is found as well, but not by the
/// assertion that was named.
const DEADLINE: Duration = Duration::from_secs(600);

/// How a named test ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ran {
    Passed,
    /// It panicked; the first lines of what it said.
    Failed(String),
}

/// Builds the one test binary that holds `function` and runs that function alone.
pub(super) fn run(twin: &Twin, package: &str, binary: &str, function: &str) -> Result<Ran, String> {
    let executable = build(twin, package, binary)?;
    let folder = exec::root().join("target/planted");
    let (out, err) = (folder.join("stdout.log"), folder.join("stderr.log"));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let stdout = File::create(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let mut command = Command::new(executable);
    command
        .args(["--exact", function])
        .current_dir(twin.root().join("crates").join(package))
        .stdin(Stdio::null())
        .stdout(stdout);
    let ended = exec::run_within(&mut command, DEADLINE, &err)?;
    let text = fs::read(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let text = String::from_utf8_lossy(&text);
    match ended {
        Ended::TimedOut => Err(format!("it did not end within {} s", DEADLINE.as_secs())),
        Ended::Exited { success, stderr } => judge(&text, &stderr, success, function),
    }
}

/// The executable of one integration test; an error when it does not compile.
fn build(twin: &Twin, package: &str, test: &str) -> Result<PathBuf, String> {
    let mut command = twin.cargo(&["test", "--no-run", "--quiet", "--package", package]);
    let programs = programs::build(command.args(["--test", test]))?;
    let mut tests = programs.into_iter().filter(|program| program.is_test);
    let found = tests.find(|program| program.name == test);
    let missing = || format!("cargo built no test `{test}` of {package}");
    found.map(|program| program.path).ok_or_else(missing)
}

/// Reads what the test harness printed.
fn judge(stdout: &str, stderr: &str, success: bool, function: &str) -> Result<Ran, String> {
    let line = |end: &str| {
        let wanted = format!("test {function} ... {end}");
        stdout.lines().any(|line| line == wanted)
    };
    if success && line("ok") {
        return Ok(Ran::Passed);
    }
    let words = [stdout, stderr].concat();
    match words.split_once("panicked at ") {
        Some((_, said)) if line("FAILED") && !success => {
            let ours =
                |line: &&str| !line.starts_with("stack backtrace") && !line.starts_with("note: ");
            let said: Vec<&str> = said
                .lines()
                .take_while(ours)
                .take(4)
                .map(str::trim)
                .collect();
            Ok(Ran::Failed(said.join(" ").trim().to_owned()))
        }
        _ => Err(format!("it neither passed nor failed:\n{words}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_test_counts_and_only_a_panic_is_a_failure() {
        let passed = "running 1 test\ntest it ... ok\n";
        assert_eq!(judge(passed, "", true, "it"), Ok(Ran::Passed));
        let failed = "test it ... FAILED\n\nthread 'it' panicked at a.rs:1:2:\nleft: 1\nstack backtrace:\nx\n";
        let said = Ran::Failed("a.rs:1:2: left: 1".to_owned());
        assert_eq!(judge(failed, "", false, "it"), Ok(said));
        for (stdout, success) in [
            ("running 0 tests\n", true),
            ("test it_too ... ok\n", true),
            ("test it ... FAILED\n", false),
            ("test it ... ", false),
        ] {
            assert!(judge(stdout, "", success, "it").is_err(), "{stdout}");
        }
    }
}
