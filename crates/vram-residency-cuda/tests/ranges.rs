//! A witness of a range speaks for all of it, whatever lies side by side
//! (requirement: VP-001, VP-003, VP-005, M0-W-1010).

mod common;

use common::{Machine, skipped};
use vram_residency::Policy;
use vram_residency::device::{Device as _, MemoryKind, Protection, Witness};
use vram_residency_cuda::driver::Driver;
use vram_residency_cuda::sys::{
    ALLOCATION_TYPE_PINNED, CuAccessDesc, CuAllocationProp, CuDevicePtr, CuMemHandle,
    CuMemLocation, access, location,
};

const LEN: usize = 2 << 20;

fn on_device() -> CuMemLocation {
    CuMemLocation {
        kind: location::DEVICE,
        id: 0,
    }
}

/// One range of addresses with several handles in it.
struct Row<'d> {
    driver: &'d Driver,
    at: CuDevicePtr,
    handles: Vec<CuMemHandle>,
    len: usize,
}

impl<'d> Row<'d> {
    /// Handles of these kinds side by side, with these rights; `None` where the
    /// driver has no memory of one of the kinds.
    fn map(driver: &'d Driver, kinds: &[u32], rights: &[u32]) -> Option<Self> {
        let len = kinds.len() * LEN;
        let at = driver.mem_address_reserve(len, LEN).unwrap();
        let mut row = Self {
            driver,
            at,
            handles: Vec::new(),
            len,
        };
        for ((place, kind), flags) in (0..).zip(kinds).zip(rights) {
            let prop = CuAllocationProp {
                kind: ALLOCATION_TYPE_PINNED,
                location: CuMemLocation { kind: *kind, id: 0 },
                ..CuAllocationProp::default()
            };
            let handle = driver.mem_create(LEN, &prop).ok()?;
            let start = at.offset(place * LEN as u64);
            // SAFETY: a part of the range reserved above, and a handle of its length.
            unsafe { driver.mem_map(start, LEN, handle) }.unwrap();
            row.handles.push(handle);
            let rights = CuAccessDesc {
                location: on_device(),
                flags: *flags,
            };
            // SAFETY: mapped above.
            unsafe { driver.mem_set_access(start, LEN, &rights) }.unwrap();
        }
        Some(row)
    }
}

impl Drop for Row<'_> {
    fn drop(&mut self) {
        for (place, handle) in (0..).zip(&self.handles) {
            let start = self.at.offset(place * LEN as u64);
            // SAFETY: mapped by `map`; nothing uses it.
            unsafe { self.driver.mem_unmap(start, LEN) }.unwrap();
            // SAFETY: the one reference, made by `map`.
            unsafe { self.driver.mem_release(*handle) }.unwrap();
        }
        // SAFETY: reserved by `map`; nothing is mapped in it now.
        unsafe { self.driver.mem_address_free(self.at, self.len) }.unwrap();
    }
}

/// The witness of a whole row of such memory.
fn witness(machine: &Machine, kinds: &[u32], rights: &[u32]) -> Option<Witness> {
    let (device, driver) = (machine.open(), machine.cuda.driver());
    let raw = driver.device_get(0).unwrap();
    let context = driver.primary_ctx_retain(raw).unwrap();
    // SAFETY: retained above, released below.
    unsafe { driver.ctx_push_current(context) }.unwrap();
    let row = Row::map(driver, kinds, rights);
    let answer = row.map(|row| device.witness_address(row.at.0, row.len as u64).unwrap());
    driver.ctx_pop_current().unwrap();
    // SAFETY: the one retain of this function; what was made in it is gone.
    unsafe { driver.primary_ctx_release(raw) }.unwrap();
    if answer.is_none() {
        assert!(machine.fake.is_none(), "the fake driver has such memory");
        skipped("host NUMA memory beside device memory: the driver has none");
    }
    answer
}

const DEVICE: u32 = location::DEVICE;
const HOST: u32 = location::HOST_NUMA;
const READ: u32 = access::READ;
const BOTH: u32 = access::READ_WRITE;

on_each_machine! {
    fn handles_of_the_device_side_by_side_are_one_residence(machine: &Machine) {
        let witness = witness(machine, &[DEVICE, DEVICE, DEVICE], &[READ; 3]).unwrap();
        let device = machine.open();
        let strict = Policy { require_pinned_allocation: true, ..Policy::default() };
        if witness.protection == Protection::ReadOnly {
            strict.admit_memory(device.info(), witness).unwrap();
        }
        assert_eq!((witness.memory, witness.pinned_on_device), (MemoryKind::Device, true));
    }

    fn host_memory_beside_device_memory_is_found_wherever_it_lies(machine: &Machine) {
        for kinds in [[DEVICE, DEVICE, HOST], [DEVICE, HOST, DEVICE], [HOST, DEVICE, DEVICE]] {
            let Some(witness) = witness(machine, &kinds, &[BOTH; 3]) else { return };
            assert_eq!(witness.memory, MemoryKind::Host, "{kinds:?}");
            assert!(!witness.pinned_on_device, "{kinds:?}");
            let sealed = Witness { protection: Protection::ReadOnly, ..witness };
            Policy::default().admit_memory(machine.open().info(), sealed).unwrap_err();
        }
    }

    fn one_writable_part_makes_the_whole_writable(machine: &Machine) {
        for writable in 0..3 {
            let mut rights = [READ; 3];
            rights[writable] = BOTH;
            let witness = witness(machine, &[DEVICE; 3], &rights).unwrap();
            assert_eq!(witness.protection, Protection::ReadWrite, "{rights:?}");
        }
    }

    fn what_lies_beyond_an_allocation_is_unknown(machine: &Machine) {
        let device = machine.open();
        let extent = common::take(&device, LEN as u64);
        let at = device.address(extent).unwrap().unwrap().raw();
        match device.witness_address(at, 1 << 40) {
            Ok(witness) => assert_ne!(witness.memory, MemoryKind::Device),
            Err(why) => assert!(!why.is_loss(), "{why}"),
        }
    }
}
