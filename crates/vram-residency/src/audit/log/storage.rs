//! The log's directory. Every file is opened below the directory's own handle,
//! folder by folder, without following a symbolic link.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::check::files::{MAX_DEPTH, is_log_file, not_regular};
use super::super::line::{self, CURRENT};

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const FOLDER_MODE: Mode = Mode::RWXU;
/// What the name of a file that is still being written ends in.
const DRAFT: &str = ".new";

/// What the committer does to files. A seam, so that tests can fail each step.
pub(super) trait Storage: Send {
    /// Writes to the end of the current segment.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the current segment durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the current segment.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Finishes the current segment under its first event's number and begins
    /// the next. May be called again after it failed.
    fn rotate(&mut self, first: u64) -> io::Result<()>;
    /// Replaces a file whole; `durable` syncs it and the folders that lead to it.
    fn put(&mut self, path: &str, bytes: &[u8], durable: bool) -> io::Result<()>;
    /// Deletes a file; one that is not there is no error.
    fn remove(&mut self, path: &str) -> io::Result<()>;
    /// Makes everything durable.
    fn sync_all(&mut self) -> io::Result<()>;
    /// Deletes what a killed writer had begun to put.
    fn remove_drafts(&mut self) -> io::Result<()>;
}

/// The directory of a log, held by its lock.
pub(super) struct DirStorage {
    root: OwnedFd,
    current: File,
    /// The current segment was renamed, but the next is not there yet.
    renamed: bool,
    /// The next segment is there and the current one, but its name is not synced yet.
    created: bool,
    /// Released when the log closes.
    _lock: OwnedFd,
}

impl DirStorage {
    /// Opens the current segment for appending, or makes it.
    pub(super) fn new(root: OwnedFd, lock: OwnedFd) -> io::Result<Self> {
        let current = open_current(&root, OFlags::CREATE)?;
        Ok(Self {
            root,
            current,
            renamed: false,
            created: false,
            _lock: lock,
        })
    }

    /// The folder of `path` and its last part; folders are made as needed.
    fn folder<'p>(&self, path: &'p str, make: bool) -> io::Result<(OwnedFd, &'p str)> {
        let mut folder = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
        let mut rest = path;
        while let Some((name, more)) = rest.split_once('/') {
            if make {
                match rustix::fs::mkdirat(&folder, name, FOLDER_MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            folder = open_folder(&folder, name)?;
            rest = more;
        }
        Ok((folder, rest))
    }

    /// Syncs the folder of `path` and those above it, which may be new as well.
    fn sync_folders(&self, path: &str) -> io::Result<()> {
        let mut below = Some(path);
        while let Some(path) = below {
            rustix::fs::fsync(self.folder(path, false)?.0)?;
            below = path.rsplit_once('/').map(|(above, _)| above);
        }
        Ok(())
    }
}

fn open_folder(at: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

fn open_current(root: &OwnedFd, how: OFlags) -> io::Result<File> {
    // A FIFO would hold up an opening that waits.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(root, CURRENT, flags | OFlags::CLOEXEC | how, FILE_MODE);
    let file = match file {
        Err(Errno::NXIO) => return Err(not_regular(CURRENT)),
        file => File::from(file?),
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(not_regular(CURRENT))
    }
}

/// A file of this name that was not there before: one that a put left which
/// failed, or whatever else has its name, is deleted.
fn open_draft(folder: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, FILE_MODE) {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
            rustix::fs::openat(folder, name, flags, FILE_MODE)
        }
        file => file,
    };
    Ok(File::from(file?))
}

/// Deletes the drafts in a folder and in those of tiles below it; `path` leads
/// there from the log's directory and ends in a slash.
fn remove_drafts(folder: &OwnedFd, path: &str) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        let path = format!("{path}{name}");
        let inside = path == "tile" || path.starts_with("tile/");
        let deep = path.split('/').count() > MAX_DEPTH;
        if path.strip_suffix(DRAFT).is_some_and(is_log_file) {
            rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
        } else if inside && !deep && !name.starts_with('.') && may_be_folder(entry.file_type()) {
            match open_folder(folder, name) {
                Ok(inner) => remove_drafts(&inner, &format!("{path}/"))?,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Not every file system says what its entries are.
fn may_be_folder(kind: FileType) -> bool {
    matches!(kind, FileType::Directory | FileType::Unknown)
}

impl Storage for DirStorage {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.current.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.current.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.current.set_len(len)
    }

    fn rotate(&mut self, first: u64) -> io::Result<()> {
        if !self.renamed {
            let name = line::segment_name(first);
            rustix::fs::renameat(&self.root, CURRENT, &self.root, &name)?;
            self.renamed = true;
        }
        if !self.created {
            self.current = open_current(&self.root, OFlags::CREATE | OFlags::EXCL)?;
            self.created = true;
        }
        rustix::fs::fsync(&self.root)?;
        (self.renamed, self.created) = (false, false);
        Ok(())
    }

    fn put(&mut self, path: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let (folder, name) = self.folder(path, true)?;
        let draft = format!("{name}{DRAFT}");
        let mut file = open_draft(&folder, &draft)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_data()?;
        }
        rustix::fs::renameat(&folder, &draft, &folder, name)?;
        if durable {
            self.sync_folders(path)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let (folder, name) = match self.folder(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Err(Errno::NOENT) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some((partial, _)) = path.rsplit_once('/').filter(|(f, _)| f.ends_with(".p")) {
            let (above, name) = self.folder(partial, false)?;
            // Not empty while the tile is still growing.
            let _ = rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR);
        }
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    fn remove_drafts(&mut self) -> io::Result<()> {
        remove_drafts(&self.root, "")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt as _;
    use std::path::Path;

    use super::*;

    fn folder(dir: &Path, how: OFlags) -> OwnedFd {
        rustix::fs::open(dir, how | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    /// The next segment is there and its name cannot be synced, once or twice: it does
    /// not take the place of the finished one.
    // requirement: AU-13
    #[test]
    fn a_segment_that_was_finished_is_not_finished_again_over_itself() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("log");
        std::fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        let root = || folder(&dir, OFlags::RDONLY);
        let mut storage = DirStorage::new(root(), root()).unwrap();
        storage.append(b"acknowledged\n").unwrap();
        storage.sync().unwrap();
        // Everything but a sync can be done with this.
        storage.root = folder(&dir, OFlags::PATH);
        for _ in 0..2 {
            let refused = storage.rotate(7).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(Errno::BADF.raw_os_error()));
        }
        storage.root = root();
        storage.rotate(7).unwrap();
        storage.append(b"next\n").unwrap();
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        assert_eq!(read(&line::segment_name(7)), b"acknowledged\n");
        assert_eq!(read(CURRENT), b"next\n");
        // And the one after it.
        storage.rotate(8).unwrap();
        assert_eq!(read(&line::segment_name(8)), b"next\n");
        assert_eq!(read(CURRENT), b"");
    }
}
