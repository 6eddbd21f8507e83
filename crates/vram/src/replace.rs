//! Files that take the place of older ones, or of none: each whole, and all of them
//! or none.
//!
//! All are on the disk under temporary names before the first one gets its own.
//! Should one not get it, what those before it replaced is put back, or it is told
//! where that is. A process that is killed between two names leaves the first.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::fresh::Fresh;
use crate::{folder, fresh};

/// Writes `text` so that readers see the old file or the whole new one.
pub(crate) fn one(path: &Path, text: &str) -> Result<(), Failure> {
    all(&[(path, text.to_owned())])
}

/// Writes a file that takes nobody's place, not even of what appears meanwhile.
pub(crate) fn nothing(path: &Path, text: &str) -> Result<(), Failure> {
    let made = Fresh::create(path).and_then(|(fresh, mut file)| {
        file.write_all(text.as_bytes())?;
        fresh.finish()
    });
    made.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => failed(path, &error),
    })?;
    folder::sync(path).map_err(|error| not_durable(path, &error))
}

/// Of a name that is to be a new file's.
pub(crate) fn exists(path: &Path) -> Failure {
    let message = format!("{} exists; it is not replaced", path.display());
    Failure::new(message).hint("name a new file")
}

/// Writes all of them or none.
pub(crate) fn all(papers: &[(&Path, String)]) -> Result<(), Failure> {
    let drafts = papers.iter().map(|(path, text)| {
        let draft = Draft::write(path, text);
        draft.map_err(|error| failed(path, &error))
    });
    let drafts = drafts.collect::<Result<Vec<_>, _>>()?;
    let mut published = Vec::new();
    for (draft, left) in drafts.into_iter().zip((0..papers.len()).rev()) {
        let path = draft.path;
        match draft.publish(left > 0) {
            Ok(one) => published.push(one),
            Err(error) => {
                let left = published.into_iter().filter_map(Published::undo);
                return Err(left.fold(failed(path, &error), Failure::with_note));
            }
        }
    }
    for (path, _) in papers {
        folder::sync(path).map_err(|error| not_durable(path, &error))?;
    }
    Ok(())
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {error}", path.display()))
}

fn not_durable(path: &Path, error: &io::Error) -> Failure {
    let message = format!(
        "{} is written, but not on the disk: {error}",
        path.display()
    );
    Failure::new(message).hint("a loss of power may bring back what was there before")
}

/// A file that is on the disk and has not its own name yet. Dropping it removes it.
struct Draft<'a> {
    path: &'a Path,
    temporary: PathBuf,
}

impl<'a> Draft<'a> {
    fn write(path: &'a Path, text: &str) -> io::Result<Self> {
        let mut options = File::options();
        let (mut file, temporary) = fresh::create_temporary(path, options.write(true).mode(0o644))?;
        let draft = Self { path, temporary };
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Gives it its name, in a way that can be undone if `undoable`.
    fn publish(self, undoable: bool) -> io::Result<Published<'a>> {
        let before = if undoable {
            Before::of(self.path)
        } else {
            Before::Unknown
        };
        let published = Published {
            path: self.path,
            before,
        };
        std::fs::rename(&self.temporary, self.path)?;
        Ok(published)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // Ours: we created it. Where it was renamed nothing is there.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// What had a name before.
enum Before {
    Nothing,
    /// It is kept under this name.
    Kept(PathBuf),
    /// It cannot be put back.
    Unknown,
}

impl Before {
    fn of(path: &Path) -> Self {
        match fresh::link_temporary(path) {
            Ok(name) => Self::Kept(name),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::Nothing,
            Err(_) => Self::Unknown,
        }
    }
}

/// A file that has its name. Dropping it gives up what it replaced.
struct Published<'a> {
    path: &'a Path,
    before: Before,
}

impl Published<'_> {
    /// Makes it as before; what to know where that cannot be done.
    fn undo(mut self) -> Option<String> {
        let path = self.path.display();
        // What is not put back is not given up either.
        match std::mem::replace(&mut self.before, Before::Unknown) {
            Before::Nothing => {
                let error = std::fs::remove_file(self.path).err()?;
                Some(format!(
                    "{path} is written and could not be removed: {error}"
                ))
            }
            Before::Kept(name) => {
                let error = std::fs::rename(&name, self.path).err()?;
                let name = name.display();
                Some(format!(
                    "{path} is replaced; what it was is in {name}: {error}"
                ))
            }
            Before::Unknown => Some(format!("{path} is replaced; what it was is gone")),
        }
    }
}

impl Drop for Published<'_> {
    fn drop(&mut self) {
        if let Before::Kept(name) = &self.before {
            // Ours, as a draft's: the new file stays.
            let _ = std::fs::remove_file(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let occupied = dir.path().join("there");
        std::fs::create_dir(&occupied).unwrap();
        assert!(one(&occupied, "{}").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_takes_nobodys_place_replaces_nothing_that_appeared_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("paper");
        nothing(&path, "first").unwrap();
        let refused = nothing(&path, "second").unwrap_err();
        assert!(refused.message().contains("is not replaced"));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        // Also between the look and the name.
        let (late, _) = Fresh::create(&dir.path().join("late")).unwrap();
        nothing(&dir.path().join("late"), "theirs").unwrap();
        assert_eq!(late.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(nothing(&dir.path().join("none/x"), "").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn papers_that_are_not_all_written_leave_the_older_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (old, new, occupied) = (path("old"), path("new"), path("there"));
        std::fs::write(&old, "old").unwrap();
        std::fs::create_dir(&occupied).unwrap();
        let papers = [&old, &new, &occupied].map(|path| (path.as_path(), "text".to_owned()));
        let failure = all(&papers).unwrap_err();
        assert!(failure.message().contains(occupied.to_str().unwrap()));
        assert_eq!(std::fs::read(&old).unwrap(), b"old");
        assert!(!new.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);

        std::fs::remove_dir(&occupied).unwrap();
        all(&papers).unwrap();
        for path in [old, new, occupied] {
            assert_eq!(std::fs::read(path).unwrap(), b"text");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_cannot_be_put_back_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (there, kept) = (path("there"), path("kept"));
        std::fs::create_dir(&there).unwrap();
        std::fs::write(&kept, "old").unwrap();
        let undo = |before| {
            let path = there.as_path();
            Published { path, before }.undo().unwrap()
        };
        assert!(undo(Before::Nothing).contains("could not be removed"));
        let told = undo(Before::Kept(kept.clone()));
        assert!(told.contains(kept.to_str().unwrap()), "{told}");
        assert_eq!(std::fs::read(&kept).unwrap(), b"old", "not given up");
        assert!(undo(Before::Unknown).contains("what it was is gone"));
    }

    #[test]
    fn nothing_is_replaced_while_a_draft_cannot_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let (old, lost) = (dir.path().join("old"), dir.path().join("none/file"));
        std::fs::write(&old, "old").unwrap();
        let papers = [&old, &lost].map(|path| (path.as_path(), "text".to_owned()));
        assert!(all(&papers).is_err());
        assert_eq!(std::fs::read(&old).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
