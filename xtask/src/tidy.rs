//! `cargo xtask tidy`: the rules of the house that no other tool enforces.

mod citations;
mod lengths;
mod manifests;
mod places;
mod sources;
mod text;
mod words;

use crate::modules::Sources;
use crate::tree::{Finding, Tree};
use crate::{Task, exec, only_options};
use std::path::Path;

pub(crate) const TASK: Task = Task {
    usage: "tidy",
    summary: "Check the rules of the house: lengths, unsafe code, words, files, manifests",
    help: "example: cargo xtask tidy",
    run,
};

fn run(args: &[String]) -> Result<(), String> {
    only_options(args, &[])?;
    check()
}

/// Checks the repository's own tree.
pub(crate) fn check() -> Result<(), String> {
    let root = exec::root();
    let tree = Tree::read(&root)?;
    let findings = findings(&tree, &root);
    if findings.is_empty() {
        println!("{} files are tidy", tree.files.len());
        return Ok(());
    }
    Err(findings
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n"))
}

/// Everything that any rule finds, by file and line; `root` is where the repository lies.
fn findings(tree: &Tree, root: &Path) -> Vec<Finding> {
    let sources = Sources::read(tree);
    let mut found = Vec::new();
    text::size(tree, &mut found);
    text::markdown(tree, &mut found);
    text::ascii(tree, &mut found);
    places::of_one_machine(tree, root, &mut found);
    words::forbidden(tree, &mut found);
    lengths::files(tree, &mut found);
    lengths::functions(tree, &sources, &mut found);
    sources::parsed(&sources, &mut found);
    sources::reachable(tree, &sources, &mut found);
    sources::unsafe_code(tree, &mut found);
    sources::denied(tree, &mut found);
    sources::ignored_tests(tree, &mut found);
    sources::environment(tree, &sources, &mut found);
    sources::locks(tree, &sources, &mut found);
    sources::planted_keys(tree, &sources, &mut found);
    manifests::reasons(tree, &mut found);
    citations::of_tests(tree, &sources, &mut found);
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_wired_in() {
        let long_file = "//\n".repeat(801);
        let long_fn = format!("fn long() {{\n{}}}\n", "    ();\n".repeat(70));
        let root = "fn f() { std::env::var(\"A\"); }\n#[ignore]\nfn g() {}\n// TO".to_owned()
            + "DO? no: FIX"
            + "ME \u{e9}\n";
        let mut tree = Tree::of(&[
            ("crates/a/src/lib.rs", &root),
            ("crates/a/src/orphan.rs", &(long_fn + &long_file)),
            ("crates/a/src/bad.rs", "fn ("),
            ("crates/a/Cargo.toml", "[dependencies]\nserde = \"1\"\n"),
            ("NOTES.md", "see /desk/notes"),
            (
                "crates/a/tests/t.rs",
                "fn f() { VramManager::builder().key(RootKey::generate(r)); }",
            ),
            ("crates/vram-residency/src/lock.rs", "use std::sync::Mutex;"),
            ("SECURITY.md", "## When it ends\n"),
            ("big.bin", ""),
        ]);
        tree.files.last_mut().unwrap().size = u64::MAX;
        let text = findings(&tree, Path::new("/desk/here"))
            .iter()
            .map(|f| format!("{f}\n"))
            .collect::<String>();
        for expected in [
            "big.bin: larger than",
            "SECURITY.md:1: this section cites no test",
            "NOTES.md: not one of",
            "NOTES.md:1: path of one machine",
            "lib.rs:4: not ASCII",
            "lib.rs:4: forbidden word",
            "orphan.rs: 873 lines",
            "orphan.rs:1: function `long` has 72 lines",
            "orphan.rs: no module declares",
            "bad.rs: not Rust",
            "lib.rs: lacks `#![forbid",
            "lib.rs: lacks `#![deny",
            "lib.rs:2: ignored test without",
            "lib.rs:1: reads the environment",
            "t.rs:1: makes a manager of a key",
            "lock.rs:1: takes a lock or an atomic",
            "Cargo.toml:2: `serde` has no comment",
        ] {
            assert!(text.contains(expected), "no `{expected}` in:\n{text}");
        }
    }
}
