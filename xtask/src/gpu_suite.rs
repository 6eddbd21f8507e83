//! `cargo xtask gpu-suite`: a folder of binaries and one script that runs on a
//! machine with a GPU and without Rust. One variable makes the absence of a GPU a failure.
//! requirement: EV-12
//!
//! The binaries are dynamically linked on purpose: a static program cannot
//! open `libcuda.so.1`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Task;
use crate::exec;
use crate::programs::{self, Program};

/// The task.
pub(crate) const TASK: Task = Task {
    usage: "gpu-suite",
    summary: "build target/gpu-suite: probe, tests, conformance and vram for a GPU machine",
    help: "Takes no options. Copy the folder to the GPU machine and run:\n\n\
           \x20 sh run.sh OUT_DIR\n\n\
           It needs no Rust there and ends within 8 minutes; sections that no time was left for\n\
           are named in the results. `sh run.sh OUT_DIR PART ...` runs only some of the parts\n\
           probe, commands, tests, sanitizer, profile. OUT_DIR gets results.json, results.txt,\n\
           facts.log, probe.log, commands.log, tests.log, sanitizer.log and profile.log. Without\n\
           a GPU it prints a banner and succeeds; VRAM_REQUIRE_GPU=1 makes that a failure. Keep\n\
           the results under docs/results/.\n\n\
           Example:\n  cargo xtask gpu-suite",
    run,
};

/// Largest folder in bytes: it travels with the working tree.
const MAX_BYTES: u64 = 60 << 20;

/// Newest glibc that the binaries may need: that of RHEL 9, older than that of
/// Ubuntu 22.04. They cannot be static, because a static program cannot open
/// the driver.
const MAX_GLIBC: (u32, u32) = (2, 34);

/// Tests that stay here: they need no GPU. The script's report says so.
const STAY_HERE: &[&str] = &["example_matvec", "fault_sweep", "gpu_probe"];

/// What the script calls by name.
const PROGRAMS: &[&str] = &["gpu_probe", "matvec", "vram"];

fn run(args: &[String]) -> Result<(), String> {
    if !args.is_empty() {
        return Err("takes no options".to_owned());
    }
    let folder = exec::root().join("target/gpu-suite");
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("tests")).map_err(say)?;
    let cuda = ["--package", "vram-residency-cuda"];
    let tests = [&["test", "--no-run", "--lib", "--tests"], &cuda[..]].concat();
    for binary in built("gpu-tests", &tests)? {
        if binary.is_test && !STAY_HERE.contains(&binary.name.as_str()) {
            copy(&binary.path, &folder.join("tests").join(&binary.name))?;
        }
    }
    let examples = [&["build", "--examples"], &cuda[..]].concat();
    let mut programs = built("release", &examples)?;
    programs.extend(built("release", &["build", "--package", "vram"])?);
    for binary in programs {
        if PROGRAMS.contains(&binary.name.as_str()) {
            copy(&binary.path, &folder.join(&binary.name))?;
        }
    }
    // Tests of the backend's failures need the fake driver there as well; they
    // find it one folder above themselves.
    let _ = built("release", &["build", "--package", "fake-cuda", "--lib"])?;
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
    for needed in PROGRAMS.iter().chain(&["libfake_cuda.so", "run.sh"]) {
        if !folder.join(needed).is_file() {
            return Err(format!("{} was not built", folder.join(needed).display()));
        }
    }
    let (mut bytes, mut glibc) = (0, (0, 0));
    for file in files(folder)? {
        let contents = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        bytes += contents.len() as u64;
        glibc = glibc.max(needed_glibc(&contents));
    }
    println!("{} ({} MiB)", folder.display(), bytes >> 20);
    println!("needs glibc {}.{} or newer", glibc.0, glibc.1);
    println!("copy it to the GPU machine and run: sh run.sh OUT_DIR");
    if bytes > MAX_BYTES {
        return Err(format!(
            "the folder has {bytes} bytes, the limit is {MAX_BYTES}"
        ));
    }
    if glibc > MAX_GLIBC {
        return Err(format!(
            "the limit is glibc {}.{}: build on an older system",
            MAX_GLIBC.0, MAX_GLIBC.1
        ));
    }
    Ok(())
}

/// The newest version of glibc's symbols that a binary names.
fn needed_glibc(binary: &[u8]) -> (u32, u32) {
    const NAME: &[u8] = b"\0GLIBC_2.";
    let starts = (0..binary.len()).filter(|at| binary[*at..].starts_with(NAME));
    let minor = starts.map(|at| {
        let digits = binary[at + NAME.len()..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit());
        digits.fold(0_u32, |number, digit| {
            number
                .saturating_mul(10)
                .saturating_add(u32::from(digit - b'0'))
        })
    });
    minor.max().map_or((0, 0), |minor| (2, minor))
}

/// The script with this commit's name in it.
fn script() -> String {
    let commit = std::process::Command::new("git")
        .args([
            "describe",
            "--always",
            "--abbrev=12",
            "--dirty",
            "--exclude=*",
        ])
        .current_dir(exec::root())
        .output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    include_str!("gpu_suite.sh").replace("@COMMIT@", &commit.unwrap_or_default())
}

/// Builds with a profile, stripped, and lists the programs.
fn built(profile: &str, args: &[&str]) -> Result<Vec<Program>, String> {
    let mut command = exec::cargo(args);
    command
        .args(["--profile", profile])
        .arg("--config")
        .arg(format!("profile.{profile}.strip=\"symbols\""))
        .args(["--target-dir", "target/gpu-suite-build"]);
    programs::build(&mut command)
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

/// Every file of the folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(say)? {
        let path = entry.map_err(say)?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod rehearsal;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_is_found() {
        let names = b"x\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.4\0GLIBC_PRIVATE\0";
        assert_eq!(needed_glibc(names), (2, 34));
        assert_eq!(needed_glibc(b"#!/bin/sh"), (0, 0));
    }

    #[test]
    fn the_script_names_its_commit_and_every_binary() {
        let script = script();
        assert!(!script.contains("@COMMIT@"));
        for name in STAY_HERE {
            assert!(script.contains(&format!("note \"test: {name}\" \"NOT CARRIED")));
        }
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
