//! The one address space: what lies where, and who may do what with it.

use std::collections::BTreeMap;

use super::codes::CuError;
use super::physical::{Arena, Backing};
use super::raw;
use crate::ptx::{GlobalMemory, MemoryError};

/// What kind of memory answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `cuMemAlloc` on this device, and the variables of modules.
    Device,
    /// `cuMemMap`.
    Mapped,
    /// `cuMemAllocManaged`.
    Managed,
    /// `cuMemHostAlloc`.
    Host,
    /// `cuMemHostRegister`.
    Registered,
}

/// Rights of one device: bit 0 read, bit 1 write, as in `CUmemAccess_flags`.
pub(crate) type Rights = u32;
pub(crate) const READ: Rights = 1;
pub(crate) const WRITE: Rights = 2;

/// One contiguous range of addresses.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) len: u64,
    pub(crate) kind: Kind,
    /// Device of the memory, or of the context that registered it.
    pub(crate) device: usize,
    /// Context that owns it; 0 for mappings, which no context owns.
    pub(crate) context: u64,
    /// Physical allocation; `None` for registered host memory.
    pub(crate) physical: Option<u64>,
    /// A test's lie: another physical allocation answers instead.
    pub(crate) diverted: Option<u64>,
    /// Where in the physical allocation the range begins.
    pub(crate) offset: u64,
    /// Rights of each device.
    pub(crate) rights: Vec<Rights>,
}

/// One physical allocation.
#[derive(Clone, Debug)]
pub(crate) struct Physical {
    pub(crate) backing: Backing,
    /// Device it is charged to; `None` for host memory.
    pub(crate) device: Option<usize>,
    /// Bytes charged.
    pub(crate) charge: u64,
    /// `CUmemAllocationProp` as created; `None` outside the virtual memory API.
    pub(crate) properties: Option<Properties>,
    /// References that the application holds (`cuMemCreate`, import, retain).
    pub(crate) handles: u64,
    pub(crate) mappings: u64,
    pub(crate) imported: bool,
}

/// The parts of `CUmemAllocationProp` that this driver keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) handle_types: u32,
    pub(crate) location_kind: u32,
    pub(crate) location_id: i32,
}

/// Address range of `cuMemAddressReserve`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    pub(crate) len: u64,
}

pub(crate) struct Space {
    pub(crate) arena: Arena,
    pub(crate) regions: BTreeMap<u64, Region>,
    pub(crate) reservations: BTreeMap<u64, Reservation>,
    /// By serial number: 0, 1, 2, ... since the last reset.
    pub(crate) physical: BTreeMap<u64, Physical>,
    pub(crate) next_serial: u64,
    /// Freed memory of devices, to be handed out again; `None` where it goes.
    pub(crate) freed: Option<Vec<Physical>>,
    /// Does the hardware honour read-only mappings?
    pub(crate) ignore_protection: bool,
}

impl Space {
    pub(crate) fn new(arena: Arena) -> Space {
        Space {
            arena,
            regions: BTreeMap::new(),
            reservations: BTreeMap::new(),
            physical: BTreeMap::new(),
            next_serial: 0,
            freed: None,
            ignore_protection: false,
        }
    }

    pub(crate) fn add_physical(&mut self, physical: Physical) -> u64 {
        let serial = self.next_serial;
        self.next_serial = serial.saturating_add(1);
        self.physical.insert(serial, physical);
        serial
    }

    /// Frees the physical allocation if nothing refers to it any more.
    pub(crate) fn collect(&mut self, serial: u64) {
        let idle = |p: &Physical| p.handles == 0 && p.mappings == 0;
        if self.physical.get(&serial).is_some_and(idle)
            && let Some(gone) = self.physical.remove(&serial)
            && let Some(freed) = &mut self.freed
            && gone.device.is_some()
            && !gone.imported
        {
            freed.push(gone);
        }
    }

    /// Memory that was freed on a device and is just as long and of this kind.
    pub(crate) fn take_freed(
        &mut self,
        device: Option<usize>,
        len: u64,
        properties: Option<Properties>,
    ) -> Option<Backing> {
        let freed = self.freed.as_mut()?;
        let fits = |p: &Physical| {
            p.device == device && p.backing.len() == len && p.properties == properties
        };
        let at = freed.iter().rposition(fits)?;
        Some(freed.swap_remove(at).backing)
    }

    /// The region that contains `addr`, with its start.
    pub(crate) fn find(&self, addr: u64) -> Option<(u64, &Region)> {
        let (&start, region) = self.regions.range(..=addr).next_back()?;
        (addr.checked_sub(start)? < region.len).then_some((start, region))
    }

    /// Whose rights a copy between devices needs at `addr`: for mappings those
    /// of the device whose stream runs it, for plain memory its owner's.
    pub(crate) fn copier(&self, addr: u64, runs: usize, owner: usize) -> usize {
        match self.find(addr) {
            Some((_, region)) if region.kind == Kind::Mapped => runs,
            _ => owner,
        }
    }

    /// How often `needle` lies in memory of devices, and in host memory that the
    /// driver allocated.
    pub(crate) fn occurrences(&self, needle: &[u8]) -> (usize, usize) {
        let count = |physical: &Physical| {
            let len = physical.backing.len();
            let Some(at) = physical.backing.at(0, len) else {
                return 0;
            };
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            // SAFETY: `at` checked that the live backing has `len` bytes.
            unsafe { raw::copy(bytes.as_mut_ptr(), at, bytes.len()) };
            bytes.windows(needle.len()).filter(|w| *w == needle).count()
        };
        let sum = |on_host: bool| {
            let physical = self.physical.values();
            let there = physical.filter(|p| p.device.is_none() == on_host);
            there.map(count).sum()
        };
        (sum(false), sum(true))
    }

    /// Removes a region and what only it held.
    pub(crate) fn remove_region(&mut self, start: u64) -> Option<Region> {
        let region = self.regions.remove(&start)?;
        if let Some(serial) = region.physical {
            if let Some(physical) = self.physical.get_mut(&serial) {
                physical.mappings = physical.mappings.saturating_sub(1);
            }
            self.collect(serial);
        }
        if region.kind == Kind::Device {
            self.arena.give_back(start);
        }
        Some(region)
    }

    /// The piece of `[addr, addr + len)` that lies in one region: host pointer to
    /// its bytes, its length, the rights of `device` (`None`: all rights).
    fn piece(&self, addr: u64, len: u64, device: Option<usize>) -> Option<(*mut u8, u64, Rights)> {
        let (start, region) = self.find(addr)?;
        let inside = addr.checked_sub(start)?;
        let piece = region.len.checked_sub(inside)?.min(len);
        let pointer = match region.diverted.or(region.physical) {
            Some(serial) => {
                let offset = region.offset.checked_add(inside)?;
                self.physical.get(&serial)?.backing.at(offset, piece)?
            }
            None => std::ptr::with_exposed_provenance_mut(usize::try_from(addr).ok()?),
        };
        let rights = match device {
            None => READ | WRITE,
            Some(device) => region.rights.get(device).copied().unwrap_or(0),
        };
        let rights = if self.ignore_protection && rights & READ != 0 {
            READ | WRITE
        } else {
            rights
        };
        Some((pointer, piece, rights))
    }

    /// Is every byte of the range known memory?
    pub(crate) fn known(&self, addr: u64, len: u64) -> bool {
        let mut at = addr;
        let mut left = len;
        while left > 0 {
            let Some((_, piece, _)) = self.piece(at, left, None) else {
                return false;
            };
            at = at.saturating_add(piece);
            left = left.saturating_sub(piece);
        }
        self.find(addr).is_some()
    }

    /// Calls `each` with host pointer and length of every piece of the range,
    /// after all of them have been found to grant `rights` to `device`.
    pub(crate) fn pieces(
        &self,
        (addr, len): (u64, u64),
        device: Option<usize>,
        rights: Rights,
        mut each: impl FnMut(*mut u8, usize),
    ) -> Result<(), CuError> {
        let mut found = Vec::new();
        let mut at = addr;
        let mut left = len;
        while left > 0 {
            let piece = self.piece(at, left, device);
            let (pointer, size, granted) = piece.ok_or(CuError::ILLEGAL_ADDRESS)?;
            if granted & rights != rights {
                return Err(CuError::ILLEGAL_ADDRESS);
            }
            found.push((
                pointer,
                usize::try_from(size).map_err(|_| CuError::INVALID_VALUE)?,
            ));
            at = at.saturating_add(size);
            left = left.saturating_sub(size);
        }
        for (pointer, size) in found {
            each(pointer, size);
        }
        Ok(())
    }

    /// Reads a range with the rights of `device`.
    pub(crate) fn read(
        &self,
        range: (u64, u64),
        device: Option<usize>,
    ) -> Result<Vec<u8>, CuError> {
        let mut out = vec![0; usize::try_from(range.1).map_err(|_| CuError::INVALID_VALUE)?];
        let mut rest = out.as_mut_slice();
        self.pieces(range, device, READ, |from, len| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(len);
            // SAFETY: `pieces` yields live memory of `len` bytes; `now` is as long.
            unsafe { raw::copy(now.as_mut_ptr(), from, len) };
            rest = later;
        })?;
        Ok(out)
    }

    /// Writes a range with the rights of `device`.
    pub(crate) fn write(
        &self,
        addr: u64,
        bytes: &[u8],
        device: Option<usize>,
    ) -> Result<(), CuError> {
        let mut rest = bytes;
        self.pieces((addr, bytes.len() as u64), device, WRITE, |to, len| {
            let (now, later) = rest.split_at(len);
            // SAFETY: `pieces` yields live memory of `len` bytes; `now` is as long.
            unsafe { raw::copy(to, now.as_ptr(), len) };
            rest = later;
        })
    }
}

/// The space as the kernels of one device see it. Remembers the last region,
/// because the lanes of a warp mostly stay in one.
pub(crate) struct View<'a> {
    space: &'a Space,
    device: usize,
    last: Option<Window>,
}

#[derive(Clone, Copy)]
struct Window {
    start: u64,
    end: u64,
    pointer: *mut u8,
    rights: Rights,
}

impl<'a> View<'a> {
    pub(crate) fn new(space: &'a Space, device: usize) -> View<'a> {
        View {
            space,
            device,
            last: None,
        }
    }

    fn locate(&mut self, addr: u64, len: usize, rights: Rights) -> Result<*mut u8, MemoryError> {
        let end = addr
            .checked_add(len as u64)
            .ok_or(MemoryError::OutOfBounds)?;
        let hit = |w: &Window| w.start <= addr && end <= w.end;
        let window = match self.last.filter(hit) {
            Some(window) => window,
            None => {
                let window = self
                    .window(addr)
                    .filter(hit)
                    .ok_or(MemoryError::OutOfBounds)?;
                self.last = Some(window);
                window
            }
        };
        if window.rights & rights != rights {
            return Err(MemoryError::Protected);
        }
        let offset = usize::try_from(addr.wrapping_sub(window.start));
        Ok(window
            .pointer
            .wrapping_add(offset.map_err(|_| MemoryError::OutOfBounds)?))
    }

    fn window(&self, addr: u64) -> Option<Window> {
        let (start, region) = self.space.find(addr)?;
        let (pointer, len, rights) = self.space.piece(start, region.len, Some(self.device))?;
        Some(Window {
            start,
            end: start.checked_add(len)?,
            pointer,
            rights,
        })
    }
}

impl GlobalMemory for View<'_> {
    fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        let from = self.locate(addr, out.len(), READ)?;
        // SAFETY: `locate` found `out.len()` bytes of live memory at `from`; the
        // space is borrowed, so nothing is unmapped meanwhile.
        unsafe { raw::copy(out.as_mut_ptr(), from, out.len()) };
        Ok(())
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let to = self.locate(addr, bytes.len(), WRITE)?;
        // SAFETY: as in `read`, with the right to write.
        unsafe { raw::copy(to, bytes.as_ptr(), bytes.len()) };
        Ok(())
    }
}
