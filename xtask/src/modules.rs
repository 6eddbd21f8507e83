//! Which Rust files are part of a crate, and which of them are compiled for tests only.

use crate::rust::{ModuleFile, Source};
use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};

/// Every Rust file, read once.
pub(crate) struct Sources {
    by_path: BTreeMap<String, Source>,
    /// Files that a crate compiles.
    reached: BTreeSet<String>,
    /// Those among them that only tests compile.
    test_only: BTreeSet<String>,
    /// Files that are not Rust, with the parser's words.
    pub(crate) broken: Vec<(String, String)>,
}

impl Sources {
    pub(crate) fn read(tree: &Tree) -> Self {
        let mut by_path = BTreeMap::new();
        let mut broken = Vec::new();
        for file in tree.rust() {
            match Source::parse(file.text.as_deref().unwrap_or_default()) {
                Ok(source) => {
                    by_path.insert(file.path.clone(), source);
                }
                Err(error) => broken.push((file.path.clone(), error)),
            }
        }
        let (reached, test_only) = (BTreeSet::new(), BTreeSet::new());
        let mut sources = Self {
            by_path,
            reached,
            test_only,
            broken,
        };
        for file in tree.rust().filter(|file| is_root(&file.path)) {
            sources.follow(&file.path, true, file.in_tests());
        }
        sources
    }

    /// Names of the tests in files that some crate compiles.
    pub(crate) fn tests(&self) -> BTreeSet<String> {
        let reached = self.reached.iter().filter_map(|path| self.get(path));
        reached
            .flat_map(|source| source.test_functions.iter().cloned())
            .collect()
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Source> {
        self.by_path.get(path)
    }

    pub(crate) fn is_reached(&self, path: &str) -> bool {
        self.reached.contains(path)
    }

    /// Whether `line` of `path` is compiled for tests only.
    pub(crate) fn is_test(&self, path: &str, line: usize) -> bool {
        self.test_only.contains(path)
            || self
                .get(path)
                .is_some_and(|source| source.is_test_line(line))
    }

    /// Whether the file runs something by itself: tests, some of a macro that makes them, a program.
    pub(crate) fn runs(&self, path: &str) -> bool {
        let made = |call| {
            let mut makers = self.by_path.values().flat_map(|source| &source.makers);
            makers.any(|maker| maker == call) || call == "criterion_main"
        };
        self.get(path)
            .is_some_and(|source| source.runs || source.calls.iter().any(made))
    }

    fn follow(&mut self, path: &str, root: bool, test: bool) {
        let Some(source) = self.by_path.get(path) else {
            return;
        };
        let children: Vec<(Vec<String>, bool)> = source
            .modules
            .iter()
            .map(|module| (candidates(path, root, module), test || module.test))
            .collect();
        if !self.reached.insert(path.to_owned()) {
            return;
        }
        if test {
            self.test_only.insert(path.to_owned());
        }
        for (paths, test) in children {
            if let Some(found) = paths.iter().find(|path| self.by_path.contains_key(*path)) {
                self.follow(&found.clone(), false, test);
            }
        }
    }
}

/// Files that cargo takes as the root of a crate without being told.
fn is_root(path: &str) -> bool {
    let path = format!("/{path}");
    let Some((folder, name)) = path.rsplit_once('/') else {
        return false;
    };
    let place = folder.rsplit('/').next().unwrap_or_default();
    match name {
        "build.rs" => place != "src",
        "lib.rs" => place == "src",
        "main.rs" => place == "src" || !folder.ends_with("/src"),
        _ => matches!(
            place,
            "bin" | "tests" | "benches" | "examples" | "fuzz_targets"
        ),
    }
}

/// Where the file of `module`, declared in the file `path`, may lie.
fn candidates(path: &str, root: bool, module: &ModuleFile) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some(other) = &module.path {
        return vec![format!("{folder}/{other}")];
    }
    let stem = name.trim_end_matches(".rs");
    let own_folder = if root || stem == "mod" {
        folder.to_owned()
    } else {
        format!("{folder}/{stem}")
    };
    let base = format!("{own_folder}/{}", module.names.join("/"));
    vec![format!("{base}.rs"), format!("{base}/mod.rs")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_followed_from_the_roots() {
        let tree = Tree::of(&[
            (
                "crates/a/src/lib.rs",
                "mod deep; #[cfg(test)] mod checks; mod m { mod inner; }",
            ),
            ("crates/a/src/deep.rs", "mod er;"),
            ("crates/a/src/deep/er.rs", ""),
            ("crates/a/src/checks.rs", "mod more;"),
            ("crates/a/src/checks/more.rs", ""),
            ("crates/a/src/m/inner.rs", ""),
            ("crates/a/src/orphan.rs", ""),
            ("crates/a/tests/it.rs", "mod common;"),
            ("crates/a/tests/common/mod.rs", ""),
        ]);
        let sources = Sources::read(&tree);
        let missed: Vec<&str> = tree
            .files
            .iter()
            .map(|file| file.path.as_str())
            .filter(|path| !sources.is_reached(path))
            .collect();
        assert_eq!(missed, ["crates/a/src/orphan.rs"]);
        let tests: Vec<&str> = tree
            .files
            .iter()
            .map(|file| file.path.as_str())
            .filter(|path| sources.is_test(path, 1))
            .collect();
        assert_eq!(
            tests,
            [
                "crates/a/src/lib.rs",
                "crates/a/src/checks.rs",
                "crates/a/src/checks/more.rs",
                "crates/a/tests/it.rs",
                "crates/a/tests/common/mod.rs",
            ]
        );
    }

    #[test]
    fn a_test_may_be_made_by_a_macro_of_another_file() {
        let tree = Tree::of(&[
            (
                "crates/a/tests/common/mod.rs",
                "macro_rules! each { ($n:ident) => { #[test] fn $n() {} } }",
            ),
            ("crates/a/tests/it.rs", "mod common; common::each!(a);"),
            ("crates/a/tests/not.rs", "mod common; other!(a);"),
            ("crates/a/benches/speed.rs", "criterion_main!(a);"),
        ]);
        let sources = Sources::read(&tree);
        let runs = tree.files.iter().filter(|file| sources.runs(&file.path));
        let runs: Vec<&str> = runs.map(|file| file.path.as_str()).collect();
        assert_eq!(runs, ["crates/a/tests/it.rs", "crates/a/benches/speed.rs"]);
    }

    #[test]
    fn a_file_that_is_not_rust_is_named() {
        let sources = Sources::read(&Tree::of(&[("crates/a/src/lib.rs", "fn (")]));
        assert_eq!(sources.broken[0].0, "crates/a/src/lib.rs");
    }
}
