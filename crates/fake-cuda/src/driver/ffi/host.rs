//! Pinned host memory.

use std::ffi::{c_uint, c_void};

use super::call;
use crate::driver::codes::CuError;
use crate::driver::raw::{need, put};
use crate::driver::space::Kind;

fn address_of(pointer: *mut c_void) -> u64 {
    pointer.expose_provenance() as u64
}

/// Flags `PORTABLE`, `DEVICEMAP`, `WRITECOMBINED`: all pinned memory here is
/// portable and mapped.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostAlloc(out: *mut *mut c_void, bytes: usize, flags: c_uint) -> u32 {
    call("cuMemHostAlloc", |d| {
        need(out)?;
        let context = d.healthy()?;
        if flags > 7 {
            return Err(CuError::INVALID_VALUE);
        }
        let address = d.allocate_host(context, bytes as u64, Kind::Host)?;
        let address = usize::try_from(address).map_err(|_| CuError::OUT_OF_MEMORY)?;
        // SAFETY: cuda.h: `out` points to a pointer of the caller's.
        unsafe { put(out, std::ptr::with_exposed_provenance_mut(address)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFreeHost(pointer: *mut c_void) -> u32 {
    call("cuMemFreeHost", |d| {
        d.healthy()?;
        d.free_host(address_of(pointer))
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostRegister_v2(
    pointer: *mut c_void,
    bytes: usize,
    flags: c_uint,
) -> u32 {
    call("cuMemHostRegister_v2", |d| {
        let context = d.healthy()?;
        // PORTABLE and DEVICEMAP; IOMEMORY and READ_ONLY are refused.
        if flags > 3 {
            return Err(CuError::NOT_SUPPORTED);
        }
        d.register(context, address_of(pointer), bytes as u64)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostUnregister(pointer: *mut c_void) -> u32 {
    call("cuMemHostUnregister", |d| {
        d.healthy()?;
        d.unregister(address_of(pointer))
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostGetDevicePointer_v2(
    out: *mut u64,
    pointer: *mut c_void,
    flags: c_uint,
) -> u32 {
    call("cuMemHostGetDevicePointer_v2", |d| {
        d.healthy()?;
        let address = address_of(pointer);
        let (_, region) = d.space.find(address).ok_or(CuError::INVALID_VALUE)?;
        if flags != 0 || !matches!(region.kind, Kind::Host | Kind::Registered) {
            return Err(CuError::INVALID_VALUE);
        }
        // SAFETY: cuda.h: `out` points to a CUdeviceptr of the caller's.
        unsafe { put(out, address) }
    })
}
