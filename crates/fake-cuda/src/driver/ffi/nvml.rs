//! The few NVML symbols that reports ask for, about the same pretended machine:
//! the built library serves as `libnvidia-ml.so.1` under that name, too. Cards
//! are found by PCI address, whatever `CUDA_VISIBLE_DEVICES` hides from CUDA.

use std::ffi::{CStr, c_char, c_int, c_uint};

use super::device::{bus, put_text};
use crate::driver::codes::CuError;
use crate::driver::raw::{need, put};
use crate::driver::state::{Driver, with};

/// `NVML_ERROR_INVALID_ARGUMENT`.
const INVALID_ARGUMENT: CuError = CuError(2);
/// `NVML_ERROR_NOT_SUPPORTED`.
const NOT_SUPPORTED: CuError = CuError(3);
/// `NVML_ERROR_NOT_FOUND`.
const NOT_FOUND: CuError = CuError(6);
/// `NVML_MEMORY_ERROR_TYPE_UNCORRECTED`.
const UNCORRECTED: c_int = 1;

/// Runs one exported call; it counts itself and obeys the test's plan.
fn call(name: &str, f: impl FnOnce(&mut Driver) -> Result<(), CuError>) -> u32 {
    let result = with(|driver| {
        let _later = driver.enter(name)?;
        f(driver)
    });
    match result.and_then(|r| r) {
        Ok(()) => 0,
        Err(CuError(code)) => code,
    }
}

/// A handle is a card's number plus one.
fn is_card(d: &Driver, device: usize) -> Result<(), CuError> {
    if (1..=d.options.gpus).contains(&device) {
        Ok(())
    } else {
        Err(INVALID_ARGUMENT)
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> u32 {
    call("nvmlInit_v2", |_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> u32 {
    call("nvmlShutdown", |_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: u32) -> *const c_char {
    let text = match code {
        0 => c"Success",
        2 => c"Invalid Argument",
        3 => c"Not Supported",
        4 => c"Insufficient Permissions",
        6 => c"Not Found",
        9 => c"Driver Not Loaded",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(out: *mut c_char, len: c_uint) -> u32 {
    call("nvmlSystemGetDriverVersion", |_| {
        let len = c_int::try_from(len).unwrap_or(c_int::MAX);
        // SAFETY: nvml.h: `out` points to `len` bytes.
        unsafe { put_text(out, len, "999.00.fake") }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(pci: *const c_char, out: *mut usize) -> u32 {
    call("nvmlDeviceGetHandleByPciBusId_v2", |d| {
        need(pci)?;
        // SAFETY: nvml.h: `pci` ends with NUL.
        let pci = unsafe { CStr::from_ptr(pci) };
        let address = |card| format!("0000:{:02x}:00.0", bus(card));
        let found = (0..d.options.gpus).find(|card| address(*card).as_bytes() == pci.to_bytes());
        let handle = found.ok_or(NOT_FOUND)?.saturating_add(1);
        // SAFETY: nvml.h: `out` points to an nvmlDevice_t of the caller's.
        unsafe { put(out, handle) }
    })
}

/// Writes a mode twice: as it is, and as it will be after a reset.
///
/// # Safety
/// Both, when not null, point to numbers of the caller's.
unsafe fn put_mode(on: bool, now: *mut c_uint, later: *mut c_uint) -> Result<(), CuError> {
    // SAFETY: the caller vouches for `now`.
    unsafe { put(now, c_uint::from(on)) }?;
    // SAFETY: the caller vouches for `later`.
    unsafe { put(later, c_uint::from(on)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetEccMode(
    device: usize,
    now: *mut c_uint,
    later: *mut c_uint,
) -> u32 {
    call("nvmlDeviceGetEccMode", |d| {
        is_card(d, device)?;
        // SAFETY: nvml.h: both point to numbers of the caller's.
        unsafe { put_mode(d.options.ecc, now, later) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: usize,
    now: *mut c_uint,
    later: *mut c_uint,
) -> u32 {
    call("nvmlDeviceGetMigMode", |d| {
        is_card(d, device)?;
        // SAFETY: nvml.h: both point to numbers of the caller's.
        unsafe { put_mode(d.options.mig, now, later) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: usize,
    kind: c_int,
    _counter: c_int,
    out: *mut u64,
) -> u32 {
    call("nvmlDeviceGetTotalEccErrors", |d| {
        is_card(d, device)?;
        if !d.options.ecc {
            return Err(NOT_SUPPORTED);
        }
        let count = d.options.uncorrected;
        // SAFETY: nvml.h: `out` points to a number of the caller's.
        unsafe { put(out, if kind == UNCORRECTED { count } else { 0 }) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetRemappedRows(
    device: usize,
    correctable: *mut c_uint,
    uncorrectable: *mut c_uint,
    pending: *mut c_uint,
    failed: *mut c_uint,
) -> u32 {
    call("nvmlDeviceGetRemappedRows", |d| {
        is_card(d, device)?;
        let rows = d.options.remapped;
        for (place, value) in [
            (correctable, 0),
            (uncorrectable, rows),
            (pending, u32::from(rows > 0)),
            (failed, 0),
        ] {
            // SAFETY: nvml.h: all point to numbers of the caller's.
            unsafe { put(place, value) }?;
        }
        Ok(())
    })
}
