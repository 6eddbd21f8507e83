//! The committed kernels, loaded into a context. Argument lists are those of
//! the header comments in `kernels/*.cu`.

use std::ffi::{CStr, CString, c_void};
use std::sync::Arc;

use vram_residency::device::DeviceError;

use super::context::Context;
use super::stream::Stream;
use crate::driver::DriverError;
use crate::sys::{CuDevicePtr, CuFunction, CuModule};

/// The kernels as PTX text, made from `kernels/*.cu` by `cargo xtask kernels`.
pub const PTX: &str = include_str!("../../kernels/vram.ptx");

/// The PTX's `.target`: what a device must offer at least.
pub const MIN_COMPUTE_CAPABILITY: (u32, u32) = (6, 0);

/// Threads per block of the SHA-256 kernel.
const SHA_THREADS: u32 = 128;
/// Threads per block of the other kernels.
const THREADS: u32 = 256;
/// Blocks per multiprocessor that saturate memory.
const BLOCKS_PER_MULTIPROCESSOR: u32 = 16;

/// The segment table of one launch, in device memory.
#[derive(Clone, Copy)]
pub(crate) struct TableRef {
    pub(crate) at: CuDevicePtr,
    pub(crate) entries: u32,
    pub(crate) items: u64,
}

/// Kernels of one context; unloaded when dropped.
pub(crate) struct Kernels {
    context: Arc<Context>,
    module: CuModule,
    blocks: CuFunction,
    tags_one: CuFunction,
    tags_two: CuFunction,
    check: CuFunction,
    multiprocessors: u32,
}

impl Kernels {
    pub(crate) fn load(context: &Arc<Context>, multiprocessors: u32) -> Result<Self, DeviceError> {
        let what = "PTX text with a NUL";
        let text = CString::new(PTX).map_err(|_| DeviceError::Unsupported { what })?;
        let _entered = context.enter()?;
        let module = context.driver().module_load_data(&text)?;
        let mut kernels = Self {
            context: Arc::clone(context),
            module,
            blocks: CuFunction::NULL,
            tags_one: CuFunction::NULL,
            tags_two: CuFunction::NULL,
            check: CuFunction::NULL,
            multiprocessors,
        };
        kernels.blocks = kernels.find(c"vram_sha256_blocks")?;
        kernels.tags_one = kernels.find(c"vram_nh_tags_1")?;
        kernels.tags_two = kernels.find(c"vram_nh_tags_2")?;
        kernels.check = kernels.find(c"vram_check")?;
        Ok(kernels)
    }

    /// Launches every kernel once with nothing to do. A driver may load code,
    /// and take device memory for it, as late as at the first launch: here it
    /// does so before weights may have filled the device.
    ///
    /// # Safety
    /// `key` is 1088 bytes of device memory, 16-byte aligned, that stay
    /// allocated until the stream has done the work.
    pub(crate) unsafe fn rehearse(
        &self,
        stream: &Stream,
        key: CuDevicePtr,
    ) -> Result<(), DeviceError> {
        let nothing = TableRef {
            at: key,
            entries: 0,
            items: 0,
        };
        // SAFETY: without items the kernel reads no table.
        unsafe { self.hash_blocks(stream, nothing) }?;
        // SAFETY: without items the kernel reads the key only.
        unsafe { self.tag_segments(stream, nothing, key, None) }?;
        // SAFETY: as above, with the same key twice.
        unsafe { self.tag_segments(stream, nothing, key, Some(key)) }?;
        // SAFETY: of an empty range the kernel neither reads nor reports anything.
        unsafe { self.check(stream, (key, 0), 0, key) }
    }

    fn find(&self, name: &CStr) -> Result<CuFunction, DriverError> {
        // SAFETY: the module is live until this object is dropped.
        unsafe { self.context.driver().module_get_function(self.module, name) }
    }

    /// Queues SHA-256 of the 4 KiB blocks that `table` lists.
    ///
    /// # Safety
    /// The table, what it points to and its outputs stay allocated until the
    /// stream has done the work.
    pub(crate) unsafe fn hash_blocks(
        &self,
        stream: &Stream,
        table: TableRef,
    ) -> Result<(), DeviceError> {
        let TableRef {
            mut at,
            mut entries,
            mut items,
        } = table;
        let mut one = 1_u32;
        let mut arguments: [*mut c_void; 4] = [
            (&raw mut at).cast(),
            (&raw mut entries).cast(),
            (&raw mut items).cast(),
            (&raw mut one).cast(),
        ];
        let grid = grid_for(items, SHA_THREADS)?;
        let _entered = self.context.enter()?;
        // SAFETY: four values of the kernel's parameter types (u64, u32, u64,
        // u32); the caller vouches for the memory behind the table.
        unsafe {
            self.context.driver().launch_kernel(
                self.blocks,
                (grid, SHA_THREADS),
                stream.raw(),
                &mut arguments,
            )
        }?;
        Ok(())
    }

    /// Queues NHPoly1305 tags of the 1 MiB segments that `table` lists, under
    /// one or two keys.
    ///
    /// # Safety
    /// As for [`Self::hash_blocks`], and each key is 1088 bytes of device
    /// memory, 16-byte aligned.
    pub(crate) unsafe fn tag_segments(
        &self,
        stream: &Stream,
        table: TableRef,
        key: CuDevicePtr,
        second: Option<CuDevicePtr>,
    ) -> Result<(), DeviceError> {
        let TableRef {
            mut at,
            mut entries,
            mut items,
        } = table;
        let (mut key, mut other) = (key, second.unwrap_or(CuDevicePtr(0)));
        let mut arguments: [*mut c_void; 5] = [
            (&raw mut at).cast(),
            (&raw mut entries).cast(),
            (&raw mut items).cast(),
            (&raw mut key).cast(),
            (&raw mut other).cast(),
        ];
        let (function, per_multiprocessor) = match second {
            Some(_) => (self.tags_two, 1),
            None => (self.tags_one, 2),
        };
        let most = self
            .multiprocessors
            .saturating_mul(per_multiprocessor)
            .max(1);
        let grid = grid_for(items, 1)?.min(most);
        let _entered = self.context.enter()?;
        // SAFETY: four or five values of the kernel's parameter types (u64, u32,
        // u64, u64, u64; one key ignores the fifth); the caller vouches for the
        // memory behind table and keys.
        unsafe {
            self.context.driver().launch_kernel(
                function,
                (grid, THREADS),
                stream.raw(),
                &mut arguments,
            )
        }?;
        Ok(())
    }

    /// Queues the count of bytes that differ from `value`; `result` is two u64
    /// that hold `{0, u64::MAX}` before.
    ///
    /// # Safety
    /// The range and `result` (8-byte aligned) stay allocated until the stream
    /// has done the work.
    pub(crate) unsafe fn check(
        &self,
        stream: &Stream,
        (mut at, mut len): (CuDevicePtr, u64),
        value: u8,
        result: CuDevicePtr,
    ) -> Result<(), DeviceError> {
        let (mut value, mut result) = (u32::from(value), result);
        let mut arguments: [*mut c_void; 4] = [
            (&raw mut at).cast(),
            (&raw mut len).cast(),
            (&raw mut value).cast(),
            (&raw mut result).cast(),
        ];
        let most = self
            .multiprocessors
            .saturating_mul(BLOCKS_PER_MULTIPROCESSOR)
            .max(1);
        let threads = u64::from(THREADS).saturating_mul(16);
        let grid = u32::try_from(len.div_ceil(threads))
            .unwrap_or(most)
            .clamp(1, most);
        let _entered = self.context.enter()?;
        // SAFETY: four values of the kernel's parameter types (u64, u64, u32,
        // u64); the caller vouches for the memory.
        unsafe {
            self.context.driver().launch_kernel(
                self.check,
                (grid, THREADS),
                stream.raw(),
                &mut arguments,
            )
        }?;
        Ok(())
    }
}

/// Blocks of `per_block` items that hold `items`; one for none.
fn grid_for(items: u64, per_block: u32) -> Result<u32, DeviceError> {
    let blocks = items.max(1).div_ceil(u64::from(per_block.max(1)));
    let limit = u64::from(u32::MAX >> 1);
    u32::try_from(blocks)
        .ok()
        .filter(|grid| (1..=limit).contains(&u64::from(*grid)))
        .ok_or(DeviceError::OutOfRange {
            offset: 0,
            len: blocks,
            size: limit,
        })
}

impl Drop for Kernels {
    fn drop(&mut self) {
        // Code that may still be running stays where it is.
        if self.context.unsettled().is_some() {
            return;
        }
        let Ok(_entered) = self.context.enter_to_release() else {
            return;
        };
        // SAFETY: the module is live; its functions are only in this object, and
        // every operation has waited for its launches: the context notes those
        // that could not, which was asked above.
        let unloaded = unsafe { self.context.driver().module_unload(self.module) };
        // Code that stays loaded holds no weights.
        drop(unloaded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_target_of_the_committed_ptx() {
        let (major, minor) = MIN_COMPUTE_CAPABILITY;
        assert!(PTX.contains(&format!("\n.target sm_{major}{minor}\n")));
        assert!(
            PTX.contains("\n.version 7.0\n"),
            "CUDA 11.0 drivers must be able to read it"
        );
    }
}
