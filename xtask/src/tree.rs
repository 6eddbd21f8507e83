//! The repository's files, as the checks see them. Checks take a [`Tree`], so each is tested on
//! a bad sample that never lies on disk.

use std::path::Path;

/// No file of the repository is larger than this many bytes.
pub(crate) const LARGEST_FILE: u64 = 5 * 1024 * 1024;

/// Folders that hold no sources: version control and build outputs.
const SKIPPED_FOLDERS: &[&str] = &["target", "artifacts", "node_modules", "__pycache__"];

/// Folders that begin with a dot and hold sources all the same.
const DOT_FOLDERS: &[&str] = &[".cargo", ".ci"];

/// One file: its path from the root with `/`, its size, and its text when it is UTF-8.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) text: Option<String>,
}

/// All files, sorted by path.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

/// One thing that is wrong, and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// Counted from 1; 0 when it is about the file as a whole.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

impl File {
    /// A finding in this file; line 0 stands for the whole file.
    pub(crate) fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            message: message.into(),
        }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The crate folder under `crates/`, or the first folder of the path.
    pub(crate) fn package(&self) -> &str {
        let path = self.path.strip_prefix("crates/").unwrap_or(&self.path);
        path.split('/').next().unwrap_or(path)
    }

    /// Whether this is code that ships or helps to ship: under some crate's `src`.
    pub(crate) fn in_src(&self) -> bool {
        self.path.contains("/src/")
    }

    /// Whether the folder makes it a test, a bench or a behaviour scenario.
    pub(crate) fn in_tests(&self) -> bool {
        self.path
            .split('/')
            .any(|part| part == "tests" || part == "benches")
            || self.path.ends_with(".feature")
    }

    /// Inputs that are kept as they came: vectors and fuzzing seeds.
    pub(crate) fn is_sample(&self) -> bool {
        self.path
            .split('/')
            .any(|part| part == "testdata" || part == "corpus")
    }

    /// The file's lines with their numbers, from 1; none when it is not text.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .iter()
            .flat_map(|text| text.lines())
            .enumerate()
            .map(|(i, line)| (i + 1, line))
    }
}

impl Tree {
    /// Reads every file under `root`.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let mut files = Vec::new();
        collect(root, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// A tree of the given paths and texts, for tests of the checks.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            size: text.len() as u64,
            text: Some((*text).to_owned()),
        };
        Self {
            files: files.iter().map(file).collect(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(say)? {
        let entry = entry.map_err(say)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(say)?;
        let path = format!("{prefix}{name}");
        if kind.is_dir() {
            let hidden = name.starts_with('.') && !DOT_FOLDERS.contains(&name.as_str());
            if !hidden && !SKIPPED_FOLDERS.contains(&name.as_str()) {
                collect(&entry.path(), &format!("{path}/"), files)?;
            }
        } else if kind.is_file() && name != ".git" {
            let size = entry.metadata().map_err(say)?.len();
            let text = if size <= LARGEST_FILE {
                String::from_utf8(std::fs::read(entry.path()).map_err(say)?).ok()
            } else {
                None
            };
            files.push(File { path, size, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_read_without_its_outputs() {
        let tree = Tree::read(&crate::exec::root()).unwrap();
        assert!(
            tree.get("xtask/src/tree.rs")
                .is_some_and(|file| file.is_rust())
        );
        assert!(tree.get(".ci/run").is_some());
        assert!(
            !tree
                .files
                .iter()
                .any(|file| file.path.starts_with("target/"))
        );
        assert!(
            !tree
                .files
                .iter()
                .any(|file| file.path.starts_with(".git") && file.path != ".gitignore")
        );
    }

    #[test]
    fn a_path_says_what_a_file_is() {
        let tree = Tree::of(&[
            ("crates/vram/src/main.rs", ""),
            ("crates/vram/tests/cli.rs", ""),
            ("crates/vram/tests/seal.feature", ""),
            ("testdata/model.safetensors", ""),
        ]);
        let facts: Vec<_> = tree
            .files
            .iter()
            .map(|file| {
                (
                    file.package(),
                    file.in_src(),
                    file.in_tests(),
                    file.is_sample(),
                )
            })
            .collect();
        assert_eq!(
            facts,
            [
                ("vram", true, false, false),
                ("vram", false, true, false),
                ("vram", false, true, false),
                ("testdata", false, false, true),
            ]
        );
    }
}
