//! Allocation, freeing, accounting.

use super::codes::CuError;
use super::physical::{Backing, Label};
use super::raw;
use super::space::{Kind, Physical, Properties, READ, Region, WRITE};
use super::state::Driver;

/// `cuMemAlloc` addresses are multiples of this.
const ALIGN: u64 = 512;
/// Smaller allocations share pages, as the real allocator lets them.
const SMALL: u64 = 1 << 20;
/// Reads of whole 16-byte words that hold the last byte are allowed.
const WORD: u64 = 16;
/// Poison at most so much at each end of an allocation.
const POISON: u64 = 32 << 20;

impl Driver {
    /// Bytes in use on a device: what contexts, pages of small allocations and
    /// all other allocations take.
    pub(crate) fn used(&self, device: usize) -> u64 {
        let mut small = 0_u64;
        let mut large = 0_u64;
        for physical in self
            .space
            .physical
            .values()
            .filter(|p| p.device == Some(device))
        {
            if physical.properties.is_none() && physical.charge < SMALL {
                small = small.saturating_add(physical.charge);
            } else {
                large = large.saturating_add(self.whole_pages(physical.charge));
            }
        }
        let contexts = self
            .contexts
            .values()
            .filter(|c| c.device == device)
            .count() as u64;
        let own = self.options.context_bytes.saturating_mul(contexts);
        let code = self.whole_pages(self.code_on(device));
        large
            .saturating_add(self.whole_pages(small))
            .saturating_add(own)
            .saturating_add(code)
    }

    /// Bytes that the code of launched kernels takes on a device.
    fn code_on(&self, device: usize) -> u64 {
        let here = |context: u64| self.device_of(context) == Ok(device);
        let modules = self.modules.values().filter(|m| here(m.context));
        let kernels: u64 = modules.map(|m| m.launched.len() as u64).sum();
        kernels.saturating_mul(self.options.code_bytes)
    }

    /// Takes the memory for a kernel's code at its first launch.
    pub(crate) fn load_code(&mut self, module: u64, kernel: String) -> Result<(), CuError> {
        let found = self.modules.get_mut(&module);
        let found = found.ok_or(CuError::INVALID_HANDLE)?;
        let context = found.context;
        let is_new = found.launched.insert(kernel.clone());
        let device = self.device_of(context)?;
        if is_new && self.used(device) > self.options.vram {
            if let Some(found) = self.modules.get_mut(&module) {
                found.launched.remove(&kernel);
            }
            return Err(CuError::OUT_OF_MEMORY);
        }
        Ok(())
    }

    fn whole_pages(&self, bytes: u64) -> u64 {
        bytes
            .checked_next_multiple_of(self.options.granularity)
            .unwrap_or(u64::MAX)
    }

    /// Free and total bytes, or the lie that a test asked for.
    pub(crate) fn mem_info(&self, device: usize) -> (u64, u64) {
        let truth = || {
            let free = self.options.vram.saturating_sub(self.used(device));
            (free, self.options.vram)
        };
        self.plan.mem_info.unwrap_or_else(truth)
    }

    /// Adds a physical allocation if it fits the device.
    fn admit(&mut self, physical: Physical) -> Result<u64, CuError> {
        let device = physical.device;
        let serial = self.space.add_physical(physical);
        if device.is_some_and(|d| self.used(d) > self.options.vram) {
            self.space.physical.remove(&serial);
            return Err(CuError::OUT_OF_MEMORY);
        }
        Ok(serial)
    }

    fn fits(&self, device: usize, bytes: u64) -> Result<(), CuError> {
        let free = self.options.vram.saturating_sub(self.used(device));
        if bytes > free {
            Err(CuError::OUT_OF_MEMORY)
        } else {
            Ok(())
        }
    }

    /// Memory of a device: somebody's who freed it, as they left it, or fresh.
    fn backing(
        &mut self,
        device: Option<usize>,
        len: u64,
        properties: Option<Properties>,
        fresh: impl FnOnce() -> Result<Backing, CuError>,
    ) -> Result<Backing, CuError> {
        if let Some(backing) = self.space.take_freed(device, len, properties) {
            return Ok(backing);
        }
        let backing = fresh()?;
        self.poison(&backing);
        Ok(backing)
    }

    /// Fresh memory holds garbage, so that nobody relies on zeros.
    fn poison(&self, backing: &Backing) {
        let Some(value) = self.options.poison else {
            return;
        };
        let len = backing.len();
        let head = len.min(POISON);
        let tail = len.saturating_sub(head).min(POISON);
        for (offset, size) in [(0, head), (len.saturating_sub(tail), tail)] {
            let (Some(at), Ok(size)) = (backing.at(offset, size), usize::try_from(size)) else {
                continue;
            };
            // SAFETY: `at` checked that the bytes are inside the live backing,
            // which nobody else knows yet.
            unsafe { std::ptr::write_bytes(at, value, size) };
        }
    }

    /// Rights of every device on plain memory of one device: its own, and
    /// those devices whose contexts enabled peer access to it.
    fn plain_rights(&self, owner: usize) -> Vec<u32> {
        let reaches = |device: usize| {
            device == owner
                || self
                    .contexts
                    .values()
                    .any(|c| c.device == device && c.peers.contains(&owner))
        };
        (0..self.devices.len())
            .map(|d| if reaches(d) { READ | WRITE } else { 0 })
            .collect()
    }

    /// Brings the rights on plain memory up to date after peer access changed.
    pub(crate) fn refresh_rights(&mut self) {
        let rights: Vec<_> = (0..self.devices.len())
            .map(|d| self.plain_rights(d))
            .collect();
        for region in self
            .space
            .regions
            .values_mut()
            .filter(|r| r.kind == Kind::Device)
        {
            if let Some(now) = rights.get(region.device) {
                region.rights.clone_from(now);
            }
        }
    }

    /// `cuMemAlloc`: the address.
    pub(crate) fn allocate(&mut self, context: u64, bytes: u64) -> Result<u64, CuError> {
        if bytes == 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let device = self.device_of(context)?;
        self.fits(device, bytes)?;
        let len = bytes
            .checked_next_multiple_of(WORD)
            .ok_or(CuError::OUT_OF_MEMORY)?;
        let charge = bytes
            .checked_next_multiple_of(ALIGN)
            .ok_or(CuError::OUT_OF_MEMORY)?;
        let backing = self.backing(Some(device), len, None, || Backing::private(len))?;
        let serial = self.admit(Physical {
            backing,
            device: Some(device),
            charge,
            properties: None,
            handles: 0,
            mappings: 1,
            imported: false,
        })?;
        let Some(address) = self.space.arena.take(len, ALIGN, ALIGN) else {
            self.space.physical.remove(&serial);
            return Err(CuError::OUT_OF_MEMORY);
        };
        let rights = self.plain_rights(device);
        self.space.regions.insert(
            address,
            Region {
                len,
                kind: Kind::Device,
                device,
                context,
                physical: Some(serial),
                diverted: None,
                offset: 0,
                rights,
            },
        );
        Ok(address)
    }

    /// `cuMemFree`, after the device has finished its work.
    pub(crate) fn free(&mut self, context: u64, address: u64) -> Result<(), CuError> {
        let region = self
            .space
            .regions
            .get(&address)
            .ok_or(CuError::INVALID_VALUE)?;
        if !matches!(region.kind, Kind::Device | Kind::Managed) || region.context != context {
            return Err(CuError::INVALID_VALUE);
        }
        self.wait_context(context)?;
        self.space.remove_region(address);
        Ok(())
    }

    /// Host memory that devices can reach: `cuMemHostAlloc`, `cuMemAllocManaged`.
    pub(crate) fn allocate_host(
        &mut self,
        context: u64,
        bytes: u64,
        kind: Kind,
    ) -> Result<u64, CuError> {
        if bytes == 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let device = self.device_of(context)?;
        let charged = (kind == Kind::Managed).then_some(device);
        if let Some(device) = charged {
            self.fits(device, bytes)?;
        }
        let backing = Backing::private(bytes)?;
        let address = backing.host_address();
        let serial = self.admit(Physical {
            backing,
            device: charged,
            charge: bytes,
            properties: None,
            handles: 0,
            mappings: 1,
            imported: false,
        })?;
        self.space.regions.insert(
            address,
            Region {
                len: bytes,
                kind,
                device,
                context,
                physical: Some(serial),
                diverted: None,
                offset: 0,
                rights: vec![READ | WRITE; self.devices.len()],
            },
        );
        Ok(address)
    }

    /// `cuMemFreeHost`. Work that still uses the memory will fault.
    pub(crate) fn free_host(&mut self, address: u64) -> Result<(), CuError> {
        match self.space.regions.get(&address) {
            Some(region) if region.kind == Kind::Host => {
                self.space.remove_region(address);
                Ok(())
            }
            _ => Err(CuError::INVALID_VALUE),
        }
    }

    /// `cuMemHostRegister`.
    pub(crate) fn register(
        &mut self,
        context: u64,
        address: u64,
        bytes: u64,
    ) -> Result<(), CuError> {
        let device = self.device_of(context)?;
        let end = address.checked_add(bytes).ok_or(CuError::INVALID_VALUE)?;
        if bytes == 0 || address == 0 || self.space.arena.contains(address) {
            return Err(CuError::INVALID_VALUE);
        }
        let before = self.space.regions.range(..end).next_back();
        if before.is_some_and(|(start, r)| start.saturating_add(r.len) > address) {
            return Err(CuError::ALREADY_REGISTERED);
        }
        self.space.regions.insert(
            address,
            Region {
                len: bytes,
                kind: Kind::Registered,
                device,
                context,
                physical: None,
                diverted: None,
                offset: 0,
                rights: vec![READ | WRITE; self.devices.len()],
            },
        );
        Ok(())
    }

    /// `cuMemHostUnregister`.
    pub(crate) fn unregister(&mut self, address: u64) -> Result<(), CuError> {
        match self.space.regions.get(&address) {
            Some(region) if region.kind == Kind::Registered => {
                self.space.regions.remove(&address);
                Ok(())
            }
            _ => Err(CuError::NOT_REGISTERED),
        }
    }

    /// `cuMemCreate`: the handle.
    pub(crate) fn create(&mut self, bytes: u64, properties: Properties) -> Result<u64, CuError> {
        let device = match properties.location_kind {
            LOCATION_DEVICE => Some(self.ordinal(properties.location_id)?),
            _ => None,
        };
        if let Some(device) = device {
            self.fits(device, bytes)?;
        }
        let fresh = || match properties.handle_types {
            0 => Backing::private(bytes),
            _ => Backing::shareable(Label {
                len: bytes,
                location_kind: properties.location_kind,
                location_id: properties.location_id,
            }),
        };
        let backing = self.backing(device, bytes, Some(properties), fresh)?;
        self.admit(Physical {
            backing,
            device,
            charge: bytes,
            properties: Some(properties),
            handles: 1,
            mappings: 0,
            imported: false,
        })
    }

    /// Takes memory over that another process exported: the handle.
    pub(crate) fn adopt(&mut self, backing: Backing, label: Label) -> Result<u64, CuError> {
        let device = match label.location_kind {
            LOCATION_DEVICE => Some(self.ordinal(label.location_id)?),
            _ => None,
        };
        self.admit(Physical {
            backing,
            device,
            charge: label.len,
            properties: Some(Properties {
                handle_types: HANDLE_POSIX_FD,
                location_kind: label.location_kind,
                location_id: label.location_id,
            }),
            handles: 1,
            mappings: 0,
            imported: true,
        })
    }

    /// Copies the initial values of a module's variables into new device memory.
    pub(crate) fn place_globals(&mut self, context: u64, image: &[u8]) -> Result<u64, CuError> {
        if image.is_empty() {
            return Ok(0);
        }
        let address = self.allocate(context, image.len() as u64)?;
        self.space.write(address, image, None)?;
        Ok(address)
    }

    /// Reads host memory of the application.
    ///
    /// # Safety
    /// `from` is readable for `len` bytes.
    pub(crate) unsafe fn host_bytes(from: *const u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: the caller vouches for `from`; the vector is as long.
        unsafe { raw::copy(bytes.as_mut_ptr(), from, len) };
        bytes
    }
}

/// `CU_MEM_LOCATION_TYPE_DEVICE`.
pub(crate) const LOCATION_DEVICE: u32 = 1;
/// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR`.
pub(crate) const HANDLE_POSIX_FD: u32 = 1;
