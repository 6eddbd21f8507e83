//! One simulated allocation: sparse pieces behind locks of their own, so that
//! reader threads fill different parts at once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroUsize;

use super::backing::Pool;
use super::chunk::{CHUNK_BYTES, Chunk, POISON};
use super::filled::filled;
use super::lock;
use super::parallel::for_each;
use crate::device::{DeviceError, Protection};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// What can answer from elsewhere.
const PAGE: u64 = 4096;

pub(super) struct Buffer {
    /// Simulated base address.
    pub(super) address: u64,
    /// Bytes that exist: the request rounded up to the granularity.
    pub(super) len: u64,
    /// Contents are measured and dropped.
    pub(super) discarded: bool,
    protection: Mutex<Protection>,
    /// Where the last upload put the shard, for scripted flips in its terms.
    uploaded: Mutex<Option<(u64, u64)>>,
    chunks: RwLock<BTreeMap<u64, Arc<RwLock<Chunk>>>>,
    /// Pages that answer from the memory of others.
    remapped: RwLock<BTreeMap<u64, u64>>,
    pool: Arc<Pool>,
}

/// A piece of a range: which chunk, where in it, and where in the caller's range.
struct Piece {
    chunk: u64,
    at: usize,
    offset: usize,
    len: usize,
}

impl Buffer {
    pub(super) fn new(address: u64, len: u64, discarded: bool, pool: Arc<Pool>) -> Self {
        Self {
            address,
            len,
            discarded,
            protection: Mutex::new(Protection::ReadWrite),
            uploaded: Mutex::new(None),
            chunks: RwLock::new(BTreeMap::new()),
            remapped: RwLock::new(BTreeMap::new()),
            pool,
        }
    }

    pub(super) fn protection(&self) -> Protection {
        *lock(&self.protection)
    }

    pub(super) fn protect(&self, protection: Protection) {
        *lock(&self.protection) = protection;
    }

    pub(super) fn uploaded(&self) -> Option<(u64, u64)> {
        *lock(&self.uploaded)
    }

    pub(super) fn note_upload(&self, start: u64, len: u64) {
        *lock(&self.uploaded) = Some((start, len));
    }

    pub(super) fn check(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(DeviceError::OutOfRange {
                offset,
                len,
                size: self.len,
            }),
        }
    }

    pub(super) fn host_bytes(&self) -> u64 {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        chunks
            .values()
            .map(|chunk| read(chunk, Chunk::len) as u64)
            .sum()
    }

    /// Copies out; unwritten bytes read as poison.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), DeviceError> {
        self.kept()?;
        self.check(offset, out.len() as u64)?;
        for piece in self.pieces(offset, out.len()) {
            let Some(part) = out.get_mut(piece.offset..piece.offset.saturating_add(piece.len))
            else {
                continue;
            };
            match self.chunk(piece.chunk) {
                Some(chunk) => read(&chunk, |chunk| chunk.read(piece.at, part)),
                None => part.fill(POISON),
            }
        }
        Ok(())
    }

    /// Copies in, whatever the protection says.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.check(offset, bytes.len() as u64)?;
        if self.discarded {
            return Ok(());
        }
        for piece in self.pieces(offset, bytes.len()) {
            let end = piece.offset.saturating_add(piece.len);
            if let Some(part) = bytes.get(piece.offset..end) {
                self.modify(&piece, |target| target.copy_from_slice(part))?;
            }
        }
        Ok(())
    }

    pub(super) fn fill(&self, offset: u64, len: u64, byte: u8) -> Result<(), DeviceError> {
        self.check(offset, len)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if !self.discarded {
            for piece in self.pieces(offset, len) {
                self.modify(&piece, |target| target.fill(byte))?;
            }
        }
        Ok(())
    }

    pub(super) fn flip(&self, offset: u64, bit: u8) -> Result<(), DeviceError> {
        let mut byte = [0];
        self.read(offset, &mut byte)?;
        self.write(
            offset,
            &byte.map(|value| value ^ 1_u8.wrapping_shl(u32::from(bit))),
        )
    }

    /// Runs `look` on `len` bytes at `offset`, borrowed in place when they lie
    /// in one piece, else gathered into `scratch`.
    pub(super) fn with_range<R>(
        &self,
        offset: u64,
        len: usize,
        scratch: &mut Vec<u8>,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, DeviceError> {
        self.kept()?;
        self.check(offset, len as u64)?;
        let at = usize::try_from(offset % CHUNK_BYTES).unwrap_or(usize::MAX);
        if self.remapped().is_empty()
            && let Some(chunk) = self.chunk(offset / CHUNK_BYTES)
        {
            let chunk = chunk.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(bytes) = chunk.view(at, len) {
                return Ok(look(bytes));
            }
        }
        if scratch.len() < len {
            *scratch = filled(len, 0)?;
        }
        scratch.truncate(len);
        self.read(offset, scratch)?;
        Ok(look(scratch))
    }

    /// Zeroes everything that was ever written and reads it back.
    pub(super) fn scrub(&self, threads: NonZeroUsize) -> bool {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        let clean = AtomicBool::new(true);
        let scrub = |chunk: &Arc<RwLock<Chunk>>, _: &mut ()| {
            let mut chunk = chunk.write().unwrap_or_else(PoisonError::into_inner);
            if !chunk.scrub() {
                clean.store(false, Ordering::Relaxed);
            }
            Ok::<(), Infallible>(())
        };
        let Ok(()) = for_each(threads, chunks.values(), scrub);
        clean.load(Ordering::Relaxed)
    }

    /// Returns the memory to the pool, after a scrub that succeeded.
    pub(super) fn empty(&self) {
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        for (_, chunk) in std::mem::take(&mut *chunks) {
            // One that somebody still looks at goes when they are done.
            if let Some(chunk) = Arc::into_inner(chunk) {
                let chunk = chunk.into_inner().unwrap_or_else(PoisonError::into_inner);
                self.pool.give_back(chunk.into_backing());
            }
        }
    }

    /// Lets one page answer from the memory of another.
    pub(super) fn remap(&self, page: u64, from: u64) -> Result<(), DeviceError> {
        for page in [page, from] {
            self.check(page.saturating_mul(PAGE), PAGE)?;
        }
        let mut remapped = self
            .remapped
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        remapped.insert(page, from);
        Ok(())
    }

    fn remapped(&self) -> RwLockReadGuard<'_, BTreeMap<u64, u64>> {
        self.remapped.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts `len` bytes at `start` at the chunk borders; at every page where some
    /// answer from elsewhere.
    fn pieces(&self, start: u64, len: usize) -> impl Iterator<Item = Piece> {
        let remapped = self.remapped().clone();
        let unit = if remapped.is_empty() {
            CHUNK_BYTES
        } else {
            PAGE
        };
        pieces(start, len, unit, move |page| {
            remapped.get(&page).copied().unwrap_or(page)
        })
    }

    fn kept(&self) -> Result<(), DeviceError> {
        if self.discarded {
            return Err(DeviceError::Unsupported {
                what: "reading contents that this simulated device was told to discard",
            });
        }
        Ok(())
    }

    fn chunk(&self, index: u64) -> Option<Arc<RwLock<Chunk>>> {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        chunks.get(&index).map(Arc::clone)
    }

    fn modify(&self, piece: &Piece, change: impl FnOnce(&mut [u8])) -> Result<(), DeviceError> {
        let chunk = match self.chunk(piece.chunk) {
            Some(chunk) => chunk,
            None => self.add_chunk(piece.chunk)?,
        };
        let mut chunk = chunk.write().unwrap_or_else(PoisonError::into_inner);
        chunk.modify(piece.at, piece.len, change);
        Ok(())
    }

    /// The chunk, made now unless another thread just did.
    fn add_chunk(&self, index: u64) -> Result<Arc<RwLock<Chunk>>, DeviceError> {
        let left = self.len.saturating_sub(index.saturating_mul(CHUNK_BYTES));
        let len = usize::try_from(left.min(CHUNK_BYTES)).unwrap_or(usize::MAX);
        let fresh = Arc::new(RwLock::new(Chunk::new(len, &self.pool)?));
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(chunks.entry(index).or_insert(fresh)))
    }
}

fn read<R>(chunk: &RwLock<Chunk>, look: impl FnOnce(&Chunk) -> R) -> R {
    look(&chunk.read().unwrap_or_else(PoisonError::into_inner))
}

/// Cuts `len` bytes at `start` at the borders of units, and says where each piece
/// lies, given where each page does.
fn pieces(
    start: u64,
    len: usize,
    unit: u64,
    place: impl Fn(u64) -> u64,
) -> impl Iterator<Item = Piece> {
    let mut offset = 0_usize;
    std::iter::from_fn(move || {
        let left = len.checked_sub(offset).filter(|left| *left > 0)?;
        let position = start.checked_add(offset as u64)?;
        let room = unit.saturating_sub(position.checked_rem(unit)?);
        let page = place(position / PAGE).checked_mul(PAGE)?;
        let position = page.checked_add(position % PAGE)?;
        let piece = Piece {
            chunk: position / CHUNK_BYTES,
            at: usize::try_from(position % CHUNK_BYTES).ok()?,
            offset,
            len: left.min(usize::try_from(room).ok()?),
        };
        offset = offset.saturating_add(piece.len);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrub_reaches_every_piece_with_any_number_of_threads() {
        let len = 5 * CHUNK_BYTES + 100;
        for threads in [1, 2, 9] {
            let buffer = Buffer::new(0, len, false, Arc::new(Pool::new(false)));
            buffer.fill(0, len, 7).unwrap();
            assert!(buffer.scrub(NonZeroUsize::new(threads).unwrap()));
            let mut out = vec![1; usize::try_from(len).unwrap()];
            buffer.read(0, &mut out).unwrap();
            assert!(out.iter().all(|byte| *byte == 0), "{threads} threads");
        }
    }

    #[test]
    fn a_remapped_page_is_the_other_for_every_access() {
        let len = CHUNK_BYTES + 3 * PAGE;
        let buffer = Buffer::new(0, len, false, Arc::new(Pool::new(false)));
        let last = len / PAGE - 1;
        for (page, byte) in [(1, 1), (2, 2), (last, 9)] {
            buffer.fill(page * PAGE, PAGE, byte).unwrap();
        }
        buffer.remap(1, last).unwrap();
        let read = |offset: u64| {
            let mut out = [0; 2];
            buffer.read(offset, &mut out).unwrap();
            let mut scratch = Vec::new();
            let seen = buffer.with_range(offset, 2, &mut scratch, <[u8]>::to_vec);
            assert_eq!(seen.unwrap(), out);
            out
        };
        assert_eq!(read(2 * PAGE - 1), [9, 2], "across its border");
        buffer.write(PAGE, &[5]).unwrap();
        assert_eq!(read(last * PAGE), [5, 9]);
        assert!(buffer.remap(0, last + 1).is_err());
    }
}
