//! The virtual memory API.

use std::ffi::{c_int, c_uint, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd};

use super::call;
use crate::driver::codes::CuError;
use crate::driver::raw::{element, need, put, take};
use crate::driver::space::Properties;

/// `CUmemLocation`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Location {
    kind: u32,
    id: i32,
}

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Clone, Copy)]
struct AllocationProp {
    kind: u32,
    handle_types: u32,
    location: Location,
    win32_meta: usize,
    flags: [u8; 8],
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Clone, Copy)]
struct AccessDesc {
    location: Location,
    flags: u32,
}

const _: () = assert!(size_of::<AllocationProp>() == 32 && size_of::<AccessDesc>() == 12);
const _: () = assert!(std::mem::offset_of!(AllocationProp, flags) == 24);

impl AllocationProp {
    /// Compression, RDMA and usage flags are refused.
    fn properties(&self) -> Result<Properties, CuError> {
        if self.flags != [0; 8] {
            return Err(CuError::NOT_SUPPORTED);
        }
        Ok(Properties {
            handle_types: self.handle_types,
            location_kind: self.location.kind,
            location_id: self.location.id,
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetAllocationGranularity(
    out: *mut usize,
    prop: *const AllocationProp,
    option: c_uint,
) -> u32 {
    call("cuMemGetAllocationGranularity", |d| {
        // SAFETY: cuda.h: `prop` points to a CUmemAllocationProp of the caller's.
        let prop = unsafe { take(prop) }?;
        d.check_properties(prop.kind, prop.properties()?)?;
        if option > 1 {
            return Err(CuError::INVALID_VALUE);
        }
        let bytes = usize::try_from(d.options.granularity).unwrap_or(usize::MAX);
        // SAFETY: cuda.h: `out` points to a size_t of the caller's.
        unsafe { put(out, bytes) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemCreate(
    out: *mut u64,
    bytes: usize,
    prop: *const AllocationProp,
    flags: u64,
) -> u32 {
    call("cuMemCreate", |d| {
        need(out)?;
        // SAFETY: cuda.h: `prop` points to a CUmemAllocationProp of the caller's.
        let prop = unsafe { take(prop) }?;
        if flags != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let handle = d.vmm_create(bytes as u64, prop.kind, prop.properties()?)?;
        // SAFETY: cuda.h: `out` points to a handle of the caller's.
        unsafe { put(out, handle) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemRelease(handle: u64) -> u32 {
    call("cuMemRelease", |d| d.vmm_release(handle))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemRetainAllocationHandle(out: *mut u64, address: *mut c_void) -> u32 {
    call("cuMemRetainAllocationHandle", |d| {
        need(out)?;
        let handle = d.vmm_retain(address.addr() as u64)?;
        // SAFETY: cuda.h: `out` points to a handle of the caller's.
        unsafe { put(out, handle) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetAllocationPropertiesFromHandle(
    out: *mut AllocationProp,
    handle: u64,
) -> u32 {
    call("cuMemGetAllocationPropertiesFromHandle", |d| {
        let found = d.vmm_properties(handle)?;
        let prop = AllocationProp {
            kind: 1,
            handle_types: found.handle_types,
            location: Location {
                kind: found.location_kind,
                id: found.location_id,
            },
            win32_meta: 0,
            flags: [0; 8],
        };
        // SAFETY: cuda.h: `out` points to a CUmemAllocationProp of the caller's.
        unsafe { put(out, prop) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAddressReserve(
    out: *mut u64,
    bytes: usize,
    align: usize,
    wish: u64,
    flags: u64,
) -> u32 {
    call("cuMemAddressReserve", |d| {
        need(out)?;
        let start = d.vmm_reserve(bytes as u64, align as u64, wish, flags)?;
        // SAFETY: cuda.h: `out` points to a CUdeviceptr of the caller's.
        unsafe { put(out, start) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAddressFree(start: u64, bytes: usize) -> u32 {
    call("cuMemAddressFree", |d| {
        d.vmm_free_range(start, bytes as u64)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemMap(
    start: u64,
    bytes: usize,
    offset: usize,
    handle: u64,
    flags: u64,
) -> u32 {
    call("cuMemMap", |d| {
        d.vmm_map((start, bytes as u64), offset as u64, handle, flags)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemUnmap(start: u64, bytes: usize) -> u32 {
    call("cuMemUnmap", |d| d.vmm_unmap(start, bytes as u64))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemSetAccess(
    start: u64,
    bytes: usize,
    desc: *const AccessDesc,
    count: usize,
) -> u32 {
    call("cuMemSetAccess", |d| {
        if count == 0 {
            return Err(CuError::INVALID_VALUE);
        }
        for index in 0..count {
            // SAFETY: cuda.h: `desc` points to `count` CUmemAccessDesc.
            let desc = unsafe { element(desc, index) }?;
            let place = (desc.location.kind, desc.location.id);
            d.vmm_set_access((start, bytes as u64), place, desc.flags)?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetAccess(out: *mut u64, location: *const Location, address: u64) -> u32 {
    call("cuMemGetAccess", |d| {
        // SAFETY: cuda.h: `location` points to a CUmemLocation of the caller's.
        let place = unsafe { take(location) }?;
        let rights = d.vmm_access((place.kind, place.id), address)?;
        // SAFETY: cuda.h: `out` points to an unsigned long long of the caller's.
        unsafe { put(out, rights) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemExportToShareableHandle(
    out: *mut c_void,
    handle: u64,
    kind: c_uint,
    flags: u64,
) -> u32 {
    call("cuMemExportToShareableHandle", |d| {
        need(out)?;
        let fd: c_int = d.vmm_export(handle, kind, flags)?.into_raw_fd();
        // SAFETY: cuda.h: for a POSIX descriptor `out` points to an int of the
        // caller's, who owns the descriptor from here on.
        unsafe { put(out.cast::<c_int>(), fd) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemImportFromShareableHandle(
    out: *mut u64,
    shared: *mut c_void,
    kind: c_uint,
) -> u32 {
    call("cuMemImportFromShareableHandle", |d| {
        need(out)?;
        let fd = c_int::try_from(shared.addr()).ok().filter(|_| kind == 1);
        let fd = fd.ok_or(CuError::INVALID_VALUE)?;
        // SAFETY: cuda.h: for a POSIX descriptor the pointer's value is the
        // descriptor, which the caller keeps open during the call; -1, the one
        // value that must not be, does not fit the conversion above.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let handle = d.vmm_import(fd)?;
        // SAFETY: cuda.h: `out` points to a handle of the caller's.
        unsafe { put(out, handle) }
    })
}
