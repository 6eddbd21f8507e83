//! What the documents promise about themselves: sections that are there, and
//! tests that exist under the names that are cited.

use std::path::{Path, PathBuf};

const README: &str = include_str!("../../../README.md");
const THREATS: &str = include_str!("../../../docs/threat-model.md");
const LIBRARY: &str = include_str!("../src/lib.rs");

// requirement: DOC-1
#[test]
fn the_readme_tells_behaviour_versions_troubles_and_measurements() {
    for words in [
        "**High level.**",
        "**Middle level.**",
        "**Low level.**",
        "## What it does not do",
        "## CUDA",
        "CUDA 11.0",
        "compute capability 6.0",
        "## Troubleshooting",
        "## What was measured",
    ] {
        assert!(README.contains(words), "the README does not say: {words}");
    }
}

// requirement: DOC-3
#[test]
fn examples_are_compiled() {
    assert!(LIBRARY.contains("include_str!(\"../../../README.md\")"));
    assert!(README.contains("```rust\n"), "the README has no example");
    for text in [README, LIBRARY] {
        for evasion in ["```ignore", "```text,rust", "```rust,ignore", "```no_run"] {
            assert!(!text.contains(evasion), "an example is not run: {evasion}");
        }
    }
}

// requirement: GC-12
#[test]
fn shared_gpus_are_warned_of() {
    for text in [README, LIBRARY] {
        assert!(
            text.contains("Sharing::Shared"),
            "no word about shared GPUs"
        );
        assert!(text.contains("nobody is evicted"));
    }
}

/// The integration tests of this crate.
fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Those of the command.
fn command() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vram/tests")
}

/// The tests of the CUDA backend.
fn backend() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vram-residency-cuda/tests")
}

/// Words in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

// requirement: OP-8, DOC-2
#[test]
fn every_claim_of_the_threat_model_names_a_test_that_exists() {
    let rows = THREATS.lines().filter(|line| line.starts_with("| "));
    let claims: Vec<&str> = rows.filter(|row| !row.ends_with("| shown by |")).collect();
    assert!(claims.len() >= 20, "only {} claims", claims.len());
    for claim in claims {
        let cells: Vec<&str> = claim.trim_matches('|').split(" | ").collect();
        let shown_by = cells.last().unwrap();
        let names = quoted(shown_by);
        assert!(!names.is_empty(), "no test for: {claim}");
        for name in names {
            let file = format!("{name}.rs");
            let places = [tests(), command(), backend()];
            let here = places.iter().any(|place| place.join(&file).exists());
            let folder = tests().join(name).join("main.rs");
            let pattern = name.strip_suffix('*');
            let known = match pattern {
                Some(start) => has_file_that_starts_with(start),
                None => here || folder.exists() || has_function(name),
            };
            assert!(known, "no test `{name}`, which is to show: {claim}");
        }
    }
}

fn has_file_that_starts_with(start: &str) -> bool {
    let mut files = std::fs::read_dir(tests()).unwrap();
    files.any(|file| {
        file.unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(start)
    })
}

/// A function of that name in the tests of this crate, of the command, of the CUDA backend or in
/// the conformance suite, or a unit test, or a source with unit tests.
fn has_function(name: &str) -> bool {
    let source = tests().join("../src");
    let function = format!("fn {name}(");
    let conformance = source.join("device/conformance");
    let beside = vec![tests(), command(), backend(), conformance];
    let is_unit_test = |text: &str| {
        let lines = text.lines().zip(text.lines().skip(1));
        let mut marked = lines.filter(|(mark, _)| mark.trim() == "#[test]");
        marked.any(|(_, line)| line.trim().starts_with(&function))
    };
    let is_named = |path: &Path, text: &str| {
        path.file_stem().is_some_and(|stem| stem == name) && text.contains("#[test]")
    };
    any_file(beside, |_, text| text.contains(&function))
        || any_file(vec![source], |path, text| {
            is_named(path, text) || is_unit_test(text)
        })
}

fn any_file(mut pending: Vec<PathBuf>, holds: impl Fn(&Path, &str) -> bool) -> bool {
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).unwrap();
            pending.extend(entries.map(|entry| entry.unwrap().path()));
            continue;
        }
        if holds(&path, &std::fs::read_to_string(&path).unwrap_or_default()) {
            return true;
        }
    }
    false
}
