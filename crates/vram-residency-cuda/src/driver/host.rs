//! Pinned host memory.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::{Driver, DriverError, need};
use crate::sys::{CuDevicePtr, CuResult};

impl Driver {
    /// `cuMemHostAlloc`: page-locked host memory, contents undefined.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn mem_host_alloc(&self, bytes: usize, flags: u32) -> Result<NonNull<u8>, DriverError> {
        let mut pointer: *mut c_void = std::ptr::null_mut();
        // SAFETY: `pointer` is a live local that the call writes.
        let code = unsafe { (self.table().mem_host_alloc)(&raw mut pointer, bytes, flags) };
        self.check("cuMemHostAlloc", code)?;
        NonNull::new(pointer.cast()).ok_or_else(|| DriverError::Call {
            op: "cuMemHostAlloc",
            code: CuResult::SUCCESS,
            name: "null".into(),
            text: "the driver reported success and returned no memory".into(),
        })
    }

    /// `cuMemFreeHost`.
    ///
    /// # Safety
    /// `pointer` came from [`Self::mem_host_alloc`] and nothing uses it
    /// afterwards, on the host or on a device.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_free_host(&self, pointer: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: the caller gives up a live allocation.
        let code = unsafe { (self.table().mem_free_host)(pointer.as_ptr().cast()) };
        self.check("cuMemFreeHost", code)
    }

    /// `cuMemHostRegister`: page-locks memory that already exists. Tests use it
    /// to see such memory rejected as a residence.
    ///
    /// # Safety
    /// `pointer` has `bytes` bytes that stay mapped until they are unregistered.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_host_register(
        &self,
        pointer: NonNull<u8>,
        bytes: usize,
        flags: u32,
    ) -> Result<(), DriverError> {
        let register = need("cuMemHostRegister", self.table().mem_host_register)?;
        // SAFETY: the caller keeps the range mapped.
        let code = unsafe { register(pointer.as_ptr().cast(), bytes, flags) };
        self.check("cuMemHostRegister", code)
    }

    /// `cuMemHostUnregister`.
    ///
    /// # Safety
    /// `pointer` is registered and no device uses it afterwards.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_host_unregister(&self, pointer: NonNull<u8>) -> Result<(), DriverError> {
        let unregister = need("cuMemHostUnregister", self.table().mem_host_unregister)?;
        // SAFETY: the caller gives up a live registration.
        let code = unsafe { unregister(pointer.as_ptr().cast()) };
        self.check("cuMemHostUnregister", code)
    }

    /// `cuMemHostGetDevicePointer`: how the device sees mapped host memory.
    ///
    /// # Errors
    /// [`DriverError`], also for an address that is not mapped host memory.
    pub fn mem_host_get_device_pointer(
        &self,
        pointer: NonNull<u8>,
    ) -> Result<CuDevicePtr, DriverError> {
        let ask = need(
            "cuMemHostGetDevicePointer",
            self.table().mem_host_get_device_pointer,
        )?;
        let mut device = CuDevicePtr(0);
        // SAFETY: `device` is a live local; the driver validates the address.
        let code = unsafe { ask(&raw mut device, pointer.as_ptr().cast(), 0) };
        self.check("cuMemHostGetDevicePointer", code)?;
        Ok(device)
    }
}
