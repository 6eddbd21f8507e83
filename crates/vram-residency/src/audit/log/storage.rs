//! The log's directory. Every file is opened below the directory's own handle,
//! folder by folder, without following a symbolic link.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::super::line::{self, CURRENT};

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const FOLDER_MODE: Mode = Mode::RWXU;

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
    /// Replaces a file whole; `durable` syncs it and its folder.
    fn put(&mut self, path: &str, bytes: &[u8], durable: bool) -> io::Result<()>;
    /// Deletes a file; one that is not there is no error.
    fn remove(&mut self, path: &str) -> io::Result<()>;
    /// Makes everything durable.
    fn sync_all(&mut self) -> io::Result<()>;
}

/// The directory of a log, held by its lock.
pub(super) struct DirStorage {
    root: OwnedFd,
    current: File,
    /// The current segment was renamed, but the next is not there yet.
    renamed: bool,
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
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            folder = open_folder(&folder, name)?;
            rest = more;
        }
        Ok((folder, rest))
    }
}

fn open_folder(at: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

fn open_current(root: &OwnedFd, how: OFlags) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | how;
    let file = rustix::fs::openat(root, CURRENT, flags, FILE_MODE)?;
    Ok(File::from(file))
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
        self.current = open_current(&self.root, OFlags::CREATE | OFlags::EXCL)?;
        self.renamed = false;
        Ok(rustix::fs::fsync(&self.root)?)
    }

    fn put(&mut self, path: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let (folder, name) = self.folder(path, true)?;
        let draft = format!("{name}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&folder, &draft, flags | OFlags::CLOEXEC, FILE_MODE)?;
        let mut file = File::from(file);
        file.write_all(bytes)?;
        if durable {
            file.sync_data()?;
        }
        rustix::fs::renameat(&folder, &draft, &folder, name)?;
        if durable {
            rustix::fs::fsync(&folder)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let (folder, name) = match self.folder(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) | Ok(()) => {}
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
}
