//! The latch: after the first sticky fault nothing pretends to work.

use std::any::Any;
use std::ops::Range;

use vram_digest::{BlockHash, nh};

use crate::trace;

use super::{
    Allocated, BufferId, Device, DeviceAddress, DeviceError, DeviceInfo, Extent, FreeError,
    Measured, MemoryInfo, Protection, Slot, Upload, UploadPlan, Witness,
};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, OnceLock};

/// Wraps a device and latches its loss: once any call has met a sticky fault,
/// every later call answers with that same fault without touching the driver.
/// The manager wraps every device in it.
pub struct Checked {
    inner: Arc<dyn Device>,
    lost: OnceLock<DeviceError>,
    reported: AtomicBool,
}

impl Checked {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Device>) -> Self {
        Self {
            inner,
            lost: OnceLock::new(),
            reported: AtomicBool::new(false),
        }
    }

    /// The fault that was latched, if any.
    #[must_use]
    pub fn lost(&self) -> Option<&DeviceError> {
        self.lost.get()
    }

    /// True for the first caller after a loss: whoever records it.
    pub(crate) fn report_once(&self) -> bool {
        self.lost.get().is_some() && !self.reported.swap(true, Ordering::SeqCst)
    }

    fn ready(&self) -> Result<(), DeviceError> {
        self.lost.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    fn watch<T>(&self, answer: Result<T, DeviceError>) -> Result<T, DeviceError> {
        if let Err(fault) = &answer
            && fault.is_loss()
        {
            let _ = self.lost.set(fault.clone());
        }
        answer
    }

    fn run<T>(
        &self,
        op: &'static str,
        bytes: Option<u64>,
        call: impl FnOnce(&dyn Device) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        self.ready()?;
        let ordinal = self.inner.info().ordinal;
        self.watch(trace::device_call(ordinal, op, bytes, || {
            call(self.inner.as_ref())
        }))
    }

    fn watch_free(&self, answer: Result<(), FreeError>) -> Result<(), FreeError> {
        if let Err(failure) = &answer {
            let _ = self.watch::<()>(Err(failure.source.clone()));
        }
        answer
    }
}

impl Device for Checked {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn facts(&self) -> Result<DeviceInfo, DeviceError> {
        self.run("facts", None, |device| device.facts())
    }

    fn memory(&self) -> Result<MemoryInfo, DeviceError> {
        self.run("memory", None, |device| device.memory())
    }

    fn allocate(&self, len: u64) -> Result<Allocated, DeviceError> {
        self.run("allocate", Some(len), |device| device.allocate(len))
    }

    fn free(&self, buffer: BufferId) -> Result<(), FreeError> {
        // Always handed down: a lost device must still account for the bytes.
        let ordinal = self.inner.info().ordinal;
        let free = || self.inner.free(buffer);
        self.watch_free(trace::device_call(ordinal, "free", None, free))
    }

    fn protect(&self, buffer: BufferId, protection: Protection) -> Result<(), DeviceError> {
        self.run("protect", None, |device| device.protect(buffer, protection))
    }

    fn witness(&self, buffer: BufferId) -> Result<Witness, DeviceError> {
        self.run("witness", None, |device| device.witness(buffer))
    }

    fn address(&self, extent: Extent) -> Result<Option<DeviceAddress>, DeviceError> {
        self.run("address", None, |device| device.address(extent))
    }

    fn upload<'d>(&'d self, plan: UploadPlan<'_>) -> Result<Box<dyn Upload + 'd>, DeviceError> {
        self.ready()?;
        let (ordinal, len) = (self.inner.info().ordinal, plan.extent.len);
        let open = || self.inner.upload(plan);
        let inner = self.watch(trace::device_call(ordinal, "upload", Some(len), open))?;
        Ok(Box::new(CheckedUpload { inner, latch: self }))
    }

    fn read(&self, extent: Extent, offset: u64, out: &mut [u8]) -> Result<(), DeviceError> {
        self.run("read", Some(out.len() as u64), |device| {
            device.read(extent, offset, out)
        })
    }

    fn write(&self, extent: Extent, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.run("write", Some(bytes.len() as u64), |device| {
            device.write(extent, offset, bytes)
        })
    }

    fn fill(&self, extent: Extent, byte: u8) -> Result<(), DeviceError> {
        self.run("fill", Some(extent.len), |device| device.fill(extent, byte))
    }

    fn block_digests(
        &self,
        extent: Extent,
        blocks: Range<u64>,
        out: &mut [BlockHash],
    ) -> Result<(), DeviceError> {
        self.run("block_digests", Some(extent.len), |device| {
            device.block_digests(extent, blocks, out)
        })
    }

    fn tree_root(&self, extent: Extent) -> Result<Option<BlockHash>, DeviceError> {
        self.run("tree_root", Some(extent.len), |device| {
            device.tree_root(extent)
        })
    }

    fn keyed_tags(
        &self,
        extent: Extent,
        segments: &[u64],
        keys: &[&nh::Key],
    ) -> Result<Vec<nh::Tag>, DeviceError> {
        self.run("keyed_tags", None, |device| {
            device.keyed_tags(extent, segments, keys)
        })
    }

    fn copy_to(&self, from: Extent, to: &dyn Device, dest: Extent) -> Result<(), DeviceError> {
        self.ready()?;
        let ordinal = self.inner.info().ordinal;
        let copy = || self.inner.copy_to(from, to, dest);
        let copied = trace::device_call(ordinal, "copy_to", Some(from.len), copy);
        if let Err(fault) = &copied
            && fault.is_loss()
        {
            // It may be the other device's, which latches itself. Asked again, a
            // lost device says so.
            let _ = self.memory();
        }
        copied
    }

    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }

    fn close(&self) -> Result<(), FreeError> {
        let ordinal = self.inner.info().ordinal;
        self.watch_free(trace::device_call(ordinal, "close", None, || {
            self.inner.close()
        }))
    }
}

struct CheckedUpload<'d> {
    inner: Box<dyn Upload + 'd>,
    latch: &'d Checked,
}

impl Upload for CheckedUpload<'_> {
    fn slot(&self) -> Result<Slot, DeviceError> {
        self.latch.ready()?;
        self.latch.watch(self.inner.slot())
    }

    fn submit(&self, slot: Slot, offset: u64, len: usize) -> Result<(), DeviceError> {
        self.latch.ready()?;
        self.latch.watch(self.inner.submit(slot, offset, len))
    }

    fn finish(self: Box<Self>) -> Result<Measured, DeviceError> {
        let Self { inner, latch } = *self;
        latch.ready()?;
        let ordinal = latch.info().ordinal;
        latch.watch(trace::device_call(ordinal, "upload_finish", None, || {
            inner.finish()
        }))
    }
}
