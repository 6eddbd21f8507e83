//! What was read of a source before it was loaded: the bytes that its table was
//! made of must be those that are sealed.

use std::collections::BTreeMap;
use std::io::{self, Error};

use vram_digest::{BLOCK_BYTES, BlockHash, hash_blocks};

use crate::format::ReadAt;
use crate::sync::{Mutex, PoisonError};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Hashes of the 4 KiB blocks of a source that were read for its table.
#[derive(Default)]
pub(crate) struct Header {
    blocks: BTreeMap<u64, BlockHash>,
}

impl Header {
    /// Whether all that was read is what was loaded, by the block hashes that
    /// were measured of that.
    pub(crate) fn is_of(&self, level0: &[BlockHash]) -> bool {
        self.blocks.iter().all(|(block, hash)| {
            let block = usize::try_from(*block).ok();
            block.and_then(|block| level0.get(block)) == Some(hash)
        })
    }

    fn note(&mut self, block: u64, bytes: &[u8]) -> io::Result<()> {
        for (block, bytes) in (block..).zip(bytes.chunks(BLOCK_BYTES)) {
            let mut hash = [[0; 32]];
            hash_blocks(bytes, &mut hash).map_err(Error::other)?;
            let [hash] = hash;
            if *self.blocks.entry(block).or_insert(hash) != hash {
                return Err(Error::other("it changed while its header was read"));
            }
        }
        Ok(())
    }
}

/// Reads for a table, and notes what was read: whole blocks, of which the reader
/// gets what it asks for.
pub(crate) struct Noted<'s> {
    from: &'s dyn ReadAt,
    header: Mutex<Header>,
}

impl<'s> Noted<'s> {
    pub(crate) fn new(from: &'s dyn ReadAt) -> Self {
        Self {
            from,
            header: Mutex::default(),
        }
    }

    /// What was read so far.
    pub(crate) fn into_header(self) -> Header {
        let header = self.header.into_inner();
        header.unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, block: u64, bytes: &[u8]) -> io::Result<()> {
        let mut header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        header.note(block, bytes)
    }

    /// Reads a part of one block by way of the whole.
    fn part(&self, block: u64, skip: usize, out: &mut [u8]) -> io::Result<()> {
        let start = block.saturating_mul(BLOCK);
        let len = self.from.len().saturating_sub(start).min(BLOCK);
        let mut whole = [0; BLOCK_BYTES];
        let len = usize::try_from(len).unwrap_or(BLOCK_BYTES);
        let whole = whole.get_mut(..len).unwrap_or_default();
        self.from.read_exact_at(start, whole)?;
        self.note(block, whole)?;
        let end = skip.saturating_add(out.len());
        let part = whole.get(skip..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }
}

impl ReadAt for Noted<'_> {
    fn len(&self) -> u64 {
        self.from.len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (mut at, mut rest) = (offset, out);
        while !rest.is_empty() {
            let (block, skip) = (at / BLOCK, usize::try_from(at % BLOCK).unwrap_or(0));
            let left = rest.len();
            let len = match skip {
                // Whole blocks go straight to the reader.
                0 if left >= BLOCK_BYTES => left.saturating_sub(left % BLOCK_BYTES),
                _ => left.min(BLOCK_BYTES.saturating_sub(skip)),
            };
            let (now, later) = rest.split_at_mut(len);
            if skip == 0 && len >= BLOCK_BYTES {
                self.from.read_exact_at(at, now)?;
                self.note(block, now)?;
            } else {
                self.part(block, skip, now)?;
            }
            at = at.saturating_add(len as u64);
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        let byte = |i: usize| (i % 251).to_le_bytes()[0] ^ (i / 4096).to_le_bytes()[0];
        (0..len).map(byte).collect()
    }

    #[test]
    fn every_read_gives_its_bytes_and_notes_their_blocks() {
        let file = bytes(3 * BLOCK_BYTES + 100);
        let mut level0 = vec![[0; 32]; 4];
        hash_blocks(&file, &mut level0).unwrap();
        let edges = [0, 1, 8, 4095, 4096, 4097, 8192, 12288, 12290, file.len()];
        for from in edges {
            for to in edges.into_iter().filter(|to| *to >= from) {
                let noted = Noted::new(&file);
                let mut out = vec![0; to - from];
                noted.read_exact_at(from as u64, &mut out).unwrap();
                assert_eq!(out, file[from..to], "{from}..{to}");
                let header = noted.into_header();
                let read: Vec<u64> = header.blocks.keys().copied().collect();
                let first = from as u64 / BLOCK;
                let end = if to == from {
                    first
                } else {
                    (to as u64).div_ceil(BLOCK)
                };
                assert_eq!(read, (first..end).collect::<Vec<_>>(), "{from}..{to}");
                assert!(header.is_of(&level0));
                for block in 0..4 {
                    let mut other = level0.clone();
                    other[block][31] ^= 1;
                    let same = !read.contains(&(block as u64));
                    assert_eq!(header.is_of(&other), same, "{from}..{to} {block}");
                }
                assert_eq!(header.is_of(&level0[..3]), !read.contains(&3));
            }
        }
        let noted = Noted::new(&file);
        assert!(
            noted
                .read_exact_at(file.len() as u64 - 1, &mut [0; 2])
                .is_err()
        );
        assert!(noted.read_exact_at(u64::MAX, &mut [0; 2]).is_err());
    }

    /// Gives other bytes each time.
    struct Restless(std::sync::atomic::AtomicU8);

    impl ReadAt for Restless {
        fn len(&self) -> u64 {
            BLOCK
        }

        fn read_exact_at(&self, _: u64, out: &mut [u8]) -> io::Result<()> {
            out.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            Ok(())
        }
    }

    #[test]
    fn a_block_that_differs_when_it_is_read_again_is_an_error() {
        let source = Restless(0.into());
        let noted = Noted::new(&source);
        noted.read_exact_at(0, &mut [0; 8]).unwrap();
        let told = noted.read_exact_at(8, &mut [0; 8]).unwrap_err();
        assert!(told.to_string().contains("changed while"), "{told}");
    }
}
