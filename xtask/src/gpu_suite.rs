//! `cargo xtask gpu-suite`: a folder of binaries and one script that runs on a
//! machine with a GPU and without Rust.
//!
//! The binaries are dynamically linked on purpose: a static program cannot
//! open `libcuda.so.1`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::Task;
use crate::exec;

/// The task.
pub(crate) const TASK: Task = Task {
    usage: "gpu-suite",
    summary: "build target/gpu-suite: tests, conformance, benches and vram for a GPU machine",
    help: "Takes no options. Copy the folder to the GPU machine and run:\n\n\
           \x20 ./run.sh OUT_DIR\n\n\
           It needs no Rust there, takes under 8 minutes, and leaves at most 8 files in OUT_DIR:\n\
           results.json, results.txt and logs. Without a GPU it prints a banner and succeeds;\n\
           VRAM_REQUIRE_GPU=1 makes that a failure. Keep the results under docs/results/.\n\n\
           Example:\n  cargo xtask gpu-suite",
    run,
};

/// Largest folder in bytes: it travels with the working tree.
const MAX_BYTES: u64 = 60 << 20;

fn run(args: &[String]) -> Result<(), String> {
    if !args.is_empty() {
        return Err("takes no options".to_owned());
    }
    let folder = exec::root().join("target/gpu-suite");
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("tests")).map_err(say)?;
    for binary in built(&["test", "--package", "vram-residency-cuda", "--no-run"])? {
        if binary.is_test {
            copy(&binary.path, &folder.join("tests").join(&binary.name))?;
        }
    }
    for binary in built(&[
        "build",
        "--package",
        "vram-residency-cuda",
        "--example",
        "gpu_probe",
    ])? {
        if binary.name == "gpu_probe" {
            copy(&binary.path, &folder.join("gpu_probe"))?;
        }
    }
    for binary in built(&["build", "--package", "vram"])? {
        if binary.name == "vram" {
            copy(&binary.path, &folder.join("vram"))?;
        }
    }
    // Tests of the backend's failures need the fake driver there as well; they
    // find it one folder above themselves.
    let _ = built(&["build", "--package", "fake-cuda", "--lib"])?;
    let fake = "libfake_cuda.so";
    let release = exec::root().join("target/gpu-suite-build/release");
    copy(&release.join(fake), &folder.join(fake))?;
    copy(
        &exec::root().join("testdata/small.safetensors"),
        &folder.join("small.safetensors"),
    )?;
    fs::write(folder.join("run.sh"), script()).map_err(say)?;
    make_executable(&folder.join("run.sh"))?;
    finish(&folder)
}

fn finish(folder: &Path) -> Result<(), String> {
    for needed in ["gpu_probe", "vram", "libfake_cuda.so", "run.sh"] {
        if !folder.join(needed).is_file() {
            return Err(format!("{} was not built", folder.join(needed).display()));
        }
    }
    let bytes = size(folder)?;
    println!("{} ({} MiB)", folder.display(), bytes >> 20);
    println!("copy it to the GPU machine and run: ./run.sh OUT_DIR");
    if bytes > MAX_BYTES {
        return Err(format!(
            "the folder has {bytes} bytes, the limit is {MAX_BYTES}"
        ));
    }
    Ok(())
}

/// The script with this commit's name in it.
fn script() -> String {
    let commit = std::process::Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .current_dir(exec::root())
        .output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    include_str!("gpu_suite.sh").replace("@COMMIT@", &commit.unwrap_or_default())
}

struct Binary {
    name: String,
    path: PathBuf,
    is_test: bool,
}

/// Builds in release mode, stripped, and lists the executables that cargo names.
fn built(args: &[&str]) -> Result<Vec<Binary>, String> {
    let mut command = exec::cargo(args);
    command
        .args(["--release", "--message-format=json-render-diagnostics"])
        .args(["--config", "profile.release.strip=\"symbols\""])
        .args(["--target-dir", "target/gpu-suite-build"])
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "cargo {} ended with {}",
            args.join(" "),
            output.status
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(binary).collect())
}

/// One line of cargo's messages, when it names an executable.
fn binary(line: &str) -> Option<Binary> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let path = PathBuf::from(message.get("executable")?.as_str()?);
    let target = message.get("target")?;
    let name = target.get("name")?.as_str()?.to_owned();
    let is_test = message.get("profile")?.get("test")?.as_bool()?;
    Some(Binary {
        name,
        path,
        is_test,
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let copied = fs::copy(from, to);
    copied
        .map(|_| ())
        .map_err(|error| format!("{}: {error}", from.display()))
}

fn make_executable(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, mode).map_err(|error| format!("{}: {error}", path.display()))
}

fn size(folder: &Path) -> Result<u64, String> {
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(say)? {
        let path = entry.map_err(say)?.path();
        bytes += if path.is_dir() {
            size(&path)?
        } else {
            fs::metadata(&path).map_err(say)?.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_name_an_executable_count() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"gpu_probe"},"profile":{"test":false},"executable":"/x/gpu_probe"}"#;
        let found = binary(line).expect("an executable");
        assert_eq!((found.name.as_str(), found.is_test), ("gpu_probe", false));
        let library = r#"{"target":{"name":"x"},"profile":{"test":false},"executable":null}"#;
        assert!(binary(library).is_none());
        assert!(binary("warning: not json").is_none());
    }

    #[test]
    fn the_script_names_its_commit_and_every_binary() {
        let script = script();
        assert!(!script.contains("@COMMIT@"));
        for name in [
            "gpu_probe",
            "vram",
            "tests/",
            "compute-sanitizer",
            "VRAM_REQUIRE_GPU",
        ] {
            assert!(script.contains(name), "{name}");
        }
    }
}
