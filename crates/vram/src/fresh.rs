//! A new file that has its name only once it is whole.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// A file under a temporary name beside its own. Dropping it removes it.
pub(crate) struct Fresh {
    path: PathBuf,
    temporary: PathBuf,
}

impl Fresh {
    /// Starts the file that will be `path`, which must not exist.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn create(path: &Path) -> io::Result<(Self, File)> {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let temporary = temporary(path).ok_or(ErrorKind::IsADirectory)?;
        let file = File::create_new(&temporary)?;
        let path = path.to_owned();
        Ok((Self { path, temporary }, file))
    }

    /// Gives the file its name, unless somebody took it in the meantime.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn finish(self) -> io::Result<()> {
        let (from, to) = (&self.temporary, &self.path);
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Not every file system can; a second name is as careful, and the
            // first one goes when this is dropped.
            Err(Errno::INVAL | Errno::NOSYS) => std::fs::hard_link(from, to),
            renamed => Ok(renamed?),
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Ours: we created it. Where it was renamed nothing is there.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// A name in the directory of `path` that no other process uses; `None` where
/// `path` names no file.
pub(crate) fn temporary(path: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name()?);
    name.push(format!(".{}.tmp", std::process::id()));
    Some(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let entries = || std::fs::read_dir(dir.path()).unwrap().count();
        let (fresh, mut file) = Fresh::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!path.exists());
        fresh.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(entries(), 1);

        let refused = Fresh::create(&path).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);

        let other = dir.path().join("other");
        drop(Fresh::create(&other).unwrap());
        assert_eq!(entries(), 1, "what was dropped is gone");
        let (late, _) = Fresh::create(&other).unwrap();
        std::fs::write(&other, "theirs").unwrap();
        let refused = late.finish().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&other).unwrap(), b"theirs");
        assert_eq!(entries(), 2);
    }
}
