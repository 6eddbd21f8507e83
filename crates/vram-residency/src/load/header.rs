//! What was read of a source before it was loaded: the bytes that its table was
//! made of must be those that are sealed.

use std::cell::RefCell;
use std::io::{self, ErrorKind};

use vram_digest::{BLOCK_BYTES, BlockHash, hash_blocks, root};

use crate::format::ReadAt;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Blocks that are read at once.
const AT_ONCE: u64 = 16;

/// The 4 KiB blocks of a source from the first to the last one that was read for
/// its table. The root over their hashes is all that is kept of them: a model may
/// have thousands of files, and headers of blanks that no table has to pay for.
#[derive(Default)]
pub(crate) struct Header {
    blocks: usize,
    root: BlockHash,
}

impl Header {
    /// Whether all that was read is what was loaded, by the block hashes that
    /// were measured of that.
    pub(crate) fn is_of(&self, level0: &[BlockHash]) -> bool {
        let read = level0.get(..self.blocks);
        read.is_some_and(|read| root(read) == self.root)
    }
}

/// Reads for a table, and notes what was read: whole blocks, of which the reader
/// gets what it asks for.
pub(crate) struct Noted<'s> {
    source: &'s dyn ReadAt,
    hashes: RefCell<Vec<BlockHash>>,
}

impl<'s> Noted<'s> {
    pub(crate) fn new(source: &'s dyn ReadAt) -> Self {
        let hashes = RefCell::default();
        Self { source, hashes }
    }

    /// What was read so far.
    pub(crate) fn into_header(self) -> Header {
        let hashes = self.hashes.into_inner();
        Header {
            blocks: hashes.len(),
            root: root(&hashes),
        }
    }
}

impl ReadAt for Noted<'_> {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64);
        let end = end.filter(|end| *end <= self.len());
        let end = end.ok_or(ErrorKind::UnexpectedEof)?;
        let mut hashes = self.hashes.borrow_mut();
        let mut block = (offset / BLOCK).min(hashes.len() as u64);
        let mut bytes = Vec::new();
        while block < end.div_ceil(BLOCK) {
            let start = block.saturating_mul(BLOCK);
            let next = block.saturating_add(AT_ONCE).min(end.div_ceil(BLOCK));
            let stop = next.saturating_mul(BLOCK).min(self.len());
            bytes.resize(size(stop.saturating_sub(start)), 0);
            self.source.read_exact_at(start, &mut bytes)?;
            note(&mut hashes, size(block), &bytes)?;
            // What of it was asked for.
            let (from, to) = (offset.max(start), end.min(stop));
            let wanted = size(from.saturating_sub(start))..size(to.saturating_sub(start));
            let place = size(from.saturating_sub(offset))..size(to.saturating_sub(offset));
            if let (Some(bytes), Some(place)) = (bytes.get(wanted), out.get_mut(place)) {
                place.copy_from_slice(bytes);
            }
            block = next;
        }
        Ok(())
    }
}

/// Notes the hashes of `bytes`, which start with block `first`; those of blocks
/// that were read before must be the same.
fn note(hashes: &mut Vec<BlockHash>, first: usize, bytes: &[u8]) -> io::Result<()> {
    let mut found = vec![BlockHash::default(); bytes.len().div_ceil(BLOCK_BYTES)];
    hash_blocks(bytes, &mut found).map_err(io::Error::other)?;
    let known = hashes.get(first..).unwrap_or_default();
    if known
        .iter()
        .zip(&found)
        .any(|(known, found)| known != found)
    {
        return Err(io::Error::other("it changed while its header was read"));
    }
    let known = known.len();
    hashes.extend(found.into_iter().skip(known));
    Ok(())
}

/// A size of something in memory.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 7 % 251).to_le_bytes()[0]).collect()
    }

    fn hashes(bytes: &[u8]) -> Vec<BlockHash> {
        let mut hashes = vec![BlockHash::default(); bytes.len().div_ceil(BLOCK_BYTES)];
        hash_blocks(bytes, &mut hashes).unwrap();
        hashes
    }

    /// What reading these ranges gives and notes.
    fn read(bytes: &[u8], ranges: &[(usize, usize)]) -> Header {
        let noted = Noted::new(&bytes);
        for &(offset, len) in ranges {
            let mut out = vec![0; len];
            noted.read_exact_at(offset as u64, &mut out).unwrap();
            assert_eq!(out, bytes[offset..][..len], "{offset} {len}");
        }
        noted.into_header()
    }

    #[test]
    fn every_block_up_to_the_last_one_that_was_read_counts() {
        let bytes = pattern(50 * BLOCK_BYTES + 9);
        let ranges: [(&[_], usize); 6] = [
            (&[], 0),
            (&[(0, 0)], 0),
            (&[(0, 9), (0, 9)], 1),
            (&[(8, 2 * BLOCK_BYTES), (0, 1)], 3),
            // A gap is read as well.
            (&[(1, 1), (40 * BLOCK_BYTES - 1, 2), (5000, 1)], 41),
            (&[(0, bytes.len())], 51),
        ];
        for (ranges, blocks) in ranges {
            let header = read(&bytes, ranges);
            assert_eq!(header.blocks, blocks, "{ranges:?}");
            assert!(header.is_of(&hashes(&bytes)), "{ranges:?}");
            assert_eq!(header.is_of(&[]), blocks == 0, "{ranges:?}");
            for flipped in 0..51 {
                let mut other = bytes.clone();
                other[flipped * BLOCK_BYTES] ^= 1;
                let same = header.is_of(&hashes(&other));
                assert_eq!(same, flipped >= blocks, "{ranges:?}: {flipped}");
            }
        }
    }

    #[test]
    fn the_end_is_the_end() {
        let bytes = pattern(BLOCK_BYTES + 9);
        for (offset, len) in [(0, BLOCK_BYTES + 10), (BLOCK_BYTES + 9, 1), (usize::MAX, 1)] {
            let noted = Noted::new(&bytes);
            let read = noted.read_exact_at(offset as u64, &mut vec![0; len]);
            let error = read.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{offset} {len}");
        }
    }

    /// Gives other bytes at every reading.
    struct Fickle(Cell<u8>);

    impl ReadAt for Fickle {
        fn len(&self) -> u64 {
            100
        }

        fn read_exact_at(&self, _: u64, out: &mut [u8]) -> io::Result<()> {
            out.fill(self.0.get());
            self.0.update(|byte| byte.wrapping_add(1));
            Ok(())
        }
    }

    #[test]
    fn a_header_is_not_read_from_two_contents() {
        let source = Fickle(Cell::new(0));
        let noted = Noted::new(&source);
        noted.read_exact_at(0, &mut [0; 9]).unwrap();
        let error = noted.read_exact_at(8, &mut [0; 9]).unwrap_err();
        assert!(error.to_string().contains("changed"), "{error}");
    }
}
