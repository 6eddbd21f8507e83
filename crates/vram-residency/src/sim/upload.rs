//! Upload sessions of the simulator: each reader thread copies its slot into
//! simulated memory and hashes what arrived there, so loading uses every core
//! that the caller reads with.

use vram_digest::{BLOCK_BYTES, BlockHash, nh};

use super::fault::{Moment, Op};
use super::memory::Buffer;
use super::staging::Staging;
use super::{Inner, lock};
use crate::device::{
    Arriving, Coverage, DeviceError, Extent, Measured, Slot, StagingShare, UPLOAD_ALIGN, Upload,
    UploadPlan,
};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, Condvar, Mutex, PoisonError};

const BLOCK: u64 = BLOCK_BYTES as u64;

pub(super) struct SimUpload {
    device: Arc<Inner>,
    buffer: Arc<Buffer>,
    extent: Extent,
    key: nh::Key,
    session: u64,
    pool: Arc<Pool>,
    state: Mutex<State>,
}

struct State {
    coverage: Coverage,
    level0: Arriving<BlockHash>,
    tags: Arriving<nh::Tag>,
}

/// Staging memory of one session, wiped when the session and its last slot end.
struct Pool {
    slots: Mutex<Slots>,
    returned: Condvar,
    /// Bytes of a slot.
    size: usize,
    most: usize,
    /// Given back after the memory itself.
    share: StagingShare,
}

struct Slots {
    free: Vec<(usize, Staging)>,
    made: usize,
}

struct Pooled {
    index: usize,
    bytes: Staging,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Pooled {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        lock(&self.pool.slots).free.push((self.index, bytes));
        self.pool.returned.notify_one();
    }
}

impl Pool {
    /// A free slot, or one more; waits for one where there is no room for that.
    fn take(&self) -> Result<(usize, Staging), DeviceError> {
        let mut slots = lock(&self.slots);
        loop {
            if let Some(free) = slots.free.pop() {
                return Ok(free);
            }
            let index = slots.made;
            if index < self.most && self.share.take(self.size) {
                let made = Staging::new(self.size);
                match &made {
                    Ok(_) => slots.made = index.saturating_add(1),
                    Err(_) => self.share.give_back(self.size),
                }
                return made.map(|staging| (index, staging));
            }
            let returned = self.returned.wait(slots);
            slots = returned.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl SimUpload {
    pub(super) fn open(
        device: &Arc<Inner>,
        buffer: Arc<Buffer>,
        plan: &UploadPlan<'_>,
    ) -> Result<Self, DeviceError> {
        let extent = plan.extent;
        buffer.note_upload(extent.start, extent.len);
        let align = usize::try_from(UPLOAD_ALIGN).unwrap_or(usize::MAX);
        let whole = usize::try_from(extent.len).unwrap_or(usize::MAX);
        let size = plan
            .slot_bytes
            .max(align)
            .checked_next_multiple_of(align)
            .unwrap_or(align);
        let size = size.min(whole);
        let most = plan.slots.clamp(1, whole.div_ceil(size.max(1)).max(1));
        let free = vec![(0, Staging::new(size)?)];
        Ok(Self {
            device: Arc::clone(device),
            buffer,
            extent,
            key: nh::Key::from_bytes(plan.key.as_bytes()),
            session: device.next_session.fetch_add(1, Ordering::Relaxed),
            pool: Arc::new(Pool {
                slots: Mutex::new(Slots { free, made: 1 }),
                returned: Condvar::new(),
                size,
                most,
                share: StagingShare::of(&plan.room),
            }),
            state: Mutex::new(State {
                coverage: Coverage::new(extent.len),
                level0: Arriving::new(extent.len.div_ceil(BLOCK), [0; 32]),
                tags: Arriving::new(extent.len.div_ceil(UPLOAD_ALIGN), nh::Tag::ZERO),
            }),
        })
    }

    /// Hashes what the memory holds after the copy, one segment at a time, so
    /// that digest and tag share one trip through the cache.
    fn measure(&self, offset: u64, arrived: &[u8]) -> Result<(), DeviceError> {
        let mut scratch = Vec::new();
        let mut hashes = vec![[0; 32]; nh::SEGMENT_BYTES / BLOCK_BYTES];
        for (i, segment) in arrived.chunks(nh::SEGMENT_BYTES).enumerate() {
            let at = offset.saturating_add((i as u64).saturating_mul(UPLOAD_ALIGN));
            hashes.truncate(segment.len().div_ceil(BLOCK_BYTES));
            let mut look = |bytes: &[u8]| {
                let _ = vram_digest::hash_blocks(bytes, &mut hashes);
                nh::tag(&self.key, bytes)
            };
            let tag = if self.buffer.discarded {
                look(segment)
            } else {
                let position = self.extent.start.saturating_add(at);
                self.buffer
                    .with_range(position, segment.len(), &mut scratch, look)?
            };
            self.store(at, &hashes, tag)?;
        }
        Ok(())
    }

    fn store(&self, at: u64, hashes: &[BlockHash], tag: nh::Tag) -> Result<(), DeviceError> {
        let mut state = lock(&self.state);
        state.level0.put(at / BLOCK, hashes)?;
        state.tags.put(at / UPLOAD_ALIGN, &[tag])
    }
}

impl Upload for SimUpload {
    fn slot(&self) -> Result<Slot, DeviceError> {
        self.device.enter(Op::Slot)?;
        let (index, bytes) = self.pool.take()?;
        let pooled = Pooled {
            index,
            bytes,
            pool: Arc::clone(&self.pool),
        };
        Ok(Slot::new(self.session, index, Box::new(pooled)))
    }

    fn submit(&self, slot: Slot, offset: u64, len: usize) -> Result<(), DeviceError> {
        self.device.enter(Op::Submit)?;
        let size = slot.bytes().len() as u64;
        let bytes = slot
            .bytes()
            .get(..len)
            .filter(|_| slot.session() == self.session);
        let bytes = bytes.ok_or(DeviceError::OutOfRange {
            offset,
            len: len as u64,
            size,
        })?;
        lock(&self.state).coverage.add(offset, len as u64)?;
        self.buffer
            .write(self.extent.start.saturating_add(offset), bytes)?;
        let end = offset.saturating_add(len as u64);
        if !self.buffer.discarded {
            let lost = lock(&self.device.faults).lost_in(&(offset..end));
            for (offset, held) in lost {
                let at = self.extent.start.saturating_add(offset);
                self.buffer.write(at, &held)?;
            }
            self.device
                .strike(Moment::AfterCopy, &self.buffer, self.extent, offset..end)?;
        }
        self.measure(offset, bytes)
    }

    fn finish(self: Box<Self>) -> Result<Measured, DeviceError> {
        self.device.enter(Op::Finish)?;
        lock(&self.device.faults).lost_copies.clear();
        let mut state = lock(&self.state);
        state.coverage.complete()?;
        Ok(Measured {
            level0: state.level0.take(),
            tags: state.tags.take(),
        })
    }
}
