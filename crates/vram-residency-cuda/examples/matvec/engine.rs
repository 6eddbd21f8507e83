//! How an engine uses a lease: it takes addresses from it, launches its own
//! kernel on its own stream, and hands the lease back behind an event.

use std::error::Error;
use std::ffi::{CString, c_void};
use std::sync::Arc;

use vram_residency::Lease;
use vram_residency::device::DeviceAddress;
use vram_residency_cuda::driver::{Driver, DriverError};
use vram_residency_cuda::sys::{
    CuContext, CuDevice, CuDevicePtr, CuFunction, CuModule, CuStream, STREAM_NON_BLOCKING,
};
use vram_residency_cuda::{Cuda, CudaDevice, FinishAfter as _};

use super::model::{self, COLUMNS, ROWS};

/// The engine's kernel, made from `matvec.cu`.
const PTX: &str = include_str!("matvec.ptx");
const THREADS: u32 = 64;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What executes the layer.
pub(crate) enum Engine {
    /// The simulated device has no addresses; its twin of the kernel reads the
    /// leased tensors.
    Host,
    Gpu(Box<Gpu>),
}

impl Engine {
    /// Executes the leased layer on `x` and ends the lease. Without a lease,
    /// which only a passed verification gives, nothing can be executed.
    pub(crate) fn execute(&self, lease: Lease, x: &[i8]) -> Result<Vec<i32>> {
        match self {
            Self::Host => on_host(lease, x),
            Self::Gpu(gpu) => gpu.execute(lease, x),
        }
    }
}

fn on_host(lease: Lease, x: &[i8]) -> Result<Vec<i32>> {
    let bytes = |name: &str| -> Result<Vec<u8>> {
        let tensor = lease.tensor(name)?;
        let mut bytes = vec![0; tensor.bytes as usize];
        tensor.read(0, &mut bytes)?;
        Ok(bytes)
    };
    let weight = bytes("weight")?.into_iter().map(u8::cast_signed);
    let bias = bytes("bias")?;
    let bias = bias
        .as_chunks::<4>()
        .0
        .iter()
        .copied()
        .map(i32::from_le_bytes);
    let y = model::matvec(&weight.collect::<Vec<_>>(), &bias.collect::<Vec<_>>(), x);
    lease.finish();
    Ok(y)
}

/// The engine's own things on a GPU: its use of the primary context, a stream
/// and the loaded kernel. The backend shares the context and nothing else.
pub(crate) struct Gpu {
    driver: Arc<Driver>,
    device: Arc<CudaDevice>,
    raw: CuDevice,
    stream: CuStream,
    module: CuModule,
    kernel: CuFunction,
}

impl Gpu {
    pub(crate) fn new(cuda: &Cuda, device: &Arc<CudaDevice>, ordinal: u32) -> Result<Self> {
        let driver = Arc::clone(cuda.driver());
        let raw = driver.device_get(ordinal.cast_signed())?;
        let context: CuContext = driver.primary_ctx_retain(raw)?;
        // SAFETY: retained a line above and released in `drop`.
        unsafe { driver.ctx_push_current(context) }?;
        let stream = driver.stream_create(STREAM_NON_BLOCKING)?;
        let module = driver.module_load_data(&CString::new(PTX)?)?;
        // SAFETY: the module lives until `drop`.
        let kernel = unsafe { driver.module_get_function(module, c"matvec_i8") }?;
        Ok(Self {
            driver,
            device: Arc::clone(device),
            raw,
            stream,
            module,
            kernel,
        })
    }

    fn execute(&self, lease: Lease, x: &[i8]) -> Result<Vec<i32>> {
        let at = |address: Option<DeviceAddress>| address.ok_or("no address on this device");
        let weight = at(lease.tensor("weight")?.address)?.raw();
        let bias = at(lease.tensor("bias")?.address)?.raw();
        let input = Scratch::new(self, COLUMNS)?;
        let output = Scratch::new(self, ROWS * 4)?;
        let event = self.device.event()?;
        input.write(x)?;
        self.launch([weight, bias, input.at.0, output.at.0])?;
        // SAFETY: the stream lives until `drop`, in the device's primary context.
        let recorded = unsafe { event.record(self.stream) };
        if let Err(error) = recorded {
            // The kernel may be running: the lease must outlive it.
            self.sync()?;
            return Err(error.into());
        }
        // More work may be queued here; the weights stay until the event.
        lease.finish_after(&event)?;
        output.read()
    }

    fn launch(&self, mut addresses: [u64; 4]) -> std::result::Result<(), DriverError> {
        let [weight, bias, x, y] = &mut addresses;
        let (mut rows, mut columns) = (ROWS as u32, COLUMNS as u32);
        let mut arguments: [*mut c_void; 6] = [
            std::ptr::from_mut(weight).cast(),
            std::ptr::from_mut(bias).cast(),
            std::ptr::from_mut(x).cast(),
            std::ptr::from_mut(y).cast(),
            (&raw mut rows).cast(),
            (&raw mut columns).cast(),
        ];
        let grid = (ROWS as u32).div_ceil(THREADS);
        // SAFETY: six values of the kernel's parameter types (four u64, two
        // u32); the lease holds the weights and the caller the rest until the
        // stream has done the work.
        unsafe {
            self.driver
                .launch_kernel(self.kernel, (grid, THREADS), self.stream, &mut arguments)
        }
    }

    fn sync(&self) -> std::result::Result<(), DriverError> {
        // SAFETY: the stream lives until `drop`.
        unsafe { self.driver.stream_synchronize(self.stream) }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let _ = self.sync();
        // SAFETY: made in `new`, idle after the line above, not used again.
        let _ = unsafe { self.driver.stream_destroy(self.stream) };
        // SAFETY: loaded in `new`; its kernel runs no more.
        let _ = unsafe { self.driver.module_unload(self.module) };
        let _ = self.driver.ctx_pop_current();
        // SAFETY: retained in `new`, popped a line above.
        let _ = unsafe { self.driver.primary_ctx_release(self.raw) };
    }
}

/// Device memory of the engine's own, for one execution.
struct Scratch<'g> {
    gpu: &'g Gpu,
    at: CuDevicePtr,
    bytes: usize,
}

impl<'g> Scratch<'g> {
    fn new(gpu: &'g Gpu, bytes: usize) -> Result<Self> {
        let at = gpu.driver.mem_alloc(bytes)?;
        Ok(Self { gpu, at, bytes })
    }

    fn write(&self, x: &[i8]) -> Result<()> {
        if x.len() != self.bytes {
            return Err("an input of another length".into());
        }
        let from = x.as_ptr().cast();
        // SAFETY: the range has `bytes` bytes, as `x` has; `sync` waits before
        // the borrow ends.
        unsafe {
            self.gpu
                .driver
                .memcpy_htod_async(self.at, from, self.bytes, self.gpu.stream)
        }?;
        Ok(self.gpu.sync()?)
    }

    fn read(&self) -> Result<Vec<i32>> {
        let mut bytes = vec![0_u8; self.bytes];
        // SAFETY: the range has `bytes` bytes, as the vector has; `sync` waits
        // before it is read.
        unsafe {
            self.gpu.driver.memcpy_dtoh_async(
                bytes.as_mut_ptr(),
                self.at,
                self.bytes,
                self.gpu.stream,
            )
        }?;
        self.gpu.sync()?;
        let words = bytes.as_chunks::<4>().0.iter().copied();
        Ok(words.map(i32::from_le_bytes).collect())
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let _ = self.gpu.sync();
        // SAFETY: allocated in `new`; the stream that used it is idle.
        let _ = unsafe { self.gpu.driver.mem_free(self.at) };
    }
}
