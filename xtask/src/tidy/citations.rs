//! What the papers on security claim names the tests that show it, and those tests exist.
//!
//! Cited is the last cell of a table whose head says `shown by`, and what stands in
//! `(tests: ...)`: files, or behind a colon tests of those files, with `;` between groups.
//! requirement: OP-7

use crate::modules::Sources;
use crate::tree::{File, Finding, Tree};

const PAPERS: &[&str] = &["SECURITY.md", "docs/threat-model.md"];

/// Sections that claim nothing which a test could show.
const WITHOUT: &[&str] = &[
    "Reporting",
    "What counts",
    "Assets",
    "Who is trusted",
    "What is not claimed",
];

/// Functions in this folder are made tests by a macro.
const SUITE: &str = "conformance";

/// Finds claims without tests, and tests that are cited and are not there.
pub(super) fn of_tests(tree: &Tree, sources: &Sources, found: &mut Vec<Finding>) {
    for file in PAPERS.iter().filter_map(|path| tree.get(path)) {
        check(file, &Tests { tree, sources }, found);
    }
}

fn check(file: &File, tests: &Tests<'_>, found: &mut Vec<Finding>) {
    // Where the section began, while it owes a citation.
    let mut owing: Option<usize> = None;
    let mut shown_by = false;
    for (number, line) in file.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            unpaid(file, owing, found);
            owing = (!WITHOUT.contains(&heading)).then_some(number);
        }
        shown_by = line.starts_with('|') && (shown_by || line.ends_with("| shown by |"));
        let row = shown_by && !line.ends_with("| shown by |") && !line.starts_with("|---");
        for span in spans(line, row) {
            owing = None;
            let wrong = groups(span).flat_map(|group| tests.wrong_with(&group));
            found.extend(wrong.map(|what| file.finding(number, what)));
            if groups(span).all(|(places, _)| places.is_empty()) {
                found.push(file.finding(number, "this claim cites no test"));
            }
        }
    }
    unpaid(file, owing, found);
}

fn unpaid(file: &File, owing: Option<usize>, found: &mut Vec<Finding>) {
    found.extend(owing.map(|number| file.finding(number, "this section cites no test")));
}

/// The parts of a line that cite.
fn spans(line: &str, row: bool) -> Vec<&str> {
    let inner = line.trim_end_matches(['|', ' ']);
    let cell = inner.rsplit_once('|').filter(|_| row).map(|(_, cell)| cell);
    let marked = line.split("(tests: ").skip(1);
    let marked = marked.filter_map(|rest| rest.split_once(')').map(|(span, _)| span));
    cell.into_iter().chain(marked).collect()
}

/// Files and tests of each group.
fn groups(span: &str) -> impl Iterator<Item = (Vec<&str>, Vec<&str>)> {
    span.split(';').map(|group| {
        let colon = group.find("`: ").map_or(group.len(), |quote| quote + 1);
        let (places, tests) = group.split_at(colon);
        (quoted(places), quoted(tests))
    })
}

/// What stands in quotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

struct Tests<'t> {
    tree: &'t Tree,
    sources: &'t Sources,
}

fn is_of_suite(path: &str) -> bool {
    path.split('/').rev().nth(1) == Some(SUITE)
}

impl Tests<'_> {
    fn wrong_with(&self, (places, names): &(Vec<&str>, Vec<&str>)) -> Vec<String> {
        let gone = places.iter().filter(|place| self.files(place).is_empty());
        let gone = gone.map(|place| format!("cites tests in `{place}`, which is no file of tests"));
        let files: Vec<&str> = places.iter().flat_map(|place| self.files(place)).collect();
        let has = |name: &&&str| files.iter().any(|file| self.has(file, name));
        let absent = names.iter().filter(|name| !has(name));
        let absent =
            absent.map(|name| format!("cites the test `{name}`, which is not in {places:?}"));
        gone.chain(absent).collect()
    }

    /// The files that a place stands for; with `*` at its end several.
    fn files(&self, place: &str) -> Vec<&str> {
        let is = |file: &&File| {
            let stem = file.path.strip_suffix("/main.rs");
            let stem = stem
                .or_else(|| file.path.strip_suffix(".rs"))
                .unwrap_or_default();
            let name = match stem.rsplit('/').next() {
                _ if is_of_suite(&file.path) => SUITE,
                name => name.unwrap_or_default(),
            };
            let named = match place.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == place,
            };
            let tests = file
                .text
                .as_deref()
                .is_some_and(|text| text.contains("#[test]"));
            named && (tests || is_of_suite(&file.path))
        };
        let files = self.tree.files.iter().filter(is);
        files.map(|file| file.path.as_str()).collect()
    }

    fn has(&self, path: &str, name: &str) -> bool {
        self.sources.get(path).is_some_and(|source| {
            let listed = source.test_functions.iter().any(|test| test == name);
            listed
                || is_of_suite(path)
                    && source
                        .functions
                        .iter()
                        .any(|function| function.name == name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str = "#[test]\nfn it_holds() {}\n#[test]\nfn it_ends() {}\nfn helper() {}\n";

    fn findings(paper: &str) -> Vec<(usize, String)> {
        let tree = Tree::of(&[
            ("docs/threat-model.md", paper),
            ("crates/a/tests/load.rs", TESTS),
            ("crates/a/tests/load_more.rs", TESTS),
            ("crates/a/tests/common.rs", "fn helper() {}"),
            ("crates/a/src/conformance/memory.rs", "pub fn suite() {}"),
        ]);
        let mut found = Vec::new();
        of_tests(&tree, &Sources::read(&tree), &mut found);
        let found = found.into_iter().map(|f| (f.line, f.message));
        found.collect()
    }

    #[test]
    fn tests_that_exist_are_good_citations() {
        let good = "# T\n## Assets\nall\n## Claims\n| a | shown by |\n|---|---|\n\
                    | x | `load`: `it_holds`, `it_ends`; `load_*`, the fuzz targets |\n\
                    | y | `conformance`: `suite`; against a tool: `load` |\n\n\
                    ## More\nwords (tests: `load`: `it_holds`) and words\n";
        assert_eq!(findings(good), []);
    }

    // requirement: OP-7
    #[test]
    fn what_to_do_in_an_incident_is_written_down() {
        let tree = Tree::read(&crate::exec::root()).unwrap();
        let paper = tree.get(PAPERS[0]).unwrap().text.as_deref().unwrap();
        for incident in [
            "a verification fails",
            "sealing fails",
            "the policy is violated",
            "a key leaks",
            "a log does not verify",
            "a log cannot be written",
        ] {
            assert!(
                paper.contains(&format!("\n## When {incident}\n")),
                "{incident}"
            );
        }
    }

    #[test]
    fn what_is_not_there_or_not_cited_is_found() {
        let bad = "## Claims\n| a | shown by |\n|---|---|\n| x | `gone` |\n\
                   | x | `load`: `helper` |\n| x | words |\n| x | `common` |\n\
                   ## Silent\nwords\n## Prose\n(tests: `load`: `it_held`)\n";
        let lines: Vec<usize> = findings(bad).iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [4, 5, 6, 7, 8, 11], "{:?}", findings(bad));
    }
}
