//! Device memory that holds weights: taken, protected, given back.
//!
//! Virtual memory where the driver has it: physical memory of the device,
//! mapped at an address of its own, whose rights can be cut to read-only and
//! which another process can be given as a file descriptor. Plain allocations
//! where it is missing; they are weaker witnesses and cannot be protected.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vram_residency::device::{DeviceError, FreeError, Protection};

use super::context::Context;
use super::convert::no_device_memory;
use super::launch::Run;
use crate::driver::{Driver, DriverError};
use crate::sys::{
    self, ALLOCATION_TYPE_PINNED, CuAccessDesc, CuAllocationProp, CuDevicePtr, CuMemHandle,
    CuMemLocation, CuResult, access, handle_type, location,
};

/// Rounding of plain allocations: what the driver's own pools take.
const PLAIN_GRANULARITY: u64 = 2 << 20;

/// How memory is taken on one device.
#[derive(Clone, Copy)]
pub(crate) struct Allocator {
    /// Properties of virtual memory; `None` where the driver has none.
    prop: Option<CuAllocationProp>,
    granularity: u64,
}

impl Allocator {
    /// Finds out what the device offers: virtual memory that can be exported,
    /// virtual memory that cannot, or plain allocations.
    ///
    /// Some sandboxes report exportable handles and then refuse to make one, or
    /// to export it, each with a code of its own. So one granule is made,
    /// exported and released to see, and whatever is refused for another reason
    /// than a fault or a lack of memory is not offered.
    pub(crate) fn probe(context: &Context) -> Result<Self, DeviceError> {
        let driver = context.driver();
        let offers = |attribute| -> Result<bool, DeviceError> {
            Ok(driver.device_get_attribute(attribute, context.device())? == 1)
        };
        let plain = Self {
            prop: None,
            granularity: PLAIN_GRANULARITY,
        };
        if !has_virtual_memory(driver) || !offers(sys::attribute::VIRTUAL_MEMORY)? {
            return Ok(plain);
        }
        let mut prop = device_memory(context.ordinal());
        if offers(sys::attribute::POSIX_FD_HANDLES)? {
            prop.requested_handle_types = handle_type::POSIX_FD;
            if let Some(found) = Self::with(context, prop)? {
                return Ok(found);
            }
            prop.requested_handle_types = 0;
        }
        Ok(Self::with(context, prop)?.unwrap_or(plain))
    }

    /// An allocator with these properties, or `None` when the device refuses them.
    fn with(context: &Context, prop: CuAllocationProp) -> Result<Option<Self>, DeviceError> {
        let driver = context.driver();
        let _entered = context.enter()?;
        let granule = driver.mem_get_allocation_granularity(&prop, sys::GRANULARITY_MINIMUM);
        let Some(granule) = offered(granule, 0)? else {
            return Ok(None);
        };
        let handle = driver.mem_create(granule, &prop);
        let Some(handle) = offered(handle, granule as u64)? else {
            return Ok(None);
        };
        let shared = if prop.requested_handle_types == handle_type::POSIX_FD {
            // SAFETY: the handle was just made, to be shared like this.
            unsafe { driver.mem_export_fd(handle) }.map(drop)
        } else {
            Ok(())
        };
        // SAFETY: gives up the reference just made.
        unsafe { driver.mem_release(handle) }?;
        let shared = offered(shared, granule as u64)?;
        Ok(shared.map(|()| Self {
            prop: Some(prop),
            granularity: (granule as u64).max(1),
        }))
    }

    pub(crate) const fn granularity(&self) -> u64 {
        self.granularity
    }

    /// Virtual memory rather than plain allocations.
    pub(crate) const fn is_virtual(&self) -> bool {
        self.prop.is_some()
    }

    /// Allocations can be exported as file descriptors.
    pub(crate) fn is_exportable(&self) -> bool {
        self.prop
            .is_some_and(|prop| prop.requested_handle_types == handle_type::POSIX_FD)
    }

    /// Takes at least `len` bytes, readable and writable by the device
    /// (requirement: MS-003, FF-2).
    pub(crate) fn allocate(&self, context: &Arc<Context>, len: u64) -> Result<Memory, DeviceError> {
        let granted = len
            .checked_next_multiple_of(self.granularity)
            .ok_or(DeviceError::OutOfMemory { requested: len })?;
        let refused = |_| DeviceError::OutOfMemory { requested: len };
        let size = usize::try_from(granted).map_err(refused)?;
        let mut memory = Memory {
            context: Arc::clone(context),
            at: CuDevicePtr(0),
            len: size,
            parts: Parts::default(),
        };
        let taken = match &self.prop {
            Some(prop) => memory.take_virtual(prop, self.granularity),
            None => memory.take_plain(),
        };
        match taken {
            Ok(()) => Ok(memory),
            Err(error) => {
                // The first failure is the one to report; what cannot be undone
                // has never held a weight.
                drop(memory.release());
                Err(error)
            }
        }
    }
}

/// Granularity of allocations on a device that is not opened, in bytes. Where
/// the driver refuses to tell one, opening takes plain allocations.
pub(crate) fn granularity(driver: &Driver, ordinal: i32) -> Result<u64, DeviceError> {
    let device = driver.device_get(ordinal)?;
    let offers = driver.device_get_attribute(sys::attribute::VIRTUAL_MEMORY, device)? == 1;
    if !offers || !has_virtual_memory(driver) {
        return Ok(PLAIN_GRANULARITY);
    }
    let prop = device_memory(ordinal);
    let granule = driver.mem_get_allocation_granularity(&prop, sys::GRANULARITY_MINIMUM);
    Ok(offered(granule, 0)?.map_or(PLAIN_GRANULARITY, |granule| granule as u64))
}

/// Properties of memory of one device, not exportable.
fn device_memory(ordinal: i32) -> CuAllocationProp {
    CuAllocationProp {
        kind: ALLOCATION_TYPE_PINNED,
        location: CuMemLocation {
            kind: location::DEVICE,
            id: ordinal,
        },
        ..CuAllocationProp::default()
    }
}

/// Every symbol without which virtual memory is of no use.
fn has_virtual_memory(driver: &Driver) -> bool {
    let table = driver.table();
    table.mem_address_reserve.is_some()
        && table.mem_address_free.is_some()
        && table.mem_create.is_some()
        && table.mem_release.is_some()
        && table.mem_map.is_some()
        && table.mem_unmap.is_some()
        && table.mem_set_access.is_some()
        && table.mem_get_allocation_granularity.is_some()
}

/// What a step of the probe gave; `None` where this kind of memory is refused
/// and a weaker kind is left to try.
fn offered<T>(answer: Result<T, DriverError>, bytes: u64) -> Result<Option<T>, DeviceError> {
    match answer {
        Ok(given) => Ok(Some(given)),
        Err(error) if error.code() == Some(CuResult::OUT_OF_MEMORY) => {
            Err(no_device_memory(error, bytes))
        }
        Err(error) if error.code().is_some_and(CuResult::is_sticky) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// "Not permitted" or "not supported": an answer about the machine, no fault.
fn is_refusal(error: &DriverError) -> bool {
    matches!(
        error.code(),
        Some(CuResult::NOT_PERMITTED | CuResult::NOT_SUPPORTED)
    )
}

/// How a driver that knows no read-only mappings may answer; the rights are then
/// as before, which the witness tells.
fn is_invalid(error: &DriverError) -> bool {
    error.code() == Some(CuResult::INVALID_VALUE)
}

/// How a driver answers that this very device can be given no rights.
fn is_no_peer(error: &DriverError) -> bool {
    matches!(
        error.code(),
        Some(CuResult::INVALID_DEVICE | CuResult::PEER_ACCESS_UNSUPPORTED)
    )
}

/// What of an allocation exists and must be given back.
#[derive(Default, Clone, Copy)]
struct Parts {
    handle: Option<CuMemHandle>,
    reserved: bool,
    mapped: bool,
    plain: bool,
}

/// Memory of the device, readable and writable until it is protected.
pub(crate) struct Memory {
    context: Arc<Context>,
    at: CuDevicePtr,
    len: usize,
    parts: Parts,
}

impl Memory {
    /// All of it, as a run.
    pub(crate) const fn run(&self) -> Run {
        Run {
            at: self.at,
            len: self.len as u64,
        }
    }

    fn take_plain(&mut self) -> Result<(), DeviceError> {
        let sized = |error| no_device_memory(error, self.len as u64);
        let _entered = self.context.enter()?;
        self.at = self.context.driver().mem_alloc(self.len).map_err(sized)?;
        self.parts.plain = true;
        Ok(())
    }

    fn take_virtual(&mut self, prop: &CuAllocationProp, granule: u64) -> Result<(), DeviceError> {
        let len = self.len;
        let sized = |error| no_device_memory(error, len as u64);
        let context = Arc::clone(&self.context);
        let (driver, _entered) = (context.driver(), context.enter()?);
        let handle = driver.mem_create(len, prop).map_err(sized)?;
        self.parts.handle = Some(handle);
        let alignment = usize::try_from(granule).unwrap_or(0);
        self.at = driver.mem_address_reserve(len, alignment).map_err(sized)?;
        self.parts.reserved = true;
        // SAFETY: range and handle were made above, with this length, by this object.
        unsafe { driver.mem_map(self.at, len, handle) }.map_err(sized)?;
        self.parts.mapped = true;
        self.set_rights(access::READ_WRITE).map_err(sized)
    }

    /// The device's own rights.
    fn set_rights(&self, flags: u32) -> Result<(), DriverError> {
        self.set_rights_of(self.context.ordinal(), flags)
    }

    fn set_rights_of(&self, ordinal: i32, flags: u32) -> Result<(), DriverError> {
        let place = CuMemLocation {
            kind: location::DEVICE,
            id: ordinal,
        };
        let rights = CuAccessDesc {
            location: place,
            flags,
        };
        // SAFETY: the range is this object's mapping. Work that needs a right is
        // queued only under the buffer's gate, whose holder calls this.
        unsafe {
            self.context
                .driver()
                .mem_set_access(self.at, self.len, &rights)
        }
    }

    /// Cuts the device's rights to reading, or restores writing. Where the
    /// hardware has no read-only mappings nothing changes, and the witness says so.
    ///
    /// The caller has waited for queued work that writes.
    pub(crate) fn protect(&self, protection: Protection) -> Result<(), DeviceError> {
        if !self.parts.mapped {
            return Ok(());
        }
        let _entered = self.context.enter()?;
        match protection {
            Protection::ReadWrite => Ok(self.set_rights(access::READ_WRITE)?),
            Protection::ReadOnly => match self.set_rights(access::READ) {
                Err(error) if is_refusal(&error) || is_invalid(&error) => Ok(()),
                answer => Ok(answer?),
            },
        }
    }

    /// Lets another device read the memory, until [`Self::withdraw`]. False
    /// where the driver does not allow that. Virtual memory is open to nobody
    /// who was not named, however well two devices reach each other; plain
    /// allocations need no such right for a copy.
    pub(crate) fn lend(&self, ordinal: i32) -> Result<bool, DeviceError> {
        if !self.parts.mapped {
            return Ok(true);
        }
        let _entered = self.context.enter()?;
        match self.set_rights_of(ordinal, access::READ) {
            Ok(()) => Ok(true),
            Err(error) if is_refusal(&error) || is_invalid(&error) || is_no_peer(&error) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ends what [`Self::lend`] allowed; the caller has waited for the reads.
    pub(crate) fn withdraw(&self, ordinal: i32) -> Result<(), DeviceError> {
        if !self.parts.mapped {
            return Ok(());
        }
        let _entered = self.context.enter()?;
        Ok(self.set_rights_of(ordinal, access::NONE)?)
    }

    /// A file descriptor by which another process can map the same memory.
    pub(crate) fn export(&self) -> Result<OwnedFd, DeviceError> {
        let what = "exporting memory that is no virtual memory allocation";
        let handle = self.parts.handle.ok_or(DeviceError::Unsupported { what })?;
        let _entered = self.context.enter()?;
        // SAFETY: the handle is live: this object owns a reference to it.
        Ok(unsafe { self.context.driver().mem_export_fd(handle) }?)
    }

    /// Unmaps and gives back; on failure says how many bytes stay taken. Steps
    /// that succeeded are not repeated by a second call
    /// (requirement: MS-004, FF-3, FF-8).
    ///
    /// The caller has waited for queued work.
    pub(crate) fn release(&mut self) -> Result<(), FreeError> {
        match self.give_back() {
            Ok(()) => Ok(()),
            Err(source) => {
                let Parts {
                    handle,
                    mapped,
                    plain,
                    ..
                } = self.parts;
                let taken = handle.is_some() || mapped || plain;
                Err(FreeError {
                    stranded: if taken { self.len as u64 } else { 0 },
                    source,
                })
            }
        }
    }

    fn give_back(&mut self) -> Result<(), DeviceError> {
        let context = Arc::clone(&self.context);
        let (driver, _entered) = (context.driver(), context.enter_to_release()?);
        if self.parts.plain {
            // SAFETY: a live allocation of this object; nothing uses it any more.
            unsafe { driver.mem_free(self.at) }?;
            self.parts.plain = false;
        }
        if self.parts.mapped {
            // SAFETY: this object's mapping; nothing uses it any more.
            unsafe { driver.mem_unmap(self.at, self.len) }?;
            self.parts.mapped = false;
        }
        if let Some(handle) = self.parts.handle {
            // SAFETY: gives up the one reference that this object owns.
            unsafe { driver.mem_release(handle) }?;
            self.parts.handle = None;
        }
        if self.parts.reserved {
            // SAFETY: this object's reservation, in which nothing is mapped now.
            unsafe { driver.mem_address_free(self.at, self.len) }?;
            self.parts.reserved = false;
        }
        Ok(())
    }
}
