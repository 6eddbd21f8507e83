//! Rules on Rust sources: unsafe code, ignored tests, the environment, forgotten files.

use crate::modules::Sources;
use crate::tree::{File, Finding, Tree};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The crates that may hold unsafe code: SIMD, the driver, and the test driver's C interface.
const UNSAFE_PACKAGES: &[&str] = &["vram-digest", "vram-residency-cuda", "fake-cuda"];

/// Crates that never ship.
const UNSHIPPED_PACKAGES: &[&str] = &["fake-cuda", "test-listener", "xtask"];

/// What shipped code may not do and tests may: panic, and calculate or convert without a check.
const DENIED: &[&str] = &[
    "unwrap_used",
    "expect_used",
    "panic",
    "indexing_slicing",
    "arithmetic_side_effects",
    "cast_ptr_alignment",
    "cast_possible_truncation",
    "cast_possible_wrap",
    "cast_precision_loss",
    "cast_sign_loss",
    "string_slice",
    "missing_panics_doc",
];

/// Crates that are held to that: all but the tools for work on the repository.
const TOOLS: &[&str] = &["fuzz-targets", "test-listener", "xtask"];

/// The only shipped files that may look at the environment; the command documents what it reads.
const ENVIRONMENT_FILES: &[&str] = &["crates/vram/src/environment.rs"];

/// Functions of `std::env` that read or change variables.
const ENVIRONMENT_CALLS: &[&str] = &["var", "var_os", "vars", "vars_os", "set_var", "remove_var"];

/// What tells that a test looks for its keys in all that is told.
const PLANTED: &[&str] = &[
    "test_listener",
    "listen",
    "root_key",
    "secret_of",
    "KnownKey",
];

/// Models that run thousands of schedules, and benches, which measure: no listener keeps up.
const UNHEARD: &[&str] = &["/src/races/", "/benches/"];

/// Where the locks and atomics come from that a scheduler can take the place of, and what takes
/// them from `std` all the same.
const MODELLED: &str = "crates/vram-residency/src/";
const UNMODELLED: &[(&str, &str)] = &[
    ("sync/", "it is where they come from"),
    ("races/", "the models themselves"),
    ("manager/metrics.rs", "counters that are only shown"),
    ("load/file.rs", "counters that are only shown"),
    ("device/mod.rs", "a static, which outlives a scheduled run"),
];

/// What of `std::sync` a scheduler has of its own.
const SCHEDULED: &[&str] = &["Mutex", "MutexGuard", "Condvar", "RwLock", "atomic"];

/// Every source must be readable, or the other rules saw nothing of it.
pub(super) fn parsed(sources: &Sources, found: &mut Vec<Finding>) {
    for (path, error) in &sources.broken {
        let message = format!("not Rust: {error}");
        found.push(Finding {
            path: path.clone(),
            line: 0,
            message,
        });
    }
}

/// A file that no module declares is not compiled, linted or tested. requirement: HY-2
pub(super) fn reachable(tree: &Tree, sources: &Sources, found: &mut Vec<Finding>) {
    for file in tree
        .rust()
        .filter(|file| file.in_src() && !file.is_sample())
    {
        if !sources.is_reached(&file.path) {
            found.push(file.finding(0, "no module declares this file"));
        }
    }
}

/// Unsafe code stands in its crates only, and every other crate root forbids it. requirement: HY-3
pub(super) fn unsafe_code(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree
        .rust()
        .filter(|file| !UNSAFE_PACKAGES.contains(&file.package()))
    {
        let tokens = tokens(file);
        let is_unsafe = |window: &[TokenTree]| is_ident(window.first(), "unsafe");
        for line in search(&tokens, &is_unsafe) {
            let message = format!("unsafe code outside {}", UNSAFE_PACKAGES.join(", "));
            found.push(file.finding(line, message));
        }
        let text = tokens.to_string().replace(' ', "");
        if is_crate_root(file) && !text.contains("#![forbid(unsafe_code)]") {
            found.push(file.finding(0, "lacks `#![forbid(unsafe_code)]`"));
        }
    }
}

/// Cargo knows lints of a package only, tests and all; so the crate roots name those that are for
/// shipped code alone. requirement: HY-1
pub(super) fn denied(tree: &Tree, found: &mut Vec<Finding>) {
    let lints: Vec<String> = DENIED
        .iter()
        .map(|lint| format!("clippy::{lint}"))
        .collect();
    let deny = format!("#![deny({})]", lints.join(","));
    let held = |file: &&File| is_crate_root(file) && !TOOLS.contains(&file.package());
    for file in tree.rust().filter(held) {
        let text = tokens(file).to_string();
        if !text.replace(char::is_whitespace, "").contains(&deny) {
            let message = format!("lacks `#![deny(..)]` of {}", DENIED.join(", "));
            found.push(file.finding(0, message));
        }
    }
}

fn is_crate_root(file: &File) -> bool {
    file.path.ends_with("/src/lib.rs") || file.path.ends_with("/src/main.rs")
}

/// `#[ignore]` says why, so that a skipped test is a decision.
pub(super) fn ignored_tests(tree: &Tree, found: &mut Vec<Finding>) {
    let bare = |window: &[TokenTree]| {
        let Some(TokenTree::Group(group)) = window.get(1) else {
            return false;
        };
        let inner = group.stream().to_string().replace(' ', "");
        is_punct(window.first(), '#')
            && group.delimiter() == Delimiter::Bracket
            && (inner == "ignore" || inner == "ignore=\"\"")
    };
    for file in tree.rust() {
        for line in search(&tokens(file), &bare) {
            found.push(file.finding(line, "ignored test without a reason"));
        }
    }
}

/// Shipped code is told what to do; only the command may look around.
pub(super) fn environment(tree: &Tree, sources: &Sources, found: &mut Vec<Finding>) {
    let shipped = |file: &&File| {
        file.in_src()
            && !UNSHIPPED_PACKAGES.contains(&file.package())
            && !ENVIRONMENT_FILES.contains(&file.path.as_str())
    };
    for file in tree.rust().filter(shipped) {
        for line in search(&tokens(file), &reads_environment) {
            if !sources.is_test(&file.path, line) {
                let message = format!(
                    "reads the environment outside {}",
                    ENVIRONMENT_FILES.join(", ")
                );
                found.push(file.finding(line, message));
            }
        }
    }
}

/// What threads decide by can be stopped at by a scheduler, or no model sees it. requirement: TP-9
pub(super) fn locks(tree: &Tree, sources: &Sources, found: &mut Vec<Finding>) {
    let unmodelled = |path: &str| UNMODELLED.iter().any(|(start, _)| path.starts_with(start));
    for file in tree.rust() {
        let ours = file.path.strip_prefix(MODELLED);
        if ours.is_none_or(unmodelled) {
            continue;
        }
        for line in search(&tokens(file), &takes_lock) {
            if !sources.is_test(&file.path, line) {
                let message = "takes a lock or an atomic from `std`; `crate::sync` has those \
                               that the models run under a scheduler";
                found.push(file.finding(line, message));
            }
        }
    }
}

/// `std::sync::Mutex` and `std::sync::{.., Mutex, ..}`, and the like.
fn takes_lock(window: &[TokenTree]) -> bool {
    let scheduled = |token: &TokenTree| SCHEDULED.iter().any(|name| is_ident(Some(token), name));
    let path = |at: usize| is_punct(window.get(at), ':') && is_punct(window.get(at + 1), ':');
    if !(calls(window, "std", "sync") && path(4)) {
        return false;
    }
    match window.get(6) {
        Some(TokenTree::Group(group)) => group.stream().into_iter().any(|token| scheduled(&token)),
        Some(token) => scheduled(token),
        None => false,
    }
}

/// No test makes a manager of a key that nobody looks for. requirement: AU-11
pub(super) fn planted_keys(tree: &Tree, sources: &Sources, found: &mut Vec<Finding>) {
    let heard = |file: &&File| !UNHEARD.iter().any(|path| file.path.contains(path));
    for file in tree.rust().filter(heard) {
        let tokens = tokens(file);
        let in_tests = |matches: &dyn Fn(&[TokenTree]) -> bool| {
            let mut lines = search(&tokens, matches);
            lines
                .retain(|line| file.path.contains("/tests/") || sources.is_test(&file.path, *line));
            lines
        };
        let managers = in_tests(&|window| calls(window, "VramManager", "builder"));
        let keys =
            |window: &[TokenTree]| is_punct(window.first(), '.') && is_ident(window.get(1), "key");
        let planted =
            |window: &[TokenTree]| PLANTED.iter().any(|name| is_ident(window.first(), name));
        let Some(first) = managers.first().filter(|_| !in_tests(&keys).is_empty()) else {
            continue;
        };
        let mut unheard = in_tests(&|window| calls(window, "RootKey", "generate"));
        if unheard.is_empty() && search(&tokens, &planted).is_empty() {
            unheard.push(*first);
        }
        for line in unheard {
            let message = "makes a manager of a key that nobody looks for; \
                           RootKey::from_token(&test_listener::secret()) is one";
            found.push(file.finding(line, message));
        }
    }
}

/// `of::what`.
fn calls(window: &[TokenTree], of: &str, what: &str) -> bool {
    is_ident(window.first(), of)
        && is_punct(window.get(1), ':')
        && is_punct(window.get(2), ':')
        && is_ident(window.get(3), what)
}

/// `env::var`, `env::{.., var, ..}` and `env as other`.
fn reads_environment(window: &[TokenTree]) -> bool {
    if !is_ident(window.first(), "env") {
        return false;
    }
    let path = is_punct(window.get(1), ':') && is_punct(window.get(2), ':');
    match window.get(3) {
        Some(TokenTree::Ident(name)) if path => {
            ENVIRONMENT_CALLS.contains(&name.to_string().as_str())
        }
        Some(TokenTree::Group(group)) if path => group.stream().into_iter().any(|token| {
            ENVIRONMENT_CALLS
                .iter()
                .any(|call| is_ident(Some(&token), call))
        }),
        Some(TokenTree::Punct(star)) if path => star.as_char() == '*',
        _ => is_ident(window.get(1), "as"),
    }
}

/// A file's tokens; a file that does not lex is the business of [`parsed`].
fn tokens(file: &File) -> TokenStream {
    file.text
        .as_deref()
        .unwrap_or_default()
        .parse()
        .unwrap_or_default()
}

/// The lines on which `matches` accepts the tokens from there on, inside groups too.
fn search(stream: &TokenStream, matches: &dyn Fn(&[TokenTree]) -> bool) -> Vec<usize> {
    let trees: Vec<TokenTree> = stream.clone().into_iter().collect();
    let mut lines = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        if trees.get(index..).is_some_and(matches) {
            lines.push(tree.span().start().line);
        }
        if let TokenTree::Group(group) = tree {
            lines.extend(search(&group.stream(), matches));
        }
    }
    lines
}

fn is_ident(token: Option<&TokenTree>, name: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if *ident == name)
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    // requirement: TP-9
    #[test]
    fn locks_come_from_where_models_can_take_their_place() {
        let text = "use std::sync::{Arc, OnceLock};\nuse std::sync::{Arc, Mutex};\n\
                    use std::sync::atomic::AtomicU64;\nstruct S(std::sync::Condvar);\n\
                    use crate::sync::RwLock;\n#[cfg(test)]\nmod tests {\n    use std::sync::Mutex;\n}\n";
        let tree = Tree::of(&[
            ("crates/vram-residency/src/lib.rs", text),
            ("crates/vram-residency/src/sync/mod.rs", text),
            ("crates/vram-residency/tests/t.rs", text),
            ("crates/vram/src/main.rs", text),
        ]);
        let mut found = Vec::new();
        locks(&tree, &Sources::read(&tree), &mut found);
        let ours = "crates/vram-residency/src/lib.rs";
        assert_eq!(places(&found), [(ours, 2), (ours, 3), (ours, 4)]);
        let tree = Tree::read(&crate::exec::root()).unwrap();
        for (path, why) in UNMODELLED {
            let under = |file: &&File| file.path.starts_with(&format!("{MODELLED}{path}"));
            assert!(
                tree.rust().any(|file| under(&file)),
                "{path}: {why}: it is gone"
            );
        }
    }

    fn places(found: &[Finding]) -> Vec<(&str, usize)> {
        found
            .iter()
            .map(|finding| (finding.path.as_str(), finding.line))
            .collect()
    }

    // requirement: HY-3
    #[test]
    fn unsafe_code_stands_in_its_crates_only() {
        let guarded =
            "#![forbid(unsafe_code)]\n// unsafe in prose\nfn f() { m!(unsafe { g() }) }\n";
        let tree = Tree::of(&[
            ("crates/vram-digest/src/lib.rs", "fn f() { unsafe { g() } }"),
            ("crates/vram-residency/src/lib.rs", guarded),
            (
                "crates/vram-residency/tests/t.rs",
                "fn f() { let s = \"unsafe\"; }",
            ),
            ("crates/vram/src/main.rs", "fn main() {}"),
        ]);
        let mut found = Vec::new();
        unsafe_code(&tree, &mut found);
        assert_eq!(
            places(&found),
            [
                ("crates/vram-residency/src/lib.rs", 3),
                ("crates/vram/src/main.rs", 0)
            ]
        );
    }

    // requirement: HY-1
    #[test]
    fn crate_roots_deny_what_only_tests_may_do() {
        let lints: Vec<String> = DENIED
            .iter()
            .map(|lint| format!("clippy::{lint}"))
            .collect();
        let whole = format!("#![deny(\n    {}\n)]\n", lints.join(",\n    "));
        let but_one = whole.replace("clippy::panic,", "");
        let tree = Tree::of(&[
            ("crates/vram-digest/src/lib.rs", &whole),
            ("crates/vram/src/main.rs", &but_one),
            ("crates/vram/src/other.rs", ""),
            ("xtask/src/main.rs", ""),
        ]);
        let mut found = Vec::new();
        denied(&tree, &mut found);
        assert_eq!(places(&found), [("crates/vram/src/main.rs", 0)]);
    }

    #[test]
    fn an_ignored_test_has_a_reason() {
        let text = "#[ignore = \"gpu\"]\nfn a() {}\n#[ignore]\nfn b() {}\nm! {\n#[ignore = \"\"]\nfn c() {} }\n";
        let mut found = Vec::new();
        ignored_tests(&Tree::of(&[("crates/a/src/lib.rs", text)]), &mut found);
        assert_eq!(
            places(&found),
            [("crates/a/src/lib.rs", 3), ("crates/a/src/lib.rs", 6)]
        );
    }

    #[test]
    fn shipped_code_does_not_read_the_environment() {
        let bad = "use std::env::{self, var_os};\nfn f() { env::var(\"A\"); }\nuse std::env as e;\n\
                   use std::env::*;\n";
        let good = "fn f() { std::env::args(); env!(\"B\"); }\n#[cfg(test)]\nmod tests { fn f() { \
                    std::env::var(\"A\"); } }\n";
        let tree = Tree::of(&[
            ("crates/vram-residency/src/lib.rs", bad),
            ("crates/vram/src/main.rs", good),
            ("crates/vram/src/environment.rs", bad),
            ("crates/vram/tests/t.rs", bad),
            ("crates/fake-cuda/src/lib.rs", bad),
        ]);
        let mut found = Vec::new();
        environment(&tree, &Sources::read(&tree), &mut found);
        let path = "crates/vram-residency/src/lib.rs";
        assert_eq!(places(&found), [(path, 1), (path, 2), (path, 3), (path, 4)]);
    }

    // requirement: AU-11
    #[test]
    fn a_test_makes_no_manager_of_a_key_that_nobody_looks_for() {
        let make = |key: &str| format!("fn f() {{ VramManager::builder().key({key}); }}\n");
        let bad = make("RootKey::generate(&OsRandom)");
        let literal = make("RootKey::from_token(b\"0\")");
        let good = make("RootKey::from_token(&test_listener::secret())");
        let in_module = format!("{bad}#[cfg(test)]\nmod tests {{ {bad} }}\n");
        let tree = Tree::of(&[
            ("crates/vram/src/a.rs", &in_module),
            ("crates/vram/tests/bad.rs", &format!("{good}{bad}")),
            ("crates/vram/tests/literal.rs", &literal),
            ("crates/vram/tests/good.rs", &good),
            (
                "crates/vram/tests/none.rs",
                "fn f() { VramManager::builder().build(); }",
            ),
            ("crates/vram-residency/src/races/rig.rs", &literal),
            ("crates/vram/examples/e.rs", &bad),
            ("crates/vram/benches/b.rs", &bad),
        ]);
        let mut found = Vec::new();
        planted_keys(&tree, &Sources::read(&tree), &mut found);
        let expected = [
            ("crates/vram/src/a.rs", 3),
            ("crates/vram/tests/bad.rs", 2),
            ("crates/vram/tests/literal.rs", 1),
        ];
        assert_eq!(places(&found), expected);
    }

    // requirement: HY-2
    #[test]
    fn a_forgotten_file_is_found() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "mod used;"),
            ("crates/a/src/used.rs", ""),
            ("crates/a/src/forgotten.rs", ""),
        ]);
        let mut found = Vec::new();
        reachable(&tree, &Sources::read(&tree), &mut found);
        assert_eq!(places(&found), [("crates/a/src/forgotten.rs", 0)]);
    }

    #[test]
    fn a_file_that_cannot_be_read_as_rust_is_found() {
        let mut found = Vec::new();
        parsed(
            &Sources::read(&Tree::of(&[("crates/a/src/lib.rs", "fn (")])),
            &mut found,
        );
        assert_eq!(places(&found), [("crates/a/src/lib.rs", 0)]);
    }
}
