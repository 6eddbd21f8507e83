//! A copy of the sources that a task may damage, with build outputs of its own. One for all
//! tasks: they share the built dependencies, and a lock keeps two from using it at once.

use crate::exec;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders that hold no sources that a build or a test reads.
const LEFT_OUT: &[&str] = &["target", "artifacts", "corpus", "__pycache__"];

/// The copy, held for one task.
pub(crate) struct Twin {
    root: PathBuf,
    outputs: PathBuf,
    /// Locked for as long as the twin is used.
    _lock: File,
}

impl Twin {
    /// Brings the copy up to date; the error says who holds it, or what cannot be copied.
    pub(crate) fn take() -> Result<Self, String> {
        Self::take_from(&exec::root(), &exec::root().join("target/twin"))
    }

    fn take_from(sources: &Path, folder: &Path) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|error| say(folder, &error))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(|error| say(&path, &error))?;
        lock.try_lock()
            .map_err(|error| format!("{}: another task uses the copy ({error})", path.display()))?;
        let root = folder.join("tree");
        mirror(sources, &root)?;
        Ok(Self {
            root,
            outputs: folder.join("target"),
            _lock: lock,
        })
    }

    /// Where the copy lies.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo, run in the copy and building beside it.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = exec::cargo(args);
        command.current_dir(&self.root);
        command.env("CARGO_TARGET_DIR", &self.outputs);
        command
    }

    /// Writes `text` over a file of the copy until the result is dropped.
    pub(crate) fn plant(&self, path: &str, text: &str) -> Result<Planted, String> {
        let path = self.root.join(path);
        let good = fs::read_to_string(&path).map_err(|error| say(&path, &error))?;
        fs::write(&path, text).map_err(|error| say(&path, &error))?;
        Ok(Planted { path, good })
    }
}

/// A changed file of the copy; dropping this puts the good text back.
pub(crate) struct Planted {
    path: PathBuf,
    good: String,
}

impl Drop for Planted {
    fn drop(&mut self) {
        // What stays changed is seen and mended when the copy is taken again.
        let _ = fs::write(&self.path, &self.good);
    }
}

fn say(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Makes `to` hold exactly the files of `from`. Equal files stay untouched, so that cargo builds
/// again only what changed.
fn mirror(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|error| say(to, &error))?;
    let mut kept = BTreeSet::new();
    for entry in fs::read_dir(from).map_err(|error| say(from, &error))? {
        let entry = entry.map_err(|error| say(from, &error))?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let hidden = text.starts_with('.') && text != ".cargo";
        if hidden || LEFT_OUT.contains(&text.as_ref()) {
            continue;
        }
        let (source, copy) = (entry.path(), to.join(&name));
        // Links are followed: the copy has files of its own.
        if source.is_dir() {
            mirror(&source, &copy)?;
        } else {
            let bytes = fs::read(&source).map_err(|error| say(&source, &error))?;
            if fs::read(&copy).ok().as_ref() != Some(&bytes) {
                fs::copy(&source, &copy).map_err(|error| say(&copy, &error))?;
            }
        }
        kept.insert(name);
    }
    for entry in fs::read_dir(to).map_err(|error| say(to, &error))? {
        let entry = entry.map_err(|error| say(to, &error))?;
        if !kept.contains(&entry.file_name()) {
            let path = entry.path();
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(|error| say(&path, &error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test alone, empty.
    fn folder(name: &str) -> PathBuf {
        let path = exec::root().join(format!("target/xtask/{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("from/src")).unwrap();
        fs::create_dir_all(path.join("from/target")).unwrap();
        fs::write(path.join("from/src/lib.rs"), "good").unwrap();
        fs::write(path.join("from/target/big"), "output").unwrap();
        path
    }

    #[test]
    fn the_copy_is_mended_and_keeps_what_is_equal() {
        let here = folder("mirror");
        let copy = here.join("twin/tree/src/lib.rs");
        let twin = Twin::take_from(&here.join("from"), &here.join("twin")).unwrap();
        assert_eq!(fs::read_to_string(&copy).unwrap(), "good");
        assert!(!twin.root().join("target").exists());
        let written = fs::metadata(&copy).unwrap().modified().unwrap();
        fs::write(twin.root().join("src/stray.rs"), "left over").unwrap();
        drop(twin);

        let twin = Twin::take_from(&here.join("from"), &here.join("twin")).unwrap();
        assert!(!twin.root().join("src/stray.rs").exists());
        let now = fs::metadata(&copy).unwrap().modified().unwrap();
        assert_eq!(now, written, "an equal file was written again");
        drop(twin);

        fs::write(&copy, "left damaged").unwrap();
        let _twin = Twin::take_from(&here.join("from"), &here.join("twin")).unwrap();
        assert_eq!(fs::read_to_string(&copy).unwrap(), "good");
        fs::remove_dir_all(here).unwrap();
    }

    #[test]
    fn a_planted_text_goes_when_its_guard_does() {
        let here = folder("plant");
        let twin = Twin::take_from(&here.join("from"), &here.join("twin")).unwrap();
        let planted = twin.plant("src/lib.rs", "bad").unwrap();
        let read = || fs::read_to_string(twin.root().join("src/lib.rs")).unwrap();
        assert_eq!(read(), "bad");
        drop(planted);
        assert_eq!(read(), "good");
        assert_eq!(
            fs::read_to_string(here.join("from/src/lib.rs")).unwrap(),
            "good"
        );
        drop(twin);
        fs::remove_dir_all(here).unwrap();
    }

    #[test]
    fn two_tasks_do_not_use_the_copy_at_once() {
        let here = folder("lock");
        let twin = Twin::take_from(&here.join("from"), &here.join("twin")).unwrap();
        let second = Twin::take_from(&here.join("from"), &here.join("twin"));
        assert!(second.err().unwrap().contains("another task"));
        drop(twin);
        assert!(Twin::take_from(&here.join("from"), &here.join("twin")).is_ok());
        fs::remove_dir_all(here).unwrap();
    }
}
