//! Live buffers by handle, each behind a gate.
//!
//! Operations hold the gate open for reading as long as work of theirs is
//! queued; freeing and protecting take it for writing. So memory never goes
//! away, and rights never change, under work of this crate.

use std::collections::HashMap;

use vram_residency::device::{BufferId, DeviceError, DeviceInstance, Extent, Protection};
use vram_residency::sync::atomic::{AtomicU64, Ordering};
use vram_residency::sync::{
    Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

use super::convert::{lock, out_of_range};
use super::launch::Run;
use super::memory::Memory;
use super::ring::Ring;

/// One allocation.
pub(crate) struct Buffer {
    run: Run,
    gate: RwLock<Gate>,
    uploads: Mutex<Vec<Weak<Ring>>>,
    overheld: Mutex<Option<DeviceError>>,
    /// Held while another device may read the memory: one copy at a time, for
    /// each ends the other device's right to read.
    pub(crate) lending: Mutex<()>,
}

/// What the gate guards; the memory is `None` once it was freed.
pub(crate) struct Gate {
    pub(crate) memory: Option<Memory>,
    pub(crate) protection: Protection,
}

/// The gate held open: the memory stays while this lives.
pub(crate) type Open<'b> = RwLockReadGuard<'b, Gate>;

impl Buffer {
    fn new(memory: Memory) -> Self {
        let run = memory.run();
        let gate = Gate {
            memory: Some(memory),
            protection: Protection::ReadWrite,
        };
        Self {
            run,
            gate: RwLock::new(gate),
            uploads: Mutex::new(Vec::new()),
            overheld: Mutex::new(None),
            lending: Mutex::new(()),
        }
    }

    /// All bytes of the allocation.
    pub(crate) const fn run(&self) -> Run {
        self.run
    }

    /// Opens the gate, for work that only reads.
    pub(crate) fn open(&self) -> Result<Open<'_>, DeviceError> {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if gate.memory.is_none() {
            return Err(DeviceError::UnknownBuffer);
        }
        Ok(gate)
    }

    /// Opens the gate, for work that writes.
    pub(crate) fn open_to_write(&self) -> Result<Open<'_>, DeviceError> {
        let gate = self.open()?;
        if gate.protection == Protection::ReadOnly {
            return Err(DeviceError::Protected);
        }
        Ok(gate)
    }

    /// Takes the gate alone, after all operations, and waits for copies that
    /// upload sessions have queued.
    pub(crate) fn take_alone(&self) -> (RwLockWriteGuard<'_, Gate>, Result<(), DeviceError>) {
        let gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let sessions: Vec<_> = lock(&self.uploads)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let idle = sessions.iter().try_for_each(|ring| ring.wait_idle());
        (gate, idle)
    }

    /// Notes that a reference to the physical memory could not be given back:
    /// it stays taken when the buffer is freed.
    pub(crate) fn overhold(&self, why: DeviceError) {
        lock(&self.overheld).get_or_insert(why);
    }

    /// Why freeing will not give the memory back, if it will not.
    pub(crate) fn overheld(&self) -> Option<DeviceError> {
        lock(&self.overheld).clone()
    }

    /// Notes an upload session that will queue copies into this buffer.
    pub(crate) fn add_upload(&self, ring: &Arc<Ring>) {
        let mut uploads = lock(&self.uploads);
        uploads.retain(|ring| ring.strong_count() > 0);
        uploads.push(Arc::downgrade(ring));
    }

    /// Bytes `offset..offset + len` of `extent`, if the buffer has the extent
    /// and the extent has them (requirement: MS-002, MS-006, MS-007, FF-4).
    pub(crate) fn part(&self, extent: Extent, offset: u64, len: u64) -> Result<Run, DeviceError> {
        let size = self.run.len;
        let fits = extent
            .start
            .checked_add(extent.len)
            .is_some_and(|end| end <= size);
        if !fits {
            return Err(out_of_range(extent.start, extent.len, size));
        }
        if offset.checked_add(len).is_none_or(|end| end > extent.len) {
            return Err(out_of_range(offset, len, extent.len));
        }
        Ok(Run {
            at: self.run.at.offset(extent.start).offset(offset),
            len,
        })
    }
}

/// Handles of one device.
pub(crate) struct Buffers {
    instance: DeviceInstance,
    next: AtomicU64,
    live: Mutex<HashMap<u64, Arc<Buffer>>>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            instance: DeviceInstance::next(),
            next: AtomicU64::new(1),
            live: Mutex::new(HashMap::new()),
        }
    }

    /// Registers an allocation under a serial number that is never used again.
    pub(crate) fn insert(&self, memory: Memory) -> BufferId {
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.live).insert(serial, Arc::new(Buffer::new(memory)));
        BufferId::new(self.instance, serial)
    }

    pub(crate) fn find(&self, id: BufferId) -> Result<Arc<Buffer>, DeviceError> {
        let found = (id.instance() == self.instance)
            .then(|| lock(&self.live).get(&id.serial()).cloned())
            .flatten();
        found.ok_or(DeviceError::UnknownBuffer)
    }

    /// Ends a handle; the memory goes with whoever holds the buffer.
    pub(crate) fn remove(&self, id: BufferId) -> Result<Arc<Buffer>, DeviceError> {
        let found = (id.instance() == self.instance)
            .then(|| lock(&self.live).remove(&id.serial()))
            .flatten();
        found.ok_or(DeviceError::UnknownBuffer)
    }

    /// Ends all handles.
    pub(crate) fn drain(&self) -> Vec<Arc<Buffer>> {
        lock(&self.live).drain().map(|(_, buffer)| buffer).collect()
    }
}
