//! The tests, built to count lines and run one binary after the other.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::SHIPPED;
use crate::exec;
use crate::programs::{self, Program};

/// Tests that add no lines: `cargo test` runs them, without counting. Package, test, reason.
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

/// Builds every test of the shipped crates, and the command that they start; in a folder of their
/// own those that count branches as well.
pub(super) fn build(branches: bool) -> Result<Vec<Program>, String> {
    let wrapper = exec::root().join("xtask/src/coverage/rustc.sh");
    // No selection of targets: only so are the examples built that tests run.
    let mut command = exec::cargo(&["test", "--no-run", "--workspace", "--exclude", "xtask"]);
    command
        .args(["--profile", "coverage"])
        .env("RUSTC_WORKSPACE_WRAPPER", wrapper);
    if branches {
        command
            .env("VRAM_COVERAGE_BRANCHES", "1")
            .env("CARGO_TARGET_DIR", exec::root().join("target/branches"));
    }
    let mut programs = programs::build(&mut command)?;
    programs.retain(|program| SHIPPED.contains(&program.package.as_str()));
    programs.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(programs)
}

/// Runs every test but those that are left out; their data goes to `raw`. Children that the
/// tests start write there, too; one that is killed leaves none.
pub(super) fn run(programs: &[Program], raw: &Path) -> Result<(), String> {
    let mut failed = Vec::new();
    for test in programs.iter().filter(|program| program.is_test) {
        let label = format!("{} {}", test.package, test.name);
        if let Some((.., why)) = left_out(test) {
            println!("{label}: left out: {why}");
            continue;
        }
        let start = Instant::now();
        let (result, said) = run_one(test, raw)?;
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("{label}: passed ({seconds:.1} s)"),
            Err(why) => {
                println!("{said}{label}: {why} ({seconds:.1} s)");
                failed.push(label);
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("tests failed: {}", failed.join(", ")))
    }
}

/// How a test ended, and what it printed.
fn run_one(test: &Program, raw: &Path) -> Result<(Result<(), String>, String), String> {
    let log = raw.with_extension("log");
    let say = |error: std::io::Error| format!("{}: {error}", log.display());
    let file = File::create(&log).map_err(say)?;
    let result = exec::run(
        Command::new(&test.path)
            .current_dir(&test.folder)
            .env("CARGO_MANIFEST_DIR", &test.folder)
            // A pool of 8 files a binary, each added to by one process at a time.
            .env("LLVM_PROFILE_FILE", raw.join("%8m.profraw"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(say)?)
            .stderr(file),
    );
    let said = std::fs::read(&log).map_err(say)?;
    Ok((result, String::from_utf8_lossy(&said).into_owned()))
}

fn left_out(test: &Program) -> Option<&'static (&'static str, &'static str, &'static str)> {
    LEFT_OUT
        .iter()
        .find(|(package, name, _)| *package == test.package && *name == test.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_tests_are_left_out() {
        let test = |name: &str| Program {
            package: "vram".to_owned(),
            name: name.to_owned(),
            path: "/t/x-1".into(),
            folder: "/r/crates/vram".into(),
            is_test: true,
        };
        assert!(left_out(&test("hold")).is_none());
        assert!(left_out(&test("chaos")).is_some());
    }

    #[test]
    fn what_is_left_out_exists() {
        for (package, name, _) in LEFT_OUT {
            let path = format!("crates/{package}/tests/{name}.rs");
            assert!(exec::root().join(&path).is_file(), "{path}");
        }
    }
}
