//! What the driver says about an address: the evidence of residency
//! (requirement: M0-W-1010, VP-001..VP-005).

use vram_residency::device::{DeviceError, MemoryKind, Protection, Witness};

use super::context::Context;
use crate::driver::{DriverError, PointerFacts};
use crate::sys::{
    ALLOCATION_TYPE_PINNED, CuAllocationProp, CuDevicePtr, CuMemLocation, CuResult, access,
    location, memory_type,
};

/// Asks the driver about `len` bytes at `at`, whoever allocated them: one
/// allocation after the other, for memory of several may lie side by side. Of
/// each fact the answer that guarantees least counts.
///
/// The question takes references to the physical memory; `kept` becomes the
/// reason when one of them could not be given back.
pub(crate) fn take(
    context: &Context,
    at: CuDevicePtr,
    len: u64,
    kept: &mut Result<(), DeviceError>,
) -> Result<Witness, DeviceError> {
    let _entered = context.enter()?;
    let end = at.offset(len.max(1));
    let (mut whole, mut next) = part(context, at, end, kept)?;
    while next < end {
        let (witness, after) = part(context, next, end, kept)?;
        whole = weaker(whole, witness);
        next = after;
    }
    Ok(whole)
}

/// The witness of the allocation at `at`, and where it ends; `end` at most.
/// Where the driver does not know what is beyond `at`, neither does the witness.
fn part(
    context: &Context,
    at: CuDevicePtr,
    end: CuDevicePtr,
    kept: &mut Result<(), DeviceError>,
) -> Result<(Witness, CuDevicePtr), DeviceError> {
    let facts = context.driver().pointer_facts(at)?;
    let prop = properties(context, at, kept)?;
    let known = match context.driver().mem_get_address_range(at) {
        Ok((start, bytes)) => Some(start.offset(bytes)).filter(|after| *after > at),
        Err(error) if is_no_range(&error) => None,
        Err(error) => return Err(error.into()),
    };
    let after = known.unwrap_or(end).min(end);
    let last = CuDevicePtr(after.0.saturating_sub(1)).max(at);
    let ours = CuMemLocation {
        kind: location::DEVICE,
        id: context.ordinal(),
    };
    let protection = match prop {
        Some(_) => rights(context, &ours, at)?.min(rights(context, &ours, last)?),
        None => Rights::Write,
    };
    let memory = match memory_kind(facts, prop) {
        MemoryKind::Device if known.is_none() => MemoryKind::Unknown,
        kind => kind,
    };
    let witness = Witness {
        memory,
        managed: facts.managed,
        host_pointer: facts.host_pointer,
        ordinal: u32::try_from(facts.ordinal).unwrap_or(u32::MAX),
        pinned_on_device: prop
            .is_some_and(|prop| prop.kind == ALLOCATION_TYPE_PINNED && prop.location == ours),
        protection: match protection {
            Rights::Write => Protection::ReadWrite,
            Rights::Read => Protection::ReadOnly,
        },
    };
    Ok((witness, after))
}

/// What both witnesses guarantee.
fn weaker(one: Witness, other: Witness) -> Witness {
    let memory = match one.memory {
        MemoryKind::Device => other.memory,
        kind => kind,
    };
    let read_only = [one, other].map(|witness| witness.protection == Protection::ReadOnly);
    Witness {
        memory,
        managed: one.managed || other.managed,
        host_pointer: one.host_pointer || other.host_pointer,
        ordinal: if one.ordinal == other.ordinal {
            one.ordinal
        } else {
            u32::MAX
        },
        pinned_on_device: one.pinned_on_device && other.pinned_on_device,
        protection: if read_only == [true, true] {
            Protection::ReadOnly
        } else {
            Protection::ReadWrite
        },
    }
}

/// The answers that mean "nothing of mine" rather than a fault.
const fn is_no_range(error: &DriverError) -> bool {
    matches!(
        error,
        DriverError::Call {
            code: CuResult::INVALID_VALUE | CuResult::NOT_FOUND | CuResult::NOT_SUPPORTED,
            ..
        }
    )
}

/// What a mapping allows, the weaker guarantee first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rights {
    Write,
    Read,
}

/// Properties of the physical memory behind `at`; `None` for memory that was
/// not made by the virtual memory API.
fn properties(
    context: &Context,
    at: CuDevicePtr,
    kept: &mut Result<(), DeviceError>,
) -> Result<Option<CuAllocationProp>, DeviceError> {
    let driver = context.driver();
    let handle = match driver.mem_retain_allocation_handle(at) {
        Ok(handle) => handle,
        Err(error) if is_no_virtual_memory(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // SAFETY: the retain above keeps the handle alive.
    let prop = unsafe { driver.mem_get_allocation_properties(handle) };
    // SAFETY: gives up the reference retained above.
    let released = unsafe { driver.mem_release(handle) };
    if let Err(error) = released {
        let error = DeviceError::from(error);
        *kept = Err(error.clone());
        return Err(error);
    }
    Ok(Some(prop?))
}

/// The answers that mean "not from the virtual memory API" rather than a fault.
const fn is_no_virtual_memory(error: &DriverError) -> bool {
    matches!(
        error,
        DriverError::Missing { .. }
            | DriverError::Call {
                code: CuResult::INVALID_VALUE | CuResult::NOT_PERMITTED | CuResult::NOT_SUPPORTED,
                ..
            }
    )
}

/// Anything but "read only" counts as writable: an answer that this crate does
/// not know is no guarantee.
fn rights(
    context: &Context,
    location: &CuMemLocation,
    at: CuDevicePtr,
) -> Result<Rights, DeviceError> {
    let flags = context.driver().mem_get_access(location, at)?;
    Ok(if flags == u64::from(access::READ) {
        Rights::Read
    } else {
        Rights::Write
    })
}

fn memory_kind(facts: PointerFacts, prop: Option<CuAllocationProp>) -> MemoryKind {
    if facts.managed {
        return MemoryKind::Managed;
    }
    let placed = prop.map(|prop| prop.location.kind);
    match (facts.memory_type, placed) {
        (memory_type::DEVICE, None | Some(location::DEVICE)) => MemoryKind::Device,
        (memory_type::HOST, _) => MemoryKind::Host,
        // Everything between host and host NUMA nodes lies beyond DEVICE.
        (_, Some(kind)) if kind >= location::HOST => MemoryKind::Host,
        _ => MemoryKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(memory_type: u32, managed: bool) -> PointerFacts {
        PointerFacts {
            memory_type,
            host_pointer: false,
            managed,
            ordinal: 0,
        }
    }

    fn placed(kind: u32) -> Option<CuAllocationProp> {
        let location = CuMemLocation { kind, id: 0 };
        Some(CuAllocationProp {
            location,
            ..CuAllocationProp::default()
        })
    }

    #[test]
    fn only_device_memory_without_a_contradiction_counts_as_device() {
        for (facts, prop, kind) in [
            (facts(memory_type::DEVICE, false), None, MemoryKind::Device),
            (
                facts(memory_type::DEVICE, false),
                placed(location::DEVICE),
                MemoryKind::Device,
            ),
            (facts(memory_type::DEVICE, true), None, MemoryKind::Managed),
            (facts(memory_type::HOST, false), None, MemoryKind::Host),
            (
                facts(memory_type::DEVICE, false),
                placed(location::HOST_NUMA),
                MemoryKind::Host,
            ),
            (
                facts(memory_type::DEVICE, false),
                placed(0),
                MemoryKind::Unknown,
            ),
            (
                facts(memory_type::UNIFIED, false),
                None,
                MemoryKind::Unknown,
            ),
            (facts(0, false), None, MemoryKind::Unknown),
        ] {
            assert_eq!(memory_kind(facts, prop), kind);
        }
    }
}
