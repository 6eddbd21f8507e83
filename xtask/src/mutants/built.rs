//! One build of the test programs with a switch for every mutant, and which mutants it refuses.

use super::mutant::Mutant;
use super::switch::{MODULE, Place, Switched};
use crate::programs::Program;
use crate::twin::{Planted, Twin};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::process::{Command, Stdio};

/// What the compiler said of mutants that are not in the build, by their numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// Their text has wrong types.
    pub(super) unviable: BTreeSet<u32>,
    /// They cannot be switched; they may compile on their own.
    pub(super) left: BTreeSet<u32>,
    /// Functions that something constant calls.
    constant: BTreeSet<String>,
}

impl Refused {
    pub(super) fn holds(&self, number: u32) -> bool {
        self.unviable.contains(&number) || self.left.contains(&number)
    }

    fn count(&self) -> usize {
        self.unviable.len() + self.left.len() + self.constant.len()
    }
}

/// Builds what `build` asks for with every mutant that can be switched, by its number; the
/// mutants are of one package.
pub(super) fn build(
    twin: &Twin,
    package: &str,
    mutants: &[(u32, &Mutant)],
    mut build: impl FnMut() -> Command,
) -> Result<(Vec<Program>, Refused), String> {
    let mut refused = Refused::default();
    loop {
        let files = switch(twin, package, mutants, &mut refused)?;
        let planted: Vec<Planted> = files
            .iter()
            .map(|(path, file)| twin.plant(path, &file.text))
            .collect::<Result<_, _>>()?;
        let output = build()
            .args(["--no-run", "--message-format=json"])
            .stdout(Stdio::piped())
            .output()
            .map_err(|error| format!("cargo could not be started: {error}"))?;
        drop(planted);
        let messages = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            let programs = messages.lines().filter_map(Program::parse).collect();
            return Ok((programs, refused));
        }
        let before = refused.count();
        for error in messages.lines().filter_map(compile_error) {
            refused.blame(&error, &files, mutants);
        }
        if refused.count() == before {
            let why = messages.lines().filter_map(compile_error);
            let why = why.filter_map(|error| Some(error["rendered"].as_str()?.to_owned()));
            let why: String = why.take(3).collect();
            return Err(format!("the build with switches failed: {why}"));
        }
        println!("    {} cannot be switched so far", refused.left.len());
        println!("    {} have wrong types", refused.unviable.len());
    }
}

/// The files of these mutants with their switches, and the crate's root with what reads them.
fn switch(
    twin: &Twin,
    package: &str,
    mutants: &[(u32, &Mutant)],
    refused: &mut Refused,
) -> Result<BTreeMap<String, Switched>, String> {
    let root = format!("crates/{package}/src/lib.rs");
    let mut paths: BTreeSet<&str> = mutants.iter().map(|(_, m)| m.file.as_str()).collect();
    paths.insert(&root);
    let mut files = BTreeMap::new();
    for path in paths {
        let source = fs::read_to_string(twin.root().join(path));
        let source = source.map_err(|error| format!("{path}: {error}"))?;
        let changes: Vec<_> = mutants
            .iter()
            .filter(|(number, mutant)| mutant.file == path && !refused.holds(*number))
            .map(|(number, mutant)| (*number, &mutant.change))
            .collect();
        let file = Switched::make(&source, &changes, &refused.constant)
            .map_err(|why| format!("{path}: {why}"))?;
        let placed: BTreeSet<u32> = file.places.iter().map(|place| place.number).collect();
        let numbers = changes.iter().map(|(number, _)| *number);
        refused.left.extend(numbers.filter(|n| !placed.contains(n)));
        files.insert(path.to_owned(), file);
    }
    if let Some(file) = files.get_mut(&root) {
        file.text += MODULE;
    }
    Ok(files)
}

/// One line of cargo's messages, when it is an error of the compiler.
fn compile_error(line: &str) -> Option<Value> {
    let mut message: Value = serde_json::from_str(line).ok()?;
    let is_error = message["message"]["level"] == "error";
    is_error.then(|| message["message"].take())
}

impl Refused {
    /// Finds the mutants that brought this error: the text of one that a span lies in, else the
    /// site around the error.
    fn blame(
        &mut self,
        error: &Value,
        files: &BTreeMap<String, Switched>,
        mutants: &[(u32, &Mutant)],
    ) {
        let code = error["code"]["code"].as_str().unwrap_or_default();
        if code == "E0015" {
            self.constant.extend(called(error));
            return;
        }
        let nearest =
            |(path, bytes): &(String, Range<usize>)| Some(files.get(path)?.nearest(bytes));
        let found: Vec<Vec<&Place>> = spans(error).iter().filter_map(nearest).collect();
        let Some(own) = found.iter().flatten().find(|place| place.own) else {
            match found.iter().find(|places| !places.is_empty()) {
                Some(site) => self.left.extend(site.iter().map(|place| place.number)),
                None => self.leave_files(&spans(error), mutants),
            }
            return;
        };
        let mutant = mutants.iter().find(|(number, _)| *number == own.number);
        if mutant.is_some_and(|(_, mutant)| is_wrong_alone(code, mutant)) {
            self.unviable.insert(own.number);
        } else {
            self.left.insert(own.number);
        }
    }

    /// Leaves what is in these files: it is not known what brought an error there.
    fn leave_files(&mut self, spans: &[(String, Range<usize>)], mutants: &[(u32, &Mutant)]) {
        let named = |mutant: &Mutant| spans.iter().any(|(path, _)| *path == mutant.file);
        let theirs = mutants.iter().filter(|(_, mutant)| named(mutant));
        self.left.extend(theirs.map(|(number, _)| number));
    }
}

/// Whether an error in the text of a mutant would be there without the unchanged code beside it,
/// too: what is wrong about its types, unless they must only agree with those beside it.
fn is_wrong_alone(code: &str, mutant: &Mutant) -> bool {
    if mutant.change.genre != "FnValue" {
        return ["E0277", "E0369", "E0600"].contains(&code);
    }
    let result = mutant.exact.split_once(" -> ");
    let opaque = result.is_some_and(|(_, result)| result.contains("impl "));
    ["E0277", "E0308", "E0599"].contains(&code) && !opaque
}

/// The name of the function that is not `const` any more and is called where it must be.
fn called(error: &Value) -> Option<String> {
    let message = error["message"].as_str()?;
    let path = message.split('`').nth(1)?;
    let name = path.rsplit("::").find(|part| !part.starts_with('<'))?;
    Some(name.to_owned())
}

/// Where an error is, the primary places first, with the files as cargo-mutants names them.
fn spans(error: &Value) -> Vec<(String, Range<usize>)> {
    let mut spans: Vec<&Value> = error["spans"].as_array().into_iter().flatten().collect();
    spans.sort_by_key(|span| span["is_primary"] != true);
    let expanded = |span: &&Value| span["expansion"]["span"].clone();
    let outer: Vec<Value> = spans.iter().map(expanded).collect();
    let place = |span: &Value| {
        let byte = |name: &str| span[name].as_u64()?.try_into().ok();
        let path = span["file_name"].as_str()?.to_owned();
        Some((path, byte("byte_start")?..byte("byte_end")?))
    };
    spans.into_iter().chain(&outer).filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::switch::Change;
    use serde_json::json;

    fn mutant(genre: &str, exact: &str, span: Range<usize>, replacement: &str) -> Mutant {
        Mutant {
            file: "a.rs".to_owned(),
            exact: exact.to_owned(),
            name: String::new(),
            digest: String::new(),
            change: Change {
                genre: genre.to_owned(),
                span,
                replacement: replacement.to_owned(),
            },
        }
    }

    const SOURCE: &str = "fn f() -> T { a + b }";

    /// What is refused when the compiler finds this in the changed text that ends with `found`.
    fn blamed(mutant: &Mutant, code: &str, found: &str) -> Refused {
        let changes = [(1, &mutant.change)];
        let file = Switched::make(SOURCE, &changes, &BTreeSet::new()).unwrap();
        let end = file.text.find(found).unwrap() + found.len();
        let error = json!({ "code": { "code": code }, "spans": [{
            "file_name": "a.rs", "byte_start": end - 1, "byte_end": end, "is_primary": true,
        }] });
        let mut refused = Refused::default();
        let files = BTreeMap::from([("a.rs".to_owned(), file)]);
        refused.blame(&error, &files, &[(1, mutant)]);
        refused
    }

    #[test]
    fn wrong_types_of_a_change_are_told_from_what_only_switching_brings() {
        let value = mutant("FnValue", "a.rs:1:1: replace f -> T with 0", 14..19, "0");
        let opaque = "a.rs:1:1: replace f -> impl T with 0";
        let opaque = mutant("FnValue", opaque, 14..19, "0");
        let operator = "a.rs:1:1: replace + with - in f";
        let operator = mutant("BinaryOperator", operator, 16..17, "-");
        for (mutant, code, found, unviable) in [
            (&value, "E0277", "return 0", true),
            (&value, "E0308", "return 0", true),
            (&value, "E0515", "return 0", false),
            (&opaque, "E0308", "return 0", false),
            (&operator, "E0369", "a - b", true),
            (&operator, "E0308", "a - b", false),
            (&operator, "E0369", "a + b", false),
        ] {
            let refused = blamed(mutant, code, found);
            let (yes, no) = (refused.unviable.len(), refused.left.len());
            let expected = (usize::from(unviable), usize::from(!unviable));
            assert_eq!((yes, no), expected, "{code} {found}");
        }
        let beside = blamed(&value, "E0277", "fn f");
        assert_eq!(
            beside.left,
            BTreeSet::from([1]),
            "nothing in the file is blamed"
        );
    }

    #[test]
    fn a_function_that_must_be_constant_is_named() {
        for (path, name) in [
            ("crate::seal::Record::version", "version"),
            ("Size::<u8>::of", "of"),
            ("f::<u8>", "f"),
        ] {
            let message = format!("cannot call non-const function `{path}` in constants");
            let error = json!({ "message": message, "code": { "code": "E0015" } });
            let mut refused = Refused::default();
            refused.blame(&error, &BTreeMap::new(), &[]);
            assert_eq!(refused.constant, BTreeSet::from([name.to_owned()]));
        }
    }

    #[test]
    fn errors_are_told_from_other_messages() {
        let line = |level: &str| json!({ "message": { "level": level } }).to_string();
        assert!(compile_error(&line("error")).is_some());
        assert!(compile_error(&line("warning")).is_none());
        assert!(compile_error("not json").is_none());
    }

    #[test]
    fn an_error_in_a_macro_is_where_the_macro_is_used() {
        let place = |path: &str, primary| json!({ "file_name": path, "byte_start": 1, "byte_end": 2, "is_primary": primary });
        let mut inner = place("std.rs", true);
        inner["expansion"] = json!({ "span": place("a.rs", false) });
        let error = json!({ "spans": [place("b.rs", false), inner] });
        let spans = spans(&error);
        let paths: Vec<&str> = spans.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["std.rs", "b.rs", "a.rs"]);
    }
}
