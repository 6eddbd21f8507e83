//! Copies without checks: the roof of every load, and a load that proves
//! nothing. For benches; what they write is read back by nobody.

use std::mem::ManuallyDrop;

use vram_residency::device::{DeviceError, Extent};
use vram_residency::sync::atomic::{AtomicU64, Ordering};
use vram_residency::sync::{Arc, Mutex, one_more, thread};

use super::CudaDevice;
use super::buffer::Buffer;
use super::context::PINNED_ROOMY;
use super::convert::lock;
use super::lane::Lane;
use super::pinned::Pinned;

/// Pinned bytes of a slot's lane, generously.
const LANE_BYTES: u64 = 64 << 10;
/// Most threads that give slots back.
const WIPERS: usize = 8;

/// Pinned slots with a stream each, and where their bytes go.
pub struct PlainCopies<'d> {
    device: &'d CudaDevice,
    buffer: Arc<Buffer>,
    extent: Extent,
    slot_bytes: usize,
    /// Made when they are first needed, as those of a sealed load are.
    slots: Vec<Mutex<Option<Slot>>>,
}

/// A pinned block and the lane that copies it.
struct Slot {
    lane: Lane,
    /// Freed when dropped, unless the device may still read it.
    pinned: ManuallyDrop<Pinned>,
}

/// What the threads of one pass over the extent share.
struct Pass<R, E> {
    read: R,
    next: AtomicU64,
    failed: Mutex<Option<E>>,
}

impl<'d> PlainCopies<'d> {
    /// As many slots as asked for, within the limit of pinned memory.
    pub(crate) fn open(
        device: &'d CudaDevice,
        buffer: Arc<Buffer>,
        extent: Extent,
        (slot_bytes, slots): (usize, usize),
    ) -> Result<Self, DeviceError> {
        buffer.part(extent, 0, extent.len)?;
        let slot_bytes = slot_bytes.max(1);
        let each = (slot_bytes as u64).saturating_add(LANE_BYTES);
        let room = PINNED_ROOMY.saturating_sub(device.pinned_bytes());
        let fitting = room.checked_div(each).unwrap_or(0);
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
        let slots = slots.min(fitting).max(1);
        Ok(Self {
            device,
            buffer,
            extent,
            slot_bytes,
            slots: (0..slots).map(|_| Mutex::default()).collect(),
        })
    }

    /// Fills the extent from the slots as they are, one after the other: no
    /// load can be faster than the copy engine.
    ///
    /// # Errors
    /// [`DeviceError`] of the driver.
    pub fn roof(&self) -> Result<(), DeviceError> {
        self.load(1, |_, _| Ok(()))
    }

    /// Fills the extent on `threads` threads: `read` puts the bytes at an offset
    /// into a slot, and their copy goes on behind the next read.
    ///
    /// # Errors
    /// What `read` says, and [`DeviceError`] of the driver.
    pub fn load<E: From<DeviceError> + Send>(
        &self,
        threads: usize,
        read: impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        self.device.ready()?;
        // The memory stays, and stays writable, until every lane was settled.
        let _open = self.buffer.open_to_write()?;
        let pass = Pass {
            read,
            next: AtomicU64::new(0),
            failed: Mutex::new(None),
        };
        let each = self.slots.len().div_ceil(threads.max(1));
        thread::scope(|scope| {
            let mut hands = self.slots.chunks(each);
            let mine = hands.next().unwrap_or_default();
            for hand in hands {
                // Without another thread the ones there are do its work.
                let _ = one_more(scope, || self.work(&pass, hand));
            }
            self.work(&pass, mine);
        });
        lock(&pass.failed).take().map_or(Ok(()), Err)
    }

    /// Reads and copies until nothing is left, then waits.
    fn work<E: From<DeviceError>>(
        &self,
        pass: &Pass<impl Fn(u64, &mut [u8]) -> Result<(), E>, E>,
        slots: &[Mutex<Option<Slot>>],
    ) {
        for slot in slots.iter().cycle() {
            match self.turn(pass, &mut lock(slot)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    lock(&pass.failed).get_or_insert(error);
                    break;
                }
            }
        }
        for slot in slots {
            let settled = lock(slot)
                .as_mut()
                .map_or(Ok(()), |slot| slot.lane.settle());
            if let Err(error) = settled {
                lock(&pass.failed).get_or_insert(error.into());
            }
        }
    }

    /// One slot full; false when nothing is left.
    fn turn<E: From<DeviceError>>(
        &self,
        pass: &Pass<impl Fn(u64, &mut [u8]) -> Result<(), E>, E>,
        slot: &mut Option<Slot>,
    ) -> Result<bool, E> {
        if lock(&pass.failed).is_some() {
            return Ok(false);
        }
        let size = self.slot_bytes as u64;
        let offset = pass.next.fetch_add(size, Ordering::Relaxed);
        let len = size.min(self.extent.len.saturating_sub(offset));
        if len == 0 {
            return Ok(false);
        }
        let part = self.buffer.part(self.extent, offset, len)?;
        let slot = match slot {
            Some(slot) => slot,
            None => slot.insert(Slot::new(self.device, self.slot_bytes)?),
        };
        slot.lane.wait()?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = slot.pinned.bytes_mut().get_mut(..len).unwrap_or_default();
        (pass.read)(offset, bytes)?;
        let (from, len) = (bytes.as_ptr(), bytes.len());
        // SAFETY: `from` has `len` bytes, which this slot owns and neither
        // writes nor frees before its lane has waited; `part` lies in the
        // buffer, whose gate `load` holds open until the lane was settled.
        unsafe { slot.lane.copy_in(part.at, from, len) }?;
        Ok(true)
    }
}

impl Drop for PlainCopies<'_> {
    /// Wipes and frees the slots, like those of a sealed load on several threads.
    fn drop(&mut self) {
        let each = self.slots.len().div_ceil(WIPERS).max(1);
        thread::scope(|scope| {
            for hand in self.slots.chunks(each) {
                let wipe = || hand.iter().for_each(|slot| drop(lock(slot).take()));
                // Those of a thread that cannot be had go with the list.
                let _ = one_more(scope, wipe);
            }
        });
    }
}

impl Slot {
    fn new(device: &CudaDevice, bytes: usize) -> Result<Self, DeviceError> {
        let pinned = Pinned::new(device.context(), bytes, PINNED_ROOMY)?;
        Ok(Self {
            lane: Lane::within(device.context(), 1, 0, PINNED_ROOMY)?,
            pinned: ManuallyDrop::new(pinned),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.lane.settle().is_err() {
            // The device may read it for ever: wiped, and left to the driver.
            let len = self.pinned.len();
            self.pinned.wipe_in_use(0..len);
            return;
        }
        // SAFETY: dropped once, here; the device has nothing left to do with it.
        unsafe { ManuallyDrop::drop(&mut self.pinned) };
    }
}
