//! `run.sh` with stand-ins for its programs: what it calls, leaves, says and
//! answers, and that it ends in time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{make_executable, script};
use crate::exec::{answers, root};

/// Writes down how it was called; `note` and sections leave results.
const PROBE: &str = r#"echo "$*" >> calls
case $1 in
  note) echo "$2: $3" >> "$6/results.txt"; echo {} > "$6/results.json"; exit 0 ;;
  facts) echo "device X"; exit 0 ;;
esac
exit 0"#;

/// One folder with the script and its stand-ins.
struct Stage {
    folder: PathBuf,
}

impl Stage {
    /// `name` is the test's own.
    fn new(name: &str) -> Self {
        let folder = root().join("target/gpu-suite-rehearsal").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("tests")).unwrap();
        fs::create_dir(folder.join("bin")).unwrap();
        fs::create_dir(folder.join("elsewhere")).unwrap();
        fs::write(folder.join("run.sh"), script()).unwrap();
        let stage = Self { folder };
        stage.program("gpu_probe", PROBE);
        for quiet in ["matvec", "vram", "tests/one", "tests/two"] {
            stage.program(quiet, &format!("echo {quiet} \"$*\" >> calls"));
        }
        stage
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        make_executable(&path).unwrap();
    }

    /// Runs the script from another folder.
    fn run(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.folder.join("bin").display());
        let mut command = Command::new("sh");
        command.arg("../run.sh").args(args);
        command.current_dir(self.folder.join("elsewhere"));
        command.env_remove("VRAM_REQUIRE_GPU").env("PATH", path);
        command.envs(environment.iter().copied());
        command.output().unwrap()
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn the_script_is_plain_shell() {
    let script = root().join("xtask/src/gpu_suite.sh");
    for shell in ["sh", "bash"] {
        let checked = Command::new(shell).arg("-n").arg(&script).status();
        assert!(checked.is_ok_and(|status| status.success()), "{shell} -n");
    }
    if !answers(Command::new("shellcheck").arg("--version")) {
        // Past the harness, which hides what a passing test prints.
        let text = b"\n*** SKIPPED: no shellcheck: the GPU suite's script was not linted ***\n\n";
        std::io::Write::write_all(&mut std::io::stderr().lock(), text).unwrap();
        return;
    }
    let linted = Command::new("shellcheck").arg(&script).output().unwrap();
    let text = String::from_utf8_lossy(&linted.stdout).into_owned();
    assert!(linted.status.success(), "{text}");
}

#[test]
fn a_relative_folder_gets_every_part_in_order_and_few_files() {
    let stage = Stage::new("relative");
    stage.program("bin/compute-sanitizer", "echo sanitizer \"$2\" >> calls");
    stage.program("bin/ncu", "echo ncu \"$4\" >> calls; exit 4");
    let ended = stage.run(&["out/deeper"], &[]);
    assert!(ended.status.success(), "{ended:?}");
    let out = stage.folder.join("elsewhere/out/deeper");
    let left = names(&out);
    assert!(left.len() <= 8, "{left:?}");
    for file in [
        "results.json",
        "results.txt",
        "facts.log",
        "probe.log",
        "tests.log",
    ] {
        assert!(left.iter().any(|name| name == file), "{file}: {left:?}");
    }
    let calls = stage.text("calls");
    let order = [
        "facts",
        "jit",
        "cached",
        "roofs",
        "kernels",
        "memory",
        "sealing",
        "loading",
        "matvec cuda:0",
        "vram seal",
        "tests/one",
        "tests/two",
        "sanitizer memcheck",
        "ncu vram_sum",
    ];
    let at = |what: &str| {
        calls
            .lines()
            .position(|line| line.starts_with(what))
            .expect(what)
    };
    assert!(
        order.windows(2).all(|pair| at(pair[0]) < at(pair[1])),
        "{calls}"
    );
    assert!(
        calls.contains(&format!("--out {}", out.display())),
        "{calls}"
    );
}

/// `vram` that knows `bench load` and says this of its bars.
fn with_bars(stage: &Stage, targets: &str) {
    let body = format!(
        "case \"$*\" in\n\
         *help*) echo '  --device <DEVICE>' ;;\n\
         'bench load'*) cat <<'END'\n{targets}\nEND\n;;\n\
         esac"
    );
    stage.program("vram", &body);
}

#[test]
fn the_bars_of_a_load_are_told_one_by_one() {
    let stage = Stage::new("bars");
    with_bars(
        &stage,
        "sealed load, share of the pinned copy              0.97      target at least 0.95: met\n\
         sealed load, time of a load without checks         1.09 x    target at most 1.03 x: MISSED\n\
         pinned memory of the sealed load                 200.00 MiB  target at most 256 MiB: met",
    );
    let ended = stage.run(&["out", "commands"], &[]);
    // A missed bar is told, like those of the probe, and fails nothing.
    assert!(ended.status.success(), "{ended:?}");
    let results = stage.text("elsewhere/out/results.txt");
    for line in [
        "bar: sealed load, share of the pinned copy: 0.97 target at least 0.95: met",
        "bar: sealed load, time of a load without checks: 1.09 x target at most 1.03 x: MISSED",
        "bar: pinned memory of the sealed load: 200.00 MiB target at most 256 MiB: met",
    ] {
        assert!(results.contains(line), "{line} in {results}");
    }
}

#[test]
fn a_bar_that_was_not_measured_fails_the_suite() {
    let stage = Stage::new("no-bars");
    with_bars(&stage, "");
    let ended = stage.run(&["out", "commands"], &[]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let results = stage.text("elsewhere/out/results.txt");
    let line = "bar: pinned memory of the sealed load: NOT MEASURED";
    assert!(results.contains(line), "{results}");
}

#[test]
fn only_the_parts_that_are_named_run() {
    let stage = Stage::new("parts");
    let out = stage.folder.join("absolute");
    let ended = stage.run(&[out.to_str().unwrap(), "tests"], &[]);
    assert!(ended.status.success(), "{ended:?}");
    // By the first word: the rest has paths, which may hold any word.
    let calls = stage.text("calls");
    let called = |word: &str| {
        calls
            .lines()
            .any(|call| call.split(' ').next() == Some(word))
    };
    assert!(
        called("tests/two") && !called("kernels") && !called("vram"),
        "{calls}"
    );
}

// requirement: DM-3, DM-8
#[test]
fn the_scenarios_run_on_the_gpu_and_what_stays_behind_is_named() {
    let stage = Stage::new("scenarios");
    stage.program("tests/behaviour", "echo scenarios \"$*\" >> calls");
    let ended = stage.run(&["out", "tests"], &[]);
    assert!(ended.status.success(), "{ended:?}");
    let calls = stage.text("calls");
    assert!(calls.contains("scenarios --real-only\n"), "{calls}");
    assert!(calls.contains("tests/one \n"), "{calls}");
    let results = stage.text("elsewhere/out/results.txt");
    assert!(results.contains("test: behaviour: ok"), "{results}");
    assert!(
        results.contains("test: fault_sweep: NOT CARRIED"),
        "{results}"
    );
}

#[test]
fn a_failing_section_fails_the_whole_and_stops_nothing() {
    let stage = Stage::new("failing");
    stage.program("matvec", "exit 3");
    let ended = stage.run(&["out"], &[]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let results = stage.text("elsewhere/out/results.txt");
    assert!(
        results.contains("execution on a lease: FAILED with exit status 3"),
        "{results}"
    );
    assert!(results.contains("test: two: ok"), "{results}");
}

#[test]
fn findings_of_the_sanitizer_fail_and_its_absence_does_not() {
    let stage = Stage::new("sanitizer");
    let ended = stage.run(&["none", "sanitizer"], &[]);
    assert!(ended.status.success(), "{ended:?}");
    let none = stage.text("elsewhere/none/results.txt");
    if none.contains("not on this machine") {
        stage.program(
            "bin/compute-sanitizer",
            "echo 'Device not supported'; exit 1",
        );
        let ended = stage.run(&["refused", "sanitizer"], &[]);
        assert!(ended.status.success(), "{ended:?}");
        let refused = stage.text("elsewhere/refused/results.txt");
        assert!(refused.contains("memcheck: NOT AVAILABLE"), "{refused}");
    }
    stage.program("bin/compute-sanitizer", "echo hazard; exit 9");
    let ended = stage.run(&["found", "sanitizer"], &[]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let found = stage.text("elsewhere/found/results.txt");
    assert!(found.contains("racecheck: FINDINGS"), "{found}");
    assert!(
        stage
            .text("elsewhere/found/sanitizer.log")
            .contains("hazard")
    );
}

#[test]
fn what_takes_too_long_is_stopped_and_what_has_no_time_is_named() {
    let stage = Stage::new("slow");
    stage.program("tests/one", "sleep 60");
    let started = std::time::Instant::now();
    let ended = stage.run(
        &["out", "tests", "sanitizer"],
        &[("VRAM_SUITE_SECONDS", "5")],
    );
    assert!(started.elapsed().as_secs() < 30, "it did not end in time");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let results = stage.text("elsewhere/out/results.txt");
    assert!(results.contains("test: one: TIMED OUT"), "{results}");
    assert!(results.contains("test: two: SKIPPED"), "{results}");
}

// requirement: DM-4, DM-5
#[test]
fn without_a_gpu_there_is_a_banner_and_only_on_demand_a_failure() {
    let stage = Stage::new("no-gpu");
    stage.program(
        "gpu_probe",
        &PROBE.replace("exit 0 ;;\nesac", "exit 77 ;;\nesac"),
    );
    let ended = stage.run(&["out"], &[]);
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(
        ended.status.success() && said.contains("!!! NO CUDA GPU"),
        "{said}"
    );
    assert!(!stage.text("calls").contains("kernels"));
    let ended = stage.run(&["out"], &[("VRAM_REQUIRE_GPU", "1")]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
}

// requirement: DM-4, DM-5, EV-12
#[test]
fn a_rehearsal_on_the_fake_driver_says_so() {
    let stage = Stage::new("simulated");
    stage.program(
        "gpu_probe",
        &PROBE.replace("device X", "device fake CUDA device 0"),
    );
    let ended = stage.run(&["out"], &[]);
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(
        ended.status.success() && said.contains("!!! SIMULATED DEVICE"),
        "{said}"
    );
    let ended = stage.run(&["out"], &[("VRAM_REQUIRE_GPU", "1")]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
}
