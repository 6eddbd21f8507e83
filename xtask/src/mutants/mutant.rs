//! One mutant, as cargo-mutants lists it and as our own files name it.

use crate::exec;
use crate::mutants::switch::Change;
use crate::mutants::targets::Target;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// A change that cargo-mutants can make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mutant {
    /// Path of its file from the root.
    pub(super) file: String,
    /// cargo-mutants' own name, with line and column.
    pub(super) exact: String,
    /// The same without them, so that it outlives changes elsewhere in the file. Where several of
    /// a file would be called alike, the second has ` (2)` at its end, and so on.
    pub(super) name: String,
    /// Of its function, or its line in none: what came of it holds for this text only.
    pub(super) digest: String,
    pub(super) change: Change,
}

/// Models for `cargo xtask races`: no test that runs here is built with them.
const NOT_BUILT: &str = "**/races.rs";

/// Every mutant of a target in the tree at `root`, in the order of the sources.
pub(super) fn list(root: &Path, target: &Target) -> Result<Vec<Mutant>, String> {
    let mut command = exec::cargo(&["mutants", "--list", "--json", "--package", target.package]);
    let output = command
        .current_dir(root)
        .args(["--file", target.files, "--exclude", NOT_BUILT])
        .output()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "`cargo mutants` gave no list (cargo install --locked cargo-mutants): {why}"
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    from_list(&text, |file| {
        std::fs::read_to_string(root.join(file)).map_err(|error| format!("{file}: {error}"))
    })
}

fn from_list(
    text: &str,
    source: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<Mutant>, String> {
    let strange = || "the list of `cargo mutants` has an unknown form".to_owned();
    let list: Vec<Value> = serde_json::from_str(text).map_err(|_| strange())?;
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    let mut mutants = Vec::new();
    for entry in &list {
        let file = entry["file"].as_str().ok_or_else(strange)?;
        let exact = entry["name"].as_str().ok_or_else(strange)?;
        if !sources.contains_key(file) {
            sources.insert(file.to_owned(), source(file)?);
        }
        let plain = without_place(exact, file).ok_or_else(strange)?;
        let count = alike.entry(plain.clone()).or_default();
        *count += 1;
        mutants.push(Mutant {
            file: file.to_owned(),
            exact: exact.to_owned(),
            name: match *count {
                1 => plain,
                count => format!("{plain} ({count})"),
            },
            digest: digest(&lines(&sources[file], entry)),
            change: change(&sources[file], entry).ok_or_else(strange)?,
        });
    }
    Ok(mutants)
}

/// The lines of the function that a mutant is in; in none, the lines that it changes.
fn lines<'a>(source: &'a str, entry: &Value) -> Vec<&'a str> {
    let function = &entry["function"]["span"];
    let span = if function.is_null() {
        &entry["span"]
    } else {
        function
    };
    let line = |end: &str| span[end]["line"].as_u64();
    let (Some(first), Some(last)) = (line("start"), line("end")) else {
        return source.lines().collect();
    };
    let numbered = source.lines().zip(1..);
    numbered
        .filter(|(_, number)| (first..=last).contains(number))
        .map(|(text, _)| text)
        .collect()
}

fn change(source: &str, entry: &Value) -> Option<Change> {
    let place = |end: &str| {
        let place = &entry["span"][end];
        let number = |name: &str| place[name].as_u64()?.try_into().ok();
        offset(source, number("line")?, number("column")?)
    };
    Some(Change {
        genre: entry["genre"].as_str()?.to_owned(),
        span: place("start")?..place("end")?,
        replacement: entry["replacement"].as_str()?.to_owned(),
    })
}

/// Where this line and this character of it begin, both counted from 1; none after the end.
fn offset(source: &str, line: usize, column: usize) -> Option<usize> {
    let mut lines = source.split_inclusive('\n');
    let before: usize = lines
        .by_ref()
        .take(line.checked_sub(1)?)
        .map(str::len)
        .sum();
    let text = lines.next()?;
    let ends = std::iter::once(text.len());
    let mut starts = text.char_indices().map(|(start, _)| start).chain(ends);
    Some(before + starts.nth(column.checked_sub(1)?)?)
}

/// The first 48 bits of a SHA-256: it tells texts apart that nobody chose to be alike.
fn digest(lines: &[&str]) -> String {
    let hash = Sha256::digest(lines.join("\n"));
    hash.iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// `FILE:LINE:COLUMN: WHAT` as `FILE: WHAT`.
fn without_place(exact: &str, file: &str) -> Option<String> {
    let rest = exact.strip_prefix(file)?.strip_prefix(':')?;
    let (_line, rest) = rest.split_once(':')?;
    let (_column, what) = rest.split_once(": ")?;
    Some(format!("{file}: {what}"))
}

/// A regular expression that matches this mutant's exact name and no other.
pub(super) fn pattern(mutant: &Mutant) -> String {
    let escaped: String = mutant
        .exact
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | ' ' => c.to_string(),
            other => format!("\\x{{{:x}}}", u32::from(other)),
        })
        .collect();
    format!("^{escaped}$")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"[
        {"file": "src/a.rs", "name": "src/a.rs:4:7: replace == with != in S::f",
         "function": {"span": {"start": {"line": 3}, "end": {"line": 5}}},
         "genre": "BinaryOperator", "replacement": "!=",
         "span": {"start": {"line": 4, "column": 7}, "end": {"line": 4, "column": 9}}},
        {"file": "src/a.rs", "name": "src/a.rs:7:9: replace f -> &'r T with None",
         "function": {"span": {"start": {"line": 7}, "end": {"line": 7}}},
         "genre": "FnValue", "replacement": "None",
         "span": {"start": {"line": 7, "column": 8}, "end": {"line": 7, "column": 9}}},
        {"file": "src/a.rs", "name": "src/a.rs:9:4: replace == with != in S::f",
         "function": null, "genre": "BinaryOperator", "replacement": "!=",
         "span": {"start": {"line": 9, "column": 4}, "end": {"line": 9, "column": 6}}}
    ]"#;

    /// A change behind the end of its file.
    const LATER: &str = r#"[{"file": "a", "name": "a:1:1: c", "genre": "FnValue",
        "replacement": "", "span": {"start": {"line": 8, "column": 1}, "end": {"line": 8, "column": 2}}}]"#;

    const SOURCE: &str = "use x;\n\nfn f() {\n    a == b;\n}\n\nfn g() {}\n\nfn h() {}\n";

    #[test]
    fn names_outlive_moved_lines_and_alike_ones_are_counted() {
        let mutants = from_list(LIST, |_| Ok(SOURCE.to_owned())).unwrap();
        let names: Vec<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "src/a.rs: replace == with != in S::f",
                "src/a.rs: replace f -> &'r T with None",
                "src/a.rs: replace == with != in S::f (2)",
            ]
        );
        assert_eq!(mutants[2].exact, "src/a.rs:9:4: replace == with != in S::f");
    }

    #[test]
    fn an_outcome_is_bound_to_the_text_of_what_is_changed() {
        let of = |source: &str| -> Vec<String> {
            let mutants = from_list(LIST, |_| Ok(source.to_owned())).unwrap();
            mutants.into_iter().map(|mutant| mutant.digest).collect()
        };
        let before = of(SOURCE);
        assert_eq!(before[0].len(), 12);
        let after = of("use y;\n\nfn f() {\n    a == b;\n}\n\nfn g() { }\n\nfn h() {}\n");
        let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a == b).collect();
        assert_eq!(same, [true, false, true]);
    }

    #[test]
    fn a_change_is_found_in_the_bytes_of_its_file() {
        let source = SOURCE.replace("a == b", "\u{fc} == b");
        let mutants = from_list(LIST, |_| Ok(source.clone())).unwrap();
        let Change {
            genre,
            span,
            replacement,
        } = &mutants[0].change;
        assert_eq!(&source[span.clone()], "==");
        assert_eq!(
            (genre.as_str(), replacement.as_str()),
            ("BinaryOperator", "!=")
        );
        assert_eq!(offset("a\nb", 2, 2), Some(3), "the end");
        assert_eq!(offset("a\nb", 2, 3), None);
        assert_eq!(offset("a\nb", 3, 1), None);
    }

    #[test]
    fn a_list_of_another_form_is_refused() {
        let sum = |_: &str| Ok(String::new());
        for text in [
            "",
            "{}",
            "[{}]",
            r#"[{"file": "a", "name": "b:1:1: c"}]"#,
            LATER,
        ] {
            assert!(from_list(text, sum).is_err(), "{text}");
        }
        let unreadable = from_list(LIST, |file| Err(file.to_owned()));
        assert_eq!(unreadable, Err("src/a.rs".to_owned()));
    }

    #[test]
    fn a_pattern_takes_every_sign_literally() {
        let mutant = from_list(LIST, |_| Ok(SOURCE.to_owned()))
            .unwrap()
            .remove(1);
        assert_eq!(
            pattern(&mutant),
            "^src\\x{2f}a\\x{2e}rs\\x{3a}7\\x{3a}9\\x{3a} replace f \\x{2d}\\x{3e} \
             \\x{26}\\x{27}r T with None$"
        );
    }
}
