//! Absolute paths that mean something on one machine only: where it keeps this repository, and the
//! folders of its users.

use crate::tree::{Finding, Tree};
use std::path::Path;

/// Where users have their files.
const HOMES: &[&str] = &["/home/", "/root/", "/Users/"];

/// First folders that every machine may have, by the Filesystem Hierarchy Standard 3.0 and as
/// systemd and macOS add to it.
const COMMON: &[&str] = &[
    "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "private",
    "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var", "Users", "Volumes",
];

/// Finds paths of one machine in any file; `root` is where this machine has the repository.
pub(super) fn of_one_machine(tree: &Tree, root: &Path, found: &mut Vec<Finding>) {
    let here = here(root);
    for file in &tree.files {
        for (line, text) in file.lines() {
            let mut folders = HOMES.iter().copied().chain(here.as_deref());
            if let Some(folder) = folders.find(|folder| has_path(text, folder)) {
                found.push(file.finding(line, format!("path of one machine: `{folder}`")));
            }
        }
    }
}

/// What paths into this machine's checkouts begin with: the first folder of `root`, or all of it
/// where the first folder is a common one. Ends with `/`.
fn here(root: &Path) -> Option<String> {
    let root = root.to_str()?.strip_prefix('/')?;
    let first = root.split('/').next().filter(|first| !first.is_empty())?;
    let own = if COMMON.contains(&first) { root } else { first };
    Some(format!("/{own}/"))
}

/// Whether an absolute path in `text` begins with `folder`. Something must follow, so that a part
/// of a path in quotes is not one.
fn has_path(text: &str, folder: &str) -> bool {
    text.match_indices(folder).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let rest = text.get(at + folder.len()..);
        let after = rest.and_then(|text| text.chars().next());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~*})".contains(c))
            && after.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(root: &str, text: &str) -> Vec<usize> {
        let tree = Tree::of(&[(".ci/run", text)]);
        let mut found = Vec::new();
        of_one_machine(&tree, Path::new(root), &mut found);
        found.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn paths_into_the_machine_that_checks_are_found() {
        let text = "cd /desk/a/b\nsee \"/desk/other\"\ncd /usr/bin\ncd desk/a ../desk/a\n";
        assert_eq!(lines("/desk/a/b", text), [1, 2]);
        assert_eq!(lines("/elsewhere/b", text), [0; 0]);
        // All of the path, where others have its first folder.
        assert_eq!(lines("/usr/x", "cd /usr/x/target\ncd /usr/bin\n"), [1]);
    }

    #[test]
    fn homes_are_found_on_every_machine() {
        for home in HOMES {
            assert_eq!(lines("/desk", &format!("fine\ncd {home}me\n")), [2]);
        }
    }

    #[test]
    fn parts_of_paths_are_not_paths() {
        for text in [
            "target/desk/file",
            "$HOME/desk/file",
            "../desk/file",
            "/desktop/file",
            "path.contains(\"/desk/\")",
            "{folder}/desk/file",
        ] {
            assert_eq!(lines("/desk/a", text), [0; 0], "{text}");
        }
    }
}
