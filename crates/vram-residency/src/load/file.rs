//! Regular files: opened once, read by position, from the page cache where the
//! bytes are there and by the faster way where they are not.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, OFlags};

use super::direct::{Cache, Direct, Trial, Way, is_unsupported, timed};
use super::retry::asked;
use super::{LoadError, Source};
use crate::clock::Clock;
use crate::format::{Excerpt, FormatError, ReadAt};
use crate::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Shorter files are read through the page cache: a trial costs more there
/// than it could save.
const WORTH_A_TRIAL: u64 = 64 << 20;
/// How often a file is asked where it lies that is moved meanwhile, at most.
const MOVES: usize = 8;

/// Where an open file or directory lies, links followed. Only the kernel knows:
/// a path may lead elsewhere by the time it is asked.
pub(super) fn place_of(file: &File) -> io::Result<PathBuf> {
    let handle = handle_of(file);
    asked(|| std::fs::read_link(&handle)).map_err(|error| {
        let handle = handle.display();
        let text = format!("cannot tell where the open file lies, {handle}: {error}");
        io::Error::new(error.kind(), text)
    })
}

/// A path that leads to an open file or directory and to no other, whatever takes
/// its name meanwhile.
pub(super) fn handle_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Finds what `path` leads to, and opens nothing.
pub(super) fn find(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = i32::try_from((OFlags::PATH | flags).bits()).unwrap_or(0);
    let mut options = File::options();
    let options = options.read(true).custom_flags(flags);
    asked(|| options.open(path))
}

/// Which file was opened, and when it was last written or renamed: what must
/// stay the same while it is read, and until it is read again where parts of
/// one model are not to be of two revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// The file that `path` leads to now, which is not opened for that.
    ///
    /// # Errors
    /// [`LoadError::Open`].
    pub fn at(path: &Path) -> Result<Self, LoadError> {
        let meta = asked(|| std::fs::metadata(path));
        let meta = meta.map_err(|error| LoadError::not_opened(path, error))?;
        Ok(Self::of(&meta))
    }

    /// What of it differs by `now`, as [`LoadError::Changed`] says it.
    #[must_use]
    pub fn difference(&self, now: &Self) -> Option<&'static str> {
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
///
/// Pieces of a load that the page cache holds are read from it. Cold ones of
/// files from 64 MiB on are first read in turn through the cache and past it
/// (`O_DIRECT`), and then the way that was faster on this mount. Reads through
/// the cache carry the hint that they come once, so that the model does not
/// push out what others use.
pub struct FileSource {
    /// What it is called; it may lead to another file by now.
    path: PathBuf,
    file: File,
    opened: FileIdentity,
    cold: OnceLock<Option<Cold>>,
    reads: Reads,
}

/// What reading cold pieces needs; opened when the first piece is read.
struct Cold {
    cache: Cache,
    direct: Direct,
    trial: Mutex<Trial>,
}

#[derive(Default)]
struct Reads {
    cached: AtomicU64,
    buffered: AtomicU64,
    direct: AtomicU64,
}

/// Bytes of a file that a load read, by how they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileReads {
    /// Out of the page cache, or not asked about.
    pub cached: u64,
    /// From the device through the page cache.
    pub buffered: u64,
    /// From the device past the page cache.
    pub direct: u64,
}

impl FileSource {
    /// Opens `path`. Directories, FIFOs, sockets and devices are refused
    /// without waiting for them.
    ///
    /// # Errors
    /// [`LoadError::Open`] or [`LoadError::NotRegular`].
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        Self::open_as(path, path)
    }

    /// Opens `path`, which must lie where `may` says it may, under another name of
    /// the same file: a cache keeps files under names that say nothing, and links
    /// to them that do. What is found decides where it lies, so a link that is put
    /// there meanwhile leads nowhere, and it is opened only when that is known: a
    /// FIFO or a device elsewhere would feel it.
    ///
    /// requirement: VA-10
    pub(super) fn open_within(
        path: &Path,
        called: &Path,
        may: impl Fn(&Path) -> io::Result<bool>,
    ) -> Result<Self, LoadError> {
        let refused = |error| LoadError::not_opened(called, error);
        let found = find(path, OFlags::empty()).map_err(refused)?;
        lies_within(&found, called, may)?;
        Self::open_as(&handle_of(&found), called)
    }

    /// Whether the open file lies where it may.
    ///
    /// # Errors
    /// [`FormatError::Escapes`], where it does not.
    pub(super) fn lies_within(
        &self,
        may: impl Fn(&Path) -> io::Result<bool>,
    ) -> Result<(), LoadError> {
        lies_within(&self.file, &self.path, may)
    }

    /// Opens `path`, wherever it leads, under another name of the same file.
    pub(super) fn open_as(path: &Path, called: &Path) -> Result<Self, LoadError> {
        let name = || called.display().to_string();
        let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let mut options = File::options();
        let options = options.read(true).custom_flags(nonblock);
        let refused = |error| LoadError::not_opened(called, error);
        let file = asked(|| options.open(path)).map_err(refused)?;
        let meta = asked(|| file.metadata()).map_err(refused)?;
        if !meta.is_file() {
            return Err(LoadError::NotRegular { name: name() });
        }
        // A hint; systems before Linux 6.3 ignore it.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::NoReuse);
        Ok(Self {
            path: called.to_owned(),
            file,
            opened: FileIdentity::of(&meta),
            cold: OnceLock::new(),
            reads: Reads::default(),
        })
    }

    /// The path it is called by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, as it was when it was opened.
    pub(super) const fn opened(&self) -> FileIdentity {
        self.opened
    }

    /// How the pieces of loads came so far.
    #[must_use]
    pub fn reads(&self) -> FileReads {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FileReads {
            cached: read(&self.reads.cached),
            buffered: read(&self.reads.buffered),
            direct: read(&self.reads.direct),
        }
    }

    fn cold(&self) -> Option<&Cold> {
        let open = || {
            if self.opened.size < WORTH_A_TRIAL {
                return None;
            }
            Some(Cold {
                cache: Cache::open(&self.file)?,
                direct: Direct::open(&self.file)?,
                trial: Mutex::default(),
            })
        };
        self.cold.get_or_init(open).as_ref()
    }

    /// Reads a piece that is not in the page cache.
    fn read_cold(
        &self,
        cold: &Cold,
        offset: u64,
        out: &mut [u8],
        clock: &dyn Clock,
    ) -> io::Result<Way> {
        let len = out.len() as u64;
        let prefix = cold.direct.prefix(offset, out);
        let way = if prefix == 0 {
            Way::Buffered
        } else {
            cold.trial().next()
        };
        if way == Way::Direct {
            let (aligned, tail) = out.split_at_mut(prefix);
            let rest = offset.saturating_add(aligned.len() as u64);
            let read = timed(clock, || {
                cold.direct.read(offset, aligned)?;
                self.file.read_exact_at(tail, rest)
            });
            match read {
                Ok(nanos) => {
                    cold.trial().took(way, len, nanos);
                    cold.cache.forget(offset, len);
                    return Ok(way);
                }
                Err(error) if is_unsupported(&error) => cold.trial().give_up(),
                Err(error) => return Err(error),
            }
        }
        let nanos = timed(clock, || self.file.read_exact_at(out, offset))?;
        cold.trial().took(Way::Buffered, len, nanos);
        Ok(Way::Buffered)
    }
}

impl Cold {
    fn trial(&self) -> MutexGuard<'_, Trial> {
        self.trial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lies_within(
    file: &File,
    called: &Path,
    may: impl Fn(&Path) -> io::Result<bool>,
) -> Result<(), LoadError> {
    if may_lie(file, may).map_err(|error| LoadError::not_opened(called, error))? {
        return Ok(());
    }
    let file = called.file_name().unwrap_or_default().to_string_lossy();
    Err(LoadError::Format {
        name: called.display().to_string(),
        source: FormatError::Escapes {
            name: Excerpt::new(&file),
        },
    })
}

/// Whether a file lies where it may. One whose directory was renamed while it was
/// asked where both lie is asked again: the two answers were not of one moment.
fn may_lie(file: &File, may: impl Fn(&Path) -> io::Result<bool>) -> io::Result<bool> {
    for _ in 0..MOVES {
        let place = place_of(file)?;
        let answer = may(&place)?;
        if place_of(file)? == place {
            return Ok(answer);
        }
    }
    Err(io::Error::other(
        "it or its directory is renamed all the time; try again when nobody does that",
    ))
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

    fn read_piece(&self, offset: u64, out: &mut [u8], clock: &dyn Clock) -> io::Result<()> {
        let len = out.len() as u64;
        let cold = self.cold();
        let way = match cold.filter(|cold| cold.cache.is_cold(offset, len)) {
            Some(cold) => self.read_cold(cold, offset, out, clock)?,
            None => {
                self.file.read_exact_at(out, offset)?;
                Way::Cached
            }
        };
        let count = match way {
            Way::Cached => &self.reads.cached,
            Way::Buffered => &self.reads.buffered,
            Way::Direct => &self.reads.direct,
        };
        count.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        Some(self.file.metadata().ok()?.len())
    }

    fn identity(&self) -> Option<FileIdentity> {
        Some(self.opened)
    }

    fn check_unchanged(&self) -> Result<(), LoadError> {
        let name = || self.path.display().to_string();
        let refused = |source| LoadError::Read {
            name: name(),
            offset: 0,
            source,
        };
        let now = asked(|| self.file.metadata()).map_err(refused)?;
        match self.opened.difference(&FileIdentity::of(&now)) {
            Some(what) => Err(LoadError::Changed { name: name(), what }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::clock::SystemClock;
    use crate::load::SealRequest;

    const LEN: usize = (65 << 20) + 777;
    const PIECE: usize = 2 << 20;

    /// A file that is on the device and, as far as the system follows the
    /// hint, not in the page cache.
    fn cold_file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file.as_file().sync_all().unwrap();
        rustix::fs::fadvise(file.as_file(), 0, None, Advice::DontNeed).unwrap();
        file
    }

    fn pattern() -> Vec<u8> {
        let word = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        (0..).flat_map(word).take(LEN).collect()
    }

    #[expect(clippy::arithmetic_side_effects, reason = "test code")]
    /// Reads a file as a load does; `skew` makes buffers start at odd addresses.
    fn read_all(source: &FileSource, skew: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        let mut slot = memmap2::MmapMut::map_anon(PIECE + skew).unwrap();
        while out.len() < LEN {
            let len = PIECE.min(LEN - out.len());
            let piece = &mut slot[skew..skew + len];
            source
                .read_piece(out.len() as u64, piece, &SystemClock::new())
                .unwrap();
            out.extend_from_slice(piece);
        }
        out
    }

    // requirement: PF-11
    #[test]
    fn cold_and_warm_reads_give_the_same_bytes_each_once() {
        let bytes = pattern();
        let file = cold_file(&bytes);
        for skew in [0, 1] {
            rustix::fs::fadvise(file.as_file(), 0, None, Advice::DontNeed).unwrap();
            let source = FileSource::open(file.path()).unwrap();
            assert!(read_all(&source, skew) == bytes, "skew {skew}");
            let reads = source.reads();
            let total = reads.cached + reads.buffered + reads.direct;
            assert_eq!(total, LEN as u64, "{reads:?}");
            if skew == 1 {
                assert_eq!(reads.direct, 0, "odd addresses cannot be read directly");
            }
        }
        // Now it is cached: nothing goes past the cache. A system that is short
        // of memory may drop a page in between, so more than one try counts.
        let stays_in_the_cache = || {
            std::fs::read(file.path()).unwrap();
            let source = FileSource::open(file.path()).unwrap();
            assert!(read_all(&source, 0) == bytes);
            source.reads().direct == 0
        };
        assert!((0..10).any(|_| stays_in_the_cache()));
    }

    #[test]
    fn short_files_are_read_without_a_trial() {
        let file = cold_file(&[7; 5000]);
        let source = FileSource::open(file.path()).unwrap();
        let mut out = [0; 5000];
        source.read_piece(0, &mut out, &SystemClock::new()).unwrap();
        assert_eq!(out, [7; 5000]);
        assert_eq!(source.reads().cached, 5000);
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
        let identity = || SealRequest::file(file.path()).identity().unwrap();
        let before = identity();
        assert_eq!(
            (Some(before), None),
            (source.identity(), before.difference(&identity()))
        );
        std::fs::write(file.path(), b"three").unwrap();
        assert_eq!(before.difference(&identity()), Some("size"));
        let error = source.check_unchanged().unwrap_err().to_string();
        assert!(error.contains("size differs"), "{error}");
    }
    // requirement: VA-10
    #[test]
    fn a_file_that_became_a_link_is_refused() {
        use std::os::unix::fs::symlink;

        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let (dir, outside) = (top.join("model"), top.join("outside"));
        for dir in [&dir.join("inner"), &outside] {
            std::fs::create_dir_all(dir).unwrap();
        }
        for file in [
            dir.join("part"),
            dir.join("inner/part"),
            outside.join("part"),
        ] {
            std::fs::write(file, b"tensors").unwrap();
        }
        let real = dir.join("part");
        let may = |place: &Path| Ok(place.starts_with(&dir));
        FileSource::open_within(&real, &dir.join("part"), may).unwrap();

        let refused = |path: &Path| {
            let error = FileSource::open_within(path, path, may).err().unwrap();
            let text = error.to_string();
            let escapes = matches!(
                error,
                LoadError::Format {
                    source: FormatError::Escapes { .. },
                    ..
                }
            );
            assert!(escapes && text.contains("\"part\""), "{text}");
        };
        // The part itself, then a directory on the way to one, is exchanged.
        symlink(outside.join("part"), dir.join("link")).unwrap();
        exchange(&dir.join("link"), &real);
        refused(&real);
        symlink(&outside, dir.join("away")).unwrap();
        exchange(&dir.join("away"), &dir.join("inner"));
        refused(&dir.join("inner/part"));
    }

    // requirement: VA-10
    #[test]
    fn a_directory_that_is_renamed_meanwhile_holds_what_it_held() {
        let top = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| top.path().join(name));
        for (renames, holds) in [(0, true), (1, true), (2, true), (MOVES, false)] {
            std::fs::create_dir(&one).unwrap();
            std::fs::write(one.join("part"), b"tensors").unwrap();
            let dir = find(&one, OFlags::DIRECTORY).unwrap();
            let done = std::cell::Cell::new(0);
            let may = |place: &Path| {
                if done.get() < renames {
                    let there = if one.exists() {
                        (&one, &two)
                    } else {
                        (&two, &one)
                    };
                    std::fs::rename(there.0, there.1)?;
                    done.set(done.get() + 1);
                }
                Ok(place.starts_with(place_of(&dir)?))
            };
            let part = one.join("part");
            match FileSource::open_within(&part, &part, may) {
                Ok(source) => assert!(holds && source.len() == 7, "{renames}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!holds && text.contains("renamed all the time"), "{text}");
                }
            }
            let there = if one.exists() { &one } else { &two };
            std::fs::remove_dir_all(there).unwrap();
        }
    }

    /// Both names change places at once, as a second process may do it.
    fn exchange(a: &Path, b: &Path) {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, a, rustix::fs::CWD, b, flags).unwrap();
    }
}
