//! `cargo xtask trace`: which requirements have code and which have a test, from the citations
//! in the sources. requirement: DOC-2

use crate::modules::Sources;
use crate::test_names;
use crate::tree::{File, Finding, Tree};
use crate::variants;
use crate::{Task, exec, only_options};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const TASK: Task = Task {
    usage: "trace [--strict] [--summary]",
    summary: "Show which requirement IDs have code and which have a test",
    help: "\
--strict    fail on an ID that applies and is cited nowhere, and on one cited though it does not
--summary   print the counts only
Fails on an ID that is cited and not listed, on one that applies, has code and no test, on a
citation among tests in a file that holds none, on a test that the sources name
(xtask/test-names.txt) and the tree does not have, and on a variant of a public error that no test
names.
example: cargo xtask trace
example: cargo xtask trace --strict --summary",
    run,
};

/// The file that lists every ID, from the repository root.
const LIST: &str = "xtask/requirements.txt";

/// What stands before the IDs of a citation.
const KEYWORD: &str = "requirement:";

/// Whether an ID binds us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Applies,
    NotApplicable,
    Later,
}

/// One ID of the list with the files that cite it.
#[derive(Debug)]
struct Requirement {
    id: String,
    status: Status,
    code: BTreeSet<String>,
    tests: BTreeSet<String>,
}

/// One `requirement:` note.
#[derive(Debug, PartialEq, Eq)]
struct Citation {
    path: String,
    line: usize,
    ids: Vec<String>,
    place: Place,
}

/// What a citation stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Code,
    Test,
    /// A file for tests that holds none: it cannot fail, and so shows nothing.
    Support,
}

/// The outcome: every ID, and what is wrong whatever the options.
pub(crate) struct Trace {
    requirements: Vec<Requirement>,
    pub(crate) findings: Vec<Finding>,
}

fn run(args: &[String]) -> Result<(), String> {
    only_options(args, &["--strict", "--summary"])?;
    let has = |option: &str| args.iter().any(|arg| arg == option);
    let tree = Tree::read(&exec::root())?;
    let sources = Sources::read(&tree);
    let mut trace = Trace::of(&tree, &sources);
    trace.findings.extend(test_names::findings(&tree, &sources));
    trace.findings.extend(variants::findings(&tree, &sources));
    if !has("--summary") {
        print!("{}", trace.table());
    }
    println!("{}", trace.summary());
    trace.check(has("--strict"))
}

/// The check that `ci` runs.
pub(crate) fn check() -> Result<(), String> {
    run(&["--strict", "--summary"].map(str::to_owned))
}

impl Trace {
    pub(crate) fn of(tree: &Tree, sources: &Sources) -> Self {
        let list = tree
            .get(LIST)
            .and_then(|file| file.text.as_deref())
            .unwrap_or_default();
        let (mut requirements, mut findings) = read_list(list);
        let index: BTreeMap<String, usize> = requirements
            .iter()
            .enumerate()
            .map(|(i, r)| (r.id.clone(), i))
            .collect();
        for citation in citations(tree, sources) {
            let at = |message: String| Finding {
                path: citation.path.clone(),
                line: citation.line,
                message,
            };
            if citation.place == Place::Support {
                let why =
                    "no test or scenario is in this file: cite the ID at the one that shows it";
                findings.push(at(why.to_owned()));
                continue;
            }
            if citation.ids.is_empty() {
                findings.push(at(format!("no ID after `{KEYWORD}`")));
            }
            for id in &citation.ids {
                let Some(requirement) = index.get(id).and_then(|i| requirements.get_mut(*i)) else {
                    findings.push(at(format!("`{id}` is not listed in {LIST}")));
                    continue;
                };
                let files = match citation.place {
                    Place::Code => &mut requirement.code,
                    _ => &mut requirement.tests,
                };
                files.insert(citation.path.clone());
            }
        }
        Self {
            requirements,
            findings,
        }
    }

    /// One line for each ID.
    fn table(&self) -> String {
        let mut text = String::new();
        for requirement in &self.requirements {
            let mark = match requirement.status {
                Status::Applies => format!(
                    "{} {}",
                    if requirement.code.is_empty() {
                        "-   "
                    } else {
                        "code"
                    },
                    if requirement.tests.is_empty() {
                        "-"
                    } else {
                        "test"
                    },
                ),
                Status::NotApplicable => "n/a".to_owned(),
                Status::Later => "later".to_owned(),
            };
            text += &format!("{:<16} {mark}\n", requirement.id);
        }
        text
    }

    fn summary(&self) -> String {
        let count =
            |keep: &dyn Fn(&&Requirement) -> bool| self.requirements.iter().filter(keep).count();
        let applies = |r: &&Requirement| r.status == Status::Applies;
        format!(
            "{} IDs: {} apply ({} with code, {} with a test, {} with both), {} not applicable, \
             {} later",
            self.requirements.len(),
            count(&applies),
            count(&|r| applies(r) && !r.code.is_empty()),
            count(&|r| applies(r) && !r.tests.is_empty()),
            count(&|r| applies(r) && !r.code.is_empty() && !r.tests.is_empty()),
            count(&|r| r.status == Status::NotApplicable),
            count(&|r| r.status == Status::Later),
        )
    }

    /// Fails on findings and on code that no test proves, and under `strict` on every ID whose
    /// citations do not fit.
    pub(crate) fn check(&self, strict: bool) -> Result<(), String> {
        let mut wrong: Vec<String> = self.findings.iter().map(ToString::to_string).collect();
        let unfit = if strict { unfit } else { unproved };
        wrong.extend(self.requirements.iter().filter_map(unfit));
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }
}

/// An ID that applies and has code, and no test.
fn unproved(requirement: &Requirement) -> Option<String> {
    let first = requirement.code.first()?;
    let unproved = requirement.status == Status::Applies && requirement.tests.is_empty();
    unproved.then(|| format!("{}: cited in {first}, no test", requirement.id))
}

/// What `--strict` has against a requirement.
fn unfit(requirement: &Requirement) -> Option<String> {
    let Requirement {
        id,
        status,
        code,
        tests,
    } = requirement;
    match (status, code.iter().chain(tests).next()) {
        (Status::Applies, None) => Some(format!("{id}: applies, cited nowhere")),
        (Status::NotApplicable, Some(first)) => {
            Some(format!("{id}: cited in {first}, listed as n/a"))
        }
        _ => unproved(requirement),
    }
}

/// Reads the list; every line that is not `ID | status | text` is a finding.
fn read_list(text: &str) -> (Vec<Requirement>, Vec<Finding>) {
    let mut requirements: Vec<Requirement> = Vec::new();
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match read_line(line) {
            Ok((id, status)) if seen.insert(id.to_owned()) => requirements.push(Requirement {
                id: id.to_owned(),
                status,
                code: BTreeSet::new(),
                tests: BTreeSet::new(),
            }),
            Ok((id, _)) => findings.push(in_list(number, format!("`{id}` is listed twice"))),
            Err(why) => findings.push(in_list(number, why)),
        }
    }
    if requirements.is_empty() {
        findings.push(in_list(0, "the list is missing or empty".to_owned()));
    }
    (requirements, findings)
}

fn in_list(number: usize, message: String) -> Finding {
    Finding {
        path: LIST.to_owned(),
        line: number + 1,
        message,
    }
}

fn read_line(line: &str) -> Result<(&str, Status), String> {
    let fields: Vec<&str> = line.splitn(3, " | ").collect();
    let [id, status, text] = fields[..] else {
        return Err("a line is `ID | status | text`".to_owned());
    };
    if leading_id(id) != Some(id) || id.contains("..") {
        return Err(format!("`{id}` is not an ID"));
    }
    if text.trim().is_empty() {
        return Err(format!("`{id}` has no text"));
    }
    match status {
        "applies" => Ok((id, Status::Applies)),
        "n/a" => Ok((id, Status::NotApplicable)),
        "later" => Ok((id, Status::Later)),
        _ => Err(format!("`{id}` has the unknown status `{status}`")),
    }
}

/// Every citation in the tree's comments.
fn citations(tree: &Tree, sources: &Sources) -> Vec<Citation> {
    let files = tree
        .files
        .iter()
        .filter(|file| file.path != LIST && !file.is_sample());
    let mut found = Vec::new();
    for file in files {
        for (line, text) in file.lines() {
            let Some(ids) = comment(file, text).and_then(cited) else {
                continue;
            };
            let place = match file.in_tests() || sources.is_test(&file.path, line) {
                false => Place::Code,
                true if can_fail(file, sources) => Place::Test,
                true => Place::Support,
            };
            found.push(Citation {
                path: file.path.clone(),
                line,
                ids,
                place,
            });
        }
    }
    found
}

/// Whether a file for tests holds a test, or a scenario.
fn can_fail(file: &File, sources: &Sources) -> bool {
    let scenario = |(_, line): (usize, &str)| line.trim_start().starts_with("Scenario");
    match file.is_rust() {
        true => sources.runs(&file.path),
        false => file.lines().any(scenario),
    }
}

/// The comment on a line, by the kind of file; Markdown and the like carry none.
fn comment<'a>(file: &File, line: &'a str) -> Option<&'a str> {
    let marker = match file.path.rsplit('.').next() {
        Some("rs" | "cu" | "cuh" | "c" | "h" | "ptx") => "//",
        Some("toml" | "feature" | "sh" | "py") => "#",
        _ if file.path == ".ci/run" => "#",
        _ => return None,
    };
    line.split_once(marker).map(|(_, comment)| comment)
}

/// The IDs after the keyword, up to the first word that is none.
fn cited(comment: &str) -> Option<Vec<String>> {
    let (before, mut rest) = comment.split_once(KEYWORD)?;
    if before.ends_with(|c: char| c.is_alphanumeric() || c == '`') {
        return None;
    }
    let mut ids = Vec::new();
    while let Some(word) = leading_id(rest.trim_start()) {
        ids.extend(expand(word));
        let after = rest.trim_start().get(word.len()..).unwrap_or_default();
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    Some(ids)
}

/// Longest range of IDs; a longer one is a slip of the pen.
const LONGEST_RANGE: u32 = 100;

/// `MS-001..MS-003` or `MS-001..003` as single IDs; any other word as it is.
fn expand(word: &str) -> Vec<String> {
    let as_range = || {
        let (first, last) = word.split_once("..")?;
        let (prefix, from) = split_number(first);
        let (end_of_prefix, to) = split_number(last);
        let (low, high) = (from.parse::<u32>().ok()?, to.parse::<u32>().ok()?);
        let good = prefix.ends_with(end_of_prefix) && low < high && high - low <= LONGEST_RANGE;
        let width = from.len();
        good.then(|| {
            (low..=high)
                .map(|n| format!("{prefix}{n:0width$}"))
                .collect()
        })
    };
    as_range().unwrap_or_else(|| vec![word.to_owned()])
}

/// Splits off the digits at the end.
fn split_number(id: &str) -> (&str, &str) {
    id.split_at(id.trim_end_matches(|c: char| c.is_ascii_digit()).len())
}

/// The ID, or the range of IDs, that `text` begins with: capitals first, a number or a capital word last.
fn leading_id(text: &str) -> Option<&str> {
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    let id = text.get(..end)?.trim_end_matches(['.', '-']);
    let good = id.starts_with(|c: char| c.is_ascii_uppercase()) && id.contains('-');
    good.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT_LIST: &str = "\
# A comment.
MS-007 | applies | in bounds
API-F12 | applies | seal
KD-3 | n/a | a defect
OB-5 | later | the daemon
";

    /// A source line that cites `ids`; built here so that this file cites nothing by accident.
    fn note(ids: &str) -> String {
        format!("/// Reads ({KEYWORD} {ids}).\n")
    }

    fn trace(code: &str, tests: &str) -> Trace {
        let tree = Tree::of(&[
            (LIST, SHORT_LIST),
            ("crates/a/src/lib.rs", code),
            ("crates/a/tests/t.rs", tests),
        ]);
        Trace::of(&tree, &Sources::read(&tree))
    }

    #[test]
    fn citations_in_code_and_tests_are_told_apart() {
        let code = format!(
            "{}fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}#[test]\nfn b() {{}}\n}}\n",
            note("MS-007, API-F12"),
            note("MS-007")
        );
        let trace = trace(&code, &format!("{}#[test] fn c() {{}}", note("OB-5")));
        assert_eq!(trace.findings, []);
        assert_eq!(
            trace.table(),
            "MS-007           code test\nAPI-F12          code -\n\
             KD-3             n/a\nOB-5             later\n"
        );
        assert_eq!(
            trace.summary(),
            "4 IDs: 2 apply (2 with code, 1 with a test, 1 with both), 1 not applicable, 1 later"
        );
    }

    #[test]
    fn code_without_a_test_fails() {
        let code = format!("{}fn a() {{}}", note("MS-007"));
        let error = trace(&code, "").check(false).unwrap_err();
        assert_eq!(error, "MS-007: cited in crates/a/src/lib.rs, no test");
        let proved = trace(&code, &format!("{}#[test] fn t() {{}}", note("MS-007")));
        assert_eq!(proved.check(false), Ok(()));
        let later = trace(&format!("{}fn a() {{}}", note("OB-5")), "");
        assert_eq!(later.check(false), Ok(()));
    }

    #[test]
    fn what_is_cited_nowhere_fails_only_when_strict() {
        let trace = trace("", &format!("{}#[test] fn t() {{}}", note("MS-007")));
        assert_eq!(trace.check(false), Ok(()));
        let error = trace.check(true).unwrap_err();
        assert_eq!(error, "API-F12: applies, cited nowhere");
    }

    #[test]
    fn citing_what_does_not_apply_fails_when_strict() {
        let trace = trace("", &format!("{}#[test] fn a() {{}}", note("KD-3")));
        assert!(trace.check(true).unwrap_err().contains("listed as n/a"));
    }

    #[test]
    fn an_unknown_id_is_a_failure() {
        let error = trace(&format!("fn a() {{}}\n{}fn b() {{}}", note("MS-999")), "")
            .check(false)
            .unwrap_err();
        assert_eq!(
            error,
            format!("crates/a/src/lib.rs:2: `MS-999` is not listed in {LIST}")
        );
    }

    #[test]
    fn a_citation_without_an_id_is_a_failure() {
        let error = trace(&format!("// {KEYWORD} none\nfn a() {{}}"), "").check(false);
        assert!(error.unwrap_err().contains("no ID after"));
    }

    #[test]
    fn a_file_without_a_test_shows_nothing() {
        let support = format!("//! Helpers ({KEYWORD} MS-007).\npub fn a() {{}}");
        let trace = trace(&format!("{}fn a() {{}}", note("MS-007")), &support);
        let error = trace.check(false).unwrap_err();
        assert!(
            error.contains("crates/a/tests/t.rs:1: no test or scenario"),
            "{error}"
        );
        assert!(
            error.contains("MS-007: cited in crates/a/src/lib.rs, no test"),
            "{error}"
        );
        let tree = Tree::of(&[
            (LIST, SHORT_LIST),
            (
                "a.feature",
                &format!("# {KEYWORD} MS-007\nFeature: F\n  Scenario: S\n"),
            ),
            ("b.feature", &format!("# {KEYWORD} MS-007\nFeature: F\n")),
        ]);
        let places: Vec<Place> = citations(&tree, &Sources::read(&tree))
            .iter()
            .map(|c| c.place)
            .collect();
        assert_eq!(places, [Place::Test, Place::Support]);
    }

    #[test]
    fn strings_and_prose_are_not_citations() {
        assert_eq!(cited(" the words `requirement: ID` explained"), None);
        let tree = Tree::of(&[
            ("docs/design.md", "requirement: MS-007"),
            (LIST, SHORT_LIST),
        ]);
        assert_eq!(citations(&tree, &Sources::read(&tree)), []);
        let text = format!("const A: &str = \"{KEYWORD} NO-1\";");
        let tree = Tree::of(&[("crates/a/src/lib.rs", &text)]);
        assert_eq!(citations(&tree, &Sources::read(&tree)), []);
    }

    #[test]
    fn a_list_of_ids_ends_where_prose_begins() {
        let ids = |text: &str| cited(&format!("{KEYWORD} {text}")).unwrap();
        assert_eq!(ids("MS-007, M0-W-1010. More."), ["MS-007", "M0-W-1010"]);
        assert_eq!(ids("CI-JOB-1,AU-3) and so on"), ["CI-JOB-1", "AU-3"]);
        assert_eq!(ids("ORCH-2.13"), ["ORCH-2.13"]);
        assert!(ids("see below").is_empty());
    }

    #[test]
    fn a_range_stands_for_each_of_its_ids() {
        assert_eq!(expand("MS-008..MS-010"), ["MS-008", "MS-009", "MS-010"]);
        assert_eq!(
            expand("WORKER-4150..4152"),
            ["WORKER-4150", "WORKER-4151", "WORKER-4152"]
        );
        assert_eq!(expand("API-F9..F10"), ["API-F9", "API-F10"]);
        assert_eq!(expand("API-F9..API-F10"), ["API-F9", "API-F10"]);
        assert_eq!(expand("MS-3..MS-1"), ["MS-3..MS-1"]);
        assert_eq!(expand("MS-1..VA-3"), ["MS-1..VA-3"]);
        assert_eq!(expand("MS-1..MS-9999"), ["MS-1..MS-9999"]);
        assert_eq!(expand("MS-007"), ["MS-007"]);
    }

    #[test]
    fn a_bad_list_is_found_line_by_line() {
        let list = "MS-007 | applies | one\nMS-007 | applies | two\nMS-008 | done | x\nms | n/a | y\nMS-009 applies\nMS-010 | later | \n";
        let (requirements, findings) = read_list(list);
        assert_eq!(requirements.len(), 1);
        let lines: Vec<usize> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6]);
        assert_eq!(read_list("").1.len(), 1);
    }
}
