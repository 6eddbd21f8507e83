//! A Python for the programs that share no code with us.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// A Python that can `import` this: the one on the path, or of the folder that
/// `.ci/run` keeps. Without one, says so and that only `instead` was done;
/// `cargo xtask ci` lists it as well.
pub(crate) fn python(import: &str, instead: &str) -> Option<PathBuf> {
    let kept = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/ci-tools/bin/python3"
    );
    let candidates = [PathBuf::from("python3"), PathBuf::from(kept)];
    let import = format!("import {import}");
    let has_it = |python: &PathBuf| {
        let probe = Command::new(python).args(["-c", &import]).output();
        probe.is_ok_and(|probe| probe.status.success())
    };
    let found = candidates.into_iter().find(has_it);
    if found.is_none() {
        // In the words of `skipped.rs`, past the harness.
        let text = format!("\n*** SKIPPED: no python3 here can `{import}`: {instead} ***\n\n");
        std::io::stderr().lock().write_all(text.as_bytes()).unwrap();
    }
    found
}
