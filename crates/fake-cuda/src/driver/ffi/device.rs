//! Initialisation, errors, devices.

use std::ffi::{CStr, c_char, c_int, c_uint};

use super::call;
use crate::driver::codes::{CuError, name, text};
use crate::driver::raw::{need, put};
use crate::driver::state::Driver;
use crate::driver::visible::{Kind, uuid};

#[unsafe(no_mangle)]
unsafe extern "C" fn cuInit(flags: c_uint) -> u32 {
    call("cuInit", |d| {
        if flags != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        d.initialise()
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> u32 {
    call("cuDriverGetVersion", |d| {
        // SAFETY: cuda.h: `version` points to an int of the caller's.
        unsafe { put(version, d.options.driver_version) }
    })
}

/// Writes a static text; an unknown code gets null, and is an invalid value.
///
/// # Safety
/// `out`, when not null, points to a pointer of the caller's.
unsafe fn put_static(out: *mut *const c_char, found: Option<&'static CStr>) -> Result<(), CuError> {
    let pointer = found.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the caller vouches for `out`.
    unsafe { put(out, pointer) }?;
    found.map(|_| ()).ok_or(CuError::INVALID_VALUE)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(code: u32, out: *mut *const c_char) -> u32 {
    call("cuGetErrorName", |_| {
        // SAFETY: cuda.h: `out` points to a pointer of the caller's.
        unsafe { put_static(out, name(code)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(code: u32, out: *mut *const c_char) -> u32 {
    call("cuGetErrorString", |_| {
        // SAFETY: cuda.h: `out` points to a pointer of the caller's.
        unsafe { put_static(out, text(code)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> u32 {
    call("cuDeviceGetCount", |d| {
        let devices = c_int::try_from(d.devices.len()).unwrap_or(c_int::MAX);
        // SAFETY: cuda.h: `count` points to an int of the caller's.
        unsafe { put(count, devices) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> u32 {
    call("cuDeviceGet", |d| {
        d.ordinal(ordinal)?;
        // SAFETY: cuda.h: `device` points to a CUdevice of the caller's.
        unsafe { put(device, ordinal) }
    })
}

/// Copies a string and its NUL into `len` bytes, cut short if need be.
///
/// # Safety
/// `out`, when not null, points to `len` bytes of the caller's.
pub(super) unsafe fn put_text(out: *mut c_char, len: c_int, text: &str) -> Result<(), CuError> {
    need(out)?;
    let len = usize::try_from(len)
        .ok()
        .filter(|l| *l > 0)
        .ok_or(CuError::INVALID_VALUE)?;
    let keep = text.len().min(len.saturating_sub(1));
    let bytes = text.bytes().take(keep).chain([0]);
    for (i, byte) in bytes.enumerate() {
        // SAFETY: `i` is at most `len - 1`, inside the caller's buffer.
        unsafe { put(out.wrapping_add(i).cast::<u8>(), byte) }?;
    }
    Ok(())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(out: *mut c_char, len: c_int, device: c_int) -> u32 {
    call("cuDeviceGetName", |d| {
        let number = number(d, device)?;
        let slice = match d.kind() {
            Kind::Card => "",
            Kind::Slice => " MIG 1g.18gb",
        };
        let name = format!("vram-residency fake CUDA device {number}{slice}");
        // SAFETY: cuda.h: `out` points to `len` bytes.
        unsafe { put_text(out, len, &name) }
    })
}

/// Number of a device in the machine, whatever the process calls it.
fn number(d: &Driver, device: c_int) -> Result<usize, CuError> {
    let ordinal = d.ordinal(device)?;
    let found = d.devices.get(ordinal).ok_or(CuError::INVALID_DEVICE)?;
    Ok(found.number)
}

/// Number of the card that a device is, or is a slice of.
fn card(d: &Driver, device: c_int) -> Result<usize, CuError> {
    let number = number(d, device)?;
    Ok(match d.kind() {
        Kind::Card => number,
        Kind::Slice => 0,
    })
}

/// The older call names the card, also for a slice.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetUuid(out: *mut [u8; 16], device: c_int) -> u32 {
    call("cuDeviceGetUuid", |d| {
        let card = card(d, device)?;
        // SAFETY: cuda.h: `out` points to a CUuuid of the caller's.
        unsafe { put(out, uuid(Kind::Card, card)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetUuid_v2(out: *mut [u8; 16], device: c_int) -> u32 {
    call("cuDeviceGetUuid_v2", |d| {
        let number = number(d, device)?;
        // SAFETY: cuda.h: `out` points to a CUuuid of the caller's.
        unsafe { put(out, uuid(d.kind(), number)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> u32 {
    call("cuDeviceTotalMem_v2", |d| {
        d.ordinal(device)?;
        let total = usize::try_from(d.options.vram).unwrap_or(usize::MAX);
        // SAFETY: cuda.h: `bytes` points to a size_t of the caller's.
        unsafe { put(bytes, total) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetPCIBusId(out: *mut c_char, len: c_int, device: c_int) -> u32 {
    call("cuDeviceGetPCIBusId", |d| {
        let bus = bus(card(d, device)?);
        // SAFETY: cuda.h: `out` points to `len` bytes.
        unsafe { put_text(out, len, &format!("0000:{bus:02x}:00.0")) }
    })
}

pub(super) fn bus(card: usize) -> usize {
    card.saturating_add(1)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(
    out: *mut c_int,
    attribute: c_uint,
    device: c_int,
) -> u32 {
    call("cuDeviceGetAttribute", |d| {
        let ordinal = d.ordinal(device)?;
        let card = card(d, device)?;
        let lie = d.plan.attributes.get(&(ordinal, attribute)).copied();
        let value = lie
            .or_else(|| value_of(d, attribute, card))
            .ok_or(CuError::INVALID_VALUE)?;
        // SAFETY: cuda.h: `out` points to an int of the caller's.
        unsafe { put(out, value) }
    })
}

/// `CUdevice_attribute` values of this machine, shaped like an H200; `None` for
/// attributes that it does not model.
fn value_of(d: &Driver, attribute: u32, card: usize) -> Option<i32> {
    let flag = |on: bool| i32::from(on);
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    Some(match attribute {
        1..=3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65_535,
        8 => 48 << 10,
        9 => 64 << 10,
        10 => 32,
        12 | 82 => 65_536,
        13 => 1_980_000,
        16 => 132,
        17 => 0,
        18 => flag(d.options.integrated),
        19 | 31 | 41 => 1,
        20 => d.options.compute_mode,
        32 => flag(d.options.ecc),
        33 => i32::try_from(bus(card)).unwrap_or(i32::MAX),
        34 | 35 | 50 => 0,
        36 => 3_201_000,
        37 => 6144,
        38 => 60 << 20,
        39 => 2048,
        40 => 3,
        75 => number(d.options.capability.0),
        76 => number(d.options.capability.1),
        81 => 233_472,
        83 | 89 | 99 => 1,
        88 | 100 | 115 => 0,
        97 => 227 << 10,
        102 => flag(d.options.vmm),
        103 => flag(d.options.vmm && d.options.fd),
        104 | 105 => 0,
        _ => return None,
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceCanAccessPeer(out: *mut c_int, device: c_int, peer: c_int) -> u32 {
    call("cuDeviceCanAccessPeer", |d| {
        let (device, peer) = (d.ordinal(device)?, d.ordinal(peer)?);
        // SAFETY: cuda.h: `out` points to an int of the caller's.
        unsafe { put(out, c_int::from(d.options.peer && device != peer)) }
    })
}
