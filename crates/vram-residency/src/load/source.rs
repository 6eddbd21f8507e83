//! Where bytes come from: positioned reads of something with a known length.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::LoadError;
use crate::format::ReadAt;

/// A source of model bytes, its length fixed when it was opened. Reads may come
/// from several threads at once.
pub trait Source: ReadAt + Send + Sync {
    /// What messages call it.
    fn name(&self) -> String;

    /// True when reads must come in file order (a pipe, say).
    fn is_sequential(&self) -> bool {
        false
    }

    /// Whether the source is still what it was when it was opened.
    ///
    /// # Errors
    /// [`LoadError::Changed`].
    fn check_unchanged(&self) -> Result<(), LoadError> {
        Ok(())
    }
}

impl Source for &[u8] {
    fn name(&self) -> String {
        "bytes".to_owned()
    }
}

/// What must stay the same while a file is read.
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    fn difference(&self, now: &Self) -> Option<&'static str> {
        let same = |equal: bool, what| if equal { None } else { Some(what) };
        same(
            (self.device, self.inode) == (now.device, now.inode),
            "identity",
        )
        .or(same(self.size == now.size, "size"))
        .or(same(self.modified == now.modified, "modification time"))
        .or(same(self.changed == now.changed, "change time"))
    }
}

/// A regular file, opened once; reads are positioned, so threads share it.
pub struct FileSource {
    path: PathBuf,
    file: File,
    opened: Identity,
}

impl FileSource {
    /// Opens `path`. Directories, FIFOs, sockets and devices are refused
    /// without waiting for them.
    ///
    /// # Errors
    /// [`LoadError::Open`] or [`LoadError::NotRegular`].
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let name = || path.display().to_string();
        let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let mut options = File::options();
        let opened = options.read(true).custom_flags(nonblock).open(path);
        let refused = |source| LoadError::Open {
            name: name(),
            source,
        };
        let file = opened.map_err(refused)?;
        if !file.metadata().map_err(refused)?.is_file() {
            return Err(LoadError::NotRegular { name: name() });
        }
        let identity = Identity::of(&file).map_err(refused)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            opened: identity,
        })
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> u64 {
        self.opened.size
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }
}

impl Source for FileSource {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn check_unchanged(&self) -> Result<(), LoadError> {
        let name = || self.path.display().to_string();
        let refused = |source| LoadError::Read {
            name: name(),
            offset: 0,
            source,
        };
        let now = Identity::of(&self.file).map_err(refused)?;
        match self.opened.difference(&now) {
            Some(what) => Err(LoadError::Changed { name: name(), what }),
            None => Ok(()),
        }
    }
}

/// A reader of known length, such as a pipe; read in order.
pub(super) struct ReaderSource<R> {
    len: u64,
    /// The reader and how far it is.
    state: Mutex<(R, u64)>,
}

impl<R: Read + Send> ReaderSource<R> {
    pub(super) const fn new(reader: R, len: u64) -> Self {
        Self {
            len,
            state: Mutex::new((reader, 0)),
        }
    }
}

impl<R: Read + Send> ReadAt for ReaderSource<R> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.1 != offset {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "a reader cannot go back",
            ));
        }
        state.0.read_exact(out)?;
        state.1 = offset.saturating_add(out.len() as u64);
        Ok(())
    }
}

impl<R: Read + Send> Source for ReaderSource<R> {
    fn name(&self) -> String {
        "reader".to_owned()
    }

    fn is_sequential(&self) -> bool {
        true
    }

    /// The reader must end where it said it would.
    fn check_unchanged(&self) -> Result<(), LoadError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let name = || "reader".to_owned();
        match state.0.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(LoadError::Changed {
                name: name(),
                what: "size",
            }),
            Err(source) => Err(LoadError::Read {
                name: name(),
                offset: self.len,
                source,
            }),
        }
    }
}

/// A repeatable source of any length that holds no bytes: for capacity tests,
/// benches and models larger than memory. Byte `i` is a mix of `i` and the seed.
#[derive(Debug, Clone, Copy)]
pub struct PatternSource {
    len: u64,
    seed: u64,
}

impl PatternSource {
    /// `len` bytes of the pattern of `seed`.
    #[must_use]
    pub const fn new(len: u64, seed: u64) -> Self {
        Self { len, seed }
    }

    /// Eight bytes of the pattern: SplitMix64 of the word's index.
    const fn word(&self, index: u64) -> [u8; 8] {
        let mut z = index
            .wrapping_add(self.seed)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

impl Source for PatternSource {
    fn name(&self) -> String {
        format!("pattern of seed {}", self.seed)
    }
}

impl ReadAt for PatternSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let skip = usize::try_from(offset % 8).unwrap_or(0);
        let words = (offset / 8..).flat_map(|index| self.word(index)).skip(skip);
        for (byte, value) in out.iter_mut().zip(words) {
            *byte = value;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_reads_agree_at_every_offset() {
        let source = PatternSource::new(100, 7);
        let mut whole = [0; 100];
        source.read_exact_at(0, &mut whole).unwrap();
        for offset in 0..90 {
            let mut part = [0; 10];
            source.read_exact_at(offset as u64, &mut part).unwrap();
            assert_eq!(part, whole[offset..offset + 10]);
        }
        assert!(source.read_exact_at(91, &mut [0; 10]).is_err());
    }

    #[test]
    fn fifos_and_directories_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let refused = FileSource::open(dir.path());
        assert!(matches!(refused, Err(LoadError::NotRegular { .. })));
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(matches!(
            FileSource::open(&fifo),
            Err(LoadError::NotRegular { .. })
        ));
    }

    #[test]
    fn a_changed_file_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"one").unwrap();
        let source = FileSource::open(file.path()).unwrap();
        source.check_unchanged().unwrap();
        std::fs::write(file.path(), b"three").unwrap();
        let error = source.check_unchanged().unwrap_err().to_string();
        assert!(error.contains("size differs"), "{error}");
    }
}
