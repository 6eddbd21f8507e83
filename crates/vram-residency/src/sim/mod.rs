//! The simulated device: host memory that plays a GPU, named by the caller and
//! never chosen by detection.
//!
//! It is stricter than hardware (design 11.2): fresh memory is poisoned,
//! addresses are reused at once, read-only memory refuses writes, and every
//! call can be made to fail. Memory is sparse, so a simulated 1 TiB device
//! costs nothing until it is written. A seal made here says `simulated` and can
//! never verify as a seal on a GPU. It is the double that tests use, and no shipped
//! type has a constructor for tests (requirement: TY-10, API-F8, API-F10).

mod backing;
mod chunk;
mod device;
mod fault;
mod filled;
mod memory;
mod options;
mod parallel;
mod space;
mod staging;
mod upload;

use std::collections::BTreeMap;

pub use chunk::POISON;
pub use fault::{Flip, LostCopy, Moment, Op};
pub use options::{SimOptions, SimOptionsError};

use crate::device::{BufferId, DeviceError, DeviceInfo, DeviceInstance, MemoryInfo, Witness};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use backing::Pool;
use fault::Faults;
use memory::Buffer;
use space::Space;

/// A simulated device. Cloning gives another handle to the same device, so a
/// test can keep one to inject faults after the manager took the other.
#[derive(Clone)]
pub struct SimDevice {
    inner: Arc<Inner>,
}

struct Inner {
    instance: DeviceInstance,
    info: DeviceInfo,
    options: SimOptions,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    pool: Arc<Pool>,
    next_serial: AtomicU64,
    next_session: AtomicU64,
    closed: AtomicBool,
}

struct State {
    buffers: BTreeMap<u64, Arc<Buffer>>,
    space: Space,
    used: u64,
}

/// A poisoned lock means that a caller's thread died; the data is still whole
/// because every update is a single assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimDevice {
    /// A device of `capacity` bytes with default options.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self::with_options(SimOptions::new(capacity))
    }

    /// A device with chosen options.
    #[must_use]
    pub fn with_options(options: SimOptions) -> Self {
        let mut faults = Faults::default();
        faults.flips.extend(options.flips.iter().copied());
        let inner = Inner {
            instance: DeviceInstance::next(),
            info: options.info(),
            pool: Arc::new(Pool::new(options.keep)),
            options,
            state: Mutex::new(State {
                buffers: BTreeMap::new(),
                space: Space::default(),
                used: 0,
            }),
            faults: Mutex::new(faults),
            next_serial: AtomicU64::new(0),
            next_session: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Makes the `nth` next call of `op` (1 is the very next) fail with `error`.
    /// A [`DeviceError::Lost`] is sticky: every call after it fails too.
    pub fn fail(&self, op: Op, nth: u64, error: DeviceError) {
        lock(&self.inner.faults).fail(op, nth, error);
    }

    /// Schedules a bit flip at a chosen moment.
    pub fn flip_at(&self, flip: Flip) {
        lock(&self.inner.faults).flips.push(flip);
    }

    /// Loses a part of the next load on its way.
    pub fn lose_copy(&self, lost: LostCopy) {
        lock(&self.inner.faults).lost_copies.push(lost);
    }

    /// Makes `witness` answer `witness` from now on; `None` ends the lie.
    pub fn lie_witness(&self, witness: Option<Witness>) {
        lock(&self.inner.faults).witness = witness;
    }

    /// Makes `memory` answer `memory` from now on; `None` ends the lie.
    pub fn lie_memory(&self, memory: Option<MemoryInfo>) {
        lock(&self.inner.faults).memory = memory;
    }

    /// Makes `protect` report success and change nothing, as hardware without
    /// read-only mappings would.
    pub fn ignore_protect(&self, ignore: bool) {
        lock(&self.inner.faults).ignore_protect = ignore;
    }

    /// Makes digest and tag computations report success and compute nothing.
    pub fn skip_kernels(&self, skip: bool) {
        lock(&self.inner.faults).skip_kernels = skip;
    }

    /// How often `op` was called.
    #[must_use]
    pub fn calls(&self, op: Op) -> u64 {
        lock(&self.inner.faults).calls(op)
    }

    /// Handles of the live allocations, oldest first.
    #[must_use]
    pub fn buffers(&self) -> Vec<BufferId> {
        let state = lock(&self.inner.state);
        state
            .buffers
            .keys()
            .map(|serial| BufferId::new(self.inner.instance, *serial))
            .collect()
    }

    /// Flips one bit of the contents behind every protection, as a fault in the
    /// memory itself would; raw access of this kind exists on the simulated device
    /// only (requirement: API-F29). `offset` counts from the allocation's first byte.
    ///
    /// # Errors
    /// [`DeviceError`] for a stale handle or an offset outside the buffer.
    pub fn flip_bit(&self, buffer: BufferId, offset: u64, bit: u8) -> Result<(), DeviceError> {
        self.inner.buffer(buffer)?.flip(offset, bit)
    }

    /// Overwrites contents behind every protection.
    ///
    /// # Errors
    /// [`DeviceError`] for a stale handle or a range outside the buffer.
    pub fn overwrite(
        &self,
        buffer: BufferId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        self.inner.buffer(buffer)?.write(offset, bytes)
    }

    /// Lets the 4 KiB page number `page` of an allocation answer from the memory
    /// of its page `from`, as a changed page table would: whoever reads or writes
    /// the one reaches the other.
    ///
    /// # Errors
    /// [`DeviceError`] for a stale handle or a page outside the buffer.
    pub fn remap(&self, buffer: BufferId, page: u64, from: u64) -> Result<(), DeviceError> {
        self.inner.buffer(buffer)?.remap(page, from)
    }

    /// The simulated address of an allocation: 256-byte aligned, reused as soon
    /// as the allocation is freed, and no address of this process.
    ///
    /// # Errors
    /// [`DeviceError::UnknownBuffer`] for a stale handle.
    pub fn simulated_address(&self, buffer: BufferId) -> Result<u64, DeviceError> {
        Ok(self.inner.buffer(buffer)?.address)
    }

    /// Bytes of the device that are taken: by live allocations, and by what a
    /// failed free left behind. Asks without a call of the device, so that it
    /// meets no fault and counts as none.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        lock(&self.inner.state).used
    }

    /// Host bytes that the contents really occupy.
    #[must_use]
    pub fn host_bytes(&self) -> u64 {
        let state = lock(&self.inner.state);
        state
            .buffers
            .values()
            .map(|buffer| buffer.host_bytes())
            .sum()
    }
}
