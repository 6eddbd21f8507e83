//! The only places where this crate touches memory through raw pointers on
//! behalf of the pretended hardware.

use super::codes::CuError;

/// Copies `len` bytes; the ranges may overlap.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller vouches for both ranges; `copy` allows overlap.
    unsafe { std::ptr::copy(from, to, len) }
}

/// Writes an out-parameter of the C ABI.
///
/// # Safety
/// `place`, when not null, points to a `T` of the caller's.
pub(crate) unsafe fn put<T>(place: *mut T, value: T) -> Result<(), CuError> {
    need(place)?;
    // SAFETY: not null, and the caller vouches for the rest. Unaligned writes
    // are allowed for, because C callers promise no alignment to us.
    unsafe { place.write_unaligned(value) };
    Ok(())
}

/// Refuses a null pointer.
pub(crate) fn need<T>(place: *const T) -> Result<(), CuError> {
    if place.is_null() {
        Err(CuError::INVALID_VALUE)
    } else {
        Ok(())
    }
}

/// Reads an in-parameter of the C ABI.
///
/// # Safety
/// `place`, when not null, points to a `T` of the caller's.
pub(crate) unsafe fn take<T: Copy>(place: *const T) -> Result<T, CuError> {
    need(place)?;
    // SAFETY: not null, and the caller vouches for the rest.
    Ok(unsafe { place.read_unaligned() })
}

/// Element `index` of an array of the C ABI.
///
/// # Safety
/// `array`, when not null, points to more than `index` elements.
pub(crate) unsafe fn element<T: Copy>(array: *const T, index: usize) -> Result<T, CuError> {
    need(array)?;
    // SAFETY: the caller vouches that element `index` is inside the array.
    let place = unsafe { array.add(index) };
    // SAFETY: as above.
    unsafe { take(place) }
}
