//! Every variant of every public error is named by a test: an error that no test can name is one
//! that nobody has seen. requirement: TP-1
//!
//! A pattern counts as well as an expression: in a test it is mostly what an answer is held to,
//! and the two cannot be told apart within a macro's tokens. Whether a variant is made by shipped
//! code, and met, the coverage of lines says.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::modules::Sources;
use crate::tree::{File, Finding, Tree};

/// Crates that never ship.
const UNSHIPPED_PACKAGES: &[&str] = &["fake-cuda", "test-listener", "xtask"];

/// `Enum::Variant` as two names.
type Pair = (String, String);

/// The variants that no test names. Where errors of several packages have one name, a test speaks
/// of its own package's.
pub(crate) fn findings(tree: &Tree, sources: &Sources) -> Vec<Finding> {
    let ships = |file: &&File| !UNSHIPPED_PACKAGES.contains(&file.package());
    let mut named: BTreeMap<Pair, BTreeSet<&str>> = BTreeMap::new();
    for file in tree.rust().filter(ships) {
        for pair in self::named(file, sources) {
            named.entry(pair).or_default().insert(file.package());
        }
    }
    let mut public = Vec::new();
    let mut owners: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for file in tree.rust().filter(ships).filter(|file| file.in_src()) {
        let declared = declared(file).into_iter();
        for (line, pair) in declared.filter(|(line, _)| !sources.is_test(&file.path, *line)) {
            owners
                .entry(pair.0.clone())
                .or_default()
                .insert(file.package());
            public.push((file, line, pair));
        }
    }
    let mut found = Vec::new();
    for (file, line, pair) in public {
        let one_owner = owners.get(&pair.0).is_some_and(|owners| owners.len() == 1);
        let by = named.get(&pair);
        if !by.is_some_and(|by| one_owner || by.contains(file.package())) {
            let (name, variant) = pair;
            found.push(file.finding(line, format!("no test names `{name}::{variant}`")));
        }
    }
    found
}

/// The variants of the file's public errors, with their lines.
fn declared(file: &File) -> Vec<(usize, Pair)> {
    let mut errors = Errors::default();
    if let Ok(syntax) = syn::parse_file(file.text.as_deref().unwrap_or_default()) {
        errors.visit_file(&syntax);
    }
    errors.variants
}

#[derive(Default)]
struct Errors {
    variants: Vec<(usize, Pair)>,
}

impl<'ast> Visit<'ast> for Errors {
    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        if matches!(item.vis, syn::Visibility::Public(_)) && item.attrs.iter().any(derives_error) {
            for variant in &item.variants {
                let pair = (item.ident.to_string(), variant.ident.to_string());
                self.variants
                    .push((variant.ident.span().start().line, pair));
            }
        }
        visit::visit_item_enum(self, item);
    }
}

/// `#[derive(.., thiserror::Error, ..)]`.
fn derives_error(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else {
        return false;
    };
    let is_error = |token: TokenTree| matches!(token, TokenTree::Ident(name) if name == "Error");
    list.path.is_ident("derive") && list.tokens.clone().into_iter().any(is_error)
}

/// Every `Name::Name` in the file's test code, macros included.
fn named(file: &File, sources: &Sources) -> Vec<Pair> {
    let text = file.text.as_deref().unwrap_or_default();
    let mut pairs = Vec::new();
    collect(text.parse().unwrap_or_default(), &mut pairs);
    let is_test = |line: usize| file.in_tests() || sources.is_test(&file.path, line);
    let pairs = pairs.into_iter().filter(|(line, _)| is_test(*line));
    pairs.map(|(_, pair)| pair).collect()
}

fn collect(tokens: TokenStream, pairs: &mut Vec<(usize, Pair)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let colon = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ':');
    for window in tokens.windows(4) {
        if let [TokenTree::Ident(first), one, two, TokenTree::Ident(last)] = window
            && colon(one)
            && colon(two)
        {
            let pair = (first.to_string(), last.to_string());
            pairs.push((first.span().start().line, pair));
        }
    }
    for token in tokens {
        if let TokenTree::Group(group) = token {
            collect(group.stream(), pairs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERRORS: &str = "\
/// Why.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(\"a\")]
    Open { path: String },
    #[error(\"b\")]
    Read(u8),
    #[error(\"c\")]
    Short,
}
#[derive(Debug)]
pub enum Mode { Fast }
#[derive(thiserror::Error)]
enum Private { Never }
fn f() { let _ = LoadError::Short; }
#[cfg(test)]
mod tests {
    fn t() { assert!(matches!(f(), crate::LoadError::Open { .. })); }
}
";

    // requirement: TP-1
    #[test]
    fn a_variant_that_only_shipped_code_names_is_found() {
        let test = "fn t() { let LoadError::Read(_) = f() else { panic!(\"LoadError::Short\") }; }";
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", ERRORS),
            ("crates/a/tests/t.rs", test),
        ]);
        let found: Vec<String> = findings(&tree, &Sources::read(&tree))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            ["crates/a/src/lib.rs:9: no test names `LoadError::Short`"]
        );
    }

    #[test]
    fn of_two_errors_with_one_name_a_test_means_its_own_packages() {
        let error =
            |body: &str| format!("#[derive(thiserror::Error)] pub enum OpenError {{ {body} }}");
        let test = "fn t() { (OpenError::Gone, OpenError::Both, AnyError::Odd) }";
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", &error("Both")),
            ("crates/b/src/lib.rs", &error("Both, Gone")),
            (
                "crates/c/src/lib.rs",
                "#[derive(Error)] pub enum AnyError { Odd }",
            ),
            ("crates/a/tests/t.rs", test),
        ]);
        let found = findings(&tree, &Sources::read(&tree));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        let missed =
            |variant| format!("crates/b/src/lib.rs:1: no test names `OpenError::{variant}`");
        assert_eq!(found, [missed("Both"), missed("Gone")]);
    }

    #[test]
    fn errors_of_the_test_driver_are_its_own_business() {
        let tree = Tree::of(&[("crates/fake-cuda/src/lib.rs", ERRORS)]);
        assert_eq!(findings(&tree, &Sources::read(&tree)), []);
    }
}
