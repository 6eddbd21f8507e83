//! All changes of a file in one text, each made only while its switch is on, so that one build
//! serves for all of them.

use super::sites::{Form, Site, Sites};
use std::collections::BTreeSet;
use std::ops::Range;

/// The variable of the environment that switches a change on, by its number; none is 0.
pub(super) const VARIABLE: &str = "XTASK_MUTANT";

/// The module that reads it, for the end of the crate's root.
pub(super) const MODULE: &str = r#"
mod xtask_mutant {
    static NUMBER: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        let number = std::env::var("XTASK_MUTANT");
        number.ok().and_then(|number| number.parse().ok()).unwrap_or(0)
    });

    #[inline]
    pub(crate) fn on(number: u32) -> bool {
        *NUMBER == number
    }
}
"#;

/// What cargo-mutants does to the text of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) genre: String,
    /// The bytes that go.
    pub(super) span: Range<usize>,
    /// What stands there instead.
    pub(super) replacement: String,
}

/// A file with its switches.
pub(super) struct Switched {
    pub(super) text: String,
    pub(super) places: Vec<Place>,
}

/// Bytes of the new text that stand there for the sake of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    bytes: Range<usize>,
    /// Of the change.
    pub(super) number: u32,
    /// Whether they are what the change puts there; else the site around it.
    pub(super) own: bool,
}

impl Switched {
    /// Puts a switch around each of these changes, which have numbers; those that cannot be
    /// switched have no place in the result. Functions of the names in `constant` stay `const`,
    /// and what is in them is not switched; no other is any more.
    pub(super) fn make(
        source: &str,
        changes: &[(u32, &Change)],
        constant: &BTreeSet<String>,
    ) -> Result<Self, String> {
        let sites = Sites::find(source, changes, constant)?;
        let mut base = source.to_owned();
        for word in sites.words {
            base.replace_range(word.clone(), &" ".repeat(word.len()));
        }
        let mut new = Self {
            text: String::new(),
            places: Vec::new(),
        };
        let mut starts = vec![0; sites.found.len()];
        let mut done = 0;
        for (at, edge) in edges(&sites.found) {
            new.text.push_str(&base[done..at]);
            done = at;
            match edge {
                Edge::Start(index) => {
                    starts[index] = new.text.len();
                    new.open(source, &sites.found[index], changes);
                }
                Edge::End(index) => new.close(starts[index], &sites.found[index], changes),
            }
        }
        new.text.push_str(&base[done..]);
        Ok(new)
    }

    /// The nearest places around these bytes.
    pub(super) fn nearest(&self, bytes: &Range<usize>) -> Vec<&Place> {
        let around =
            |place: &&Place| place.bytes.start <= bytes.start && bytes.end <= place.bytes.end;
        let places = self.places.iter().filter(around);
        let least = places.clone().map(|place| place.bytes.len()).min();
        places
            .filter(|place| Some(place.bytes.len()) == least)
            .collect()
    }

    fn open(&mut self, source: &str, site: &Site, changes: &[(u32, &Change)]) {
        let around = &site.range;
        if site.form == Form::Expression {
            self.text.push('(');
        }
        for (number, change) in site.changes.iter().map(|index| changes[*index]) {
            let on = format!("crate::xtask_mutant::on({number})");
            let Change {
                span, replacement, ..
            } = change;
            match site.form {
                Form::Body => {
                    self.text.push_str(&format!("if {on} "));
                    self.own(number, &format!("{{ return {replacement}; }} "));
                }
                Form::Expression => {
                    let before = &source[around.start..span.start];
                    let after = &source[span.end..around.end];
                    self.text.push_str(&format!("if {on} "));
                    self.own(number, &format!("{{ {before}{replacement}{after} }}"));
                    self.text.push_str(" else ");
                }
                Form::Arm => self.own(number, &format!(" if !{on}")),
            }
        }
        if site.form == Form::Expression {
            self.text.push_str("{ ");
        }
    }

    fn close(&mut self, start: usize, site: &Site, changes: &[(u32, &Change)]) {
        if site.form == Form::Expression {
            self.text.push_str(" })");
        }
        for index in &site.changes {
            self.note(start, changes[*index].0, false);
        }
    }

    /// Adds the text of one change.
    fn own(&mut self, number: u32, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.note(start, number, true);
    }

    fn note(&mut self, start: usize, number: u32, own: bool) {
        let bytes = start..self.text.len();
        self.places.push(Place { bytes, number, own });
    }
}

/// One end of a site, by its place in the list.
enum Edge {
    Start(usize),
    End(usize),
}

/// Both ends of all sites in the order of the text: what ends at a place before what starts there,
/// inner ends before outer ones, outer starts before inner ones.
fn edges(sites: &[Site]) -> Vec<(usize, Edge)> {
    let numbered = sites.iter().enumerate();
    let mut edges: Vec<_> = numbered
        .flat_map(|(index, site)| {
            let (Range { start, end }, length) = (site.range.clone(), site.range.len());
            [
                ((end, 0, length, usize::MAX - index), Edge::End(index)),
                ((start, 1, usize::MAX - length, index), Edge::Start(index)),
            ]
        })
        .collect();
    edges.sort_by_key(|(order, _)| *order);
    edges
        .into_iter()
        .map(|(order, edge)| (order.0, edge))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change of the first place of `text` in `source` that is marked by the text in brackets:
    /// `a [==] b`.
    fn change(source: &str, genre: &str, marked: &str, replacement: &str) -> Change {
        let (before, rest) = marked.split_once('[').unwrap();
        let (taken, after) = rest.split_once(']').unwrap();
        let found = source.find(&format!("{before}{taken}{after}")).unwrap();
        let start = found + before.len();
        Change {
            genre: genre.to_owned(),
            span: start..start + taken.len(),
            replacement: replacement.to_owned(),
        }
    }

    /// `source` with these changes switched, numbered from 1.
    fn switched(source: &str, changes: &[(&str, &str, &str)]) -> Switched {
        switched_beside(source, changes, &[])
    }

    fn switched_beside(
        source: &str,
        changes: &[(&str, &str, &str)],
        constant: &[&str],
    ) -> Switched {
        let changes = changes.iter();
        let changes: Vec<Change> = changes
            .map(|(genre, marked, replacement)| change(source, genre, marked, replacement))
            .collect();
        let numbered: Vec<(u32, &Change)> = (1..).zip(&changes).collect();
        let constant = constant.iter().map(|name| (*name).to_owned()).collect();
        Switched::make(source, &numbered, &constant).unwrap()
    }

    fn text(source: &str, changes: &[(&str, &str, &str)]) -> String {
        let text = switched(source, changes).text;
        syn::parse_file(&text).unwrap();
        text.replace("crate::xtask_mutant::", "")
    }

    #[test]
    fn a_function_gives_back_what_stands_for_its_body() {
        let source = "fn f() -> u8 { a(); 5 }";
        assert_eq!(
            text(
                source,
                &[("FnValue", "[a(); 5]", "0"), ("FnValue", "[a(); 5]", "1")]
            ),
            "fn f() -> u8 { if on(1) { return 0; } if on(2) { return 1; } a(); 5 }"
        );
    }

    #[test]
    fn an_expression_is_written_once_for_each_change() {
        let source = "fn f() { if !a == b {} }";
        let changes = [
            ("UnaryOperator", "[!]a", ""),
            ("BinaryOperator", "a [==] b", "!="),
        ];
        assert_eq!(
            text(source, &changes),
            "fn f() { if (if on(2) { !a != b } else { (if on(1) { a } else { !a }) == b }) {} }"
        );
        let source = "fn f() -> S { S { a: 1, b: 2, ..c } }";
        assert_eq!(
            text(source, &[("StructField", "[a: 1,]", "")]),
            "fn f() -> S { (if on(1) { S {  b: 2, ..c } } else { S { a: 1, b: 2, ..c } }) }"
        );
    }

    /// The replacement binds as it does where the text alone is changed.
    #[test]
    fn operators_that_bind_each_other_are_one_expression() {
        let source = "fn f() { x += a - b * (c + d); }";
        let changes = [
            ("BinaryOperator", "b [*] (", "+"),
            ("BinaryOperator", "c [+] d", "-"),
            ("BinaryOperator", "x [+=] a", "-="),
        ];
        assert_eq!(
            text(source, &changes),
            "fn f() { (if on(3) { x -= a - b * (c + d) } else if on(1) { x += a - b + (c + d) } \
             else { x += a - b * ((if on(2) { c - d } else { c + d })) }); }"
        );
    }

    #[test]
    fn an_arm_is_deleted_by_a_guard_and_a_guard_is_an_expression() {
        let source = "fn f() { match a { 1 | 2 => b, x if x > 3 => c, _ => d } }";
        let changes = [
            ("MatchArm", "[1 | 2 => b,]", ""),
            ("MatchArmGuard", "if [x > 3] =>", "true"),
            ("BinaryOperator", "x [>] 3", "<"),
        ];
        assert_eq!(
            text(source, &changes),
            "fn f() { match a { 1 | 2 if !on(1) => b, x if (if on(2) { true } else { \
             (if on(3) { x < 3 } else { x > 3 }) }) => c, _ => d } }"
        );
    }

    #[test]
    fn all_that_lies_in_each_other_is_switched() {
        let source = "fn f() -> bool { g(|a| a + 1) && !h }";
        let changes = [
            ("FnValue", "{ [g(|a| a + 1) && !h] }", "true"),
            ("BinaryOperator", "a [+] 1", "-"),
            ("BinaryOperator", " [&&] ", "||"),
            ("UnaryOperator", "[!]h", ""),
        ];
        assert_eq!(
            text(source, &changes),
            "fn f() -> bool { if on(1) { return true; } (if on(3) { g(|a| a + 1) || !h } else { \
             g(|a| (if on(2) { a - 1 } else { a + 1 })) && (if on(4) { h } else { !h }) }) }"
        );
    }

    #[test]
    fn what_is_fixed_when_it_is_compiled_has_no_switch() {
        let fixed = [
            ("const A: u8 = 1 + 2;", "[+]", "BinaryOperator"),
            ("static A: u8 = 1 + 2;", "[+]", "BinaryOperator"),
            ("impl S { const A: u8 = 1 + 2; }", "[+]", "BinaryOperator"),
            ("trait T { const A: u8 = 1 + 2; }", "[+]", "BinaryOperator"),
            ("fn f(a: [u8; 1 + 2]) {}", "[+]", "BinaryOperator"),
            ("fn f() { [0; 1 + 2]; }", "[+]", "BinaryOperator"),
            ("fn f() { g::<{ 1 + 2 }>(); }", "[+]", "BinaryOperator"),
            ("fn f() { const { 1 + 2 }; }", "[+]", "BinaryOperator"),
            ("enum E { A = 1 + 2 }", "[+]", "BinaryOperator"),
            (
                "fn f() { match a { -1 => b, _ => c } }",
                "[-]",
                "UnaryOperator",
            ),
            ("fn f() { if let A = a && b {} }", "[&&]", "BinaryOperator"),
            ("fn f() { g!(1 + 2); }", "[+]", "BinaryOperator"),
        ];
        for (source, marked, genre) in fixed {
            let file = switched(source, &[(genre, marked, "-")]);
            assert_eq!((file.text.as_str(), file.places.len()), (source, 0));
        }
    }

    #[test]
    fn operators_beside_a_let_are_switched_alone() {
        let source = "fn f() { if let A = a && b == c && d {} }";
        let changes = [
            ("BinaryOperator", "b [==] c", "!="),
            ("BinaryOperator", "[&&] d", "||"),
        ];
        assert_eq!(
            text(source, &changes),
            "fn f() { if let A = a && (if on(1) { b != c } else { b == c }) && d {} }"
        );
    }

    #[test]
    fn a_const_function_is_switched_unless_something_constant_calls_it() {
        let source = "const fn f() -> u8 { 1 + 2 }";
        let changes = [("BinaryOperator", "1 [+] 2", "-")];
        assert_eq!(
            text(source, &changes),
            "      fn f() -> u8 { (if on(1) { 1 - 2 } else { 1 + 2 }) }"
        );
        let file = switched_beside(source, &changes, &["f"]);
        assert_eq!((file.text.as_str(), file.places.len()), (source, 0));
        let source = "const fn f() -> T { a }";
        for (value, places) in [("Some(Ok(true))", 2), ("Box::leak(b)", 0), ("vec![]", 0)] {
            let file = switched(source, &[("FnValue", "{ [a] }", value)]);
            assert_eq!(file.places.len(), places, "{value}");
        }
        let inner = "const fn f() { fn g() { 1 + 2 } }";
        let file = switched_beside(inner, &changes, &["f"]);
        assert_eq!(file.places.len(), 2, "{}", file.text);
    }

    #[test]
    fn a_place_in_the_new_text_names_the_nearest_change() {
        let source = "fn f() { g(a + b) == c }";
        let changes = [
            ("BinaryOperator", "a [+] b", "-"),
            ("BinaryOperator", " [==] ", "!="),
        ];
        let file = switched(source, &changes);
        let at = |text: &str| {
            let start = file.text.rfind(text).unwrap();
            let nearest = file.nearest(&(start..start + text.len()));
            let found = nearest.iter().map(|place| (place.number, place.own));
            found.collect::<Vec<_>>()
        };
        assert_eq!(at("g(a + b) !="), [(2, true)]);
        assert_eq!(at("a - b"), [(1, true)]);
        assert_eq!(at("a + b"), [(1, false)]);
        assert_eq!(at(") == c"), [(2, false)]);
        assert_eq!(at("fn f()"), []);
    }

    #[test]
    fn the_module_reads_the_variable() {
        assert!(MODULE.contains(&format!("var(\"{VARIABLE}\")")));
        syn::parse_file(MODULE).unwrap();
    }
}
