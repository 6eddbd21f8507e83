//! What the driver says about an address.

use std::ffi::{c_int, c_uint, c_void};

use super::call;
use crate::driver::codes::CuError;
use crate::driver::raw::{element, put};
use crate::driver::space::Kind;
use crate::driver::state::Driver;

/// An attribute's value in the size that the header gives it.
enum Value {
    Word(u32),
    Signed(i32),
    Long(u64),
}

impl Value {
    /// # Safety
    /// `place`, when not null, points to an object of the attribute's type.
    unsafe fn write(self, place: *mut c_void) -> Result<(), CuError> {
        match self {
            // SAFETY: the caller vouches for `place`.
            Value::Word(v) => unsafe { put(place.cast::<u32>(), v) },
            // SAFETY: as above.
            Value::Signed(v) => unsafe { put(place.cast::<i32>(), v) },
            // SAFETY: as above.
            Value::Long(v) => unsafe { put(place.cast::<u64>(), v) },
        }
    }
}

/// The attributes this driver models: context 1, memory type 2, device pointer 3,
/// host pointer 4, managed 8, ordinal 9, range start 11, range size 12, mapped
/// 13, handle types 14. `Ok(None)`: it does not apply to this address.
fn attribute(d: &Driver, number: u32, address: u64) -> Result<Option<Value>, CuError> {
    if !matches!(number, 1..=4 | 8 | 9 | 11..=14) {
        return Err(CuError::INVALID_VALUE);
    }
    if let Some(lie) = d.plan.pointer.get(&number).copied() {
        return Ok(Some(dressed(number, lie)));
    }
    let Some((start, region)) = d.space.find(address) else {
        return Ok(None);
    };
    let physical = region.physical.and_then(|s| d.space.physical.get(&s));
    let host_memory = match region.kind {
        Kind::Host | Kind::Registered => true,
        Kind::Mapped => physical.is_some_and(|p| p.device.is_none()),
        Kind::Device | Kind::Managed => false,
    };
    let value = match number {
        1 if region.context == 0 => return Ok(None),
        1 => region.context,
        2 => {
            if host_memory {
                1
            } else {
                2
            }
        }
        3 => address,
        4 if region.kind == Kind::Managed || host_memory => address,
        4 => return Ok(None),
        8 => u64::from(region.kind == Kind::Managed),
        9 => region.device as u64,
        11 => start,
        12 => region.len,
        13 => 1,
        _ => physical
            .and_then(|p| p.properties)
            .map_or(0, |p| u64::from(p.handle_types)),
    };
    Ok(Some(dressed(number, value)))
}

fn dressed(number: u32, value: u64) -> Value {
    match number {
        2 | 8 | 13 => Value::Word(u32::try_from(value).unwrap_or(u32::MAX)),
        9 => Value::Signed(i32::try_from(value).unwrap_or(i32::MAX)),
        _ => Value::Long(value),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuPointerGetAttribute(out: *mut c_void, number: c_uint, address: u64) -> u32 {
    call("cuPointerGetAttribute", |d| {
        d.healthy()?;
        let value = attribute(d, number, address)?.ok_or(CuError::INVALID_VALUE)?;
        // SAFETY: cuda.h: `out` points to an object of the attribute's type.
        unsafe { value.write(out) }
    })
}

/// An attribute that does not apply becomes null, and -2 for the ordinal
/// (`CU_DEVICE_INVALID`), as the header promises, instead of an error.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuPointerGetAttributes(
    count: c_uint,
    numbers: *mut c_uint,
    places: *mut *mut c_void,
    address: u64,
) -> u32 {
    call("cuPointerGetAttributes", |d| {
        d.healthy()?;
        const NO_DEVICE: c_int = -2;
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: cuda.h: `numbers` has `count` elements.
            let number = unsafe { element(numbers, index) }?;
            // SAFETY: cuda.h: `places` has `count` elements.
            let place = unsafe { element(places, index) }?;
            let value = attribute(d, number, address)?.unwrap_or_else(|| match number {
                9 => Value::Signed(NO_DEVICE),
                other => dressed(other, 0),
            });
            // SAFETY: cuda.h: each place points to an object of its attribute's type.
            unsafe { value.write(place) }?;
        }
        Ok(())
    })
}
