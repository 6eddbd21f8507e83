//! A new file that has its name only once it is whole.
//!
//! Until then it has none at all where the file system can do that
//! (`O_TMPFILE`), so that nothing stays whatever ends the process. Elsewhere it
//! has a temporary one, which a killed process leaves behind.
//!
//! Its bytes are on the disk before it has its name: after a loss of power
//! there is no file, or a whole one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, renameat_with};
use rustix::io::Errno;

use crate::folder;

/// Names that are tried for a temporary file.
const MOST_TEMPORARY: u32 = 1000;

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
        let (file, temporary) = match nameless(path) {
            Ok(file) => (file, None),
            // Whatever stands in the way: with a name it works, or says why not.
            Err(_) => {
                let mut options = File::options();
                let (file, name) = create_temporary(path, options.write(true))?;
                (file, Some(name))
            }
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
        self.file.sync_all()?;
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
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    let file = File::from(rustix::fs::open(folder::of(path), flags, mode)?);
    // It could never be named without.
    std::fs::symlink_metadata(link_to(&file))?;
    Ok(file)
}

/// What the kernel calls an open file of this process.
fn link_to(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Creates a file in the directory of `path` under a name that nobody uses.
///
/// # Errors
/// The system's; [`ErrorKind::IsADirectory`] where `path` names no file.
pub(crate) fn create_temporary(
    path: &Path,
    options: &mut OpenOptions,
) -> io::Result<(File, PathBuf)> {
    first_free(path, |name| options.create_new(true).open(name))
}

/// Gives the file `path` a second name that nobody uses.
///
/// # Errors
/// As [`create_temporary`]; file systems without such names refuse.
pub(crate) fn link_temporary(path: &Path) -> io::Result<PathBuf> {
    let ((), name) = first_free(path, |name| std::fs::hard_link(path, name))?;
    Ok(name)
}

/// Makes something under the first temporary name that is free: a killed process
/// may have left one and another has its number now, as in a container, where all
/// have the same.
fn first_free<T>(
    path: &Path,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(T, PathBuf)> {
    let file_name = path.file_name().ok_or(ErrorKind::IsADirectory)?;
    let mut taken = ErrorKind::AlreadyExists.into();
    for number in 0..MOST_TEMPORARY {
        let mut name = OsString::from(".");
        name.push(file_name);
        name.push(format!(".{}.{number}.tmp", std::process::id()));
        let name = path.with_file_name(name);
        match make(&name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => taken = error,
            made => return made.map(|made| (made, name)),
        }
    }
    Err(taken)
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
    #[test]
    fn what_a_killed_process_left_stands_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut options = File::options();
        for left in 0..3 {
            let (_, name) = create_temporary(&path, options.write(true)).unwrap();
            let pid = std::process::id();
            let expected = dir.path().join(format!(".file.{pid}.{left}.tmp"));
            assert_eq!(name, expected);
        }
        let (fresh, mut file) = Fresh::create_with(&path, cannot).unwrap();
        file.write_all(b"whole").unwrap();
        fresh.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 4, "what others left is theirs");
    }

    #[test]
    fn bytes_that_may_not_be_on_the_disk_get_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut options = File::options();
        let (_, temporary) = create_temporary(&path, options.write(true)).unwrap();
        // A pipe cannot be synchronised, as a disk that fails cannot.
        let (_reader, writer) = std::io::pipe().unwrap();
        let fresh = Fresh {
            path: path.clone(),
            file: File::from(std::os::fd::OwnedFd::from(writer)),
            temporary: Some(temporary),
        };
        assert!(fresh.finish().is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
