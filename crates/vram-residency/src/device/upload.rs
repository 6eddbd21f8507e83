//! The upload session: staging slots out, filled slots back, measurements at
//! the end.

use std::collections::BTreeMap;

use vram_digest::{BlockHash, nh};

use super::{DeviceError, Extent};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, PoisonError};

/// Offsets of submitted slots are multiples of this, so that every slot holds
/// whole digest blocks and whole keyed-tag segments.
pub const UPLOAD_ALIGN: u64 = nh::SEGMENT_BYTES as u64;

/// What to upload, and how much staging memory to use for it.
pub struct UploadPlan<'k> {
    /// Where the bytes go.
    pub extent: Extent,
    /// Key of the tags that the device computes behind each copy.
    pub key: &'k nh::Key,
    /// Wanted size of one slot in bytes; rounded to [`UPLOAD_ALIGN`], and
    /// smaller for a short extent.
    pub slot_bytes: usize,
    /// Wanted number of slots, at least 1.
    pub slots: usize,
    /// Where the memory of all slots but the first comes from.
    pub room: Arc<StagingRoom>,
}

/// Staging memory that several sessions share: each has its first slot whatever the
/// others have, and makes further ones while there is room for them. The default has
/// no bound.
#[derive(Debug)]
pub struct StagingRoom {
    left: Mutex<usize>,
}

impl Default for StagingRoom {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl StagingRoom {
    /// Room for so many bytes.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        Self {
            left: Mutex::new(bytes),
        }
    }

    fn change(&self, change: impl Fn(usize) -> Option<usize>) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(*left);
        *left = changed.unwrap_or(*left);
        changed.is_some()
    }
}

/// What one session has of it; dropping it gives that back.
#[derive(Debug)]
pub struct StagingShare {
    room: Arc<StagingRoom>,
    taken: AtomicUsize,
}

impl StagingShare {
    /// Nothing yet.
    #[must_use]
    pub fn of(room: &Arc<StagingRoom>) -> Self {
        Self {
            room: Arc::clone(room),
            taken: AtomicUsize::new(0),
        }
    }

    /// Takes so many bytes, if there is room for them now.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        let taken = self.room.change(|left| left.checked_sub(bytes));
        if taken {
            self.taken.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Gives bytes back that were taken for a slot that could not be made.
    pub fn give_back(&self, bytes: usize) {
        let less = |taken: usize| taken.checked_sub(bytes);
        let order = Ordering::Relaxed;
        if self.taken.fetch_update(order, order, less).is_ok() {
            let _ = self.room.change(|left| left.checked_add(bytes));
        }
    }
}

impl Drop for StagingShare {
    fn drop(&mut self) {
        let taken = self.taken.load(Ordering::Relaxed);
        let _ = self.room.change(|left| left.checked_add(taken));
    }
}

/// Host bytes of a staging slot; dropping them wipes them and gives the slot
/// back to its session.
pub trait SlotBytes: AsRef<[u8]> + AsMut<[u8]> + Send {}

impl<T: AsRef<[u8]> + AsMut<[u8]> + Send> SlotBytes for T {}

/// One staging slot on loan from an upload session.
pub struct Slot {
    session: u64,
    index: usize,
    bytes: Box<dyn SlotBytes>,
}

impl Slot {
    /// Made by a backend: `session` tells sessions apart, `index` slots.
    #[must_use]
    pub fn new(session: u64, index: usize, bytes: Box<dyn SlotBytes>) -> Self {
        Self {
            session,
            index,
            bytes,
        }
    }

    /// The staging bytes to fill.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        (*self.bytes).as_mut()
    }

    /// The staging bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }

    /// The session that lent the slot.
    #[must_use]
    pub const fn session(&self) -> u64 {
        self.session
    }

    /// The slot's number within its session.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Takes the bytes back (for the backend that made the slot).
    #[must_use]
    pub fn into_bytes(self) -> Box<dyn SlotBytes> {
        self.bytes
    }
}

/// What the device measured in its own memory, behind the copies.
pub struct Measured {
    /// SHA-256 of each 4 KiB block.
    pub level0: Vec<BlockHash>,
    /// Keyed tag of each 1 MiB segment.
    pub tags: Vec<nh::Tag>,
}

/// An open upload. May be used by several reader threads at once. Dropping it
/// without [`Upload::finish`] aborts: staging memory is wiped and returned.
pub trait Upload: Send + Sync {
    /// The next free slot; without one, and without room for one more, waits until
    /// a copy in flight gives one back.
    ///
    /// # Errors
    /// [`DeviceError`] of an earlier asynchronous copy.
    fn slot(&self) -> Result<Slot, DeviceError>;

    /// Queues `slot[..len]` for byte `offset` of the extent and the hashing
    /// behind it. `offset` is a multiple of [`UPLOAD_ALIGN`], and so is `len`
    /// except at the end of the extent.
    ///
    /// # Errors
    /// [`DeviceError::OutOfRange`] for a bad range, and device failures.
    fn submit(&self, slot: Slot, offset: u64, len: usize) -> Result<(), DeviceError>;

    /// Waits for everything and returns the measurements.
    ///
    /// # Errors
    /// [`DeviceError::Incomplete`] when bytes are missing, and device failures.
    fn finish(self: Box<Self>) -> Result<Measured, DeviceError>;
}

/// Which parts of an extent were submitted: the bookkeeping every backend needs.
#[derive(Debug)]
pub struct Coverage {
    total: u64,
    parts: BTreeMap<u64, u64>,
}

impl Coverage {
    /// Nothing submitted yet of `total` bytes.
    #[must_use]
    pub const fn new(total: u64) -> Self {
        Self {
            total,
            parts: BTreeMap::new(),
        }
    }

    /// Records `len` bytes at `offset`.
    ///
    /// # Errors
    /// [`DeviceError::OutOfRange`] for a range that is misaligned, empty, past
    /// the end, or was already submitted.
    pub fn add(&mut self, offset: u64, len: u64) -> Result<(), DeviceError> {
        let refused = DeviceError::OutOfRange {
            offset,
            len,
            size: self.total,
        };
        let Some(end) = offset.checked_add(len).filter(|end| *end <= self.total) else {
            return Err(refused);
        };
        let whole = len.is_multiple_of(UPLOAD_ALIGN) || end == self.total;
        let before = self.parts.range(..end).next_back();
        let overlaps = before.is_some_and(|(_, before_end)| *before_end > offset);
        if len == 0 || !offset.is_multiple_of(UPLOAD_ALIGN) || !whole || overlaps {
            return Err(refused);
        }
        self.parts.insert(offset, end);
        Ok(())
    }

    /// Succeeds only when every byte was submitted.
    ///
    /// # Errors
    /// [`DeviceError::Incomplete`] with the number of missing bytes.
    pub fn complete(&self) -> Result<(), DeviceError> {
        let covered: u64 = self
            .parts
            .iter()
            .map(|(start, end)| end.saturating_sub(*start))
            .sum();
        match self.total.saturating_sub(covered) {
            0 => Ok(()),
            missing => Err(DeviceError::Incomplete { missing }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_refuses_overlap_misalignment_and_excess() {
        let total = 3 * UPLOAD_ALIGN + 7;
        let mut coverage = Coverage::new(total);
        coverage.add(UPLOAD_ALIGN, UPLOAD_ALIGN).unwrap();
        for (offset, len) in [
            (UPLOAD_ALIGN, UPLOAD_ALIGN),
            (0, 2 * UPLOAD_ALIGN),
            (1, UPLOAD_ALIGN),
            (0, 5),
            (0, 0),
            (3 * UPLOAD_ALIGN, 8),
            (u64::MAX - 1, 8),
        ] {
            assert!(coverage.add(offset, len).is_err(), "{offset} {len}");
        }
        assert_eq!(
            coverage.complete(),
            Err(DeviceError::Incomplete {
                missing: 2 * UPLOAD_ALIGN + 7
            })
        );
        coverage.add(0, UPLOAD_ALIGN).unwrap();
        coverage.add(2 * UPLOAD_ALIGN, UPLOAD_ALIGN + 7).unwrap();
        coverage.complete().unwrap();
    }
}
