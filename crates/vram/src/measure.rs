//! Digests of files and pipes on all cores, in memory that does not grow with
//! the file: 1/16384 of it, for the second level of the tree.

use std::io::Read;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use vram_digest::{
    BLOCK_BYTES, BlockHash, FileDigest, file_digest, hash_blocks, hash_blocks_parallel, root,
};
use vram_residency::format::ReadAt as _;
use vram_residency::load::{FileSource, LoadError, Retried, Source as _};

/// Hashes in one block of the tree's second level.
const FAN_OUT: usize = 128;
/// Second-level blocks of one piece: enough to fill every lane of every path.
const PARENTS: usize = 16;
/// Blocks of one piece of work.
const BLOCKS: usize = FAN_OUT * PARENTS;
/// Bytes of one piece of work: 8 MiB.
const PIECE: usize = BLOCKS * BLOCK_BYTES;
/// Bytes read at a time: they are still in the cache when they are hashed.
const READ: usize = 256 << 10;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    /// fs-verity digest.
    pub(crate) digest: FileDigest,
    /// Bytes.
    pub(crate) len: u64,
    /// Plain SHA-256, when it was asked for.
    pub(crate) content: Option<[u8; 32]>,
}

/// Called with the number of bytes just done, from several threads.
pub(crate) type Advance<'a> = &'a (dyn Fn(u64) + Sync);

/// All cores.
pub(crate) fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Measures a regular file by positioned reads on `threads` threads.
pub(crate) fn file(
    path: &Path,
    threads: NonZeroUsize,
    advance: Advance<'_>,
) -> Result<Measured, LoadError> {
    let source = FileSource::open(path)?;
    let len = source.len();
    let pieces = usize::try_from(len.div_ceil(PIECE as u64)).unwrap_or(usize::MAX);
    let mut parents: Vec<[BlockHash; PARENTS]> = Vec::new();
    // A sparse file can claim any length.
    let room = parents.try_reserve_exact(pieces);
    room.map_err(|_| LoadError::Read {
        name: source.name(),
        offset: 0,
        source: std::io::ErrorKind::OutOfMemory.into(),
    })?;
    parents.resize(pieces, [BlockHash::default(); PARENTS]);
    let first = pieces_of(&source, &mut parents, threads, advance)?;
    source.check_unchanged()?;
    Ok(Measured {
        digest: finish(parents.as_flattened(), first, len),
        len,
        content: None,
    })
}

/// Hashes every piece of a file; gives the hash of its first block.
fn pieces_of(
    source: &FileSource,
    parents: &mut [[BlockHash; PARENTS]],
    threads: NonZeroUsize,
    advance: Advance<'_>,
) -> Result<BlockHash, LoadError> {
    let helpers = threads.get().min(parents.len()).saturating_sub(1);
    let queue = Mutex::new((0_u64..).zip(parents.iter_mut()));
    let outcome = Mutex::new(Ok(BlockHash::default()));
    let work = || {
        let mut scratch = Scratch::new();
        loop {
            if lock(&outcome).is_err() {
                break;
            }
            let Some((index, parents)) = lock(&queue).next() else {
                break;
            };
            let offset = index.saturating_mul(PIECE as u64);
            let hashed = scratch.piece(source, offset, parents, advance);
            match hashed {
                Ok(first) if index == 0 => *lock(&outcome) = Ok(first),
                Ok(_) => {}
                Err(error) => *lock(&outcome) = Err(error),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            let helper = std::thread::Builder::new().spawn_scoped(scope, work);
            if helper.is_err() {
                // The threads that are there do the work of those that are not.
                break;
            }
        }
        work();
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A lock is poisoned only by a thread that died; what it guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread's memory.
struct Scratch {
    bytes: Vec<u8>,
    level0: Vec<BlockHash>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            bytes: vec![0; READ],
            level0: vec![BlockHash::default(); BLOCKS],
        }
    }

    /// Hashes the piece at `offset` into its second-level hashes; gives the
    /// hash of its first block.
    fn piece(
        &mut self,
        source: &FileSource,
        offset: u64,
        parents: &mut [BlockHash; PARENTS],
        advance: Advance<'_>,
    ) -> Result<BlockHash, LoadError> {
        let len = source.len().saturating_sub(offset).min(PIECE as u64);
        let mut done = 0_u64;
        for hashes in self.level0.chunks_mut(READ / BLOCK_BYTES) {
            let want = len.saturating_sub(done).min(READ as u64);
            if want == 0 {
                break;
            }
            let want = usize::try_from(want).unwrap_or(READ);
            let bytes = self.bytes.get_mut(..want).unwrap_or_default();
            let at = offset.saturating_add(done);
            read(source, at, bytes)?;
            let hashes = hashes.get_mut(..want.div_ceil(BLOCK_BYTES));
            // The lengths agree by construction; nothing is hidden.
            let _ = hash_blocks(bytes, hashes.unwrap_or_default());
            done = done.saturating_add(want as u64);
            advance(want as u64);
        }
        let blocks = usize::try_from(done.div_ceil(BLOCK_BYTES as u64)).unwrap_or(BLOCKS);
        let level0 = self.level0.get(..blocks).unwrap_or_default();
        hash_parents(level0, parents);
        Ok(level0.first().copied().unwrap_or_default())
    }
}

/// The second level over at most [`BLOCKS`] block hashes; the rest stays zero.
fn hash_parents(level0: &[BlockHash], parents: &mut [BlockHash]) {
    let count = level0.len().div_ceil(FAN_OUT);
    let parents = parents.get_mut(..count).unwrap_or_default();
    // `parents` was just cut to the number of started blocks.
    let _ = hash_blocks(level0.as_flattened(), parents);
}

/// The digest from the second level, of which `len` says how much is used. A
/// file of one block has no second level, an empty one has no block.
fn finish(parents: &[BlockHash], first: BlockHash, len: u64) -> FileDigest {
    if len <= BLOCK_BYTES as u64 {
        return file_digest(&first, len);
    }
    let used = len.div_ceil((BLOCK_BYTES * FAN_OUT) as u64);
    let used = usize::try_from(used).unwrap_or(usize::MAX);
    file_digest(&root(parents.get(..used).unwrap_or(parents)), len)
}

/// Reads as a load does: failures of a moment are tried again, and a file that
/// came short says where it ends by now.
fn read(file: &FileSource, offset: u64, out: &mut [u8]) -> Result<(), LoadError> {
    let name = || file.name();
    let done = Retried(file).read_exact_at(offset, out);
    done.map_err(|source| match source.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            let piece_end = offset.saturating_add(out.len() as u64);
            let offset = file.end().unwrap_or(offset).min(piece_end);
            LoadError::Short {
                name: name(),
                offset,
                expected: file.len().saturating_sub(offset),
            }
        }
        _ => LoadError::Read {
            name: name(),
            offset,
            source,
        },
    })
}

/// Measures a file in order, with its plain SHA-256 beside the tree.
pub(crate) fn file_with_content(
    path: &Path,
    threads: NonZeroUsize,
    advance: Advance<'_>,
) -> Result<Measured, LoadError> {
    let source = FileSource::open(path)?;
    let mut at = 0_u64;
    let mut fill = |out: &mut [u8]| {
        let want = source.len().saturating_sub(at).min(out.len() as u64);
        let want = usize::try_from(want).unwrap_or(out.len());
        let bytes = out.get_mut(..want).unwrap_or_default();
        read(&source, at, bytes)?;
        at = at.saturating_add(want as u64);
        Ok(want)
    };
    let measured = in_order(&mut fill, true, threads, advance)?;
    source.check_unchanged()?;
    Ok(measured)
}

/// Measures what a pipe gives until its end.
pub(crate) fn stream(
    name: &str,
    reader: &mut dyn Read,
    content: bool,
    threads: NonZeroUsize,
    advance: Advance<'_>,
) -> Result<Measured, LoadError> {
    let mut offset = 0_u64;
    let mut read = |out: &mut [u8]| {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match reader.read(rest) {
                Ok(0) => break,
                Ok(n) => filled = filled.saturating_add(n),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(LoadError::Read {
                        name: name.to_owned(),
                        offset: offset.saturating_add(filled as u64),
                        source: error,
                    });
                }
            }
        }
        offset = offset.saturating_add(filled as u64);
        Ok(filled)
    };
    in_order(&mut read, content, threads, advance)
}

/// Fills a piece as far as there are bytes; gives how many.
type Fill<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<usize, LoadError>;

/// Measures pieces one after the other, each on `threads` threads.
fn in_order(
    fill: Fill<'_>,
    content: bool,
    threads: NonZeroUsize,
    advance: Advance<'_>,
) -> Result<Measured, LoadError> {
    let mut bytes = vec![0; PIECE];
    let mut level0 = vec![BlockHash::default(); BLOCKS];
    let mut parents: Vec<BlockHash> = Vec::new();
    let (mut first, mut len) = (BlockHash::default(), 0_u64);
    let mut chain = content.then(Sha256::new);
    loop {
        let filled = fill(&mut bytes)?;
        let piece = bytes.get(..filled).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        let hashes = level0
            .get_mut(..filled.div_ceil(BLOCK_BYTES))
            .unwrap_or_default();
        beside(chain.as_mut(), piece, || {
            // The lengths agree by construction; nothing is hidden.
            let _ = hash_blocks_parallel(piece, hashes, threads);
        });
        if len == 0 {
            first = hashes.first().copied().unwrap_or_default();
        }
        let mut above = [BlockHash::default(); PARENTS];
        hash_parents(hashes, &mut above);
        parents.extend_from_slice(&above);
        len = len.saturating_add(filled as u64);
        advance(filled as u64);
        if filled < PIECE {
            break;
        }
    }
    Ok(Measured {
        digest: finish(&parents, first, len),
        len,
        content: chain.map(|chain| chain.finalize().into()),
    })
}

/// Hashes `piece` into the chain while `work` is done, or before it where no
/// further thread can be had.
fn beside(chain: Option<&mut Sha256>, piece: &[u8], work: impl FnOnce()) {
    let Some(chain) = chain else {
        return work();
    };
    let waiting = Mutex::new(Some(chain));
    let update = || {
        if let Some(chain) = lock(&waiting).take() {
            chain.update(piece);
        }
    };
    std::thread::scope(|scope| {
        let helper = std::thread::Builder::new().spawn_scoped(scope, update);
        if helper.is_err() {
            update();
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        let word = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        (0..len.div_ceil(8)).flat_map(word).take(len).collect()
    }

    /// Around every border of the pieces and of the first two levels.
    const LENGTHS: [usize; 14] = [
        0,
        1,
        4095,
        4096,
        4097,
        8192,
        128 * 4096 - 1,
        128 * 4096,
        128 * 4096 + 1,
        PIECE - 1,
        PIECE,
        PIECE + 1,
        2 * PIECE + 128 * 4096,
        3 * PIECE + 4097,
    ];

    // requirement: DG-1
    #[test]
    fn every_way_of_measuring_gives_the_digest_of_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let two = NonZeroUsize::new(2).unwrap();
        for len in LENGTHS {
            let bytes = pattern(len);
            std::fs::write(&path, &bytes).unwrap();
            let expected = Measured {
                digest: vram_digest::digest(&bytes),
                len: len as u64,
                content: None,
            };
            for threads in [NonZeroUsize::MIN, two, NonZeroUsize::new(5).unwrap()] {
                assert_eq!(file(&path, threads, &|_| {}).unwrap(), expected, "{len}");
            }
            let mut reader = bytes.as_slice();
            let piped = stream("stdin", &mut reader, false, two, &|_| {}).unwrap();
            assert_eq!(piped, expected, "{len}");
            let whole = file_with_content(&path, two, &|_| {}).unwrap();
            assert_eq!(whole.digest, expected.digest, "{len}");
            let content: [u8; 32] = Sha256::digest(&bytes).into();
            assert_eq!(whole.content, Some(content), "{len}");
        }
    }

    #[test]
    fn a_pipe_in_odd_pieces_gives_the_same_digest() {
        struct Drip<'a>(&'a [u8], usize);
        impl Read for Drip<'_> {
            fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
                self.1 = self.1 % 7001 + 13;
                let n = self.1.min(out.len()).min(self.0.len());
                out[..n].copy_from_slice(&self.0[..n]);
                self.0 = &self.0[n..];
                Ok(n)
            }
        }
        let bytes = pattern(PIECE + 70_001);
        let measured = stream("pipe", &mut Drip(&bytes, 0), true, cores(), &|_| {}).unwrap();
        assert_eq!(measured.digest, vram_digest::digest(&bytes));
        assert_eq!(measured.len, bytes.len() as u64);
    }

    #[test]
    fn a_file_that_shrank_says_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let (len, end) = (PIECE as u64 + 5, READ as u64 + 777);
        type Measure = fn(&Path, NonZeroUsize, Advance<'_>) -> Result<Measured, LoadError>;
        for measure in [file as Measure, file_with_content] {
            std::fs::write(&path, pattern(PIECE + 5)).unwrap();
            // It is cut as soon as the first bytes were hashed; the next reads
            // are behind its end.
            let cut = |_| {
                let file = std::fs::File::options().write(true).open(&path);
                file.unwrap().set_len(end).unwrap();
            };
            let short = measure(&path, NonZeroUsize::MIN, &cut).unwrap_err();
            let LoadError::Short {
                offset, expected, ..
            } = short
            else {
                panic!("{short}");
            };
            assert_eq!((offset, expected), (end, len - end));
        }
    }

    #[test]
    fn progress_adds_up_to_the_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        std::fs::write(&path, pattern(PIECE + 5)).unwrap();
        let done = std::sync::atomic::AtomicU64::new(0);
        let count = |n| {
            done.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
        };
        let _ = file(&path, cores(), &count).unwrap();
        assert_eq!(done.into_inner(), PIECE as u64 + 5);
    }
}
