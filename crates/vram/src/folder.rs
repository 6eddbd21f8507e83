//! The folder that a file is in.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use crate::output::Output;

/// How folders are refused that cannot be synced.
const UNSYNCED: [ErrorKind; 2] = [ErrorKind::InvalidInput, ErrorKind::PermissionDenied];
/// How often, and after what pauses, a lock that somebody has is asked for.
const ASKED: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// The folder that holds the name `path`.
pub(crate) fn of(path: &Path) -> &Path {
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Makes the names in the folder of `path` durable. A file system that cannot do
/// that for folders is taken as it is, and so is a folder that may not be read.
///
/// # Errors
/// The system's.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    match File::open(of(path)).and_then(|folder| folder.sync_all()) {
        Err(error) if UNSYNCED.contains(&error.kind()) => Ok(()),
        synced => synced,
    }
}

/// Keeps others who ask for it from changing files in the folder of `path`, as
/// long as the answer lives; waits ten seconds for those who have it.
///
/// # Errors
/// The system's; [`ErrorKind::WouldBlock`] when somebody keeps it.
pub(crate) fn lock(path: &Path, output: &Output) -> io::Result<File> {
    let folder = File::open(of(path))?;
    for asked in 0..ASKED {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        if asked == 0 {
            let name = of(path).display();
            output.note(&format!("another process holds {name}; waiting"));
        }
        std::thread::sleep(PAUSE);
    }
    let kept = "another process keeps its folder locked ('lsof FOLDER' names it)";
    Err(io::Error::new(ErrorKind::WouldBlock, kept))
}

/// Whether both are one name in one folder, however that is written.
pub(crate) fn is_same_name(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| Some((of(path).canonicalize().ok()?, path.file_name()?.to_owned()));
    a == b || place(a).is_some_and(|there| place(b) == Some(there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_found_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("sub")).unwrap();
        std::os::unix::fs::symlink(dir.path(), path("link")).unwrap();
        for (a, b, same) in [
            ("x", "x", true),
            ("x", "./x", true),
            ("x", "sub/../x", true),
            ("x", "link/x", true),
            ("x", "y", false),
            ("x", "sub/x", false),
            ("none/x", "x", false),
        ] {
            assert_eq!(is_same_name(&path(a), &path(b)), same, "{a} {b}");
        }
        assert!(is_same_name(Path::new("a"), Path::new("./a")));
    }
}
