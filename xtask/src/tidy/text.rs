//! Rules on files as such: size, kind, characters.

use crate::tree::{Finding, LARGEST_FILE, Tree};

/// The Markdown files there may be, besides results of runs.
const MARKDOWN: &[&str] = &[
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/design.md",
    "docs/threat-model.md",
];

/// Results of runs on real machines may be Markdown.
const RESULTS: &str = "docs/results/";

/// Large files belong into packages, not into the history.
pub(super) fn size(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.size > LARGEST_FILE) {
        found.push(file.finding(0, format!("larger than {LARGEST_FILE} bytes")));
    }
}

/// State lives in the issue tracker and in history, not in papers.
pub(super) fn markdown(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        if !MARKDOWN.contains(&file.path.as_str()) && !file.path.starts_with(RESULTS) {
            let message = format!("not one of {} or {RESULTS}*", MARKDOWN.join(", "));
            found.push(file.finding(0, message));
        }
    }
}

/// What looks alike must be alike: sources are ASCII.
pub(super) fn ascii(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| !file.is_sample()) {
        for (line, text) in file.lines() {
            if let Some(other) = text.chars().find(|c| !c.is_ascii()) {
                let code = u32::from(other);
                found.push(file.finding(line, format!("not ASCII: U+{code:04X}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(rule: fn(&Tree, &mut Vec<Finding>), tree: &Tree) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        rule(tree, &mut found);
        found
            .into_iter()
            .map(|finding| (finding.path, finding.line))
            .collect()
    }

    #[test]
    fn a_file_may_have_the_largest_size_and_no_byte_more() {
        let mut tree = Tree::of(&[("fits", ""), ("big", "")]);
        tree.files[0].size = LARGEST_FILE;
        tree.files[1].size = LARGEST_FILE + 1;
        assert_eq!(paths(size, &tree), [("big".to_owned(), 0)]);
    }

    #[test]
    fn only_the_named_markdown_files_may_exist() {
        let tree = Tree::of(&[
            ("README.md", ""),
            ("docs/results/h200.md", ""),
            ("docs/design.md", ""),
            ("docs/status.md", ""),
            ("crates/vram/README.md", ""),
        ]);
        assert_eq!(
            paths(markdown, &tree),
            [
                ("docs/status.md".to_owned(), 0),
                ("crates/vram/README.md".to_owned(), 0)
            ]
        );
    }

    #[test]
    fn other_characters_are_found_outside_samples() {
        let text = "plain\ncaf\u{e9}\n";
        let tree = Tree::of(&[("crates/a/src/lib.rs", text), ("testdata/names.txt", text)]);
        assert_eq!(paths(ascii, &tree), [("crates/a/src/lib.rs".to_owned(), 2)]);
    }
}
