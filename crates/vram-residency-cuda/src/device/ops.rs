//! The trait's methods: checks and order; the work is done next door.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vram_digest::{BlockHash, nh};
use vram_residency::device::{
    Allocated, BufferId, Device, DeviceAddress, DeviceError, DeviceInfo, Extent, FreeError,
    MemoryInfo, Protection, Upload, UploadPlan, Witness,
};

use super::buffer::Buffer;
use super::convert::out_of_range;
use super::upload::CudaUpload;
use super::{CudaDevice, copy, facts, hash, scrub, witness};

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn facts(&self) -> Result<DeviceInfo, DeviceError> {
        self.ready()?;
        facts::read(&self.driver, self.context.ordinal(), self.info.granularity)
    }

    // requirement: FF-5
    fn memory(&self) -> Result<MemoryInfo, DeviceError> {
        self.ready()?;
        let _entered = self.context.enter()?;
        let (free, total) = self.driver.mem_get_info()?;
        Ok(MemoryInfo { free, total })
    }

    fn allocate(&self, len: u64) -> Result<Allocated, DeviceError> {
        self.ready()?;
        if len == 0 {
            return Err(out_of_range(0, 0, self.info.total_bytes));
        }
        // A driver may call such a size an invalid value rather than too large.
        if len > self.info.total_bytes {
            return Err(DeviceError::OutOfMemory { requested: len });
        }
        let memory = self.allocator.allocate(&self.context, len)?;
        let granted = memory.run().len;
        Ok(Allocated {
            id: self.buffers.insert(memory),
            granted,
        })
    }

    fn free(&self, buffer: BufferId) -> Result<(), FreeError> {
        let gone = |source| FreeError {
            stranded: 0,
            source,
        };
        self.ready().map_err(gone)?;
        let buffer = self.buffers.remove(buffer).map_err(gone)?;
        self.give_back(&buffer)
    }

    fn protect(&self, buffer: BufferId, protection: Protection) -> Result<(), DeviceError> {
        let buffer = self.buffer(buffer)?;
        let (mut gate, idle) = buffer.take_alone();
        idle?;
        self.context.unsettled().map_or(Ok(()), Err)?;
        gate.memory
            .as_ref()
            .ok_or(DeviceError::UnknownBuffer)?
            .protect(protection)?;
        gate.protection = protection;
        Ok(())
    }

    fn witness(&self, buffer: BufferId) -> Result<Witness, DeviceError> {
        let buffer = self.buffer(buffer)?;
        let _open = buffer.open()?;
        let all = buffer.run();
        let mut kept = Ok(());
        let witness = witness::take(&self.context, all.at, all.len, &mut kept);
        if let Err(why) = kept {
            buffer.overhold(why);
        }
        witness
    }

    fn address(&self, extent: Extent) -> Result<Option<DeviceAddress>, DeviceError> {
        let buffer = self.buffer(extent.buffer)?;
        let part = buffer.part(extent, 0, extent.len)?;
        let _open = buffer.open()?;
        Ok(Some(DeviceAddress::new(part.at.0)))
    }

    fn upload<'d>(&'d self, plan: UploadPlan<'_>) -> Result<Box<dyn Upload + 'd>, DeviceError> {
        let buffer = self.buffer(plan.extent.buffer)?;
        Ok(Box::new(CudaUpload::open(self, buffer, &plan)?))
    }

    fn read(&self, extent: Extent, offset: u64, out: &mut [u8]) -> Result<(), DeviceError> {
        let buffer = self.buffer(extent.buffer)?;
        copy::read(&self.lanes, &buffer, (extent, offset), out)
    }

    fn write(&self, extent: Extent, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let buffer = self.buffer(extent.buffer)?;
        copy::write(&self.lanes, &buffer, (extent, offset), bytes)
    }

    fn fill(&self, extent: Extent, byte: u8) -> Result<(), DeviceError> {
        let buffer = self.buffer(extent.buffer)?;
        copy::fill(&self.lanes, &buffer, extent, byte)
    }

    fn block_digests(
        &self,
        extent: Extent,
        blocks: Range<u64>,
        out: &mut [BlockHash],
    ) -> Result<(), DeviceError> {
        let buffer = self.buffer(extent.buffer)?;
        hash::block_digests((&self.lanes, &self.kernels), &buffer, extent, blocks, out)
    }

    fn tree_root(&self, extent: Extent) -> Result<Option<BlockHash>, DeviceError> {
        let buffer = self.buffer(extent.buffer)?;
        hash::tree_root((&self.lanes, &self.kernels), &buffer, extent).map(Some)
    }

    fn keyed_tags(
        &self,
        extent: Extent,
        segments: &[u64],
        keys: &[&nh::Key],
    ) -> Result<Vec<nh::Tag>, DeviceError> {
        let buffer = self.buffer(extent.buffer)?;
        hash::keyed_tags(
            (&self.lanes, &self.kernels),
            &buffer,
            extent,
            segments,
            keys,
        )
    }

    fn copy_to(&self, from: Extent, to: &dyn Device, dest: Extent) -> Result<(), DeviceError> {
        self.ready()?;
        copy::between((self, from), (to, dest))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn close(&self) -> Result<(), FreeError> {
        let mut stranded = 0_u64;
        let mut first = None;
        self.closed.store(true, Ordering::Release);
        for buffer in self.buffers.drain() {
            if let Err(error) = self.give_back(&buffer) {
                stranded = stranded.saturating_add(error.stranded);
                first = first.or(Some(error.source));
            }
        }
        self.lanes.close();
        let source = first.or_else(|| self.context.pop_failure().err());
        source.map_or(Ok(()), |source| Err(FreeError { stranded, source }))
    }
}

impl CudaDevice {
    /// Scrubs and releases a buffer whose handle is already gone. What fails
    /// leaves the memory where it is: out of reach, counted as stranded.
    fn give_back(&self, buffer: &Arc<Buffer>) -> Result<(), FreeError> {
        let (mut gate, idle) = buffer.take_alone();
        let Some(mut memory) = gate.memory.take() else {
            return Ok(());
        };
        let strand = |source| FreeError {
            stranded: buffer.run().len,
            source,
        };
        idle.map_err(strand)?;
        // Work that could not be waited for may yet use any of the memory.
        let settled = self.context.unsettled().map_or(Ok(()), Err);
        settled.map_err(strand)?;
        if gate.protection == Protection::ReadOnly {
            memory.protect(Protection::ReadWrite).map_err(strand)?;
        }
        let scrubbed = self.lanes.take().and_then(|mut lane| {
            lane.with(|lane| {
                // SAFETY: the gate is taken alone, so nothing else uses the
                // memory, and it is not released before the lane has waited.
                unsafe { scrub::scrub(lane, &self.kernels, buffer.run()) }
            })
        });
        scrubbed.map_err(strand)?;
        memory.release()?;
        buffer.overheld().map_or(Ok(()), |why| Err(strand(why)))
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // Nobody is left to tell; `close` is there for those who want to know.
        drop(Device::close(self));
    }
}
