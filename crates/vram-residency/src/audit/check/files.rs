//! The files of a log, wherever they are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::line::{CHECKPOINT, CURRENT, handover_seq, segment_first};
use super::super::merkle::tile;

/// Deepest folder: `tile`, level, and the seven groups of a 64-bit number.
pub(in crate::audit) const MAX_DEPTH: usize = 9;
/// The folder of the tiles.
const TILES: &str = "tile";
const TILES_PREFIX: &str = "tile/";

/// The files of a log: `checkpoint`, `events.jsonl`, `events.<first>.jsonl`,
/// `handover.<event>.json` and `tile/**`, by these names.
pub trait Files {
    /// Every name there is, in any order; others than those of a log's files are named
    /// to whoever checks it, with the error of their opening.
    ///
    /// # Errors
    /// The system's.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens one.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>>;
}

/// A log's directory. What stands in the place of a file or folder of a log is listed
/// among its names and cannot be opened.
#[derive(Debug, Clone)]
pub struct DirFiles {
    root: PathBuf,
}

impl DirFiles {
    /// The log in `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn walk(&self, folder: &str, depth: usize, out: &mut Vec<String>) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Ok(());
        }
        let entries = match fs::read_dir(self.root.join(folder)) {
            // A writer let the folder of a partial tile go since it was listed.
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) if depth > 0 => {
                out.push(folder.to_owned());
                return Ok(());
            }
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let name = match folder {
                "" => name,
                folder => format!("{folder}/{name}"),
            };
            let kind = entry.file_type()?;
            let inside = name.starts_with(TILES_PREFIX);
            if is_log_file(&name) {
                out.push(name);
            } else if kind.is_dir() && (name == TILES || inside) {
                self.walk(&name, depth.saturating_add(1), out)?;
            } else if name == TILES || inside && kind.is_symlink() {
                out.push(name);
            }
        }
        Ok(())
    }
}

/// The fault of a FIFO, socket, device or folder with the name of a file.
pub(in crate::audit) fn not_regular(name: &str) -> io::Error {
    let text = format!("{name} in the log is no regular file");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Whether this is the name of one of a log's files.
pub(in crate::audit) fn is_log_file(name: &str) -> bool {
    name == CHECKPOINT
        || name == CURRENT
        || segment_first(name).is_some()
        || handover_seq(name).is_some()
        || tile::parse_path(name).is_some()
}

impl Files for DirFiles {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        self.walk("", 0, &mut names)?;
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>> {
        // A FIFO would hold up an opening that waits.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::open(self.root.join(name), flags, Mode::empty()) {
            Err(Errno::LOOP) => {
                let text = format!("{name} in the log is a symbolic link");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            // A socket.
            Err(Errno::NXIO) => return Err(not_regular(name)),
            file => File::from(file?),
        };
        if !file.metadata()?.is_file() {
            return Err(not_regular(name));
        }
        if name == TILES {
            let text = format!("{name} in the log is no folder");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
    }
}

/// A log in memory, its files by name, as somebody has it who fetched it.
impl Files for BTreeMap<String, Vec<u8>> {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>> {
        let bytes = self.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(bytes.as_slice()))
    }
}

/// Every name there is, sorted.
pub(super) fn listed(files: &dyn Files) -> io::Result<Vec<String>> {
    let mut names = files.names()?;
    names.sort_unstable();
    Ok(names)
}

/// Opens a file; none when it went since it was listed.
pub(crate) fn open_if_there<'f>(
    files: &'f dyn Files,
    name: &str,
) -> io::Result<Option<Box<dyn BufRead + 'f>>> {
    match files.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// As [`read_bounded`]; none when the file went since it was listed, as partial
/// tiles do beside a writer.
pub(crate) fn read_if_there(
    files: &dyn Files,
    name: &str,
    limit: usize,
) -> io::Result<Option<Vec<u8>>> {
    match read_bounded(files, name, limit) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// At most `limit` bytes of a file, and one more when it is longer.
pub(super) fn read_bounded(files: &dyn Files, name: &str, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = (limit as u64).saturating_add(1);
    files.open(name)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_that_cannot_be_read_is_named_unless_it_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("file"), b"").unwrap();
        let files = DirFiles::new(temp.path());
        let walk = |folder: &str, depth| {
            let mut out = Vec::new();
            let walked = files.walk(folder, depth, &mut out);
            walked.map(|()| out).map_err(|error| error.kind())
        };
        assert_eq!(walk("gone", 1), Ok(Vec::new()));
        assert_eq!(walk("file", 1), Ok(vec!["file".to_owned()]));
        // The log's own folder is the answer itself.
        assert_eq!(walk("gone", 0), Err(io::ErrorKind::NotFound));
        assert_eq!(walk("file", 0), Err(io::ErrorKind::NotADirectory));
    }

    #[test]
    fn folders_are_walked_as_deep_as_tiles_lie() {
        let temp = tempfile::tempdir().unwrap();
        let deepest = "tile/0/x018/x446/x744/x073/x709/x551/615.p/1";
        let files = DirFiles::new(temp.path());
        assert!(tile::parse_path(deepest).is_some_and(|(_, number, _)| number == u64::MAX));
        let path = temp.path().join(deepest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
        assert_eq!(files.names().unwrap(), [deepest]);
    }

    #[test]
    fn only_what_is_not_there_is_none() {
        let temp = tempfile::tempdir().unwrap();
        symlink("nowhere", temp.path().join(CHECKPOINT)).unwrap();
        let files = DirFiles::new(temp.path());
        assert!(open_if_there(&files, CURRENT).unwrap().is_none());
        assert!(read_if_there(&files, CURRENT, 9).unwrap().is_none());
        let opened = open_if_there(&files, CHECKPOINT).err().unwrap();
        let read = read_if_there(&files, CHECKPOINT, 9).err().unwrap();
        for refused in [opened, read] {
            assert!(refused.to_string().contains("symbolic link"), "{refused}");
        }
    }
}
