//! Small device memory of this crate's own: tables, keys in use, results.

use std::sync::Arc;

use vram_residency::device::DeviceError;

use super::context::Context;
use super::convert::no_device_memory;
use crate::sys::CuDevicePtr;

/// An owned block of plain device memory. It never holds weights.
pub(crate) struct Scratch {
    context: Arc<Context>,
    at: CuDevicePtr,
}

impl Scratch {
    pub(crate) fn new(context: &Arc<Context>, len: usize) -> Result<Self, DeviceError> {
        let _entered = context.enter()?;
        let allocated = context.driver().mem_alloc(len);
        let at = allocated.map_err(|error| no_device_memory(error, len as u64))?;
        Ok(Self {
            context: Arc::clone(context),
            at,
        })
    }

    /// The device address `offset` bytes into the block; the caller keeps
    /// within the length that it asked for.
    pub(crate) const fn at(&self, offset: usize) -> CuDevicePtr {
        self.at.offset(offset as u64)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Ok(_entered) = self.context.enter_to_release() else {
            return;
        };
        // SAFETY: `at` came from `mem_alloc`; its owner is going away, and
        // owners wait for the device before they let it go.
        let freed = unsafe { self.context.driver().mem_free(self.at) };
        // What the driver does not take back is lost with the context.
        drop(freed);
    }
}
