//! The GPU probe rehearsed on the fake driver, so that what runs on a GPU for
//! the first time has run before.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use serde_json::Value;

/// A folder for one run's results, and the probe that `cargo test` built.
struct Probe {
    program: PathBuf,
    out: PathBuf,
}

impl Probe {
    fn new(name: &str) -> Self {
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let program = profile.join("examples/gpu_probe");
        assert!(
            program.is_file(),
            "build it first: cargo build -p vram-residency-cuda --examples"
        );
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(&out).unwrap();
        Self { program, out }
    }

    fn run(&self, library: &str, section: &str) -> ExitStatus {
        let mut command = Command::new(&self.program);
        command.args([section, "--library", library, "--sizes-mib", "1,2"]);
        command.args(["--commit", "0123abcd", "--date", "2026-01-01T00:00:00Z"]);
        command.arg("--out").arg(&self.out);
        command.arg("--scratch").arg(&self.out);
        command.status().unwrap()
    }

    fn on_fake(&self, section: &str) -> ExitStatus {
        let library = fake_cuda::library_path().unwrap();
        self.run(library.to_str().unwrap(), section)
    }

    fn results(&self) -> Value {
        let text = fs::read_to_string(self.out.join("results.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The row whose name begins so.
    fn row(&self, name: &str) -> Value {
        let results = self.results();
        let mut rows = results["rows"].as_array().unwrap().iter();
        let found = rows.find(|row| row["name"].as_str().unwrap().starts_with(name));
        found
            .unwrap_or_else(|| panic!("no row {name}: {results:#}"))
            .clone()
    }

    fn finding(&self, name: &str) -> String {
        self.row(name)["finding"].as_str().unwrap().to_owned()
    }
}

#[test]
fn every_figure_is_taken_and_kept() {
    let probe = Probe::new("probe-figures");
    for section in [
        "facts", "jit", "cached", "roofs", "kernels", "sealing", "loading",
    ] {
        let ended = probe.on_fake(section);
        assert!(ended.success(), "{section}: {:#}", probe.results());
    }
    let results = probe.results();
    assert_eq!(results["commit"], "0123abcd");
    assert!(
        results["gpu"]
            .as_str()
            .unwrap()
            .contains("fake CUDA device")
    );
    assert_eq!(results["summary"]["rows_failed"], serde_json::json!([]));
    for name in [
        "roof: htod, pinned",
        "roof: htod, pageable",
        "roof: device copy",
        "roof: device read",
        "kernels loaded, driver JIT",
        "vram_sha256_blocks, 1 MiB",
        "vram_nh_tags_1, 2 per SM as the library launches it, 2 MiB",
        "vram_nh_tags_2, 1 per SM as the library launches it, 2 MiB",
        "verify_sealed full, 2 MiB",
        "verify_sealed keyed, 2 MiB",
        "seal a file from the page cache",
    ] {
        assert!(
            probe.row(name)["median_s"].as_f64().unwrap() > 0.0,
            "{name}"
        );
    }
    // Figures of a pretended device are held against no bar.
    let lease = probe.row("lease beyond its keyed check");
    assert!(lease["bar"] == 50.0 && lease["meets"].is_null(), "{lease}");
    let left: Vec<_> = fs::read_dir(&probe.out).unwrap().collect();
    assert_eq!(left.len(), 2, "the model file is gone: {left:?}");
}

#[test]
fn memory_between_processes_is_told_as_it_is() {
    let probe = Probe::new("probe-memory");
    assert!(probe.on_fake("memory").success(), "{:#}", probe.results());
    let exported = probe.finding("fd export to another process");
    assert!(exported.starts_with("yes: 64 MiB intact"), "{exported}");
    // The fake driver's memory is a memfd, which the descriptor keeps.
    let orphan = probe.finding("VRAM survives its exporter");
    assert!(
        orphan.starts_with("yes:") && orphan.contains("killed and reaped"),
        "{orphan}"
    );
    let write = probe.finding("a kernel writes to a read-only mapping");
    assert!(
        write.starts_with("stopped:") && write.contains("(700)"),
        "{write}"
    );
    let attach = probe.finding("attach 35 x 4 GiB");
    assert!(
        attach.contains("35 attaches of 2 MiB each over 35 allocations"),
        "{attach}"
    );
}

#[test]
fn a_section_that_runs_again_replaces_its_rows_and_notes_are_kept() {
    let probe = Probe::new("probe-again");
    assert!(probe.on_fake("facts").success());
    let once = probe.results()["rows"].as_array().unwrap().len();
    let mut note = Command::new(&probe.program);
    note.args(["note", "tests", "FAILED", "7", "--out"])
        .arg(&probe.out);
    assert!(note.status().unwrap().success());
    assert!(probe.on_fake("facts").success());
    let results = probe.results();
    assert_eq!(results["rows"].as_array().unwrap().len(), once);
    assert_eq!(results["sections"][0]["status"], "FAILED");
    let table = fs::read_to_string(probe.out.join("results.txt")).unwrap();
    assert!(
        table.contains("commit  0123abcd") && table.contains("FAILED"),
        "{table}"
    );
}

// requirement: DM-4
#[test]
fn without_a_driver_nothing_is_measured_and_the_status_says_so() {
    let probe = Probe::new("probe-absent");
    let ended = probe.run("/nonexistent/libcuda.so.1", "facts");
    assert_eq!(ended.code(), Some(77));
    assert!(!probe.out.join("results.json").exists());
    let unknown = Command::new(&probe.program)
        .arg("unknown")
        .status()
        .unwrap();
    assert_eq!(unknown.code(), Some(2));
}
