//! Global memory as a kernel sees it, and a plain one for tests without a driver.

use std::collections::BTreeMap;

use super::error::MemoryError;

/// Global memory behind device addresses.
///
/// An access never spans two allocations: it is inside one, or refused.
pub trait GlobalMemory {
    /// Copies `out.len()` bytes at `addr` into `out`.
    ///
    /// # Errors
    /// [`MemoryError`] when the range is not memory or may not be read.
    fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), MemoryError>;

    /// Copies `bytes` to `addr`.
    ///
    /// # Errors
    /// [`MemoryError`] when the range is not memory or may not be written.
    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), MemoryError>;
}

/// Allocations in ordinary host memory, 256-byte aligned, with unmapped gaps
/// between them, so that a kernel that runs over the end is caught at the byte.
#[derive(Clone, Debug)]
pub struct HostMemory {
    blocks: BTreeMap<u64, Block>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Block {
    bytes: Vec<u8>,
    read_only: bool,
}

const FIRST: u64 = 0x7000_0000_0000;
const ALIGN: u64 = 256;

impl Default for HostMemory {
    fn default() -> Self {
        HostMemory {
            blocks: BTreeMap::new(),
            next: FIRST,
        }
    }
}

impl HostMemory {
    /// An empty memory.
    #[must_use]
    pub fn new() -> HostMemory {
        HostMemory::default()
    }

    /// Copies `bytes` into a new allocation and returns its device address,
    /// a multiple of 256. An empty allocation gets an address too.
    pub fn alloc(&mut self, bytes: &[u8]) -> u64 {
        let addr = self.next;
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let gap = ALIGN.saturating_mul(2);
        self.next = addr
            .saturating_add(len)
            .saturating_add(gap)
            .next_multiple_of(ALIGN);
        self.blocks.insert(
            addr,
            Block {
                bytes: bytes.to_vec(),
                read_only: false,
            },
        );
        addr
    }

    /// Forbids writes to the allocation that starts at `addr`.
    pub fn protect(&mut self, addr: u64) {
        if let Some(block) = self.blocks.get_mut(&addr) {
            block.read_only = true;
        }
    }

    /// Bytes of the allocation that starts at `addr`, `None` when there is none.
    #[must_use]
    pub fn bytes(&self, addr: u64) -> Option<&[u8]> {
        self.blocks.get(&addr).map(|b| b.bytes.as_slice())
    }

    fn find(
        &mut self,
        addr: u64,
        len: usize,
    ) -> Result<(&mut Block, std::ops::Range<usize>), MemoryError> {
        let (&base, block) = self
            .blocks
            .range_mut(..=addr)
            .next_back()
            .ok_or(MemoryError::OutOfBounds)?;
        let start =
            usize::try_from(addr.wrapping_sub(base)).map_err(|_| MemoryError::OutOfBounds)?;
        let end = start.checked_add(len).ok_or(MemoryError::OutOfBounds)?;
        if end > block.bytes.len() {
            return Err(MemoryError::OutOfBounds);
        }
        Ok((block, start..end))
    }
}

impl GlobalMemory for HostMemory {
    fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        let (block, range) = self.find(addr, out.len())?;
        out.copy_from_slice(block.bytes.get(range).ok_or(MemoryError::OutOfBounds)?);
        Ok(())
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let (block, range) = self.find(addr, bytes.len())?;
        if block.read_only {
            return Err(MemoryError::Protected);
        }
        let place = block.bytes.get_mut(range).ok_or(MemoryError::OutOfBounds)?;
        place.copy_from_slice(bytes);
        Ok(())
    }
}
