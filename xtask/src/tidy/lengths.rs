//! Limits on what a person can hold in the head: lines of a file and of a function.

use crate::modules::Sources;
use crate::tree::{Finding, Tree};

/// Longest Rust file, tests included.
const FILE_LINES: usize = 800;

/// Longest function outside test code, from its signature to its closing brace.
const FUNCTION_LINES: usize = 70;

pub(super) fn files(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree.rust() {
        let lines = file.lines().count();
        if lines > FILE_LINES {
            found.push(file.finding(0, format!("{lines} lines, at most {FILE_LINES}")));
        }
    }
}

pub(super) fn functions(tree: &Tree, sources: &Sources, found: &mut Vec<Finding>) {
    for file in tree.rust().filter(|file| file.in_src()) {
        let Some(source) = sources.get(&file.path) else {
            continue;
        };
        for function in &source.functions {
            let (lines, first) = (function.lines.count(), function.lines.first);
            if lines > FUNCTION_LINES && !sources.is_test(&file.path, first) {
                let name = &function.name;
                let message =
                    format!("function `{name}` has {lines} lines, at most {FUNCTION_LINES}");
                found.push(file.finding(first, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    ();\n".repeat(lines - 2))
    }

    #[test]
    fn a_file_may_have_the_limit_and_no_line_more() {
        let (fits, long) = ("//\n".repeat(FILE_LINES), "//\n".repeat(FILE_LINES + 1));
        let tree = Tree::of(&[("a.rs", &fits), ("b.rs", &long), ("c.txt", &long)]);
        let mut found = Vec::new();
        files(&tree, &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "b.rs");
    }

    #[test]
    fn a_shipped_function_may_have_the_limit_and_no_line_more() {
        let (fits, long) = (function(FUNCTION_LINES), function(FUNCTION_LINES + 1));
        let in_test = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", &fits),
            ("crates/b/src/lib.rs", &long),
            ("crates/c/src/lib.rs", &in_test),
            ("crates/d/tests/t.rs", &long),
        ]);
        let mut found = Vec::new();
        functions(&tree, &Sources::read(&tree), &mut found);
        let places: Vec<_> = found.iter().map(|f| (f.path.as_str(), f.line)).collect();
        assert_eq!(places, [("crates/b/src/lib.rs", 1)]);
    }
}
