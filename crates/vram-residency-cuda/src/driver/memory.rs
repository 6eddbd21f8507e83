//! Plain device memory, copies, and what the driver says about a pointer.

use std::ffi::c_void;

use super::{Driver, DriverError, need};
use crate::sys::{CuContext, CuDevicePtr, CuStream, pointer_attribute};

/// The driver's own answers about one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointerFacts {
    /// One of [`crate::sys::memory_type`]; 0 when the driver does not know the address.
    pub memory_type: u32,
    /// The driver knows a host address for the same bytes.
    pub host_pointer: bool,
    /// Managed (migrating) memory.
    pub managed: bool,
    /// Ordinal of the device; negative when there is none.
    pub ordinal: i32,
}

impl Driver {
    /// `cuMemGetInfo`: free and total bytes of the current context's device.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn mem_get_info(&self) -> Result<(u64, u64), DriverError> {
        let (mut free, mut total) = (0_usize, 0_usize);
        // SAFETY: both are live locals that the call writes.
        let code = unsafe { (self.table().mem_get_info)(&raw mut free, &raw mut total) };
        self.check("cuMemGetInfo", code)?;
        Ok((free as u64, total as u64))
    }

    /// `cuMemAlloc` in the current context.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn mem_alloc(&self, bytes: usize) -> Result<CuDevicePtr, DriverError> {
        let mut pointer = CuDevicePtr(0);
        // SAFETY: `pointer` is a live local that the call writes.
        let code = unsafe { (self.table().mem_alloc)(&raw mut pointer, bytes) };
        self.check("cuMemAlloc", code)?;
        Ok(pointer)
    }

    /// `cuMemFree`.
    ///
    /// # Safety
    /// `pointer` came from [`Self::mem_alloc`] or [`Self::mem_alloc_managed`]
    /// and nothing uses it afterwards.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_free(&self, pointer: CuDevicePtr) -> Result<(), DriverError> {
        // SAFETY: the caller gives up a live allocation.
        let code = unsafe { (self.table().mem_free)(pointer) };
        self.check("cuMemFree", code)
    }

    /// `cuMemGetAddressRange`: start and bytes of the allocation that has the
    /// address; of virtual memory, of the one mapping that has it.
    ///
    /// # Errors
    /// [`DriverError`], also for an address that the driver does not know.
    pub fn mem_get_address_range(
        &self,
        pointer: CuDevicePtr,
    ) -> Result<(CuDevicePtr, u64), DriverError> {
        let (mut start, mut bytes) = (CuDevicePtr(0), 0_usize);
        // SAFETY: both are live locals that the call writes; the driver looks
        // the address up and does not dereference it.
        let code = unsafe {
            (self.table().mem_get_address_range)(&raw mut start, &raw mut bytes, pointer)
        };
        self.check("cuMemGetAddressRange", code)?;
        Ok((start, bytes as u64))
    }

    /// `cuMemAllocManaged`: memory that may migrate. The backend never holds
    /// weights in it; tests do, to see it rejected.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn mem_alloc_managed(&self, bytes: usize, flags: u32) -> Result<CuDevicePtr, DriverError> {
        let ask = need("cuMemAllocManaged", self.table().mem_alloc_managed)?;
        let mut pointer = CuDevicePtr(0);
        // SAFETY: `pointer` is a live local that the call writes.
        let code = unsafe { ask(&raw mut pointer, bytes, flags) };
        self.check("cuMemAllocManaged", code)?;
        Ok(pointer)
    }

    /// `cuMemcpyHtoDAsync`.
    ///
    /// # Safety
    /// `from` has `bytes` readable bytes that nobody writes, and `to` is device
    /// memory of `bytes` bytes, both until the stream has done the copy.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn memcpy_htod_async(
        &self,
        to: CuDevicePtr,
        from: *const u8,
        bytes: usize,
        stream: CuStream,
    ) -> Result<(), DriverError> {
        // SAFETY: the caller vouches for both ranges until the stream is done.
        let code = unsafe { (self.table().memcpy_htod_async)(to, from.cast(), bytes, stream) };
        self.check("cuMemcpyHtoDAsync", code)
    }

    /// `cuMemcpyDtoHAsync`.
    ///
    /// # Safety
    /// `to` has `bytes` writable bytes that nobody else touches, and `from` is
    /// device memory of `bytes` bytes, both until the stream has done the copy.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn memcpy_dtoh_async(
        &self,
        to: *mut u8,
        from: CuDevicePtr,
        bytes: usize,
        stream: CuStream,
    ) -> Result<(), DriverError> {
        // SAFETY: the caller vouches for both ranges until the stream is done.
        let code = unsafe { (self.table().memcpy_dtoh_async)(to.cast(), from, bytes, stream) };
        self.check("cuMemcpyDtoHAsync", code)
    }

    /// `cuMemcpyDtoDAsync` within one device.
    ///
    /// # Safety
    /// Both are device memory of `bytes` bytes until the stream has done the copy.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn memcpy_dtod_async(
        &self,
        to: CuDevicePtr,
        from: CuDevicePtr,
        bytes: usize,
        stream: CuStream,
    ) -> Result<(), DriverError> {
        // SAFETY: the caller vouches for both ranges until the stream is done.
        let code = unsafe { (self.table().memcpy_dtod_async)(to, from, bytes, stream) };
        self.check("cuMemcpyDtoDAsync", code)
    }

    /// `cuMemcpyPeerAsync` from one context's memory to another's.
    ///
    /// # Safety
    /// `to` and `from` are memory of `bytes` bytes of the given live contexts
    /// until the stream has done the copy.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn memcpy_peer_async(
        &self,
        (to, to_context): (CuDevicePtr, CuContext),
        (from, from_context): (CuDevicePtr, CuContext),
        bytes: usize,
        stream: CuStream,
    ) -> Result<(), DriverError> {
        let copy = need("cuMemcpyPeerAsync", self.table().memcpy_peer_async)?;
        // SAFETY: the caller vouches for both ranges until the stream is done.
        let code = unsafe { copy(to, to_context, from, from_context, bytes, stream) };
        self.check("cuMemcpyPeerAsync", code)
    }

    /// `cuMemsetD8Async`.
    ///
    /// # Safety
    /// `to` is device memory of `bytes` bytes until the stream has done the work.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn memset_d8_async(
        &self,
        to: CuDevicePtr,
        value: u8,
        bytes: usize,
        stream: CuStream,
    ) -> Result<(), DriverError> {
        // SAFETY: the caller vouches for the range until the stream is done.
        let code = unsafe { (self.table().memset_d8_async)(to, value, bytes, stream) };
        self.check("cuMemsetD8Async", code)
    }

    /// `cuPointerGetAttributes` for the facts of a residency witness. Any
    /// number may be asked about; an address that the driver does not know
    /// gives memory type 0 and a negative ordinal.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn pointer_facts(&self, pointer: CuDevicePtr) -> Result<PointerFacts, DriverError> {
        let (mut memory_type, mut host, mut managed, mut ordinal) = (0_u32, 0_u64, 0_u32, -2_i32);
        let mut names = [
            pointer_attribute::MEMORY_TYPE,
            pointer_attribute::HOST_POINTER,
            pointer_attribute::IS_MANAGED,
            pointer_attribute::DEVICE_ORDINAL,
        ];
        let mut places: [*mut c_void; 4] = [
            (&raw mut memory_type).cast(),
            (&raw mut host).cast(),
            (&raw mut managed).cast(),
            (&raw mut ordinal).cast(),
        ];
        // SAFETY: 4 names and 4 places, each a live local of the size (4, 8, 4
        // and 4 bytes) that the driver documents for its attribute.
        let code = unsafe {
            (self.table().pointer_get_attributes)(
                4,
                names.as_mut_ptr(),
                places.as_mut_ptr(),
                pointer,
            )
        };
        self.check("cuPointerGetAttributes", code)?;
        Ok(PointerFacts {
            memory_type,
            host_pointer: host != 0,
            managed: managed != 0,
            ordinal,
        })
    }
}
