//! The driver without the backend's bookkeeping: what roofs are measured with.

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use vram_residency_cuda::Cuda;
use vram_residency_cuda::driver::{Driver, DriverError};
use vram_residency_cuda::sys::{
    CuContext, CuDevice, CuDevicePtr, CuFunction, CuModule, CuStream, STREAM_NON_BLOCKING,
    attribute,
};

/// What the library launches.
const KERNELS: [&CStr; 4] = [
    c"vram_sha256_blocks",
    c"vram_nh_tags_1",
    c"vram_nh_tags_2",
    c"vram_check",
];

/// A primary context that is current on this thread while the value lives, one
/// stream, and the committed kernels.
pub(crate) struct Raw {
    pub(crate) driver: Arc<Driver>,
    device: CuDevice,
    stream: CuStream,
    module: Option<CuModule>,
}

impl Raw {
    /// With the kernels, which the driver compiles first.
    pub(crate) fn open(cuda: &Cuda, ordinal: u32) -> Result<Self, DriverError> {
        let mut raw = Self::bare(cuda, ordinal)?;
        raw.module = Some(raw.load()?);
        Ok(raw)
    }

    fn load(&self) -> Result<CuModule, DriverError> {
        let text = CString::new(vram_residency_cuda::device::PTX).expect("PTX without NUL");
        self.driver.module_load_data(&text)
    }

    /// Loads the kernels once more, for the time that takes. Each is asked for,
    /// because a driver may compile or load one only then.
    pub(crate) fn load_and_unload(&self) -> Result<(), DriverError> {
        let module = self.load()?;
        let found = KERNELS.iter().try_for_each(|name| {
            // SAFETY: the module was loaded above.
            unsafe { self.driver.module_get_function(module, name) }.map(drop)
        });
        // SAFETY: loaded above; its functions are forgotten.
        found.and(unsafe { self.driver.module_unload(module) })
    }

    /// Bytes that nobody uses now.
    pub(crate) fn free(&self) -> Result<u64, DriverError> {
        Ok(self.driver.mem_get_info()?.0)
    }

    pub(crate) fn multiprocessors(&self) -> Result<u32, DriverError> {
        let which = attribute::MULTIPROCESSOR_COUNT;
        let count = self.driver.device_get_attribute(which, self.device)?;
        Ok(count.unsigned_abs())
    }

    /// Copies only.
    pub(crate) fn bare(cuda: &Cuda, ordinal: u32) -> Result<Self, DriverError> {
        let driver = Arc::clone(cuda.driver());
        let device = driver.device_get(ordinal.cast_signed())?;
        let context: CuContext = driver.primary_ctx_retain(device)?;
        // SAFETY: the context was retained a line above and is released in `drop`.
        unsafe { driver.ctx_push_current(context) }?;
        let stream = driver.stream_create(STREAM_NON_BLOCKING)?;
        Ok(Self {
            driver,
            device,
            stream,
            module: None,
        })
    }

    pub(crate) fn sync(&self) -> Result<(), DriverError> {
        // SAFETY: the stream lives until `drop`.
        unsafe { self.driver.stream_synchronize(self.stream) }
    }

    pub(crate) fn alloc(&self, bytes: u64) -> Result<Device<'_>, DriverError> {
        let at = self.driver.mem_alloc(bytes as usize)?;
        Ok(Device {
            raw: self,
            at,
            bytes,
        })
    }

    /// An allocation whose every byte was written.
    pub(crate) fn zeroed(&self, bytes: u64) -> Result<Device<'_>, DriverError> {
        let device = self.alloc(bytes)?;
        // SAFETY: the allocation has that many bytes and lives beyond `sync`.
        unsafe {
            self.driver
                .memset_d8_async(device.at, 0, bytes as usize, self.stream)
        }?;
        self.sync()?;
        Ok(device)
    }

    pub(crate) fn pinned(&self, bytes: usize) -> Result<Pinned<'_>, DriverError> {
        let at = self.driver.mem_host_alloc(bytes, 0)?;
        Ok(Pinned {
            raw: self,
            at,
            bytes,
        })
    }

    pub(crate) fn htod(&self, to: &Device<'_>, from: &[u8]) -> Result<(), DriverError> {
        assert!(from.len() as u64 <= to.bytes);
        // SAFETY: both ranges are live and long enough, and `sync` below waits
        // before the borrow of `from` ends.
        unsafe {
            self.driver
                .memcpy_htod_async(to.at, from.as_ptr(), from.len(), self.stream)
        }?;
        self.sync()
    }

    pub(crate) fn dtoh(&self, to: &mut [u8], from: &Device<'_>) -> Result<(), DriverError> {
        assert!(to.len() as u64 <= from.bytes);
        // SAFETY: both ranges are live and long enough, and `sync` below waits
        // before the borrow of `to` ends.
        unsafe {
            self.driver
                .memcpy_dtoh_async(to.as_mut_ptr(), from.at, to.len(), self.stream)
        }?;
        self.sync()
    }

    /// Copies out of a mapping that `Raw` did not make.
    pub(crate) fn dtoh_at(&self, to: &mut [u8], from: CuDevicePtr) -> Result<(), DriverError> {
        // SAFETY: the caller mapped at least `to.len()` bytes at `from`, and
        // `sync` below waits before the borrow of `to` ends.
        unsafe {
            self.driver
                .memcpy_dtoh_async(to.as_mut_ptr(), from, to.len(), self.stream)
        }?;
        self.sync()
    }

    pub(crate) fn dtod(
        &self,
        to: &Device<'_>,
        from: &Device<'_>,
        bytes: u64,
    ) -> Result<(), DriverError> {
        assert!(bytes <= to.bytes && bytes <= from.bytes);
        // SAFETY: both allocations are live and at least that long.
        unsafe {
            self.driver
                .memcpy_dtod_async(to.at, from.at, bytes as usize, self.stream)
        }?;
        self.sync()
    }

    /// Launches a kernel of the module with 64-bit and 32-bit arguments.
    pub(crate) fn launch(
        &self,
        name: &str,
        (grid, block): (u32, u32),
        arguments: &mut [Argument],
    ) -> Result<(), DriverError> {
        let name = CString::new(name).expect("a name without NUL");
        let module = self.module.expect("a context with kernels");
        // SAFETY: the module lives until `drop`.
        let function: CuFunction = unsafe { self.driver.module_get_function(module, &name) }?;
        let mut pointers: Vec<*mut c_void> = arguments.iter_mut().map(Argument::pointer).collect();
        // SAFETY: the callers in this program pass each kernel's documented
        // arguments, and buffers that outlive the `sync` after the launch.
        unsafe {
            self.driver
                .launch_kernel(function, (grid, block), self.stream, &mut pointers)
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.sync();
        // SAFETY: made in `open`, idle after the line above, not used again.
        let _ = unsafe { self.driver.stream_destroy(self.stream) };
        if let Some(module) = self.module {
            // SAFETY: loaded in `open`; nothing of it runs any more.
            let _ = unsafe { self.driver.module_unload(module) };
        }
        let _ = self.driver.ctx_pop_current();
        // SAFETY: retained in `open`, popped a line above.
        let _ = unsafe { self.driver.primary_ctx_release(self.device) };
    }
}

/// A kernel argument of either width.
pub(crate) enum Argument {
    U64(u64),
    U32(u32),
}

impl Argument {
    fn pointer(&mut self) -> *mut c_void {
        match self {
            Self::U64(value) => std::ptr::from_mut(value).cast(),
            Self::U32(value) => std::ptr::from_mut(value).cast(),
        }
    }
}

/// A plain device allocation.
pub(crate) struct Device<'r> {
    raw: &'r Raw,
    pub(crate) at: CuDevicePtr,
    pub(crate) bytes: u64,
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        let _ = self.raw.sync();
        // SAFETY: allocated by `alloc`; the stream that used it is idle.
        let _ = unsafe { self.raw.driver.mem_free(self.at) };
    }
}

/// Pinned host memory.
pub(crate) struct Pinned<'r> {
    raw: &'r Raw,
    at: NonNull<u8>,
    bytes: usize,
}

impl Pinned<'_> {
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the driver gave `bytes` bytes at `at`, ours until `drop`; they
        // are plain bytes, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.bytes) }
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        let _ = self.raw.sync();
        // SAFETY: allocated by `pinned`; the stream that used it is idle.
        let _ = unsafe { self.raw.driver.mem_free_host(self.at) };
    }
}
