//! The tests that the sources of the requirements name: each must be a test function of this
//! tree, or the list says where else it is proved. requirement: DOC-2

use crate::modules::Sources;
use crate::tree::{File, Finding, Tree};
use std::collections::BTreeSet;

/// The file that lists the names, from the repository root.
const LIST: &str = "xtask/test-names.txt";

/// What the list says about a name.
enum Place<'l> {
    /// A test function of that name.
    Test,
    /// A test function of another name: the source gives a phrase or a second name.
    As(&'l str),
    /// A function of that name in this file, which a macro or a runner makes a test.
    In(&'l str),
    /// A scenario in this feature file.
    Scenario(&'l str),
    /// Proved by something that is no test function.
    Elsewhere,
}

/// Everything that is wrong with the list, or with the tree that it describes.
pub(crate) fn findings(tree: &Tree, sources: &Sources) -> Vec<Finding> {
    let list = tree.get(LIST).and_then(|file| file.text.as_deref());
    let tests = sources.tests();
    let mut findings = Vec::new();
    let (mut seen, mut scenarios) = (BTreeSet::new(), BTreeSet::new());
    for (number, line) in list.unwrap_or_default().lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = match read(line) {
            Ok(entry) if !seen.insert((entry.name, entry.section)) => {
                Some(format!("`{}` is listed twice", entry.name))
            }
            Ok(entry) => {
                if let Place::Scenario(path) = entry.place {
                    let _ = scenarios.insert((path, entry.name));
                }
                missing(tree, &tests, entry.name, &entry.place)
            }
            Err(why) => Some(why),
        };
        findings.extend(wrong.map(|message| Finding {
            path: LIST.to_owned(),
            line: number + 1,
            message,
        }));
    }
    if seen.is_empty() {
        findings.push(Finding {
            path: LIST.to_owned(),
            line: 0,
            message: "the list is missing or empty".to_owned(),
        });
    }
    findings.extend(unlisted(tree, &scenarios));
    findings
}

/// Scenarios that could go without anybody's notice.
fn unlisted<'t>(
    tree: &'t Tree,
    listed: &'t BTreeSet<(&str, &str)>,
) -> impl Iterator<Item = Finding> + 't {
    let of = |file: &'t File| {
        let lines = file.lines().map(move |(number, line)| (file, number, line));
        lines.filter_map(|(file, number, line)| Some((file, number, title(line)?)))
    };
    let features = tree
        .files
        .iter()
        .filter(|file| file.path.ends_with(".feature"));
    let unlisted = features
        .flat_map(of)
        .filter(|(file, _, title)| !listed.contains(&(file.path.as_str(), *title)));
    unlisted.map(|(file, number, title)| {
        file.finding(number, format!("the scenario `{title}` is not in {LIST}"))
    })
}

/// What a line of a feature file calls a scenario.
fn title(line: &str) -> Option<&str> {
    let line = line.trim();
    let title = line.strip_prefix("Scenario: ");
    title.or_else(|| line.strip_prefix("Scenario Outline: "))
}

/// A line of the list.
struct Entry<'l> {
    name: &'l str,
    section: &'l str,
    place: Place<'l>,
}

/// Reads `NAME | SECTION | PLACE`, and what the place needs after it.
fn read(line: &str) -> Result<Entry<'_>, String> {
    let fields: Vec<&str> = line.splitn(4, " | ").collect();
    let [name, section, place, rest @ ..] = fields.as_slice() else {
        return Err("a line is `NAME | SECTION | PLACE`".to_owned());
    };
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = *place == "scenario";
    if name.is_empty() || !(words || name.chars().all(good)) {
        return Err(format!("`{name}` is not the name of a function"));
    }
    let known = ["1.13.", "1.14", "ours"];
    if !known.iter().any(|known| section.starts_with(known)) {
        return Err(format!("`{name}` has the unknown section `{section}`"));
    }
    let rest = rest
        .first()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty());
    let place = match (*place, rest) {
        ("test", None) => Place::Test,
        ("as", Some(other)) => Place::As(other),
        ("in", Some(path)) => Place::In(path),
        ("scenario", Some(path)) => Place::Scenario(path),
        ("elsewhere", Some(_)) => Place::Elsewhere,
        ("as" | "in" | "scenario" | "elsewhere", None) => {
            return Err(format!("`{name}` does not say where"));
        }
        _ => return Err(format!("`{name}` has the unknown place `{place}`")),
    };
    Ok(Entry {
        name,
        section,
        place,
    })
}

/// What is not there although the list says so.
fn missing(tree: &Tree, tests: &BTreeSet<String>, name: &str, place: &Place<'_>) -> Option<String> {
    match place {
        Place::Test => (!tests.contains(name)).then(|| format!("no test is named `{name}`")),
        Place::As(other) => (!tests.contains(*other))
            .then(|| format!("no test is named `{other}`, which stands for `{name}`")),
        Place::In(path) => {
            let text = tree.get(path).and_then(|file| file.text.as_deref());
            let found = text.is_some_and(|text| text.contains(&format!("fn {name}(")));
            (!found).then(|| format!("`{path}` has no function `{name}`"))
        }
        Place::Scenario(path) => {
            let text = tree.get(path).and_then(|file| file.text.as_deref());
            let mut titles = text.unwrap_or_default().lines().filter_map(title);
            let found = titles.any(|title| title == name);
            (!found).then(|| format!("`{path}` has no scenario `{name}`"))
        }
        Place::Elsewhere => tests
            .contains(name)
            .then(|| format!("`{name}` is a test now; the list says that it is elsewhere")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str = "\
#[test]
fn found() {}
#[test]
#[ignore = \"gpu\"]
fn ignored() {}
fn helper() {}
each! { fn made(x: u8) {} }
";

    fn check(list: &str) -> Vec<String> {
        let tree = Tree::of(&[(LIST, list), ("crates/a/tests/t.rs", TESTS)]);
        findings(&tree, &Sources::read(&tree))
            .into_iter()
            .map(|f| f.message)
            .collect()
    }

    #[test]
    fn a_list_that_holds_is_silent() {
        let list = "# A comment.\nfound | 1.13.4 | test\nfound | 1.14 | test\nphrase | 1.13.4 | as | found\n\
                    made | 1.13.6 | in | crates/a/tests/t.rs\nbench | 1.13.4 | elsewhere | a bench\n";
        assert_eq!(check(list), [""; 0]);
    }

    #[test]
    fn a_name_without_its_test_is_found() {
        for name in ["gone", "ignored", "helper", "made"] {
            let list = format!("{name} | 1.13.3 | test\n");
            assert_eq!(check(&list), [format!("no test is named `{name}`")]);
        }
        let found = check("a | 1.13.3 | as | helper\nb | 1.13.3 | in | crates/a/tests/t.rs\n");
        assert!(found[0].contains("`helper`, which stands for `a`"));
        assert!(found[1].contains("has no function `b`"));
        let found = check("a | 1.13.3 | in | nowhere.rs\n");
        assert!(found[0].contains("nowhere.rs"));
    }

    #[test]
    fn a_scenario_that_is_gone_is_found() {
        let feature = "Feature: f\n  Scenario: It holds\n  Scenario Outline: All hold\n\
                       \x20 Scenario: New\n";
        let list = "It holds | 1.13.8 | scenario | f.feature\n\
                    All hold | 1.13.8 | scenario | f.feature\n\
                    It | 1.13.8 | scenario | f.feature\n\
                    All hold so | 1.13.8 | scenario | g.feature\n";
        let tree = Tree::of(&[(LIST, list), ("f.feature", feature)]);
        let found = findings(&tree, &Sources::read(&tree));
        let found: Vec<String> = found.into_iter().map(|f| f.message).collect();
        assert_eq!(
            found,
            [
                "`f.feature` has no scenario `It`",
                "`g.feature` has no scenario `All hold so`",
                "the scenario `New` is not in xtask/test-names.txt",
            ]
        );
    }

    #[test]
    fn an_excuse_for_a_test_that_is_there_is_found() {
        let found = check("found | 1.13.5 | elsewhere | a bench\n");
        assert!(found[0].contains("is a test now"));
    }

    #[test]
    fn bad_lines_are_found() {
        for (line, words) in [
            ("found", "a line is"),
            ("Found | 1.13.3 | test", "not the name"),
            ("found | 2.1 | test", "unknown section"),
            ("found | 1.13.3 | maybe", "unknown place"),
            ("found | 1.13.3 | test | why", "unknown place"),
            ("found | 1.13.3 | elsewhere", "does not say where"),
            (
                "found | 1.13.3 | test\nfound | 1.13.3 | test",
                "listed twice",
            ),
        ] {
            let found = check(line);
            assert!(found[0].contains(words), "{line}: {found:?}");
        }
        assert_eq!(check("# nothing\n"), ["the list is missing or empty"]);
    }
}
