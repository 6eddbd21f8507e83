//! A new file that has its name only once it is whole.
//!
//! Until then it has none at all where the file system can do that
//! (`O_TMPFILE`), so that nothing stays whatever ends the process. Elsewhere it
//! has a temporary one, which a killed process leaves behind.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, renameat_with};
use rustix::io::Errno;

/// A file on the way to its name. Dropping it removes it.
pub(crate) struct Fresh {
    path: PathBuf,
    file: File,
    /// What it is called until then, if anything.
    temporary: Option<PathBuf>,
}

impl Fresh {
    /// Starts the file that will be `path`, which must not exist.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn create(path: &Path) -> io::Result<(Self, File)> {
        Self::create_with(path, nameless)
    }

    fn create_with(
        path: &Path,
        nameless: impl Fn(&Path) -> io::Result<File>,
    ) -> io::Result<(Self, File)> {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let name = temporary(path).ok_or(ErrorKind::IsADirectory)?;
        let (file, temporary) = match nameless(path) {
            Ok(file) => (file, None),
            // Whatever stands in the way: with a name it works, or says why not.
            Err(_) => (File::create_new(&name)?, Some(name)),
        };
        let fresh = Self {
            path: path.to_owned(),
            file: file.try_clone()?,
            temporary,
        };
        Ok((fresh, file))
    }

    /// Gives the file its name, unless somebody took it in the meantime.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn finish(self) -> io::Result<()> {
        let to = &self.path;
        let Some(from) = &self.temporary else {
            let from = link_to(&self.file);
            return Ok(linkat(CWD, &from, CWD, to, AtFlags::SYMLINK_FOLLOW)?);
        };
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
        if let Some(temporary) = &self.temporary {
            // Ours: we created it. Where it was renamed nothing is there.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// A file without a name on the file system where `path` will be.
fn nameless(path: &Path) -> io::Result<File> {
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    let file = File::from(rustix::fs::open(
        parent.unwrap_or(Path::new(".")),
        flags,
        mode,
    )?);
    // It could never be named without.
    std::fs::symlink_metadata(link_to(&file))?;
    Ok(file)
}

/// What the kernel calls an open file of this process.
fn link_to(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
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
    use std::os::unix::fs::PermissionsExt as _;

    type Nameless = fn(&Path) -> io::Result<File>;

    /// A file system that has no files without names.
    fn cannot(_: &Path) -> io::Result<File> {
        Err(ErrorKind::Unsupported.into())
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_replaces_none() {
        for nameless in [nameless as Nameless, cannot] {
            let create = |path: &Path| Fresh::create_with(path, nameless);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let entries = || std::fs::read_dir(dir.path()).unwrap().count();
            let (fresh, mut file) = create(&path).unwrap();
            file.write_all(b"whole").unwrap();
            assert!(!path.exists());
            fresh.finish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"whole");
            assert_eq!(entries(), 1);
            let plain = dir.path().join("plain");
            drop(File::create(&plain).unwrap());
            let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode(&path), mode(&plain), "as any new file");
            std::fs::remove_file(&plain).unwrap();

            let refused = create(&path).map(|_| ()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::AlreadyExists);

            let other = dir.path().join("other");
            drop(create(&other).unwrap());
            assert_eq!(entries(), 1, "what was dropped is gone");
            let (late, _) = create(&other).unwrap();
            std::fs::write(&other, "theirs").unwrap();
            let refused = late.finish().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&other).unwrap(), b"theirs");
            assert_eq!(entries(), 2);
        }
    }

    #[test]
    fn a_name_that_cannot_be_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let lost = dir.path().join("none/file");
        let refused = Fresh::create(&lost).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        let refused = Fresh::create(Path::new("..")).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    }
}
