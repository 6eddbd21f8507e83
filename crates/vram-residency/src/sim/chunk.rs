//! One 2 MiB piece of simulated memory, materialised on its first write.

use super::backing::{Backing, Pool};
use super::filled::filled;
use crate::device::DeviceError;

/// Bytes of one piece: the size of a huge page, whose first touch costs far
/// less than that of 512 small ones.
pub(super) const CHUNK_BYTES: u64 = 2 << 20;
/// Poison is tracked at this grain.
const GRAIN: usize = 4096;
/// What scrubbed memory is compared with.
static ZEROS: [u8; GRAIN] = [0; GRAIN];
/// What fresh memory reads as: never zero, so that nobody relies on it.
pub const POISON: u8 = 0xA5;

pub(super) struct Chunk {
    backing: Backing,
    /// One flag per grain: written at least once.
    written: Vec<bool>,
    fresh: usize,
}

impl Chunk {
    /// An unwritten chunk of `len` bytes (at most [`CHUNK_BYTES`]).
    pub(super) fn new(len: usize, pool: &Pool) -> Result<Self, DeviceError> {
        let grains = len.div_ceil(GRAIN);
        Ok(Self {
            backing: pool.take(len)?,
            written: filled(grains, false)?,
            fresh: grains,
        })
    }

    /// The memory, when the chunk is no longer needed.
    pub(super) fn into_backing(self) -> Backing {
        self.backing
    }

    pub(super) fn len(&self) -> usize {
        self.backing.len()
    }

    /// The bytes, when all of them were written (no poison in between).
    pub(super) fn view(&self, at: usize, len: usize) -> Option<&[u8]> {
        let end = at.checked_add(len)?;
        let fresh = self.fresh > 0
            && self
                .written
                .get(at / GRAIN..end.div_ceil(GRAIN))?
                .iter()
                .any(|written| !written);
        if fresh {
            None
        } else {
            self.backing.get(at..end)
        }
    }

    pub(super) fn read(&self, at: usize, out: &mut [u8]) {
        let Some(source) = self.backing.get(at..at.saturating_add(out.len())) else {
            return;
        };
        out.copy_from_slice(source);
        if self.fresh == 0 {
            return;
        }
        let end = at.saturating_add(out.len());
        for grain in at / GRAIN..end.div_ceil(GRAIN) {
            if self.written.get(grain) == Some(&false) {
                let start = grain.saturating_mul(GRAIN);
                let stop = start.saturating_add(GRAIN).min(end);
                let part = start.saturating_sub(at)..stop.saturating_sub(at);
                out.get_mut(part).unwrap_or_default().fill(POISON);
            }
        }
    }

    /// Overwrites everything with zeros and reads it back.
    pub(super) fn scrub(&mut self) -> bool {
        let len = self.len();
        self.modify(0, len, |bytes| bytes.fill(0));
        let mut grains = self.backing.chunks(GRAIN);
        grains.all(|grain| ZEROS.get(..grain.len()) == Some(grain))
    }

    /// Runs `change` on the writable bytes `at..at + len`; grains that it only
    /// partly covers are poisoned first.
    pub(super) fn modify(&mut self, at: usize, len: usize, change: impl FnOnce(&mut [u8])) {
        let end = at.saturating_add(len);
        for grain in at / GRAIN..end.div_ceil(GRAIN) {
            self.materialise(grain, at, end);
        }
        if let Some(bytes) = self.backing.get_mut(at..end) {
            change(bytes);
        }
    }

    fn materialise(&mut self, grain: usize, at: usize, end: usize) {
        let Some(written) = self.written.get_mut(grain) else {
            return;
        };
        if std::mem::replace(written, true) {
            return;
        }
        self.fresh = self.fresh.saturating_sub(1);
        let start = grain.saturating_mul(GRAIN);
        let stop = start.saturating_add(GRAIN).min(self.len());
        if (at > start || end < stop)
            && let Some(bytes) = self.backing.get_mut(start..stop)
        {
            bytes.fill(POISON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_memory_is_poison_and_partial_writes_keep_it() {
        let mut chunk = Chunk::new(3 * GRAIN + 10, &Pool::new(false)).unwrap();
        assert!(chunk.view(0, 1).is_none());
        chunk.modify(GRAIN - 1, 2, |bytes| bytes.fill(7));
        let mut out = vec![0; chunk.len()];
        chunk.read(0, &mut out);
        let expected: Vec<u8> = (0..chunk.len())
            .map(|i| {
                if i == GRAIN - 1 || i == GRAIN {
                    7
                } else {
                    POISON
                }
            })
            .collect();
        assert_eq!(out, expected);
        assert_eq!(chunk.view(GRAIN, 2), Some(&[7, POISON][..]));
        assert!(
            chunk.view(GRAIN, 2 * GRAIN).is_none(),
            "the third grain is still fresh"
        );
    }
}
