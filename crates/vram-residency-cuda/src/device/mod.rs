//! A CUDA device as a [`vram_residency::device::Device`]: safe to use.
//!
//! Everything happens in the device's primary context, the one that every
//! library in the process shares, on streams of this crate's own; the context
//! is current only during a call. Host memory that the driver sees is pinned,
//! bounded ([`PINNED_LIMIT`]), owned by this crate, and wiped.

mod buffer;
mod context;
mod convert;
mod copy;
mod cuda;
mod facts;
mod hash;
mod kernels;
mod lane;
mod lanes;
mod launch;
mod memory;
mod ops;
mod pinned;
mod plain;
mod ring;
mod scratch;
mod scrub;
mod stream;
mod upload;
mod witness;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tracing::info;
use vram_residency::device::{BufferId, DeviceError, DeviceInfo, Extent, Witness};
use vram_residency::sync::atomic::{AtomicBool, Ordering};

use self::buffer::{Buffer, Buffers};
use self::context::Context;
use self::kernels::Kernels;
use self::lanes::Lanes;
use self::memory::Allocator;
use crate::driver::Driver;
use crate::sys::{CuDevicePtr, attribute};

pub use self::context::PINNED_LIMIT;
pub use self::cuda::Cuda;
pub use self::facts::{Abilities, FAKE_DEVICE_NAME};
pub use self::kernels::{MIN_COMPUTE_CAPABILITY, PTX};
pub use self::plain::PlainCopies;
pub use self::stream::Event;

/// A GPU, opened.
///
/// Dropping it frees what is left, as [`vram_residency::device::Device::close`] does.
pub struct CudaDevice {
    info: DeviceInfo,
    allocator: Allocator,
    buffers: Buffers,
    lanes: Lanes,
    kernels: Kernels,
    context: Arc<Context>,
    driver: Arc<Driver>,
    closed: AtomicBool,
}

impl CudaDevice {
    /// Opens the device with this ordinal: retains its primary context, loads
    /// the kernels and takes the lanes' memory (requirement: FF-6, POL-7).
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] for an ordinal that does not exist,
    /// [`DeviceError::Unsupported`] below [`MIN_COMPUTE_CAPABILITY`], and
    /// failures of the driver.
    pub fn open(driver: Arc<Driver>, ordinal: u32) -> Result<Self, DeviceError> {
        let count = driver.device_get_count()?;
        let ordinal = i32::try_from(ordinal)
            .ok()
            .filter(|ordinal| *ordinal < count);
        let Some(ordinal) = ordinal else {
            let reason = format!("no such ordinal: the driver shows {count} CUDA devices");
            return Err(DeviceError::Unavailable { reason });
        };
        let mut info = facts::read(&driver, ordinal, 1)?;
        if info
            .compute_capability
            .is_none_or(|found| found < MIN_COMPUTE_CAPABILITY)
        {
            let what = "compute capability below 6.0, for which the kernels are made";
            return Err(DeviceError::Unsupported { what });
        }
        let context = Context::retain(Arc::clone(&driver), ordinal)?;
        let multiprocessors =
            driver.device_get_attribute(attribute::MULTIPROCESSOR_COUNT, context.device())?;
        let allocator = Allocator::probe(&context)?;
        info.granularity = allocator.granularity();
        let lanes = Lanes::new(&context, info.total_bytes)?;
        let kernels = Kernels::load(&context, multiprocessors.unsigned_abs())?;
        lanes.take()?.with(|lane| lane.rehearse(&kernels))?;
        opened(&info, &allocator);
        Ok(Self {
            info,
            allocator,
            buffers: Buffers::new(),
            kernels,
            lanes,
            context,
            driver,
            closed: AtomicBool::new(false),
        })
    }

    /// Virtual memory is used, so that allocations can be protected and their
    /// witness is the strong one.
    #[must_use]
    pub const fn has_virtual_memory(&self) -> bool {
        self.allocator.is_virtual()
    }

    /// Allocations can be exported as file descriptors.
    #[must_use]
    pub fn can_export(&self) -> bool {
        self.allocator.is_exportable()
    }

    /// Pinned host memory held now, in bytes; never above [`PINNED_LIMIT`].
    #[must_use]
    pub fn pinned_bytes(&self) -> u64 {
        self.context.pinned()
    }

    /// What the driver says about `len` bytes at an address of this process,
    /// whoever allocated them: for tensors of other libraries.
    ///
    /// # Errors
    /// [`DeviceError`] when the driver cannot answer.
    pub fn witness_address(&self, address: u64, len: u64) -> Result<Witness, DeviceError> {
        self.ready()?;
        let mut kept = Ok(());
        let witness = witness::take(&self.context, CuDevicePtr(address), len, &mut kept)?;
        kept.map(|()| witness)
    }

    /// A file descriptor by which another process can map the buffer's memory.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] where [`Self::can_export`] is false, and
    /// failures of the driver.
    pub fn export_fd(&self, buffer: BufferId) -> Result<OwnedFd, DeviceError> {
        self.ready()?;
        info!(
            gpu_device = self.info.ordinal,
            "device memory is given to another process"
        );
        let buffer = self.buffers.find(buffer)?;
        let open = buffer.open()?;
        open.memory
            .as_ref()
            .ok_or(DeviceError::UnknownBuffer)?
            .export()
    }

    /// Bytes of the extent that are not `byte`, counted on the device. Every
    /// byte is read once and nothing else is done with it: the roof of whatever
    /// reads device memory.
    ///
    /// # Errors
    /// [`DeviceError`] for a stale handle, an extent outside the buffer, and
    /// failures of the driver.
    pub fn count_other(&self, extent: Extent, byte: u8) -> Result<u64, DeviceError> {
        let buffer = self.buffer(extent.buffer)?;
        let run = buffer.part(extent, 0, extent.len)?;
        let _open = buffer.open()?;
        let (count, _first) = self.lanes.take()?.with(|lane| {
            // SAFETY: the gate is held open until the lane has waited, which
            // `check` does before it returns.
            unsafe { lane.check(&self.kernels, run, byte) }
        })?;
        Ok(count)
    }

    /// Copies of pinned memory into `extent` with nothing beside them, through
    /// up to `slots` slots of `slot_bytes` each: what a sealed load is held
    /// against. Nothing is measured, so nothing can be sealed by them.
    ///
    /// # Errors
    /// [`DeviceError`] for a stale handle, an extent outside the buffer, too
    /// little memory, and failures of the driver.
    pub fn plain_copies(
        &self,
        extent: Extent,
        slot_bytes: usize,
        slots: usize,
    ) -> Result<PlainCopies<'_>, DeviceError> {
        let buffer = self.buffer(extent.buffer)?;
        PlainCopies::open(self, buffer, extent, (slot_bytes, slots))
    }

    /// An event for [`Event::record`].
    ///
    /// # Errors
    /// [`DeviceError`] of the driver.
    pub fn event(&self) -> Result<Event, DeviceError> {
        self.ready()?;
        Event::new(&self.context)
    }

    fn ready(&self) -> Result<(), DeviceError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(DeviceError::Closed);
        }
        Ok(())
    }

    fn context(&self) -> &Arc<Context> {
        &self.context
    }

    const fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    fn buffer(&self, id: BufferId) -> Result<Arc<Buffer>, DeviceError> {
        self.ready()?;
        self.buffers.find(id)
    }

    /// Whether a copy to `peer` needs no host memory: the same device, or one
    /// that the driver says can read this one's memory.
    fn is_reached_by(&self, peer: &Self) -> Result<bool, DeviceError> {
        if !Arc::ptr_eq(&self.driver, &peer.driver) {
            return Ok(false);
        }
        let (device, other) = (self.context.device(), peer.context.device());
        let table = self.driver.table();
        if device == other {
            return Ok(true);
        }
        if table.device_can_access_peer.is_none() || table.memcpy_peer_async.is_none() {
            return Ok(false);
        }
        Ok(self.driver.device_can_access_peer(other, device)?)
    }
}

/// Tells of a device that was opened (requirement: OB-6).
fn opened(info: &DeviceInfo, allocator: &Allocator) {
    info!(
        gpu_device = info.ordinal,
        device_uuid = %info.uuid,
        total_bytes = info.total_bytes,
        granularity = info.granularity,
        virtual_memory = allocator.is_virtual(),
        exportable = allocator.is_exportable(),
        "a CUDA device was opened"
    );
}
