//! Upload sessions: copies in flight, with hashing queued behind each copy.

use std::alloc::{Layout, alloc_zeroed};

use vram_digest::{BLOCK_BYTES, BlockHash, HASH_BYTES, nh};
use vram_residency::device::{Coverage, DeviceError, Extent, Measured, Slot, Upload, UploadPlan};
use vram_residency::sync::{Arc, Mutex};

use super::CudaDevice;
use super::buffer::Buffer;
use super::convert::{lock, out_of_range, silent_failure};
use super::lane::Lane;
use super::ring::{Flight, Ring, Turn};

/// An open session. Dropping it waits for the copies in flight and wipes the ring.
pub(crate) struct CudaUpload<'d> {
    device: &'d CudaDevice,
    buffer: Arc<Buffer>,
    extent: Extent,
    key: nh::Key,
    ring: Arc<Ring>,
    state: Mutex<State>,
}

struct State {
    coverage: Coverage,
    level0: Vec<BlockHash>,
    tags: Vec<nh::Tag>,
    /// The first failure of a copy or a kernel; nothing goes on after it.
    failed: Option<DeviceError>,
}

impl<'d> CudaUpload<'d> {
    pub(crate) fn open(
        device: &'d CudaDevice,
        buffer: Arc<Buffer>,
        plan: &UploadPlan<'_>,
    ) -> Result<Self, DeviceError> {
        buffer.part(plan.extent, 0, plan.extent.len)?;
        drop(buffer.open_to_write()?);
        let level0 = zeroed(plan.extent.len.div_ceil(BLOCK_BYTES as u64))?;
        let tags = zero_tags(plan.extent.len)?;
        let ring = Ring::new(device.context(), plan)?;
        buffer.add_upload(&ring);
        let coverage = Coverage::new(plan.extent.len);
        Ok(Self {
            device,
            buffer,
            extent: plan.extent,
            key: nh::Key::from_bytes(plan.key.as_bytes()),
            ring,
            state: Mutex::new(State {
                coverage,
                level0,
                tags,
                failed: None,
            }),
        })
    }

    fn check_failed(&self) -> Result<(), DeviceError> {
        lock(&self.state).failed.clone().map_or(Ok(()), Err)
    }

    /// Keeps the first failure for every later call.
    fn note<T>(&self, answer: Result<T, DeviceError>) -> Result<T, DeviceError> {
        if let Err(error) = &answer {
            lock(&self.state)
                .failed
                .get_or_insert_with(|| error.clone());
        }
        answer
    }

    /// Queues copy, hashes, tags and the fetching of the results.
    fn queue(&self, flight: &mut Flight) -> Result<(), DeviceError> {
        let part = self
            .buffer
            .part(self.extent, flight.offset, flight.len as u64)?;
        let _open = self.buffer.open_to_write()?;
        let mut lane = self.ring.lane(flight.index)?;
        let hashes = lane.stage_hashes(part)?;
        let tags = lane.stage_tags(&[part], &[&self.key], hashes.results().end)?;
        let from = (*flight.bytes).as_mut().as_ptr();
        // SAFETY: `from` has `len` bytes (`submit` checked that), which the flight
        // owns until the lane has waited; the buffer waits for this ring before
        // it frees its memory.
        unsafe { lane.copy_in(part.at, from, flight.len) }?;
        lane.queue_control(&[&hashes, &tags])?;
        // SAFETY: the buffer waits for this ring before it frees its memory.
        unsafe { lane.queue_hashes(self.device.kernels(), &hashes) }?;
        // SAFETY: the buffer waits for this ring before it frees its memory.
        unsafe { lane.queue_tags(self.device.kernels(), &tags) }?;
        lane.queue_results(&(hashes.results().start..tags.results().end))
    }

    /// Waits for a copy and stores what the device measured.
    fn collect(&self, flight: Flight) -> Result<(), DeviceError> {
        let mut lane = self.ring.lane(flight.index)?;
        let stored = self.store(&mut lane, &flight);
        let settled = lane.settle();
        drop(lane);
        self.retire(flight, settled);
        stored
    }

    /// Lets the slot's bytes go, unless the device may still read them.
    fn retire(&self, flight: Flight, settled: Result<(), DeviceError>) {
        if let Err(why) = settled {
            self.ring.abandon(flight.index, why);
        }
        drop(flight);
    }

    fn store(&self, lane: &mut Lane, flight: &Flight) -> Result<(), DeviceError> {
        lane.wait()?;
        let hashes_end = flight.len.div_ceil(BLOCK_BYTES).saturating_mul(HASH_BYTES);
        let mut state = lock(&self.state);
        let State { level0, tags, .. } = &mut *state;
        let level0 = window(level0, flight, BLOCK_BYTES)?;
        lane.take_hashes(0, level0)?;
        // A seal is made of these: no second opinion comes after them.
        if level0.contains(&BlockHash::default()) {
            let text = "the kernel left no hashes";
            return Err(silent_failure("vram_sha256_blocks", text));
        }
        let tags = window(tags, flight, nh::SEGMENT_BYTES)?;
        lane.take_tags(hashes_end, tags)?;
        match tags.contains(&nh::Tag::ZERO) {
            true => Err(silent_failure("vram_nh_tags", "the kernel left no tags")),
            false => Ok(()),
        }
    }
}

impl Upload for CudaUpload<'_> {
    fn slot(&self) -> Result<Slot, DeviceError> {
        loop {
            self.check_failed()?;
            match self.note(self.ring.next())? {
                Turn::Free(index, bytes) => {
                    return Ok(Slot::new(self.ring.session(), index, Box::new(bytes)));
                }
                Turn::Collect(flight) => self.note(self.collect(flight))?,
            }
        }
    }

    fn submit(&self, mut slot: Slot, offset: u64, len: usize) -> Result<(), DeviceError> {
        self.check_failed()?;
        let (session, index) = (slot.session(), slot.index());
        let bytes = slot.bytes_mut();
        let size = bytes.len();
        // Only the session's own pinned bytes, exclusively owned by this slot,
        // may be given to the copy engine.
        let ours = session == self.ring.session() && self.ring.owns(index, bytes);
        if !ours || len > size {
            return Err(out_of_range(offset, len as u64, size as u64));
        }
        lock(&self.state).coverage.add(offset, len as u64)?;
        let mut flight = Flight {
            index,
            bytes: slot.into_bytes(),
            offset,
            len,
        };
        let queued = self.note(self.queue(&mut flight));
        match queued {
            Ok(()) => self.ring.fly(flight),
            // What was queued before the failure may still use the bytes.
            Err(_) => {
                let settled = self.ring.lane(index)?.settle();
                self.retire(flight, settled);
            }
        }
        queued
    }

    fn finish(self: Box<Self>) -> Result<Measured, DeviceError> {
        while let Some(flight) = self.ring.land() {
            self.note(self.collect(flight))?;
        }
        self.check_failed()?;
        let mut state = lock(&self.state);
        state.coverage.complete()?;
        let (level0, tags) = (
            std::mem::take(&mut state.level0),
            std::mem::take(&mut state.tags),
        );
        Ok(Measured { level0, tags })
    }
}

impl Drop for CudaUpload<'_> {
    fn drop(&mut self) {
        while let Some(flight) = self.ring.land() {
            let settled = self
                .ring
                .lane(flight.index)
                .and_then(|mut lane| lane.settle());
            self.retire(flight, settled);
        }
    }
}

/// `count` hashes of zeros, which the system gives page by page when they are
/// written: for a large model they are gigabytes, and many readers write them.
fn zeroed(count: u64) -> Result<Vec<BlockHash>, DeviceError> {
    let requested = count.saturating_mul(HASH_BYTES as u64);
    let refused = DeviceError::HostOutOfMemory { requested };
    let count = usize::try_from(count).map_err(|_| refused.clone())?;
    let layout = Layout::array::<BlockHash>(count).map_err(|_| refused.clone())?;
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the size is not zero.
    let at = unsafe { alloc_zeroed(layout) };
    if at.is_null() {
        return Err(refused);
    }
    // SAFETY: the global allocator has just given this layout, that of `count`
    // hashes, and zero bytes are what a hash may hold.
    Ok(unsafe { Vec::from_raw_parts(at.cast(), count, count) })
}

/// One tag of zeros per segment of `len` bytes.
fn zero_tags(len: u64) -> Result<Vec<nh::Tag>, DeviceError> {
    let count = len.div_ceil(nh::SEGMENT_BYTES as u64);
    let requested = count.saturating_mul(nh::TAG_BYTES as u64);
    let refused = DeviceError::HostOutOfMemory { requested };
    let count = usize::try_from(count).map_err(|_| refused.clone())?;
    let mut tags = Vec::new();
    tags.try_reserve_exact(count).map_err(|_| refused)?;
    tags.resize(count, nh::Tag::ZERO);
    Ok(tags)
}

/// The places of the units that a flight covers.
fn window<'s, T>(
    places: &'s mut [T],
    flight: &Flight,
    unit: usize,
) -> Result<&'s mut [T], DeviceError> {
    let outside = out_of_range(flight.offset, flight.len as u64, places.len() as u64);
    let first = usize::try_from(flight.offset.checked_div(unit as u64).unwrap_or(0))
        .map_err(|_| outside.clone())?;
    let end = first.saturating_add(flight.len.div_ceil(unit.max(1)));
    places.get_mut(first..end).ok_or(outside)
}
