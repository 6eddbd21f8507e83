//! Pinned host memory: bounded, zeroed when new, wiped when given back.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use vram_residency::device::DeviceError;

use super::context::{Context, PINNED_LIMIT};
use super::convert::no_host_memory;
use crate::sys::host_alloc;

/// An owned block of pinned host memory.
///
/// Whoever queues a copy from or to it keeps it alive, and its bytes untouched,
/// until the copy is done.
pub(crate) struct Pinned {
    context: Arc<Context>,
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the block has one owner, this object, and pinned memory may be used
// and freed from any thread.
unsafe impl Send for Pinned {}

impl Pinned {
    /// A block that keeps the device's pinned memory within `limit` bytes.
    pub(crate) fn new(context: &Arc<Context>, len: usize, limit: u64) -> Result<Self, DeviceError> {
        let bytes = len as u64;
        context.reserve_pinned(bytes, limit.min(PINNED_LIMIT))?;
        let allocated = context.enter().and_then(|_entered| {
            let answer = context.driver().mem_host_alloc(len, host_alloc::PORTABLE);
            answer.map_err(|error| no_host_memory(error, bytes))
        });
        let at = allocated.inspect_err(|_| context.return_pinned(bytes))?;
        // SAFETY: the driver has just given this object `len` bytes at `at`.
        unsafe { at.write_bytes(0, len) };
        Ok(Self {
            context: Arc::clone(context),
            at,
            len,
        })
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Where `range` of the block starts, if the block has it.
    pub(crate) fn address_of(&self, range: Range<usize>) -> Option<NonNull<u8>> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        // SAFETY: `start <= end <= len`, so the result lies in the same block.
        Some(unsafe { self.at.add(range.start) })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `at` has `len` bytes, initialised in `new`, owned by this
        // object; no device writes them while they are borrowed.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow of this object is exclusive; no
        // device reads or writes them while they are borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }

    /// Wipes a part of the block, as far as the block has it.
    ///
    /// A plain fill, at the speed of memory: the block belongs to the driver,
    /// whose code sees its address, so no compiler can drop the writes.
    pub(crate) fn wipe(&mut self, range: Range<usize>) {
        let end = range.end.min(self.len);
        if let Some(bytes) = self.bytes_mut().get_mut(range.start..end) {
            std::hint::black_box(bytes).fill(0);
        }
    }

    /// Wipes bytes that a device which cannot be waited for may still use, as
    /// far as the block has them.
    pub(crate) fn wipe_in_use(&mut self, range: Range<usize>) {
        for offset in range.start..range.end.min(self.len) {
            // SAFETY: `offset < len`, so the result lies in the block.
            let at = unsafe { self.at.add(offset) };
            // SAFETY: a byte of the block; volatile, because a device may read
            // or write it at the same time.
            unsafe { at.write_volatile(0) };
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.wipe(0..self.len);
        let Ok(_entered) = self.context.enter_to_release() else {
            return;
        };
        // SAFETY: `at` came from `mem_host_alloc`; its owner is going away, and
        // owners wait for the device before they let it go.
        let freed = unsafe { self.context.driver().mem_free_host(self.at) };
        // Memory that the driver did not take back stays counted against the limit.
        if freed.is_ok() {
            self.context.return_pinned(self.len as u64);
        }
    }
}
