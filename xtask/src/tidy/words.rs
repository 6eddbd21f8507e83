//! Words that may not stand in the repository. This file names them, so the rule leaves it out.

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

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|part| part == word)
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
}
