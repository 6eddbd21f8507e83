//! The virtual memory API: physical memory, address ranges, rights, sharing.
//!
//! Optional as a whole: CUDA 10.2 introduced it and some virtual GPUs lack it.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Driver, DriverError, need};
use crate::sys::{
    CuAccessDesc, CuAllocationProp, CuDevicePtr, CuMemHandle, CuMemLocation, handle_type,
};

impl Driver {
    /// `cuMemGetAllocationGranularity`, in bytes.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn mem_get_allocation_granularity(
        &self,
        prop: &CuAllocationProp,
        option: u32,
    ) -> Result<usize, DriverError> {
        let op = "cuMemGetAllocationGranularity";
        let ask = need(op, self.table().mem_get_allocation_granularity)?;
        let mut bytes = 0;
        // SAFETY: `prop` is a live structure of the driver's layout, `bytes` a live local.
        let code = unsafe { ask(&raw mut bytes, prop, option) };
        self.check(op, code)?;
        Ok(bytes)
    }

    /// `cuMemCreate`: physical memory without an address.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn mem_create(
        &self,
        bytes: usize,
        prop: &CuAllocationProp,
    ) -> Result<CuMemHandle, DriverError> {
        let create = need("cuMemCreate", self.table().mem_create)?;
        let mut handle = CuMemHandle(0);
        // SAFETY: `prop` is a live structure of the driver's layout, `handle` a live local.
        let code = unsafe { create(&raw mut handle, bytes, prop, 0) };
        self.check("cuMemCreate", code)?;
        Ok(handle)
    }

    /// `cuMemRelease`: gives up one reference; mappings keep the memory alive.
    ///
    /// # Safety
    /// The caller owns a reference and does not use `handle` through it again.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_release(&self, handle: CuMemHandle) -> Result<(), DriverError> {
        let release = need("cuMemRelease", self.table().mem_release)?;
        // SAFETY: the caller gives up a reference that it owns.
        let code = unsafe { release(handle) };
        self.check("cuMemRelease", code)
    }

    /// `cuMemAddressReserve` of `bytes` bytes, multiples of `alignment`.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn mem_address_reserve(
        &self,
        bytes: usize,
        alignment: usize,
    ) -> Result<CuDevicePtr, DriverError> {
        let reserve = need("cuMemAddressReserve", self.table().mem_address_reserve)?;
        let mut address = CuDevicePtr(0);
        // SAFETY: `address` is a live local; no particular address is asked for.
        let code = unsafe { reserve(&raw mut address, bytes, alignment, CuDevicePtr(0), 0) };
        self.check("cuMemAddressReserve", code)?;
        Ok(address)
    }

    /// `cuMemAddressFree`.
    ///
    /// # Safety
    /// Exactly such a range was reserved, nothing is mapped in it, and nobody
    /// uses it afterwards.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_address_free(
        &self,
        address: CuDevicePtr,
        bytes: usize,
    ) -> Result<(), DriverError> {
        let free = need("cuMemAddressFree", self.table().mem_address_free)?;
        // SAFETY: the caller gives up a reservation that it owns.
        let code = unsafe { free(address, bytes) };
        self.check("cuMemAddressFree", code)
    }

    /// `cuMemMap` of a whole handle; without rights until
    /// [`Self::mem_set_access`].
    ///
    /// # Safety
    /// The range is reserved by the caller and unmapped; `handle` is live and
    /// has `bytes` bytes.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_map(
        &self,
        address: CuDevicePtr,
        bytes: usize,
        handle: CuMemHandle,
    ) -> Result<(), DriverError> {
        let map = need("cuMemMap", self.table().mem_map)?;
        // SAFETY: the caller owns range and handle.
        let code = unsafe { map(address, bytes, 0, handle, 0) };
        self.check("cuMemMap", code)
    }

    /// `cuMemUnmap`.
    ///
    /// # Safety
    /// The range is mapped by the caller and no queued work uses it.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_unmap(&self, address: CuDevicePtr, bytes: usize) -> Result<(), DriverError> {
        let unmap = need("cuMemUnmap", self.table().mem_unmap)?;
        // SAFETY: the caller owns the mapping and has waited for its users.
        let code = unsafe { unmap(address, bytes) };
        self.check("cuMemUnmap", code)
    }

    /// `cuMemSetAccess` for one location.
    ///
    /// # Safety
    /// The range is mapped by the caller; queued work needs no right that this
    /// takes away.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_set_access(
        &self,
        address: CuDevicePtr,
        bytes: usize,
        access: &CuAccessDesc,
    ) -> Result<(), DriverError> {
        let set = need("cuMemSetAccess", self.table().mem_set_access)?;
        // SAFETY: one live structure of the driver's layout; the caller owns the mapping.
        let code = unsafe { set(address, bytes, access, 1) };
        self.check("cuMemSetAccess", code)
    }

    /// `cuMemGetAccess`: rights of `location` at an address, as one of
    /// [`crate::sys::access`] or a number that is newer than this crate.
    ///
    /// # Errors
    /// [`DriverError`], also for an address that is not mapped this way.
    pub fn mem_get_access(
        &self,
        location: &CuMemLocation,
        address: CuDevicePtr,
    ) -> Result<u64, DriverError> {
        let ask = need("cuMemGetAccess", self.table().mem_get_access)?;
        let mut flags = 0;
        // SAFETY: a live structure of the driver's layout, and a live local.
        let code = unsafe { ask(&raw mut flags, location, address) };
        self.check("cuMemGetAccess", code)?;
        Ok(flags)
    }

    /// `cuMemRetainAllocationHandle`: one more reference to the physical memory
    /// behind a mapped address.
    ///
    /// # Errors
    /// [`DriverError`], also for an address that is not mapped this way.
    pub fn mem_retain_allocation_handle(
        &self,
        address: CuDevicePtr,
    ) -> Result<CuMemHandle, DriverError> {
        let op = "cuMemRetainAllocationHandle";
        let retain = need(op, self.table().mem_retain_allocation_handle)?;
        let mut handle = CuMemHandle(0);
        let at = std::ptr::without_provenance_mut(usize::try_from(address.0).unwrap_or(0));
        // SAFETY: `handle` is a live local; the driver looks the address up and
        // does not dereference it.
        let code = unsafe { retain(&raw mut handle, at) };
        self.check(op, code)?;
        Ok(handle)
    }

    /// `cuMemGetAllocationPropertiesFromHandle`.
    ///
    /// # Safety
    /// `handle` is live.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_get_allocation_properties(
        &self,
        handle: CuMemHandle,
    ) -> Result<CuAllocationProp, DriverError> {
        let op = "cuMemGetAllocationPropertiesFromHandle";
        let ask = need(op, self.table().mem_get_allocation_properties)?;
        let mut prop = CuAllocationProp::default();
        // SAFETY: `prop` is a live structure of the driver's layout; the caller
        // keeps the handle alive.
        let code = unsafe { ask(&raw mut prop, handle) };
        self.check(op, code)?;
        Ok(prop)
    }

    /// `cuMemExportToShareableHandle` as a file descriptor, by which another
    /// process can map the same physical memory.
    ///
    /// # Safety
    /// `handle` is live and was created with [`handle_type::POSIX_FD`].
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn mem_export_fd(&self, handle: CuMemHandle) -> Result<OwnedFd, DriverError> {
        let op = "cuMemExportToShareableHandle";
        let export = need(op, self.table().mem_export_to_shareable_handle)?;
        let mut fd: RawFd = -1;
        let place = (&raw mut fd).cast();
        // SAFETY: for this handle type the call writes one `int`, which `fd` is;
        // the caller keeps the handle alive.
        let code = unsafe { export(place, handle, handle_type::POSIX_FD, 0) };
        self.check(op, code)?;
        // SAFETY: on success the driver opened this descriptor for the caller alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// `cuMemImportFromShareableHandle` of such a file descriptor; the caller
    /// owns the reference that comes back.
    ///
    /// # Errors
    /// [`DriverError`], also for a descriptor of something else.
    pub fn mem_import_fd(&self, fd: BorrowedFd<'_>) -> Result<CuMemHandle, DriverError> {
        let op = "cuMemImportFromShareableHandle";
        let import = need(op, self.table().mem_import_from_shareable_handle)?;
        let mut handle = CuMemHandle(0);
        let number = usize::try_from(fd.as_raw_fd()).unwrap_or(usize::MAX);
        // SAFETY: for this handle type the pointer argument is the descriptor's
        // number, which `fd` keeps open; `handle` is a live local.
        let code = unsafe {
            import(
                &raw mut handle,
                std::ptr::without_provenance_mut(number),
                handle_type::POSIX_FD,
            )
        };
        self.check(op, code)?;
        Ok(handle)
    }
}
