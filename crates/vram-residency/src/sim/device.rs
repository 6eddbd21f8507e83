//! The [`Device`] implementation of the simulator.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use vram_digest::{BLOCK_BYTES, BlockHash, nh};

use super::fault::{Moment, Op};
use super::filled::filled;
use super::memory::Buffer;
use super::parallel::for_each;
use super::upload::SimUpload;
use super::{Inner, SimDevice, lock};
use crate::device::{
    Allocated, BufferId, Device, DeviceAddress, DeviceError, DeviceInfo, Extent, FreeError,
    MemoryInfo, MemoryKind, Protection, Upload, UploadPlan, Witness,
};
use crate::sync::atomic::Ordering;

/// Blocks that one thread hashes at a time: 1 MiB.
const RUN_BLOCKS: usize = 256;

impl Inner {
    pub(super) fn enter(&self, op: Op) -> Result<(), DeviceError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(DeviceError::Closed);
        }
        lock(&self.faults).enter(op)
    }

    pub(super) fn buffer(&self, id: BufferId) -> Result<Arc<Buffer>, DeviceError> {
        if id.instance() != self.instance {
            return Err(DeviceError::UnknownBuffer);
        }
        let state = lock(&self.state);
        state
            .buffers
            .get(&id.serial())
            .map(Arc::clone)
            .ok_or(DeviceError::UnknownBuffer)
    }

    pub(super) fn extent(&self, extent: Extent) -> Result<Arc<Buffer>, DeviceError> {
        let buffer = self.buffer(extent.buffer)?;
        buffer.check(extent.start, extent.len)?;
        Ok(buffer)
    }

    /// A sub-range of an extent, in bytes from the start of the allocation.
    fn position(extent: Extent, offset: u64, len: u64) -> Result<u64, DeviceError> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= extent.len);
        let position = extent.start.checked_add(offset);
        position.filter(|_| inside).ok_or(DeviceError::OutOfRange {
            offset,
            len,
            size: extent.len,
        })
    }

    pub(super) fn strike(
        &self,
        moment: Moment,
        buffer: &Buffer,
        extent: Extent,
        range: Range<u64>,
    ) -> Result<(), DeviceError> {
        let flips = lock(&self.faults).take_flips(moment, range.start, range.end);
        for flip in flips {
            buffer.flip(Self::position(extent, flip.offset, 1)?, flip.bit)?;
        }
        Ok(())
    }

    fn writable(&self, extent: Extent, offset: u64, len: u64) -> Result<Arc<Buffer>, DeviceError> {
        let buffer = self.extent(extent)?;
        Self::position(extent, offset, len)?;
        match buffer.protection() {
            Protection::ReadWrite => Ok(buffer),
            Protection::ReadOnly => Err(DeviceError::Protected),
        }
    }

    fn skip_kernels(&self) -> bool {
        lock(&self.faults).skip_kernels
    }

    fn release(&self, id: BufferId, buffer: &Buffer, keep_used: bool) {
        let mut state = lock(&self.state);
        if state.buffers.remove(&id.serial()).is_some() && !keep_used {
            state.space.give_back(buffer.address);
            state.used = state.used.saturating_sub(buffer.len);
            drop(state);
            buffer.empty();
        }
    }
}

impl Device for SimDevice {
    fn info(&self) -> &DeviceInfo {
        &self.inner.info
    }

    fn facts(&self) -> Result<DeviceInfo, DeviceError> {
        self.inner.enter(Op::Facts)?;
        Ok(self.inner.info.clone())
    }

    fn memory(&self) -> Result<MemoryInfo, DeviceError> {
        self.inner.enter(Op::Memory)?;
        if let Some(lie) = lock(&self.inner.faults).memory {
            return Ok(lie);
        }
        let total = self.inner.options.capacity;
        let used = lock(&self.inner.state).used;
        Ok(MemoryInfo {
            free: total.saturating_sub(used),
            total,
        })
    }

    fn allocate(&self, len: u64) -> Result<Allocated, DeviceError> {
        let inner = &self.inner;
        inner.enter(Op::Allocate)?;
        let options = &inner.options;
        if len == 0 {
            return Err(DeviceError::OutOfRange {
                offset: 0,
                len: 0,
                size: options.capacity,
            });
        }
        let full = DeviceError::OutOfMemory { requested: len };
        let granted = len
            .checked_next_multiple_of(options.granularity)
            .ok_or(full.clone())?;
        let mut state = lock(&inner.state);
        let used = state
            .used
            .checked_add(granted)
            .filter(|used| *used <= options.capacity);
        let used = used.ok_or(full.clone())?;
        let address = state.space.take(granted).ok_or(full)?;
        state.used = used;
        let serial = inner.next_serial.fetch_add(1, Ordering::Relaxed);
        let buffer = Buffer::new(address, granted, options.discard, Arc::clone(&inner.pool));
        state.buffers.insert(serial, Arc::new(buffer));
        Ok(Allocated {
            id: BufferId::new(inner.instance, serial),
            granted,
        })
    }

    fn free(&self, id: BufferId) -> Result<(), FreeError> {
        let buffer = self.inner.buffer(id).map_err(|source| FreeError {
            stranded: 0,
            source,
        })?;
        let strand = |source| FreeError {
            stranded: buffer.len,
            source,
        };
        let answer = self.inner.enter(Op::Free).map_err(strand).and_then(|()| {
            let clean = buffer.scrub(self.inner.options.threads);
            let dirty = DeviceError::Unsupported {
                what: "scrubbing: the memory kept its contents",
            };
            if clean { Ok(()) } else { Err(strand(dirty)) }
        });
        self.inner.release(id, &buffer, answer.is_err());
        answer
    }

    fn protect(&self, id: BufferId, protection: Protection) -> Result<(), DeviceError> {
        self.inner.enter(Op::Protect)?;
        let buffer = self.inner.buffer(id)?;
        if !lock(&self.inner.faults).ignore_protect {
            buffer.protect(protection);
        }
        if protection == Protection::ReadOnly {
            let uploaded = buffer.uploaded();
            if let Some(extent) = uploaded.map(|(start, len)| Extent {
                buffer: id,
                start,
                len,
            }) {
                self.inner
                    .strike(Moment::AfterSeal, &buffer, extent, 0..extent.len)?;
            }
        }
        Ok(())
    }

    fn witness(&self, id: BufferId) -> Result<Witness, DeviceError> {
        self.inner.enter(Op::Witness)?;
        let buffer = self.inner.buffer(id)?;
        let honest = Witness {
            memory: MemoryKind::Simulated,
            managed: false,
            host_pointer: false,
            ordinal: self.inner.info.ordinal,
            pinned_on_device: false,
            protection: buffer.protection(),
        };
        Ok(lock(&self.inner.faults).witness.unwrap_or(honest))
    }

    fn address(&self, extent: Extent) -> Result<Option<DeviceAddress>, DeviceError> {
        self.inner.extent(extent)?;
        Ok(None)
    }

    fn upload<'d>(&'d self, plan: UploadPlan<'_>) -> Result<Box<dyn Upload + 'd>, DeviceError> {
        self.inner.enter(Op::Upload)?;
        let buffer = self.inner.writable(plan.extent, 0, plan.extent.len)?;
        let session = SimUpload::open(&self.inner, buffer, &plan)?;
        Ok(Box::new(session))
    }

    fn read(&self, extent: Extent, offset: u64, out: &mut [u8]) -> Result<(), DeviceError> {
        self.inner.enter(Op::Read)?;
        let buffer = self.inner.extent(extent)?;
        buffer.read(Inner::position(extent, offset, out.len() as u64)?, out)
    }

    fn write(&self, extent: Extent, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.inner.enter(Op::Write)?;
        let buffer = self.inner.writable(extent, offset, bytes.len() as u64)?;
        buffer.note_upload(extent.start, extent.len);
        buffer.write(Inner::position(extent, offset, bytes.len() as u64)?, bytes)
    }

    fn fill(&self, extent: Extent, byte: u8) -> Result<(), DeviceError> {
        self.inner.enter(Op::Fill)?;
        let buffer = self.inner.writable(extent, 0, extent.len)?;
        buffer.fill(extent.start, extent.len, byte)
    }

    fn block_digests(
        &self,
        extent: Extent,
        blocks: Range<u64>,
        out: &mut [BlockHash],
    ) -> Result<(), DeviceError> {
        self.inner.enter(Op::BlockDigests)?;
        let buffer = self.inner.extent(extent)?;
        let total = extent.len.div_ceil(BLOCK_BYTES as u64);
        let count = blocks.end.saturating_sub(blocks.start);
        if blocks.end > total || count != out.len() as u64 {
            return Err(DeviceError::OutOfRange {
                offset: blocks.start,
                len: count,
                size: total,
            });
        }
        self.inner
            .strike(Moment::BeforeCheck, &buffer, extent, 0..extent.len)?;
        if self.inner.skip_kernels() {
            return Ok(());
        }
        let runs = out.chunks_mut(RUN_BLOCKS).enumerate();
        let hashed = for_each(self.inner.options.threads, runs, |(i, hashes), scratch| {
            let skipped = (i as u64).saturating_mul(RUN_BLOCKS as u64);
            let first = blocks
                .start
                .saturating_add(skipped)
                .saturating_mul(BLOCK_BYTES as u64);
            let len = (hashes.len() as u64).saturating_mul(BLOCK_BYTES as u64);
            let len = len.min(extent.len.saturating_sub(first));
            let position = Inner::position(extent, first, len)?;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            buffer
                .with_range(position, len, scratch, |bytes| {
                    vram_digest::hash_blocks(bytes, hashes)
                })?
                .map_err(|_| DeviceError::OutOfRange {
                    offset: first,
                    len: 0,
                    size: extent.len,
                })
        });
        self.inner
            .strike(Moment::AfterCheck, &buffer, extent, 0..extent.len)?;
        hashed
    }

    fn tree_root(&self, extent: Extent) -> Result<Option<BlockHash>, DeviceError> {
        if !self.inner.options.hash_trees {
            return Ok(None);
        }
        let count = extent.len.div_ceil(BLOCK_BYTES as u64);
        let size = usize::try_from(count).unwrap_or(usize::MAX);
        let mut level0 = filled(size, [0; 32])?;
        self.block_digests(extent, 0..count, &mut level0)?;
        Ok(Some(vram_digest::root(&level0)))
    }

    fn keyed_tags(
        &self,
        extent: Extent,
        segments: &[u64],
        keys: &[&nh::Key],
    ) -> Result<Vec<nh::Tag>, DeviceError> {
        self.inner.enter(Op::KeyedTags)?;
        let buffer = self.inner.extent(extent)?;
        let total = extent.len.div_ceil(nh::SEGMENT_BYTES as u64);
        if keys.is_empty() || keys.len() > 2 || segments.iter().any(|segment| *segment >= total) {
            let worst = segments.iter().copied().max().unwrap_or(0);
            return Err(DeviceError::OutOfRange {
                offset: worst,
                len: 1,
                size: total,
            });
        }
        self.inner
            .strike(Moment::BeforeCheck, &buffer, extent, 0..extent.len)?;
        let mut tags =
            vec![nh::Tag::from_bytes([0; 16]); segments.len().saturating_mul(keys.len())];
        if self.inner.skip_kernels() {
            return Ok(tags);
        }
        let work = tags.chunks_mut(keys.len()).zip(segments);
        for_each(
            self.inner.options.threads,
            work,
            |(tags, segment), scratch| {
                let first = segment.saturating_mul(nh::SEGMENT_BYTES as u64);
                let len = extent
                    .len
                    .saturating_sub(first)
                    .min(nh::SEGMENT_BYTES as u64);
                let position = Inner::position(extent, first, len)?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                buffer.with_range(position, len, scratch, |bytes| tag_all(bytes, keys, tags))
            },
        )?;
        self.inner
            .strike(Moment::AfterCheck, &buffer, extent, 0..extent.len)?;
        Ok(tags)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn close(&self) -> Result<(), FreeError> {
        let left = self.buffers();
        let mut answer = Ok(());
        for id in left {
            if let Err(error) = self.free(id) {
                let stranded = answer.as_ref().err().map_or(0, |e: &FreeError| e.stranded);
                let stranded = stranded.saturating_add(error.stranded);
                answer = Err(FreeError { stranded, ..error });
            }
        }
        self.inner.closed.store(true, Ordering::Release);
        answer
    }
}

/// Tags of one segment under every key, two keys in one pass over the bytes.
fn tag_all(segment: &[u8], keys: &[&nh::Key], tags: &mut [nh::Tag]) {
    // One segment has one tag a key, so the lengths always agree.
    let _ = match (keys, tags) {
        ([one, two], [first, second]) => {
            let (first, second) = (std::slice::from_mut(first), std::slice::from_mut(second));
            nh::tags2(one, two, segment, first, second)
        }
        ([only], tags) => nh::tags(only, segment, tags),
        _ => Ok(()),
    };
}
