//! Host memory under simulated chunks, and what a device keeps of it.

use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

use super::chunk::CHUNK_BYTES;
use super::filled::filled;
use super::lock;
use crate::device::DeviceError;
use crate::sync::Mutex;

/// Memory of one chunk.
pub(super) enum Backing {
    Heap(Vec<u8>),
    /// Whole chunks, in a huge page where the system gives one.
    Mapped(MmapMut),
}

impl Deref for Backing {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

impl DerefMut for Backing {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// Where chunks get their memory. VRAM is there before a model comes and after
/// it goes; host memory costs its first touch, so a device can keep it.
pub(super) struct Pool {
    kept: Option<Mutex<Vec<MmapMut>>>,
}

impl Pool {
    pub(super) fn new(keeps: bool) -> Self {
        Self {
            kept: keeps.then(Mutex::default),
        }
    }

    /// `len` bytes of any contents, at most [`CHUNK_BYTES`].
    pub(super) fn take(&self, len: usize) -> Result<Backing, DeviceError> {
        if len as u64 != CHUNK_BYTES {
            return filled(len, 0).map(Backing::Heap);
        }
        if let Some(map) = self.kept.as_ref().and_then(|kept| lock(kept).pop()) {
            return Ok(Backing::Mapped(map));
        }
        let Ok(map) = MmapMut::map_anon(len) else {
            return filled(len, 0).map(Backing::Heap);
        };
        // Only a hint: without huge pages the contents are the same.
        let _ = map.advise(Advice::HugePage);
        Ok(Backing::Mapped(map))
    }

    /// Takes back what a freed buffer had, scrubbed; keeps it or returns it to
    /// the system.
    pub(super) fn give_back(&self, backing: Backing) {
        if let (Some(kept), Backing::Mapped(map)) = (&self.kept, backing) {
            lock(kept).push(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_that_keeps_memory_hands_it_out_again() {
        for keeps in [false, true] {
            let pool = Pool::new(keeps);
            let mut first = pool.take(2 << 20).unwrap();
            first.fill(7);
            pool.give_back(first);
            let again = pool.take(2 << 20).unwrap();
            assert!(again.iter().all(|byte| *byte == if keeps { 7 } else { 0 }));
            assert_eq!(pool.take(5).unwrap().len(), 5);
        }
    }
}
