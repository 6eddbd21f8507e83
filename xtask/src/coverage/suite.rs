//! The tests, built to count lines and run one binary after the other.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::SHIPPED;
use crate::exec;

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

/// One program of the instrumented build.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binary {
    pub(super) package: String,
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The folder that its tests run in.
    folder: PathBuf,
    is_test: bool,
}

/// Builds every test of the shipped crates, and the command that they start.
pub(super) fn build() -> Result<Vec<Binary>, String> {
    let wrapper = exec::root().join("xtask/src/coverage/rustc.sh");
    // No selection of targets: only so are the examples built that tests run.
    let mut command = exec::cargo(&["test", "--no-run", "--workspace", "--exclude", "xtask"]);
    command
        .args(["--profile", "coverage"])
        .arg("--message-format=json-render-diagnostics")
        .env("RUSTC_WORKSPACE_WRAPPER", wrapper)
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "the instrumented build ended with {}",
            output.status
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let shipped = |binary: &Binary| SHIPPED.contains(&binary.package.as_str());
    let mut binaries: Vec<Binary> = text.lines().filter_map(binary).filter(shipped).collect();
    binaries.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(binaries)
}

/// One line of cargo's messages, when it names a program.
fn binary(line: &str) -> Option<Binary> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = PathBuf::from(message.get("executable")?.as_str()?);
    let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?;
    Some(Binary {
        package: folder.file_name()?.to_str()?.to_owned(),
        name: message.get("target")?.get("name")?.as_str()?.to_owned(),
        path,
        folder: folder.to_path_buf(),
        is_test: message.get("profile")?.get("test")?.as_bool()?,
    })
}

/// Runs every test but those that are left out; their data goes to `raw`. Children that the
/// tests start write there, too; one that is killed leaves none.
pub(super) fn run(binaries: &[Binary], raw: &Path) -> Result<(), String> {
    let mut failed = Vec::new();
    for test in binaries.iter().filter(|binary| binary.is_test) {
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
fn run_one(test: &Binary, raw: &Path) -> Result<(Result<(), String>, String), String> {
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

fn left_out(test: &Binary) -> Option<&'static (&'static str, &'static str, &'static str)> {
    LEFT_OUT
        .iter()
        .find(|(package, name, _)| *package == test.package && *name == test.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_other_messages() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/r/crates/vram/Cargo.toml",
            "target":{"name":"hold"},"profile":{"test":true},"executable":"/t/hold-1"}"#;
        let found = binary(line).unwrap();
        assert_eq!(
            (found.package.as_str(), found.name.as_str()),
            ("vram", "hold")
        );
        assert_eq!(found.folder, Path::new("/r/crates/vram"));
        assert!(found.is_test && left_out(&found).is_none());
        let chaos = line.replace("hold", "chaos");
        assert!(left_out(&binary(&chaos).unwrap()).is_some());
        assert!(binary(&line.replace(r#""/t/hold-1""#, "null")).is_none());
        assert!(binary("not json").is_none());
    }

    #[test]
    fn what_is_left_out_exists() {
        for (package, name, _) in LEFT_OUT {
            let path = format!("crates/{package}/tests/{name}.rs");
            assert!(exec::root().join(&path).is_file(), "{path}");
        }
    }
}
