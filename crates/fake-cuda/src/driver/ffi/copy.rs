//! Copies and fills.
//!
//! As the header has it: a copy from pageable memory may return as soon as the
//! source has been read, so the fake always does; one to pageable memory
//! returns when it is done; pinned memory is touched when the copy runs; copies
//! inside devices and fills return at once.

use std::ffi::{c_uchar, c_uint, c_void};

use super::call;
use crate::driver::codes::CuError;
use crate::driver::queue::{HostPlace, Source, Work};
use crate::driver::raw::need;
use crate::driver::space::Kind;
use crate::driver::state::Driver;

/// Refuses a range that is not memory of a device or pinned memory.
fn on_device(d: &Driver, address: u64, len: u64) -> Result<(), CuError> {
    if d.space.known(address, len) {
        Ok(())
    } else {
        Err(CuError::INVALID_VALUE)
    }
}

/// Is the whole host range pinned? A device address is no host range.
fn pinned(d: &Driver, address: u64, len: u64) -> Result<bool, CuError> {
    if d.space.arena.contains(address) {
        return Err(CuError::INVALID_VALUE);
    }
    let host = |k: Kind| matches!(k, Kind::Host | Kind::Registered | Kind::Managed);
    let found = d.space.find(address).is_some_and(|(_, r)| host(r.kind));
    Ok(found && d.space.known(address, len))
}

/// # Safety
/// `from` is readable for `len` bytes, until the copy is done if it is pinned.
unsafe fn htod(
    d: &mut Driver,
    to: u64,
    from: *const c_void,
    len: usize,
    stream: u64,
) -> Result<bool, CuError> {
    if len == 0 {
        return Ok(false);
    }
    need(from)?;
    on_device(d, to, len as u64)?;
    let address = from.expose_provenance() as u64;
    let is_pinned = pinned(d, address, len as u64)?;
    let from = if is_pinned {
        Source::Pinned(address)
    } else {
        // SAFETY: the caller vouches for the range.
        Source::Taken(unsafe { Driver::host_bytes(from.cast(), len) })
    };
    d.queue(
        stream,
        Work::HostToDevice {
            from,
            to,
            len: len as u64,
        },
    )?;
    Ok(is_pinned)
}

/// # Safety
/// `to` is writable for `len` bytes, until the copy is done if it is pinned.
unsafe fn dtoh(
    d: &mut Driver,
    to: *mut c_void,
    from: u64,
    len: usize,
    stream: u64,
) -> Result<(), CuError> {
    if len == 0 {
        return Ok(());
    }
    need(to)?;
    on_device(d, from, len as u64)?;
    let address = to.expose_provenance() as u64;
    let is_pinned = pinned(d, address, len as u64)?;
    let to = if is_pinned {
        HostPlace::Pinned(address)
    } else {
        HostPlace::Waiting(address)
    };
    d.queue(
        stream,
        Work::DeviceToHost {
            from,
            to,
            len: len as u64,
        },
    )?;
    if is_pinned {
        Ok(())
    } else {
        d.wait_stream(stream)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, len: usize) -> u32 {
    call("cuMemcpyHtoD_v2", |d| {
        let stream = d.stream(0)?;
        // SAFETY: cuda.h: `from` points to `len` readable bytes.
        let is_pinned = unsafe { htod(d, to, from, len, stream) }?;
        if is_pinned {
            d.wait_stream(stream)
        } else {
            Ok(())
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    len: usize,
    stream: u64,
) -> u32 {
    call("cuMemcpyHtoDAsync_v2", |d| {
        let stream = d.stream(stream)?;
        // SAFETY: cuda.h: `from` points to `len` readable bytes, for as long as
        // the stream needs them if they are pinned.
        unsafe { htod(d, to, from, len, stream) }.map(|_| ())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, len: usize) -> u32 {
    call("cuMemcpyDtoH_v2", |d| {
        let stream = d.stream(0)?;
        // SAFETY: cuda.h: `to` points to `len` writable bytes.
        unsafe { dtoh(d, to, from, len, stream) }?;
        d.wait_stream(stream)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: u64,
    len: usize,
    stream: u64,
) -> u32 {
    call("cuMemcpyDtoHAsync_v2", |d| {
        let stream = d.stream(stream)?;
        // SAFETY: cuda.h: `to` points to `len` writable bytes, for as long as the
        // stream needs them if they are pinned.
        unsafe { dtoh(d, to, from, len, stream) }
    })
}

/// Copies inside the context's device, or between the two that are named.
fn dtod(
    d: &mut Driver,
    to: (u64, usize),
    from: (u64, usize),
    len: u64,
    stream: u64,
) -> Result<(), CuError> {
    if len == 0 {
        return Ok(());
    }
    on_device(d, to.0, len)?;
    on_device(d, from.0, len)?;
    d.queue(
        stream,
        Work::DeviceToDevice {
            from: from.0,
            from_device: from.1,
            to: to.0,
            to_device: to.1,
            len,
        },
    )
}

fn own_device(d: &Driver, stream: u64) -> Result<usize, CuError> {
    let context = d.queues.streams.get(&stream).map(|s| s.context);
    d.device_of(context.ok_or(CuError::INVALID_HANDLE)?)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, len: usize) -> u32 {
    call("cuMemcpyDtoD_v2", |d| {
        let stream = d.stream(0)?;
        let device = own_device(d, stream)?;
        dtod(d, (to, device), (from, device), len as u64, stream)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, len: usize, stream: u64) -> u32 {
    call("cuMemcpyDtoDAsync_v2", |d| {
        let stream = d.stream(stream)?;
        let device = own_device(d, stream)?;
        dtod(d, (to, device), (from, device), len as u64, stream)
    })
}

/// The owning contexts reach their own memory, so no peer access is needed.
fn peer(
    d: &mut Driver,
    to: (u64, u64),
    from: (u64, u64),
    len: usize,
    stream: u64,
) -> Result<(), CuError> {
    d.check(to.1)?;
    d.check(from.1)?;
    let to = (to.0, d.device_of(to.1)?);
    let from = (from.0, d.device_of(from.1)?);
    dtod(d, to, from, len as u64, stream)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyPeer(
    to: u64,
    to_context: u64,
    from: u64,
    from_context: u64,
    len: usize,
) -> u32 {
    call("cuMemcpyPeer", |d| {
        let stream = d.stream(0)?;
        peer(d, (to, to_context), (from, from_context), len, stream)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyPeerAsync(
    to: u64,
    to_context: u64,
    from: u64,
    from_context: u64,
    len: usize,
    stream: u64,
) -> u32 {
    call("cuMemcpyPeerAsync", |d| {
        let stream = d.stream(stream)?;
        peer(d, (to, to_context), (from, from_context), len, stream)
    })
}

fn fill(d: &mut Driver, to: u64, pattern: &[u8], count: usize, stream: u64) -> Result<(), CuError> {
    let stream = d.stream(stream)?;
    let width = pattern.len() as u64;
    if count == 0 {
        return Ok(());
    }
    if !to.is_multiple_of(width) {
        return Err(CuError::INVALID_VALUE);
    }
    on_device(
        d,
        to,
        width
            .checked_mul(count as u64)
            .ok_or(CuError::INVALID_VALUE)?,
    )?;
    d.queue(
        stream,
        Work::Fill {
            to,
            pattern: pattern.to_vec(),
            count: count as u64,
        },
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemsetD8_v2(to: u64, value: c_uchar, count: usize) -> u32 {
    call("cuMemsetD8_v2", |d| fill(d, to, &[value], count, 0))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemsetD8Async(to: u64, value: c_uchar, count: usize, stream: u64) -> u32 {
    call("cuMemsetD8Async", |d| fill(d, to, &[value], count, stream))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemsetD32_v2(to: u64, value: c_uint, count: usize) -> u32 {
    call("cuMemsetD32_v2", |d| {
        fill(d, to, &value.to_le_bytes(), count, 0)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemsetD32Async(to: u64, value: c_uint, count: usize, stream: u64) -> u32 {
    call("cuMemsetD32Async", |d| {
        fill(d, to, &value.to_le_bytes(), count, stream)
    })
}
