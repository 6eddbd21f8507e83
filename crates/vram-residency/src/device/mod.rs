//! The one seam to hardware: a safe, object-safe [`Device`] trait.
//!
//! Handles go in and values come out, so a stale or foreign handle is an error
//! value and never undefined behaviour. Backends check *soundness* (bounds,
//! live handles, protection); the core checks *policy*. Streams, events, pinned
//! memory, kernels and contexts are a backend's secret.

mod arriving;
mod checked;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod info;
mod upload;
mod witness;

use std::any::Any;
use std::ops::Range;

use vram_digest::{BlockHash, nh};
use zeroize::Zeroizing;

pub(crate) use arriving::Arriving;
pub use checked::Checked;
pub use error::{DeviceError, FreeError};
pub use info::{DeviceInfo, DeviceKind, DriverInfo, MemoryInfo, Uuid};
pub use upload::{
    Coverage, Measured, Slot, SlotBytes, StagingRoom, StagingShare, UPLOAD_ALIGN, Upload,
    UploadPlan,
};
pub use witness::{MemoryKind, Protection, Witness};

use std::sync::atomic::{AtomicU64, Ordering};

static NEXT_INSTANCE: AtomicU64 = AtomicU64::new(1);

/// Identifies one opened device object of this process.
///
/// Part of every [`BufferId`], so that a handle of one device is refused by
/// every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceInstance(u64);

impl DeviceInstance {
    /// A number that no other device object of this process has.
    #[must_use]
    pub fn next() -> Self {
        Self(NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed))
    }
}

/// Handle of one allocation: device instance plus a serial number that is never
/// used twice, so a handle kept after `free` cannot reach its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufferId {
    instance: DeviceInstance,
    serial: u64,
}

impl BufferId {
    /// Made by a backend for its `serial`-th allocation.
    #[must_use]
    pub const fn new(instance: DeviceInstance, serial: u64) -> Self {
        Self { instance, serial }
    }

    /// The device object that made this handle.
    #[must_use]
    pub const fn instance(self) -> DeviceInstance {
        self.instance
    }

    /// Serial number within the device object.
    #[must_use]
    pub const fn serial(self) -> u64 {
        self.serial
    }
}

/// A fresh allocation: its handle and the bytes that the device really took
/// (the request rounded up to the allocation granularity).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocated {
    /// Handle for every later call.
    pub id: BufferId,
    /// Bytes taken from the device, never less than requested.
    pub granted: u64,
}

/// `len` bytes from byte `start` of a buffer: where a shard lies.
///
/// `start` is not zero when the file was shifted so that its tensor data begins
/// at a 256-byte boundary of device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The allocation.
    pub buffer: BufferId,
    /// First byte, relative to the allocation.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

/// A device address: opaque, reachable only through a verified lease.
///
/// It has no `Debug`, `Display` or `Serialize` on purpose: addresses reach no
/// log, error or record (requirement: WORKER-4111, MS-001).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceAddress(u64);

impl DeviceAddress {
    /// Wraps an address that a backend got from its driver.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number to pass to a kernel launch. Only valid while the lease lives.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on, if it does not overflow.
    #[must_use]
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }
}

/// Bytes of host memory that the default staged copy between devices uses.
const COPY_CHUNK: usize = 8 << 20;

/// What a device must offer. See `docs/design.md` for the reasons.
///
/// Every method takes `&self`, may be called from any thread, never panics, and
/// returns only when its effect (or its failure) is known.
pub trait Device: Send + Sync {
    /// Facts about the device, as they were when it was opened.
    fn info(&self) -> &DeviceInfo;

    /// The same facts, asked now (requirement: POL-5).
    ///
    /// # Errors
    /// [`DeviceError`] when the driver cannot answer.
    fn facts(&self) -> Result<DeviceInfo, DeviceError>;

    /// Free and total bytes as the driver says now.
    ///
    /// # Errors
    /// [`DeviceError`] when the driver cannot answer.
    fn memory(&self) -> Result<MemoryInfo, DeviceError>;

    /// Takes at least `len` bytes, 256-byte aligned, contents undefined.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], or [`DeviceError::OutOfRange`] for `len == 0`.
    fn allocate(&self, len: u64) -> Result<Allocated, DeviceError>;

    /// Scrubs the buffer, reads the scrub back, and returns the memory
    /// (requirement: PM-9).
    ///
    /// # Errors
    /// [`FreeError`] says how many bytes are stranded; the handle is dead then too.
    fn free(&self, buffer: BufferId) -> Result<(), FreeError>;

    /// Makes the buffer read-only for kernels and copies, or writable again.
    ///
    /// # Errors
    /// [`DeviceError`]; hardware that cannot protect reports it in [`Witness`].
    fn protect(&self, buffer: BufferId, protection: Protection) -> Result<(), DeviceError>;

    /// What the driver says about this very allocation, asked now.
    ///
    /// # Errors
    /// [`DeviceError`] when the driver cannot answer.
    fn witness(&self, buffer: BufferId) -> Result<Witness, DeviceError>;

    /// Device address of an extent; `None` on the simulator.
    ///
    /// # Errors
    /// [`DeviceError`] for a stale handle or an extent outside the buffer.
    fn address(&self, extent: Extent) -> Result<Option<DeviceAddress>, DeviceError>;

    /// Opens an upload session into an extent.
    ///
    /// # Errors
    /// [`DeviceError`] when staging memory or the extent is not to be had.
    fn upload<'d>(&'d self, plan: UploadPlan<'_>) -> Result<Box<dyn Upload + 'd>, DeviceError>;

    /// Copies bytes `offset..offset + out.len()` of the extent to the host; a
    /// range outside is an error (requirement: API-F42, MS-007).
    ///
    /// # Errors
    /// [`DeviceError`]; on error the contents of `out` are unspecified.
    fn read(&self, extent: Extent, offset: u64, out: &mut [u8]) -> Result<(), DeviceError>;

    /// Copies `bytes` into the extent at `offset` (repair, staged copies).
    ///
    /// # Errors
    /// [`DeviceError::Protected`] when the buffer is read-only.
    fn write(&self, extent: Extent, offset: u64, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Sets every byte of the extent.
    ///
    /// # Errors
    /// [`DeviceError::Protected`] when the buffer is read-only.
    fn fill(&self, extent: Extent, byte: u8) -> Result<(), DeviceError>;

    /// SHA-256 of the 4 KiB blocks `blocks` of the extent, computed on the
    /// device from its own memory. The last block is zero-padded. A hash that the
    /// device did not write stays as it is in `out`, or becomes zeros, so that it
    /// hides none of the others.
    ///
    /// # Errors
    /// [`DeviceError`]; `out.len()` must equal the number of blocks.
    fn block_digests(
        &self,
        extent: Extent,
        blocks: Range<u64>,
        out: &mut [BlockHash],
    ) -> Result<(), DeviceError>;

    /// Root of the SHA-256 tree over the extent (design 4.1), where the device
    /// can hash more than the lowest level itself: block hashes are 1/128 of
    /// the contents, which takes the host longer than the device takes for all.
    ///
    /// The default has no such way and says `None`; callers then ask for
    /// [`Self::block_digests`].
    ///
    /// # Errors
    /// [`DeviceError`].
    fn tree_root(&self, extent: Extent) -> Result<Option<BlockHash>, DeviceError> {
        let _no_way = extent;
        Ok(None)
    }

    /// NHPoly1305 tags of 1 MiB segments of the extent under one or two keys,
    /// computed on the device. Order: all keys of the first listed segment,
    /// then all keys of the next. A tag that the device did not write is
    /// [`nh::Tag::ZERO`], so that it hides none of the others.
    ///
    /// # Errors
    /// [`DeviceError`]; more than two keys or an index past the end is out of range.
    fn keyed_tags(
        &self,
        extent: Extent,
        segments: &[u64],
        keys: &[&nh::Key],
    ) -> Result<Vec<nh::Tag>, DeviceError>;

    /// Copies `from` to the extent `dest` of another device.
    ///
    /// The default stages through wiped host memory; backends override it where
    /// the hardware has a direct path.
    ///
    /// # Errors
    /// [`DeviceError`] of either side; lengths must be equal.
    fn copy_to(&self, from: Extent, to: &dyn Device, dest: Extent) -> Result<(), DeviceError> {
        if from.len != dest.len {
            return Err(DeviceError::OutOfRange {
                offset: 0,
                len: from.len,
                size: dest.len,
            });
        }
        let size = usize::try_from(from.len)
            .unwrap_or(usize::MAX)
            .min(COPY_CHUNK);
        let mut staging = Zeroizing::new(vec![0_u8; size]);
        let mut offset = 0_u64;
        while offset < from.len {
            let left = usize::try_from(from.len.saturating_sub(offset)).unwrap_or(usize::MAX);
            let Some(chunk) = staging.get_mut(..left.min(size)) else {
                break;
            };
            self.read(from, offset, chunk)?;
            to.write(dest, offset, chunk)?;
            offset = offset.saturating_add(chunk.len() as u64);
        }
        Ok(())
    }

    /// The concrete backend, for peer copies between devices of one kind.
    fn as_any(&self) -> &dyn Any;

    /// Frees everything that is left and refuses further work.
    ///
    /// # Errors
    /// [`FreeError`] when bytes had to be stranded.
    fn close(&self) -> Result<(), FreeError>;
}
