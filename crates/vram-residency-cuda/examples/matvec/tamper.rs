//! A bit of a sealed model flips: by a script on the simulated device, and on a
//! GPU by what hostile code in the same process could do.

use std::error::Error;

use vram_residency::device::Device as _;
use vram_residency::sim::SimDevice;
use vram_residency_cuda::driver::Driver;
use vram_residency_cuda::sys::{
    CuAccessDesc, CuDevicePtr, CuMemLocation, STREAM_NON_BLOCKING, access, location,
};
use vram_residency_cuda::{Cuda, CudaDevice};

/// Flips a bit of the newest buffer.
pub(crate) fn flip_simulated(device: &SimDevice, offset: u64) -> Result<(), Box<dyn Error>> {
    let newest = *device.buffers().last().ok_or("nothing is sealed")?;
    Ok(device.flip_bit(newest, offset, 0)?)
}

/// Makes the mapping around `address` writable, flips the lowest bit of the
/// byte there, and makes it read-only again. `bytes` is the shard's length and
/// `start` its first byte's address. The caller's context is current.
pub(crate) fn flip_on_gpu(
    cuda: &Cuda,
    device: &CudaDevice,
    (start, bytes): (u64, u64),
    address: u64,
) -> Result<(), Box<dyn Error>> {
    let driver = cuda.driver();
    let granularity = device.info().granularity;
    let base = start / granularity * granularity;
    let len = (start - base + bytes).next_multiple_of(granularity);
    let range = (CuDevicePtr(base), len as usize);
    let ordinal = device.info().ordinal.cast_signed();
    if device.has_virtual_memory() {
        set_rights(driver, range, ordinal, access::READ_WRITE)?;
    }
    flip_byte(driver, CuDevicePtr(address))?;
    if device.has_virtual_memory() {
        set_rights(driver, range, ordinal, access::READ)?;
    }
    Ok(())
}

fn set_rights(
    driver: &Driver,
    (base, len): (CuDevicePtr, usize),
    ordinal: i32,
    flags: u32,
) -> Result<(), Box<dyn Error>> {
    let place = CuMemLocation {
        kind: location::DEVICE,
        id: ordinal,
    };
    let rights = CuAccessDesc {
        location: place,
        flags,
    };
    // SAFETY: the range is the shard's whole mapping, and nothing uses it now.
    unsafe { driver.mem_set_access(base, len, &rights) }?;
    Ok(())
}

fn flip_byte(driver: &Driver, at: CuDevicePtr) -> Result<(), Box<dyn Error>> {
    let stream = driver.stream_create(STREAM_NON_BLOCKING)?;
    let mut byte = 0_u8;
    // SAFETY: one byte of a live mapping; the wait below ends before `byte` does.
    unsafe { driver.memcpy_dtoh_async(&raw mut byte, at, 1, stream) }?;
    // SAFETY: the stream was made above.
    unsafe { driver.stream_synchronize(stream) }?;
    byte ^= 1;
    // SAFETY: as above; the mapping is writable now.
    unsafe { driver.memcpy_htod_async(at, &raw const byte, 1, stream) }?;
    // SAFETY: the stream was made above.
    unsafe { driver.stream_synchronize(stream) }?;
    // SAFETY: made above, idle, not used again.
    unsafe { driver.stream_destroy(stream) }?;
    Ok(())
}
