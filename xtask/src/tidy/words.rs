//! Words and paths that may not stand in the repository. This file names them, so the rule on
//! words leaves it out.

use crate::tree::{Finding, Tree};

/// This file.
const OWN_PATH: &str = "xtask/src/tidy/words.rs";

/// Never in shipped code, whatever the case: nothing there stands in for something else.
const ANY_CASE: &[&str] = &[
    "mock",
    "dummy",
    "todo!",
    "unimplemented!",
    "production-ready",
];

/// Notes to oneself, as whole words.
const WHOLE_WORDS: &[&str] = &["FIXME", "XXX"];

/// First folders of absolute paths that exist on one machine only.
const MACHINE_FOLDERS: &[&str] = &["/work/", "/farm/", "/root/"];

/// Finds forbidden words under every `src`.
pub(super) fn forbidden(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree
        .files
        .iter()
        .filter(|file| file.in_src() && file.path != OWN_PATH)
    {
        for (line, text) in file.lines() {
            let lower = text.to_lowercase();
            let any_case = ANY_CASE.iter().find(|word| lower.contains(**word));
            let whole = || WHOLE_WORDS.iter().find(|word| has_word(text, word));
            if let Some(word) = any_case.or_else(whole) {
                found.push(file.finding(line, format!("forbidden word `{word}`")));
            }
        }
    }
}

/// Finds absolute paths of one machine in any file.
pub(super) fn workplace(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.path != OWN_PATH) {
        for (line, text) in file.lines() {
            if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| has_path(text, folder)) {
                found.push(file.finding(line, format!("path of one machine: `{folder}`")));
            }
        }
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|part| part == word)
}

/// Whether `folder` stands in `text` as the start of an absolute path.
fn has_path(text: &str, folder: &str) -> bool {
    text.match_indices(folder).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~*})".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_words_are_found_in_src_only() {
        let text = "fn Mock() {}\nfn fine() {}\ntodo!()\n// FIXME later\nXXXXXX\n";
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", text),
            ("crates/a/tests/t.rs", text),
            (OWN_PATH, text),
        ]);
        let mut found = Vec::new();
        forbidden(&tree, &mut found);
        let lines: Vec<_> = found.iter().map(|f| (f.path.as_str(), f.line)).collect();
        let path = "crates/a/src/lib.rs";
        assert_eq!(lines, [(path, 1), (path, 3), (path, 4)]);
    }

    #[test]
    fn every_forbidden_word_is_found() {
        for word in ANY_CASE.iter().chain(WHOLE_WORDS) {
            let tree = Tree::of(&[("crates/a/src/lib.rs", &format!("// {word}"))]);
            let mut found = Vec::new();
            forbidden(&tree, &mut found);
            assert_eq!(found.len(), 1, "{word}");
        }
    }

    #[test]
    fn paths_of_one_machine_are_found_and_others_are_not() {
        assert!(has_path("see /work/file", "/work/"));
        assert!(has_path("\"/root/.cargo\"", "/root/"));
        assert!(!has_path("target/work/file", "/work/"));
        assert!(!has_path("$HOME/work/file", "/work/"));
        assert!(!has_path("../work/file", "/work/"));
        assert!(!has_path("/workspace/", "/work/"));
        let tree = Tree::of(&[(".ci/run", "cd /farm/x\n")]);
        let mut found = Vec::new();
        workplace(&tree, &mut found);
        assert_eq!(found.len(), 1);
    }
}
