//! Every dependency says in its manifest why it is there. requirement: HY-4

use crate::tree::{Finding, Tree};

/// One comment explains at most this many dependencies right below it: a family, not a list.
const FAMILY: usize = 3;

/// A dependency needs a comment on its line, or above it or its family. One that is taken from
/// the workspace has it there; our own crates need none.
pub(super) fn reasons(tree: &Tree, found: &mut Vec<Finding>) {
    for file in tree
        .files
        .iter()
        .filter(|file| file.path.ends_with("Cargo.toml"))
    {
        let mut in_dependencies = false;
        let mut depth = 0_usize;
        let mut explained = 0_usize;
        for (number, line) in file.lines() {
            let line = line.trim();
            if depth == 0 && line.starts_with('[') {
                let table = line.trim_matches(['[', ']']);
                in_dependencies = table.ends_with("dependencies");
                if let Some((before, name)) = table.rsplit_once('.')
                    && before.ends_with("dependencies")
                    && explained == 0
                {
                    found.push(file.finding(number, format!("`{name}` has no comment")));
                }
            } else if depth == 0 && in_dependencies && needs_reason(line) && explained == 0 {
                let name = line.split([' ', '=', '.']).next().unwrap_or(line);
                found.push(file.finding(number, format!("`{name}` has no comment saying why")));
            }
            explained = match line.chars().next() {
                None => 0,
                Some('#') => FAMILY,
                Some(_) if depth == 0 => explained.saturating_sub(1),
                Some(_) => explained,
            };
            depth = (depth + line.matches(['[', '{']).count())
                .saturating_sub(line.matches([']', '}']).count());
        }
    }
}

/// Whether a line of a dependency table must be explained by the line above it.
fn needs_reason(line: &str) -> bool {
    let blank = line.is_empty() || line.starts_with('#');
    let elsewhere = line.contains("workspace = true");
    let ours = line.contains("path = \"");
    !(blank || elsewhere || ours || line.contains(" # "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(manifest: &str) -> Vec<usize> {
        let mut found = Vec::new();
        reasons(&Tree::of(&[("crates/a/Cargo.toml", manifest)]), &mut found);
        found.iter().map(|finding| finding.line).collect()
    }

    // requirement: HY-4
    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "\
[package]
name = \"a\"
[dependencies]
# Parses options.
clap = \"4\"

serde = \"1\"
hex = \"0.4\" # Prints digests.
sha2.workspace = true
ours = { path = \"../ours\" }
[target.'cfg(unix)'.dev-dependencies]
rand = { version = \"1\", features = [
    \"std\",
] }
";
        assert_eq!(lines(manifest), [7, 12]);
    }

    #[test]
    fn one_comment_explains_a_family_and_no_more() {
        let family = "[dependencies]\n# HMAC and HKDF.\nhmac = \"1\"\nhkdf = \"1\"\nsha2 = \"1\"\n";
        assert!(lines(family).is_empty());
        assert_eq!(lines(&format!("{family}rand = \"1\"\n")), [6]);
        assert_eq!(
            lines("[dependencies]\n# HMAC.\nhmac = \"1\"\n\nhkdf = \"1\"\n"),
            [5]
        );
    }

    #[test]
    fn the_workspace_table_and_tables_of_one_dependency_count_too() {
        let manifest = "\
[workspace.dependencies]
sha2 = \"0.11\"

[dependencies.clap]
version = \"4\"
# Prints digests.
[dependencies.hex]
version = \"0.4\"
";
        assert_eq!(lines(manifest), [2, 4]);
    }
}
