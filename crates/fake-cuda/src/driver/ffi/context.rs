//! Primary contexts and the context stack.

use std::ffi::{c_int, c_uint};

use super::call;
use crate::driver::codes::CuError;
use crate::driver::raw::{need, put};

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(out: *mut u64, device: c_int) -> u32 {
    call("cuDevicePrimaryCtxRetain", |d| {
        need(out)?;
        let ordinal = d.ordinal(device)?;
        let context = d.retain(ordinal)?;
        // SAFETY: cuda.h: `out` points to a CUcontext of the caller's.
        unsafe { put(out, context) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> u32 {
    call("cuDevicePrimaryCtxRelease_v2", |d| {
        let ordinal = d.ordinal(device)?;
        d.release(ordinal)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxReset_v2(device: c_int) -> u32 {
    call("cuDevicePrimaryCtxReset_v2", |d| {
        let ordinal = d.ordinal(device)?;
        d.reset_primary(ordinal);
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxGetState(
    device: c_int,
    flags: *mut c_uint,
    active: *mut c_int,
) -> u32 {
    call("cuDevicePrimaryCtxGetState", |d| {
        let ordinal = d.ordinal(device)?;
        let there = d.devices.get(ordinal).is_some_and(|d| d.primary.is_some());
        // SAFETY: cuda.h: `flags` points to an unsigned int of the caller's.
        unsafe { put(flags, 0) }?;
        // SAFETY: cuda.h: `active` points to an int of the caller's.
        unsafe { put(active, c_int::from(there)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxPushCurrent_v2(context: u64) -> u32 {
    call("cuCtxPushCurrent_v2", |d| d.push(context))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxPopCurrent_v2(out: *mut u64) -> u32 {
    call("cuCtxPopCurrent_v2", |d| {
        let context = d.pop()?;
        // cuda.h: the result may be unwanted.
        if need(out).is_ok() {
            // SAFETY: cuda.h: `out` points to a CUcontext of the caller's.
            unsafe { put(out, context) }?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetCurrent(out: *mut u64) -> u32 {
    call("cuCtxGetCurrent", |d| {
        let top = d.stack(|s| s.last().copied()).unwrap_or(0);
        // SAFETY: cuda.h: `out` points to a CUcontext of the caller's.
        unsafe { put(out, top) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxSetCurrent(context: u64) -> u32 {
    call("cuCtxSetCurrent", |d| d.set_current(context))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetDevice(out: *mut c_int) -> u32 {
    call("cuCtxGetDevice", |d| {
        let context = d.current()?;
        let device = c_int::try_from(d.device_of(context)?).unwrap_or(-1);
        // SAFETY: cuda.h: `out` points to a CUdevice of the caller's.
        unsafe { put(out, device) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxSynchronize() -> u32 {
    call("cuCtxSynchronize", |d| {
        let context = d.healthy()?;
        d.wait_context(context)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxEnablePeerAccess(peer: u64, flags: c_uint) -> u32 {
    call("cuCtxEnablePeerAccess", |d| match flags {
        0 => d.set_peer(peer, true),
        _ => Err(CuError::INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxDisablePeerAccess(peer: u64) -> u32 {
    call("cuCtxDisablePeerAccess", |d| d.set_peer(peer, false))
}
