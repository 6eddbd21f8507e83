//! Contexts, streams and events.

use super::{Driver, DriverError};
use crate::sys::{CuContext, CuDevice, CuEvent, CuResult, CuStream};

impl Driver {
    /// `cuDevicePrimaryCtxRetain`: the context that the whole process shares.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn primary_ctx_retain(&self, device: CuDevice) -> Result<CuContext, DriverError> {
        let mut context = CuContext::NULL;
        // SAFETY: `context` is a live local that the call writes.
        let code = unsafe { (self.table().primary_ctx_retain)(&raw mut context, device) };
        self.check("cuDevicePrimaryCtxRetain", code)?;
        Ok(context)
    }

    /// `cuDevicePrimaryCtxRelease`.
    ///
    /// # Safety
    /// Gives back one successful retain; nothing made in the context may be
    /// used afterwards by whoever held that retain.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn primary_ctx_release(&self, device: CuDevice) -> Result<(), DriverError> {
        // SAFETY: the caller owns a retain and uses the context no more.
        let code = unsafe { (self.table().primary_ctx_release)(device) };
        self.check("cuDevicePrimaryCtxRelease", code)
    }

    /// `cuCtxPushCurrent`: makes `context` current for this thread.
    ///
    /// # Safety
    /// `context` is live.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn ctx_push_current(&self, context: CuContext) -> Result<(), DriverError> {
        // SAFETY: the caller keeps the context alive.
        let code = unsafe { (self.table().ctx_push_current)(context) };
        self.check("cuCtxPushCurrent", code)
    }

    /// `cuCtxPopCurrent`: undoes the last push of this thread and returns what
    /// it pushed.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn ctx_pop_current(&self) -> Result<CuContext, DriverError> {
        let mut context = CuContext::NULL;
        // SAFETY: `context` is a live local; an empty stack is an error value.
        let code = unsafe { (self.table().ctx_pop_current)(&raw mut context) };
        self.check("cuCtxPopCurrent", code)?;
        Ok(context)
    }

    /// `cuCtxGetCurrent`: the thread's context, or null.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn ctx_get_current(&self) -> Result<CuContext, DriverError> {
        let mut context = CuContext::NULL;
        // SAFETY: `context` is a live local that the call writes.
        let code = unsafe { (self.table().ctx_get_current)(&raw mut context) };
        self.check("cuCtxGetCurrent", code)?;
        Ok(context)
    }

    /// `cuStreamCreate` in the current context.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn stream_create(&self, flags: u32) -> Result<CuStream, DriverError> {
        let mut stream = CuStream::NULL;
        // SAFETY: `stream` is a live local that the call writes.
        let code = unsafe { (self.table().stream_create)(&raw mut stream, flags) };
        self.check("cuStreamCreate", code)?;
        Ok(stream)
    }

    /// `cuStreamDestroy`. Work already queued still runs.
    ///
    /// # Safety
    /// `stream` is live and is not used again.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn stream_destroy(&self, stream: CuStream) -> Result<(), DriverError> {
        // SAFETY: the caller gives up a live stream.
        let code = unsafe { (self.table().stream_destroy)(stream) };
        self.check("cuStreamDestroy", code)
    }

    /// `cuStreamSynchronize`: waits for everything queued so far.
    ///
    /// # Safety
    /// `stream` is live.
    ///
    /// # Errors
    /// [`DriverError`], also of work queued earlier.
    pub unsafe fn stream_synchronize(&self, stream: CuStream) -> Result<(), DriverError> {
        // SAFETY: the caller keeps the stream alive.
        let code = unsafe { (self.table().stream_synchronize)(stream) };
        self.check("cuStreamSynchronize", code)
    }

    /// `cuEventCreate` in the current context.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn event_create(&self, flags: u32) -> Result<CuEvent, DriverError> {
        let mut event = CuEvent::NULL;
        // SAFETY: `event` is a live local that the call writes.
        let code = unsafe { (self.table().event_create)(&raw mut event, flags) };
        self.check("cuEventCreate", code)?;
        Ok(event)
    }

    /// `cuEventDestroy`.
    ///
    /// # Safety
    /// `event` is live and is not used again.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn event_destroy(&self, event: CuEvent) -> Result<(), DriverError> {
        // SAFETY: the caller gives up a live event.
        let code = unsafe { (self.table().event_destroy)(event) };
        self.check("cuEventDestroy", code)
    }

    /// `cuEventRecord`: the event completes when the stream's work so far has.
    ///
    /// # Safety
    /// `event` and `stream` are live and of one context.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn event_record(&self, event: CuEvent, stream: CuStream) -> Result<(), DriverError> {
        // SAFETY: the caller keeps both alive.
        let code = unsafe { (self.table().event_record)(event, stream) };
        self.check("cuEventRecord", code)
    }

    /// `cuEventSynchronize`: waits for the event.
    ///
    /// # Safety
    /// `event` is live.
    ///
    /// # Errors
    /// [`DriverError`], also of the work before the event.
    pub unsafe fn event_synchronize(&self, event: CuEvent) -> Result<(), DriverError> {
        // SAFETY: the caller keeps the event alive.
        let code = unsafe { (self.table().event_synchronize)(event) };
        self.check("cuEventSynchronize", code)
    }

    /// `cuEventQuery`: whether the event has completed.
    ///
    /// # Safety
    /// `event` is live.
    ///
    /// # Errors
    /// [`DriverError`], also of the work before the event.
    pub unsafe fn event_query(&self, event: CuEvent) -> Result<bool, DriverError> {
        // SAFETY: the caller keeps the event alive.
        let code = unsafe { (self.table().event_query)(event) };
        if code == CuResult::NOT_READY {
            return Ok(false);
        }
        self.check("cuEventQuery", code)?;
        Ok(true)
    }
}
