//! The primary context, made current only while this crate works.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vram_residency::device::DeviceError;

use crate::driver::{Driver, DriverError};
use crate::sys::{CuContext, CuDevice};

/// Pinned host memory that one device may hold, in bytes: the staging ring and
/// the bounce buffers together.
pub const PINNED_LIMIT: u64 = 256 << 20;
/// The part of it that is kept for the first slot of upload sessions that find
/// the rest taken: some thirty of them.
const PINNED_KEPT: u64 = 32 << 20;
/// What large slots may take together with everything else.
pub(crate) const PINNED_ROOMY: u64 = PINNED_LIMIT - PINNED_KEPT;

/// As `convert::lock`. These locks are taken while a context is current for an
/// operating-system thread, where no schedule may switch to another task; so
/// they are `std`'s in every build.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One retain of a device's primary context, the one that every library in the
/// process shares. Given back when dropped.
pub(crate) struct Context {
    driver: Arc<Driver>,
    device: CuDevice,
    ordinal: i32,
    raw: CuContext,
    pinned: AtomicU64,
    pop_failure: Mutex<Option<DriverError>>,
    unsettled: Mutex<Option<DeviceError>>,
}

impl Context {
    /// Retains the primary context of the device with this ordinal.
    pub(crate) fn retain(driver: Arc<Driver>, ordinal: i32) -> Result<Arc<Self>, DeviceError> {
        let device = driver.device_get(ordinal)?;
        let raw = driver.primary_ctx_retain(device)?;
        Ok(Arc::new(Self {
            driver,
            device,
            ordinal,
            raw,
            pinned: AtomicU64::new(0),
            pop_failure: Mutex::new(None),
            unsettled: Mutex::new(None),
        }))
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(crate) const fn device(&self) -> CuDevice {
        self.device
    }

    /// The device's ordinal, which is also its number as a memory location.
    pub(crate) const fn ordinal(&self) -> i32 {
        self.ordinal
    }

    pub(crate) const fn raw(&self) -> CuContext {
        self.raw
    }

    /// Makes the context current for this thread until the guard is dropped;
    /// what was current before is current again then.
    ///
    /// A failure to pop cannot be reported by the guard's `drop`; it is reported
    /// here, by the next entry of any thread.
    pub(crate) fn enter(&self) -> Result<Entered<'_>, DeviceError> {
        self.pop_failure()?;
        self.push()
    }

    /// Like [`Self::enter`], for giving things back: an earlier failure to pop
    /// is no reason to keep them, and one failure to push is tried again, because
    /// whoever drops something cannot report it.
    pub(crate) fn enter_to_release(&self) -> Result<Entered<'_>, DeviceError> {
        self.push().or_else(|_| self.push())
    }

    /// Pushes the context unless it is current already: then the host
    /// application made it so, and nothing must be popped either.
    fn push(&self) -> Result<Entered<'_>, DeviceError> {
        let pushed = !self.is_current()?;
        if pushed {
            // SAFETY: `raw` is live: this object holds a retain until it is dropped.
            unsafe { self.driver.ctx_push_current(self.raw) }?;
        }
        Ok(Entered {
            context: self,
            pushed,
            one_thread: PhantomData,
        })
    }

    fn is_current(&self) -> Result<bool, DriverError> {
        Ok(self.driver.ctx_get_current()? == self.raw)
    }

    /// Undoes a push. A pop that fails is tried again while the context is still
    /// current, so that the host application finds its own again.
    fn pop(&self) {
        let Err(error) = self.driver.ctx_pop_current() else {
            return;
        };
        if self.is_current().unwrap_or(false) && self.driver.ctx_pop_current().is_ok() {
            return;
        }
        lock(&self.pop_failure).get_or_insert(error);
    }

    /// Reports a failure to pop that no call has reported yet.
    pub(crate) fn pop_failure(&self) -> Result<(), DeviceError> {
        lock(&self.pop_failure)
            .take()
            .map_or(Ok(()), |error| Err(error.into()))
    }

    /// Notes that work could not be waited for. It may use any memory of the
    /// device at any later time, so from here on none is given back.
    pub(crate) fn abandon(&self, why: &DeviceError) {
        lock(&self.unsettled).get_or_insert_with(|| why.clone());
    }

    /// Why there may be work on the device that nobody waits for, if there may be.
    pub(crate) fn unsettled(&self) -> Option<DeviceError> {
        lock(&self.unsettled).clone()
    }

    /// Counts `bytes` of pinned memory, or refuses when `limit` would be passed.
    pub(crate) fn reserve_pinned(&self, bytes: u64, limit: u64) -> Result<(), DeviceError> {
        let add = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= limit);
        match self
            .pinned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(DeviceError::HostOutOfMemory { requested: bytes }),
        }
    }

    pub(crate) fn return_pinned(&self, bytes: u64) {
        self.pinned.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Pinned bytes held now.
    pub(crate) fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::Relaxed)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: gives back the one retain of `Context::retain`. Everything made
        // in the context holds an `Arc` of this object, so none of it is left.
        let released = unsafe { self.driver.primary_ctx_release(self.device) };
        // Nobody is left to tell; the driver keeps the context, which is all
        // that a failure means here.
        drop(released);
    }
}

/// The context is current for this thread while this lives.
pub(crate) struct Entered<'c> {
    context: &'c Context,
    /// This guard pushed the context, and pops it.
    pushed: bool,
    one_thread: PhantomData<*const ()>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.pushed {
            self.context.pop();
        }
        let PhantomData = self.one_thread;
    }
}
