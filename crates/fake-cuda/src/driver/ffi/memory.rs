//! Plain and managed device memory, and what is free.

use std::ffi::c_uint;

use super::call;
use crate::driver::codes::CuError;
use crate::driver::raw::{need, put};
use crate::driver::space::Kind;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> u32 {
    call("cuMemGetInfo_v2", |d| {
        let context = d.healthy()?;
        let (now, all) = d.mem_info(d.device_of(context)?);
        // SAFETY: cuda.h: `free` points to a size_t of the caller's.
        unsafe { put(free, usize::try_from(now).unwrap_or(usize::MAX)) }?;
        // SAFETY: cuda.h: `total` points to a size_t of the caller's.
        unsafe { put(total, usize::try_from(all).unwrap_or(usize::MAX)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAlloc_v2(out: *mut u64, bytes: usize) -> u32 {
    call("cuMemAlloc_v2", |d| {
        need(out)?;
        let context = d.healthy()?;
        let address = d.allocate(context, bytes as u64)?;
        // SAFETY: cuda.h: `out` points to a CUdeviceptr of the caller's.
        unsafe { put(out, address) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFree_v2(address: u64) -> u32 {
    call("cuMemFree_v2", |d| {
        let context = d.healthy()?;
        d.free(context, address)
    })
}

/// `CU_MEM_ATTACH_GLOBAL` or `CU_MEM_ATTACH_HOST`.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocManaged(out: *mut u64, bytes: usize, flags: c_uint) -> u32 {
    call("cuMemAllocManaged", |d| {
        need(out)?;
        let context = d.healthy()?;
        if !matches!(flags, 1 | 2) {
            return Err(CuError::INVALID_VALUE);
        }
        let address = d.allocate_host(context, bytes as u64, Kind::Managed)?;
        // SAFETY: cuda.h: `out` points to a CUdeviceptr of the caller's.
        unsafe { put(out, address) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetAddressRange_v2(
    base: *mut u64,
    bytes: *mut usize,
    address: u64,
) -> u32 {
    call("cuMemGetAddressRange_v2", |d| {
        d.healthy()?;
        let (start, region) = d.space.find(address).ok_or(CuError::NOT_FOUND)?;
        let len = usize::try_from(region.len).unwrap_or(usize::MAX);
        // cuda.h: either result may be unwanted.
        if need(base).is_ok() {
            // SAFETY: cuda.h: `base` points to a CUdeviceptr of the caller's.
            unsafe { put(base, start) }?;
        }
        if need(bytes).is_ok() {
            // SAFETY: cuda.h: `bytes` points to a size_t of the caller's.
            unsafe { put(bytes, len) }?;
        }
        Ok(())
    })
}
