//! Whose a log is: its directory and every file in it are its owner's alone.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};

use super::OpenError;
use crate::audit::check::files::not_regular;
use crate::audit::check::{DirFiles, Files};

const LOCK: &str = "lock";

/// Makes the directory if need be, checks whose it is, and locks it: the
/// directory and the lock. Both are locked: the directory, because nobody can delete it
/// and with it the lock, and the file, which a file server knows of for other machines.
pub(super) fn folder(dir: &Path) -> Result<(OwnedFd, OwnedFd), OpenError> {
    let io = |error: rustix::io::Errno| failed(dir, &error);
    match rustix::fs::mkdir(dir, Mode::RWXU) {
        Ok(()) => sync_parent(dir).map_err(io)?,
        Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(io(error)),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(io)?;
    check(dir, &rustix::fs::fstat(&root).map_err(io)?)?;
    hold(dir, &root)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let flags = flags | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(&root, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(io)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&lock).map_err(io)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(failed(dir, &not_regular(LOCK)));
    }
    hold(dir, &lock)?;
    Ok((root, lock))
}

/// A new log is lost with its name. A file system that cannot sync folders is taken
/// as it is, and so is a folder that may not be read.
fn sync_parent(dir: &Path) -> rustix::io::Result<()> {
    use rustix::io::Errno;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let parent = rustix::fs::open(parent.unwrap_or(Path::new(".")), flags, Mode::empty());
    match parent.and_then(rustix::fs::fsync) {
        Err(Errno::INVAL | Errno::ACCESS) => Ok(()),
        synced => synced,
    }
}

fn hold(dir: &Path, what: &OwnedFd) -> Result<(), OpenError> {
    match rustix::fs::flock(what, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked {
            path: dir.to_owned(),
        }),
        Err(error) => Err(failed(dir, &error)),
    }
}

/// Checks whose the files are (requirement: AU-10).
pub(super) fn files(dir: &Path, root: &OwnedFd, files: &DirFiles) -> Result<(), OpenError> {
    let names = files.names().map_err(|error| failed(dir, &error))?;
    for name in names {
        let stat = rustix::fs::statat(root, &name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|error| failed(dir, &error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let error = files.open(&name).err();
            return Err(failed(dir, &error.unwrap_or_else(|| not_regular(&name))));
        }
        check(&dir.join(&name), &stat)?;
    }
    Ok(())
}

fn check(path: &Path, stat: &Stat) -> Result<(), OpenError> {
    let (path, mode) = (path.to_owned(), stat.st_mode & 0o7777);
    if mode & 0o077 != 0 {
        return Err(OpenError::PermissionsTooOpen { path, mode });
    }
    let owner = stat.st_uid;
    if owner != rustix::process::geteuid().as_raw() {
        return Err(OpenError::Owner { path, owner });
    }
    Ok(())
}

pub(super) fn failed(dir: &Path, error: &dyn std::fmt::Display) -> OpenError {
    OpenError::Io {
        path: dir.to_owned(),
        reason: error.to_string(),
    }
}
