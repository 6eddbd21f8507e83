//! The virtual memory API: handles, reservations, mappings, rights, sharing.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::codes::CuError;
use super::memory::{HANDLE_POSIX_FD, LOCATION_DEVICE};
use super::physical::Backing;
use super::space::{Kind, Properties, Region, Reservation, Rights};
use super::state::Driver;

/// `CU_MEM_LOCATION_TYPE_HOST` to `..._HOST_NUMA_CURRENT`.
const LOCATION_HOST: std::ops::RangeInclusive<u32> = 2..=4;

/// Handles are serial numbers in a dress that no pointer or small number wears.
fn handle_of(serial: u64) -> u64 {
    serial.wrapping_add(1).wrapping_shl(8) | 0x5f
}

fn serial_of(handle: u64) -> Result<u64, CuError> {
    if handle & 0xff != 0x5f {
        return Err(CuError::INVALID_VALUE);
    }
    handle
        .wrapping_shr(8)
        .checked_sub(1)
        .ok_or(CuError::INVALID_VALUE)
}

impl Driver {
    fn need_vmm(&self) -> Result<(), CuError> {
        if self.options.vmm {
            Ok(())
        } else {
            Err(CuError::NOT_SUPPORTED)
        }
    }

    /// Multiple of the granularity and not zero?
    fn whole(&self, bytes: u64) -> Result<(), CuError> {
        let fits = bytes != 0 && bytes.is_multiple_of(self.options.granularity);
        if fits {
            Ok(())
        } else {
            Err(CuError::INVALID_VALUE)
        }
    }

    /// Checks what `cuMemCreate` may be asked for.
    pub(crate) fn check_properties(&self, kind: u32, wanted: Properties) -> Result<(), CuError> {
        self.need_vmm()?;
        match wanted.location_kind {
            LOCATION_DEVICE => {
                self.ordinal(wanted.location_id)?;
            }
            host if LOCATION_HOST.contains(&host) => {}
            _ => return Err(CuError::INVALID_VALUE),
        }
        if kind != 1 || wanted.handle_types > HANDLE_POSIX_FD {
            return Err(CuError::INVALID_VALUE);
        }
        if wanted.handle_types == HANDLE_POSIX_FD && !self.options.fd {
            return Err(CuError::NOT_SUPPORTED);
        }
        Ok(())
    }

    pub(crate) fn vmm_create(
        &mut self,
        bytes: u64,
        kind: u32,
        wanted: Properties,
    ) -> Result<u64, CuError> {
        self.check_properties(kind, wanted)?;
        self.whole(bytes)?;
        Ok(handle_of(self.create(bytes, wanted)?))
    }

    pub(crate) fn vmm_release(&mut self, handle: u64) -> Result<(), CuError> {
        let serial = serial_of(handle)?;
        let physical = self
            .space
            .physical
            .get_mut(&serial)
            .filter(|p| p.handles > 0);
        let physical = physical.ok_or(CuError::INVALID_VALUE)?;
        physical.handles = physical.handles.saturating_sub(1);
        self.space.collect(serial);
        Ok(())
    }

    /// The handle of the mapping at `address`, with one more reference.
    pub(crate) fn vmm_retain(&mut self, address: u64) -> Result<u64, CuError> {
        self.need_vmm()?;
        let (_, region) = self.space.find(address).ok_or(CuError::INVALID_VALUE)?;
        let serial = region.physical.filter(|_| region.kind == Kind::Mapped);
        let serial = serial.ok_or(CuError::INVALID_VALUE)?;
        if let Some(physical) = self.space.physical.get_mut(&serial) {
            physical.handles = physical.handles.saturating_add(1);
        }
        Ok(handle_of(serial))
    }

    pub(crate) fn vmm_properties(&self, handle: u64) -> Result<Properties, CuError> {
        let physical = self
            .space
            .physical
            .get(&serial_of(handle)?)
            .filter(|p| p.handles > 0);
        let found = physical
            .and_then(|p| p.properties)
            .ok_or(CuError::INVALID_VALUE)?;
        let location_kind = self.plan.location_kind.unwrap_or(found.location_kind);
        Ok(Properties {
            location_kind,
            ..found
        })
    }

    pub(crate) fn vmm_reserve(
        &mut self,
        bytes: u64,
        align: u64,
        wish: u64,
        flags: u64,
    ) -> Result<u64, CuError> {
        self.need_vmm()?;
        self.whole(bytes)?;
        let aligned = align == 0 || align.is_power_of_two();
        // A wished address may be ignored, so it is.
        let _ignored = wish;
        if !aligned || flags != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let granularity = self.options.granularity;
        let start = self
            .space
            .arena
            .take(bytes, align.max(granularity), granularity);
        let start = start.ok_or(CuError::OUT_OF_MEMORY)?;
        self.space
            .reservations
            .insert(start, Reservation { len: bytes });
        Ok(start)
    }

    pub(crate) fn vmm_free_range(&mut self, start: u64, bytes: u64) -> Result<(), CuError> {
        let whole = self
            .space
            .reservations
            .get(&start)
            .is_some_and(|r| r.len == bytes);
        let end = start.checked_add(bytes).ok_or(CuError::INVALID_VALUE)?;
        let mapped = self.space.regions.range(start..end).next().is_some();
        if !whole || mapped {
            return Err(CuError::INVALID_VALUE);
        }
        self.space.reservations.remove(&start);
        self.space.arena.give_back(start);
        Ok(())
    }

    pub(crate) fn vmm_map(
        &mut self,
        (start, bytes): (u64, u64),
        offset: u64,
        handle: u64,
        flags: u64,
    ) -> Result<(), CuError> {
        let serial = serial_of(handle)?;
        self.whole(bytes)?;
        let end = start.checked_add(bytes).ok_or(CuError::INVALID_VALUE)?;
        let reserved = self.space.reservations.range(..=start).next_back();
        let inside = reserved.is_some_and(|(at, r)| end <= at.saturating_add(r.len));
        // The offset must be zero "for now", says the header.
        if !inside || offset != 0 || flags != 0 || !start.is_multiple_of(self.options.granularity) {
            return Err(CuError::INVALID_VALUE);
        }
        let before = self.space.regions.range(..end).next_back();
        if before.is_some_and(|(at, r)| at.saturating_add(r.len) > start) {
            return Err(CuError::INVALID_VALUE);
        }
        let devices = self.devices.len();
        let physical = self
            .space
            .physical
            .get_mut(&serial)
            .filter(|p| p.handles > 0);
        let physical = physical.ok_or(CuError::INVALID_VALUE)?;
        if bytes > physical.backing.len() {
            return Err(CuError::INVALID_VALUE);
        }
        physical.mappings = physical.mappings.saturating_add(1);
        let device = physical.device.unwrap_or(0);
        self.space.regions.insert(
            start,
            Region {
                len: bytes,
                kind: Kind::Mapped,
                device,
                context: 0,
                physical: Some(serial),
                diverted: None,
                offset: 0,
                rights: vec![0; devices],
            },
        );
        Ok(())
    }

    /// Starts of the mappings that cover the range exactly.
    fn mappings_in(&self, start: u64, bytes: u64) -> Result<Vec<u64>, CuError> {
        let end = start.checked_add(bytes).ok_or(CuError::INVALID_VALUE)?;
        let mut at = start;
        let mut found = Vec::new();
        while at < end {
            let region = self
                .space
                .regions
                .get(&at)
                .filter(|r| r.kind == Kind::Mapped);
            let region = region.ok_or(CuError::INVALID_VALUE)?;
            found.push(at);
            at = at.saturating_add(region.len);
        }
        if at == end && !found.is_empty() {
            Ok(found)
        } else {
            Err(CuError::INVALID_VALUE)
        }
    }

    /// Work that still uses the range will fault.
    pub(crate) fn vmm_unmap(&mut self, start: u64, bytes: u64) -> Result<(), CuError> {
        for at in self.mappings_in(start, bytes)? {
            self.space.remove_region(at);
        }
        Ok(())
    }

    pub(crate) fn vmm_set_access(
        &mut self,
        (start, bytes): (u64, u64),
        (kind, id): (u32, i32),
        flags: Rights,
    ) -> Result<(), CuError> {
        let mappings = self.mappings_in(start, bytes)?;
        if kind != LOCATION_DEVICE || !matches!(flags, 0 | 1 | 3) {
            return Err(CuError::INVALID_VALUE);
        }
        let device = self.ordinal(id)?;
        if flags == 1 && !self.options.read_only {
            return Err(CuError::NOT_SUPPORTED);
        }
        for at in mappings {
            let region = self.space.regions.get_mut(&at);
            if let Some(place) = region.and_then(|r| r.rights.get_mut(device)) {
                *place = flags;
            }
        }
        Ok(())
    }

    pub(crate) fn vmm_access(&self, (kind, id): (u32, i32), address: u64) -> Result<u64, CuError> {
        let (_, region) = self.space.find(address).ok_or(CuError::INVALID_VALUE)?;
        if region.kind != Kind::Mapped || kind != LOCATION_DEVICE {
            return Err(CuError::INVALID_VALUE);
        }
        let device = self.ordinal(id)?;
        let rights = region.rights.get(device).copied().unwrap_or(0);
        Ok(self.plan.access.unwrap_or(u64::from(rights)))
    }

    pub(crate) fn vmm_export(
        &mut self,
        handle: u64,
        kind: u32,
        flags: u64,
    ) -> Result<OwnedFd, CuError> {
        let physical = self
            .space
            .physical
            .get(&serial_of(handle)?)
            .filter(|p| p.handles > 0);
        let physical = physical.ok_or(CuError::INVALID_VALUE)?;
        if kind != HANDLE_POSIX_FD || flags != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let fd = physical.backing.export().ok_or(CuError::INVALID_VALUE)?;
        let fd = fd.map_err(|_| CuError::OPERATING_SYSTEM)?;
        self.descriptors_exported = self.descriptors_exported.saturating_add(1);
        Ok(fd)
    }

    pub(crate) fn vmm_import(&mut self, fd: BorrowedFd<'_>) -> Result<u64, CuError> {
        self.need_vmm()?;
        if !self.options.fd {
            return Err(CuError::NOT_SUPPORTED);
        }
        let (backing, label) = Backing::import(fd)?;
        Ok(handle_of(self.adopt(backing, label)?))
    }
}
