//! What the checks need to know about a Rust file: its functions, its test code and the modules
//! that it declares.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// First and last line, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Lines {
    pub(crate) fn contains(self, line: usize) -> bool {
        (self.first..=self.last).contains(&line)
    }

    pub(crate) fn count(self) -> usize {
        self.last - self.first + 1
    }
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: Lines,
}

/// `mod name;`: its file lies elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ModuleFile {
    /// The inline modules around it, then its own name.
    pub(crate) names: Vec<String>,
    /// The value of `#[path = "..."]`.
    pub(crate) path: Option<String>,
    /// Whether it is compiled for tests only.
    pub(crate) test: bool,
}

/// The facts about one file.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) functions: Vec<Function>,
    /// Names of the functions that are run as tests, ignored ones left out.
    pub(crate) test_functions: Vec<String>,
    /// Items that are compiled for tests only.
    pub(crate) tests: Vec<Lines>,
    pub(crate) modules: Vec<ModuleFile>,
    /// Whether something in it is run: a test, one within a macro's braces, or a program's `main`.
    pub(crate) runs: bool,
    /// Macros of it that make a test of what they are given.
    pub(crate) makers: Vec<String>,
    /// Macros that it calls outside functions.
    pub(crate) calls: Vec<String>,
    /// The inline modules around the item being read.
    around: Vec<String>,
    in_tests: bool,
}

impl Source {
    /// Reads a Rust file; the error is the parser's.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file = syn::parse_file(text).map_err(|error| error.to_string())?;
        let mut source = Self::default();
        source.visit_file(&file);
        Ok(source)
    }

    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.tests.iter().any(|lines| lines.contains(line))
    }

    fn note_test(&mut self, attributes: &[syn::Attribute], whole: Lines) {
        if attributes.iter().any(is_test_attribute) {
            self.tests.push(whole);
        }
    }

    fn note_function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = Lines {
            first: lines(&signature).first,
            last: lines(&block).last,
        };
        self.functions.push(Function {
            name: signature.ident.to_string(),
            lines,
        });
    }
}

/// The lines that a piece of syntax covers, its attributes and doc comments included.
fn lines(syntax: &impl Spanned) -> Lines {
    let span = syntax.span();
    Lines {
        first: span.start().line,
        last: span.end().line,
    }
}

/// `#[test]`, or a `#[cfg(...)]` that asks for `test` and does not negate.
fn is_test_attribute(attribute: &syn::Attribute) -> bool {
    match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            let words: Vec<&str> = condition
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .collect();
            words.contains(&"test") && !words.contains(&"not")
        }
        _ => false,
    }
}

/// Whether `#[test]` stands somewhere among these.
fn has_test(tokens: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let marked = tokens.windows(2).any(|pair| match pair {
        [TokenTree::Punct(mark), TokenTree::Group(group)] => {
            mark.as_char() == '#' && group.stream().to_string() == "test"
        }
        _ => false,
    });
    let group = |token| matches!(token, TokenTree::Group(group) if has_test(group.stream()));
    marked || tokens.into_iter().any(group)
}

fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes
        .iter()
        .find_map(|attribute| match &attribute.meta {
            syn::Meta::NameValue(meta) if meta.path.is_ident("path") => match &meta.value {
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        })
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.note_test(&item.attrs, lines(item));
        let was_in_tests = self.in_tests;
        self.in_tests |= item.attrs.iter().any(is_test_attribute);
        self.around.push(item.ident.to_string());
        if item.content.is_none() {
            let path = path_attribute(&item.attrs);
            let (names, test) = (self.around.clone(), self.in_tests);
            self.modules.push(ModuleFile { names, path, test });
        }
        visit::visit_item_mod(self, item);
        self.around.pop();
        self.in_tests = was_in_tests;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let has = |word: &str| item.attrs.iter().any(|a| a.path().is_ident(word));
        self.runs |= has("test") || (self.around.is_empty() && item.sig.ident == "main");
        if has("test") && !has("ignore") {
            self.test_functions.push(item.sig.ident.to_string());
        }
        self.note_test(&item.attrs, lines(item));
        self.note_function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let tests = has_test(item.mac.tokens.clone());
        match &item.ident {
            Some(name) if tests => self.makers.push(name.to_string()),
            Some(_) => {}
            None => {
                self.runs |= tests;
                let name = item.mac.path.segments.last();
                self.calls.extend(name.map(|name| name.ident.to_string()));
            }
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.note_test(&item.attrs, lines(item));
        visit::visit_item_impl(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note_test(&item.attrs, lines(item));
        self.note_function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.note_function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
fn one() {
}
trait T {
    fn none();
    fn two() {}
}
#[cfg(not(test))]
impl X {
    /// Doc.
    #[cfg(test)]
    fn for_tests() {}
}
mod far;
#[path = \"other.rs\"]
mod near;
#[cfg(all(test, unix))]
mod tests {
    mod below;
    fn helper() {}
}
";

    #[test]
    fn functions_are_found_with_their_lines() {
        let source = Source::parse(SAMPLE).unwrap();
        let found: Vec<_> = source
            .functions
            .iter()
            .map(|f| (f.name.as_str(), f.lines))
            .collect();
        let at = |first, last| Lines { first, last };
        assert_eq!(
            found,
            [
                ("one", at(1, 2)),
                ("two", at(5, 5)),
                ("for_tests", at(11, 11)),
                ("helper", at(19, 19)),
            ]
        );
    }

    #[test]
    fn test_code_is_told_apart_with_its_documentation() {
        let source = Source::parse(SAMPLE).unwrap();
        let test_lines: Vec<usize> = (1..=20).filter(|line| source.is_test_line(*line)).collect();
        assert_eq!(test_lines, [9, 10, 11, 16, 17, 18, 19, 20]);
    }

    #[test]
    fn a_file_that_runs_something_is_told_from_one_that_helps() {
        let runs = |text: &str| Source::parse(text).unwrap().runs;
        assert!(runs("mod m { #[test] #[ignore = \"slow\"] fn a() {} }"));
        assert!(runs("proptest! { #[test] fn a(x in any()) {} }"));
        assert!(runs("fn main() {}"));
        for helper in [
            "//! Like a `#[test]`.\npub fn a() {}",
            "pub mod b { pub fn main() {} }",
            "macro_rules! each { ($name:ident) => { #[test] fn $name() {} } }",
        ] {
            assert!(!runs(helper), "{helper}");
        }
        let maker = "macro_rules! each { ($($n:ident)*) => {$( #[test] fn $n() {} )*} } each!(a);";
        let maker = Source::parse(maker).unwrap();
        assert_eq!(
            (maker.makers, maker.calls),
            (vec!["each".to_owned()], vec!["each".to_owned()])
        );
    }

    #[test]
    fn modules_in_other_files_are_found() {
        let source = Source::parse(SAMPLE).unwrap();
        let far = |names: &[&str], path: Option<&str>, test| ModuleFile {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            path: path.map(str::to_owned),
            test,
        };
        assert_eq!(
            source.modules,
            [
                far(&["far"], None, false),
                far(&["near"], Some("other.rs"), false),
                far(&["tests", "below"], None, true),
            ]
        );
    }

    #[test]
    fn what_is_not_rust_is_an_error() {
        assert!(Source::parse("fn (").is_err());
    }
}
