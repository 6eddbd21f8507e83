//! Streams and events of this crate's own, given back when dropped.

use std::sync::Arc;

use vram_residency::device::DeviceError;

use super::context::Context;
use crate::sys::{self, CuEvent, CuStream};

/// A non-blocking stream: not ordered with the legacy stream of the host
/// application.
pub(crate) struct Stream {
    context: Arc<Context>,
    raw: CuStream,
}

impl Stream {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self, DeviceError> {
        let _entered = context.enter()?;
        let raw = context.driver().stream_create(sys::STREAM_NON_BLOCKING)?;
        Ok(Self {
            context: Arc::clone(context),
            raw,
        })
    }

    pub(crate) const fn raw(&self) -> CuStream {
        self.raw
    }

    /// Waits for everything queued so far.
    pub(crate) fn synchronize(&self) -> Result<(), DeviceError> {
        let _entered = self.context.enter()?;
        // SAFETY: `raw` is live until this object is dropped.
        unsafe { self.context.driver().stream_synchronize(self.raw) }?;
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Ok(_entered) = self.context.enter_to_release() else {
            return;
        };
        // SAFETY: `raw` is live and, with this object gone, not used again.
        let destroyed = unsafe { self.context.driver().stream_destroy(self.raw) };
        // A stream that cannot be destroyed holds no memory of ours.
        drop(destroyed);
    }
}

/// A point in a stream of the host application, recorded by it and waited for
/// by a lease.
pub struct Event {
    context: Arc<Context>,
    raw: CuEvent,
}

impl Event {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self, DeviceError> {
        let _entered = context.enter()?;
        let raw = context.driver().event_create(sys::event::DISABLE_TIMING)?;
        Ok(Self {
            context: Arc::clone(context),
            raw,
        })
    }

    /// Records the event behind everything that `stream` has been given so far.
    ///
    /// # Safety
    /// `stream` is a live stream of this device's primary context.
    ///
    /// # Errors
    /// [`DeviceError`] of the driver.
    pub unsafe fn record(&self, stream: CuStream) -> Result<(), DeviceError> {
        let _entered = self.context.enter()?;
        // SAFETY: the event is this object's; the caller vouches for the stream.
        unsafe { self.context.driver().event_record(self.raw, stream) }?;
        Ok(())
    }

    /// Waits until the recorded work is done; at once when nothing was recorded.
    ///
    /// # Errors
    /// [`DeviceError`], also of the work itself.
    pub fn wait(&self) -> Result<(), DeviceError> {
        let _entered = self.context.enter()?;
        // SAFETY: `raw` is live until this object is dropped.
        unsafe { self.context.driver().event_synchronize(self.raw) }?;
        Ok(())
    }

    /// Whether the recorded work is done.
    ///
    /// # Errors
    /// [`DeviceError`], also of the work itself.
    pub fn is_done(&self) -> Result<bool, DeviceError> {
        let _entered = self.context.enter()?;
        // SAFETY: `raw` is live until this object is dropped.
        let done = unsafe { self.context.driver().event_query(self.raw) }?;
        Ok(done)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let Ok(_entered) = self.context.enter_to_release() else {
            return;
        };
        // SAFETY: `raw` is live and, with this object gone, not used again.
        let destroyed = unsafe { self.context.driver().event_destroy(self.raw) };
        // An event that cannot be destroyed holds no memory of ours.
        drop(destroyed);
    }
}
