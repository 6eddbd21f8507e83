//! Host memory that a load is read into: page-aligned where it is large, so
//! that files can be read past the page cache, and wiped when it ends.

use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};
use zeroize::{Zeroize as _, Zeroizing};

use super::filled::filled;
use crate::device::DeviceError;

/// Shorter memory is not worth a mapping of its own.
const MAP_FROM: usize = 1 << 20;

/// Zeroed memory.
pub(super) struct Staging(Backing);

enum Backing {
    Heap(Zeroizing<Vec<u8>>),
    Mapped(MmapMut),
}

impl Staging {
    /// `len` bytes. Where no mapping can be had they lie on the heap, and files
    /// are read through the page cache.
    pub(super) fn new(len: usize) -> Result<Self, DeviceError> {
        if len >= MAP_FROM
            && let Ok(map) = MmapMut::map_anon(len)
        {
            // Only a hint: without huge pages the contents are the same.
            let _ = map.advise(Advice::HugePage);
            return Ok(Self(Backing::Mapped(map)));
        }
        Ok(Self(Backing::Heap(Zeroizing::new(filled(len, 0)?))))
    }
}

impl Default for Staging {
    fn default() -> Self {
        Self(Backing::Heap(Zeroizing::default()))
    }
}

impl Deref for Staging {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Backing::Heap(bytes) => bytes,
            Backing::Mapped(map) => map,
        }
    }
}

impl DerefMut for Staging {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Backing::Heap(bytes) => bytes,
            Backing::Mapped(map) => map,
        }
    }
}

impl Drop for Staging {
    /// The heap wipes itself.
    fn drop(&mut self) {
        if let Backing::Mapped(map) = &mut self.0 {
            map.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_and_large_memory_lies_on_a_page() {
        for len in [0, 1, 4097, MAP_FROM - 1, MAP_FROM, 2 * MAP_FROM + 5] {
            let mut memory = Staging::new(len).unwrap();
            assert_eq!(memory.len(), len);
            assert!(memory.iter().all(|byte| *byte == 0), "{len}");
            memory.fill(7);
            if len >= MAP_FROM {
                assert_eq!(memory.as_ptr().align_offset(4096), 0, "{len}");
            }
        }
    }
}
