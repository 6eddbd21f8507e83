//! One stream with the memory that its work needs, on both sides.
//!
//! A lane's host block (pinned) and device block (scratch) have one layout: a
//! control part with tables, keys and the scrub check's result, then a part for
//! results or copied bytes. Offsets mean the same on both sides.
//!
//! The host block is written only while the stream is idle, so nothing here
//! races with a copy. Work on other device memory is queued by `unsafe` methods
//! whose callers keep that memory allocated until the lane has waited.

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::Arc;

use vram_residency::device::DeviceError;

use super::context::{Context, PINNED_LIMIT};
use super::convert::out_of_range;
use super::pinned::Pinned;
use super::scratch::Scratch;
use super::stream::Stream;
use crate::sys::CuDevicePtr;

/// The record of a block-hash launch.
pub(super) const BLOCK_TABLE: Range<usize> = 0..32;
/// The record of the launch that hashes those hashes.
pub(super) const GROUP_TABLE: Range<usize> = 32..64;
/// The scrub check's two u64.
pub(super) const CHECK: Range<usize> = 64..80;
/// Up to two keys of a tag launch, directly before its table.
pub(super) const KEYS: Range<usize> = 1024..4096;
/// Start of the table of a tag launch.
pub(super) const TAG_TABLE: usize = KEYS.end;
/// Bytes of one record of a table.
pub(super) const RECORD_BYTES: usize = 32;

/// A stream with its memory.
pub(crate) struct Lane {
    context: Arc<Context>,
    stream: Stream,
    host: ManuallyDrop<Pinned>,
    device: ManuallyDrop<Scratch>,
    /// Records that the table of a tag launch may have.
    runs: usize,
    /// Something is queued that was not waited for.
    busy: bool,
    /// Bytes of the room that weights were copied through.
    used: usize,
    /// Where keys may lie.
    keys: Keys,
    /// Why the lane was given up: the device may use its memory for ever.
    abandoned: Option<DeviceError>,
}

/// Copies of keys that are still to be wiped.
#[derive(Default)]
struct Keys {
    on_host: bool,
    on_device: bool,
}

impl Lane {
    /// A lane for tag launches of up to `runs` runs, with `room` bytes for
    /// results or copies.
    pub(crate) fn new(
        context: &Arc<Context>,
        runs: usize,
        room: usize,
    ) -> Result<Self, DeviceError> {
        Self::within(context, runs, room, PINNED_LIMIT)
    }

    /// The same, keeping the device's pinned memory within `limit` bytes.
    pub(crate) fn within(
        context: &Arc<Context>,
        runs: usize,
        room: usize,
        limit: u64,
    ) -> Result<Self, DeviceError> {
        let len = pinned_bytes(runs, room);
        let stream = Stream::new(context)?;
        let host = Pinned::new(context, len, limit)?;
        let device = Scratch::new(context, len)?;
        Ok(Self {
            context: Arc::clone(context),
            stream,
            host: ManuallyDrop::new(host),
            device: ManuallyDrop::new(device),
            runs,
            busy: false,
            used: 0,
            keys: Keys::default(),
            abandoned: None,
        })
    }

    /// Records that the table of a tag launch may have.
    pub(crate) const fn runs(&self) -> usize {
        self.runs
    }

    /// Bytes for results or copies.
    pub(crate) fn room(&self) -> usize {
        self.host.len().saturating_sub(room_offset(self.runs))
    }

    /// Where the room starts in both blocks.
    pub(super) const fn room_at(&self) -> usize {
        room_offset(self.runs)
    }

    pub(super) const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The device address of an offset into the lane's own device block.
    pub(super) fn device_at(&self, offset: usize) -> CuDevicePtr {
        self.device.at(offset)
    }

    /// Notes that something was queued outside this file.
    pub(super) const fn mark_busy(&mut self) {
        self.busy = true;
    }

    /// Waits until everything queued is done, then wipes the keys that the
    /// queued work needed.
    pub(crate) fn wait(&mut self) -> Result<(), DeviceError> {
        if self.busy {
            self.synchronize()?;
            self.forget_keys()?;
        }
        Ok(())
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.stream.synchronize()?;
        self.busy = false;
        Ok(())
    }

    /// The part of the host block that takes keys; waits first. From here on
    /// the lane does not go idle again before the keys are wiped.
    pub(super) fn stage_keys(&mut self) -> Result<&mut [u8], DeviceError> {
        self.wait()?;
        self.keys.on_host = true;
        self.stage(KEYS)
    }

    /// Queues the copy of a part of the host block, which may have keys in it,
    /// to the same place of the device block.
    pub(super) fn send(&mut self, range: Range<usize>) -> Result<(), DeviceError> {
        if range.start < KEYS.end && range.end > KEYS.start {
            self.keys.on_device = true;
        }
        let to = self.device_at(range.start);
        // SAFETY: the lane's own device block has the bytes of its host block.
        unsafe { self.htod(to, range) }
    }

    /// Queues the wiping of the keys on the device.
    pub(super) fn wipe_device_keys(&mut self) -> Result<(), DeviceError> {
        let keys = self.device_at(KEYS.start);
        // SAFETY: the lane's own device block.
        unsafe { self.fill(keys, 0, KEYS.len()) }?;
        self.keys.on_device = false;
        Ok(())
    }

    /// Wipes what is left of keys, on both sides, once nothing needs them.
    fn forget_keys(&mut self) -> Result<(), DeviceError> {
        if self.keys.on_host {
            self.host.wipe(KEYS);
            self.keys.on_host = false;
        }
        if !self.keys.on_device {
            return Ok(());
        }
        // The fill that was queued behind the launch failed. Zeros can also be
        // copied: the host's part of the block has just been wiped.
        if self.wipe_device_keys().is_err() {
            self.send(KEYS)?;
        }
        self.synchronize()?;
        self.keys.on_device = false;
        Ok(())
    }

    /// Waits, once more when the first wait failed, and wipes keys and weights
    /// from the host block. After an error the device may still use the lane's
    /// memory, so the lane is of no use any more, and the context knows.
    pub(crate) fn settle(&mut self) -> Result<(), DeviceError> {
        if let Some(why) = &self.abandoned {
            return Err(why.clone());
        }
        let waited = self.wait().or_else(|_| self.wait());
        if let Err(why) = waited.and_then(|()| self.forget_keys()) {
            // What is secret, but not the tables: a launch that still comes
            // would take zeros for addresses.
            self.host.wipe_in_use(KEYS);
            let room = self.room_at()..self.host.len();
            self.host.wipe_in_use(room);
            self.context.abandon(&why);
            self.abandoned = Some(why.clone());
            return Err(why);
        }
        let at = self.room_at();
        self.host.wipe(at..at.saturating_add(self.used));
        self.used = 0;
        Ok(())
    }

    /// A part of the host block to fill in; waits first.
    pub(super) fn stage(&mut self, range: Range<usize>) -> Result<&mut [u8], DeviceError> {
        self.wait()?;
        let outside = past_end(&range, self.host.len());
        self.host.bytes_mut().get_mut(range).ok_or(outside)
    }

    /// A part of the host block to read; waits first.
    pub(super) fn fetched(&mut self, range: Range<usize>) -> Result<&[u8], DeviceError> {
        self.wait()?;
        let outside = past_end(&range, self.host.len());
        self.host.bytes().get(range).ok_or(outside)
    }

    /// `len` bytes of room to fill in for [`Self::write`]; waits first.
    pub(crate) fn outgoing(&mut self, len: usize) -> Result<&mut [u8], DeviceError> {
        self.used = self.used.max(len);
        let at = self.room_at();
        self.stage(at..at.saturating_add(len))
    }

    /// The first `len` bytes of results; waits first.
    pub(crate) fn results(&mut self, len: usize) -> Result<&[u8], DeviceError> {
        let at = self.room_at();
        self.fetched(at..at.saturating_add(len))
    }

    /// Queues the copy of `len` staged bytes of room to `to`.
    ///
    /// # Safety
    /// `to` has `len` bytes that stay allocated until this lane has waited.
    pub(crate) unsafe fn write(&mut self, to: CuDevicePtr, len: usize) -> Result<(), DeviceError> {
        let at = self.room_at();
        // SAFETY: as this method's contract.
        unsafe { self.htod(to, at..at.saturating_add(len)) }
    }

    /// Queues the copy of `len` bytes at `from` into the results.
    ///
    /// # Safety
    /// `from` has `len` bytes that stay allocated until this lane has waited.
    pub(crate) unsafe fn read(&mut self, from: CuDevicePtr, len: usize) -> Result<(), DeviceError> {
        self.used = self.used.max(len);
        let at = self.room_at();
        // SAFETY: as this method's contract.
        unsafe { self.dtoh(at..at.saturating_add(len), from) }
    }

    /// Queues a copy from pinned memory that is not the lane's own.
    ///
    /// # Safety
    /// `from` has `len` readable bytes that nobody writes, and `to` has `len`
    /// bytes that stay allocated, both until this lane has waited.
    pub(crate) unsafe fn copy_in(
        &mut self,
        to: CuDevicePtr,
        from: *const u8,
        len: usize,
    ) -> Result<(), DeviceError> {
        let _entered = self.context.enter()?;
        self.busy = true;
        // SAFETY: as this method's contract; the stream is the lane's.
        unsafe {
            self.context
                .driver()
                .memcpy_htod_async(to, from, len, self.stream.raw())
        }?;
        Ok(())
    }

    /// Queues a copy within the device.
    ///
    /// # Safety
    /// Both ranges have `len` bytes that stay allocated until this lane has waited.
    pub(crate) unsafe fn copy_within(
        &mut self,
        to: CuDevicePtr,
        from: CuDevicePtr,
        len: usize,
    ) -> Result<(), DeviceError> {
        let _entered = self.context.enter()?;
        self.busy = true;
        // SAFETY: as this method's contract; the stream is the lane's.
        unsafe {
            self.context
                .driver()
                .memcpy_dtod_async(to, from, len, self.stream.raw())
        }?;
        Ok(())
    }

    /// Queues a copy from memory of another device's context, which this
    /// lane's device may read.
    ///
    /// # Safety
    /// Both ranges have `len` bytes that stay allocated, in live contexts, until
    /// this lane has waited; `to` is of this lane's context.
    pub(crate) unsafe fn copy_from_peer(
        &mut self,
        to: CuDevicePtr,
        from: CuDevicePtr,
        peer: &Context,
        len: usize,
    ) -> Result<(), DeviceError> {
        let _entered = self.context.enter()?;
        self.busy = true;
        let (to, from) = ((to, self.context.raw()), (from, peer.raw()));
        // SAFETY: as this method's contract; the stream is the lane's.
        unsafe {
            self.context
                .driver()
                .memcpy_peer_async(to, from, len, self.stream.raw())
        }?;
        Ok(())
    }

    /// Queues setting `len` bytes at `at`.
    ///
    /// # Safety
    /// `at` has `len` bytes that stay allocated until this lane has waited.
    pub(crate) unsafe fn fill(
        &mut self,
        at: CuDevicePtr,
        value: u8,
        len: usize,
    ) -> Result<(), DeviceError> {
        let _entered = self.context.enter()?;
        self.busy = true;
        // SAFETY: as this method's contract; the stream is the lane's.
        unsafe {
            self.context
                .driver()
                .memset_d8_async(at, value, len, self.stream.raw())
        }?;
        Ok(())
    }

    /// Queues the copy of a part of the host block to `to`.
    ///
    /// # Safety
    /// `to` has as many bytes as `range`, allocated until this lane has waited.
    pub(super) unsafe fn htod(
        &mut self,
        to: CuDevicePtr,
        range: Range<usize>,
    ) -> Result<(), DeviceError> {
        let outside = past_end(&range, self.host.len());
        let len = range.len();
        let at = self.host.address_of(range).ok_or(outside)?;
        // SAFETY: `at` lies within the host block, which is neither written nor
        // freed until the lane has waited; `to` as this method's contract.
        unsafe { self.copy_in(to, at.as_ptr(), len) }
    }

    /// Queues the copy of device bytes to a part of the host block.
    ///
    /// # Safety
    /// `from` has as many bytes as `range`, allocated until this lane has waited.
    pub(super) unsafe fn dtoh(
        &mut self,
        range: Range<usize>,
        from: CuDevicePtr,
    ) -> Result<(), DeviceError> {
        let outside = past_end(&range, self.host.len());
        let len = range.len();
        let to = self.host.address_of(range).ok_or(outside)?.as_ptr();
        let _entered = self.context.enter()?;
        self.busy = true;
        // SAFETY: `to` lies within the host block, which is neither touched nor
        // freed until the lane has waited; `from` as this method's contract.
        unsafe {
            self.context
                .driver()
                .memcpy_dtoh_async(to, from, len, self.stream.raw())
        }?;
        Ok(())
    }

    /// Queues the copy of a range of the room from the device block to the host block.
    pub(super) fn fetch_room(&mut self, range: &Range<usize>) -> Result<(), DeviceError> {
        let at = self.room_at();
        let range = at.saturating_add(range.start)..at.saturating_add(range.end);
        let from = self.device_at(range.start);
        // SAFETY: the lane's own device block; both blocks have equal lengths,
        // and `dtoh` refuses a range past the end.
        unsafe { self.dtoh(range, from) }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.settle().is_err() {
            // The device may still use both blocks: leave them to the driver
            // rather than free memory in use.
            return;
        }
        // SAFETY: dropped once, here; the device has nothing left to do with it.
        unsafe { ManuallyDrop::drop(&mut self.host) };
        // SAFETY: dropped once, here; the device has nothing left to do with it.
        unsafe { ManuallyDrop::drop(&mut self.device) };
    }
}

/// Pinned bytes of a lane.
pub(super) const fn pinned_bytes(runs: usize, room: usize) -> usize {
    room_offset(runs).saturating_add(room)
}

const fn room_offset(runs: usize) -> usize {
    TAG_TABLE.saturating_add(runs.saturating_mul(RECORD_BYTES))
}

/// The error for a range that a block does not have.
fn past_end(range: &Range<usize>, size: usize) -> DeviceError {
    out_of_range(range.start as u64, range.len() as u64, size as u64)
}
