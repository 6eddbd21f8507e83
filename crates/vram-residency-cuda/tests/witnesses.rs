//! Memory that is not device memory must be rejected, whoever allocated it
//! (requirement: VP-001, VP-003, VP-005, POL-2, M0-W-1010, WORKER-4101).

mod common;

use std::alloc::Layout;
use std::ptr::NonNull;

use common::{skipped, take};
use vram_residency::Policy;
use vram_residency::device::{Device as _, MemoryKind, Protection, Witness};
use vram_residency_cuda::CudaDevice;
use vram_residency_cuda::driver::Driver;
use vram_residency_cuda::sys::{
    ALLOCATION_TYPE_PINNED, CuAccessDesc, CuAllocationProp, CuMemLocation, MANAGED_ATTACH_GLOBAL,
    access, host_alloc, host_register, location,
};

const LEN: usize = 2 << 20;

/// The policy's answer about memory that claims to be sealed.
fn rejected(device: &CudaDevice, witness: Witness) -> String {
    let sealed = Witness {
        protection: Protection::ReadOnly,
        ..witness
    };
    Policy::default()
        .admit_memory(device.info(), sealed)
        .unwrap_err()
        .to_string()
}

/// Runs `work` with the device's primary context current, as a host application would.
fn in_context(driver: &Driver, work: impl FnOnce()) {
    let device = driver.device_get(0).unwrap();
    let context = driver.primary_ctx_retain(device).unwrap();
    // SAFETY: retained above, released below.
    unsafe { driver.ctx_push_current(context) }.unwrap();
    work();
    driver.ctx_pop_current().unwrap();
    // SAFETY: the one retain of this function; what `work` made is gone.
    unsafe { driver.primary_ctx_release(device) }.unwrap();
}

on_each_machine! {
    fn memory_of_our_own_is_confirmed_once_it_is_sealed(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 5_000_000);
        let filling = device.witness(extent.buffer).unwrap();
        let error = Policy::default().admit_memory(device.info(), filling).unwrap_err();
        assert!(error.to_string().contains("writable"), "{error}");
        device.protect(extent.buffer, Protection::ReadOnly).unwrap();
        let sealed = device.witness(extent.buffer).unwrap();
        Policy::default().admit_memory(device.info(), sealed).unwrap();
        let strict = Policy { require_pinned_allocation: true, ..Policy::default() };
        strict.admit_memory(device.info(), sealed).unwrap();
        let address = device.address(extent).unwrap().unwrap().raw();
        assert_eq!(device.witness_address(address, extent.len).unwrap(), sealed);
    }

    fn managed_memory_is_rejected(machine: &Machine) {
        let (device, driver) = (machine.open(), machine.cuda.driver());
        in_context(driver, || {
            let at = match driver.mem_alloc_managed(LEN, MANAGED_ATTACH_GLOBAL) {
                Ok(at) => at,
                Err(why) if machine.fake.is_none() => {
                    // Some sandboxes have no such memory to reject.
                    skipped(&format!("managed memory: {why}"));
                    return;
                }
                Err(why) => panic!("{why}"),
            };
            let witness = device.witness_address(at.0, LEN as u64).unwrap();
            assert!(witness.managed);
            assert!(rejected(&device, witness).contains("managed"));
            // SAFETY: allocated above and not used again.
            unsafe { driver.mem_free(at) }.unwrap();
        });
    }

    fn host_mapped_memory_is_rejected(machine: &Machine) {
        let (device, driver) = (machine.open(), machine.cuda.driver());
        in_context(driver, || {
            let host = driver.mem_host_alloc(LEN, host_alloc::DEVICE_MAP).unwrap();
            let at = driver.mem_host_get_device_pointer(host).unwrap();
            let witness = device.witness_address(at.0, LEN as u64).unwrap();
            assert!(witness.host_pointer && witness.memory == MemoryKind::Host);
            assert!(rejected(&device, witness).contains("host"));
            // SAFETY: allocated above and not used again.
            unsafe { driver.mem_free_host(host) }.unwrap();
        });
    }

    fn host_registered_memory_is_rejected(machine: &Machine) {
        let (device, driver) = (machine.open(), machine.cuda.driver());
        let layout = Layout::from_size_align(LEN, 4096).unwrap();
        // SAFETY: the layout has a size.
        let host = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).unwrap();
        in_context(driver, || {
            // SAFETY: allocated above, unregistered below.
            unsafe { driver.mem_host_register(host, LEN, host_register::DEVICE_MAP) }.unwrap();
            let at = driver.mem_host_get_device_pointer(host).unwrap();
            let witness = device.witness_address(at.0, LEN as u64).unwrap();
            assert!(witness.host_pointer && witness.memory == MemoryKind::Host);
            assert!(rejected(&device, witness).contains("host"));
            // SAFETY: registered above; no device uses it.
            unsafe { driver.mem_host_unregister(host) }.unwrap();
        });
        // SAFETY: allocated above with this layout.
        unsafe { std::alloc::dealloc(host.as_ptr(), layout) };
    }

    fn host_memory_of_the_virtual_api_is_rejected(machine: &Machine) {
        let (device, driver) = (machine.open(), machine.cuda.driver());
        let prop = CuAllocationProp {
            kind: ALLOCATION_TYPE_PINNED,
            location: CuMemLocation { kind: location::HOST_NUMA, id: 0 },
            ..CuAllocationProp::default()
        };
        in_context(driver, || {
            let handle = match driver.mem_create(LEN, &prop) {
                Ok(handle) => handle,
                Err(why) if machine.fake.is_none() => {
                    // Drivers before 12.2 have no such memory to reject.
                    skipped(&format!("host NUMA memory: {why}"));
                    return;
                }
                Err(why) => panic!("{why}"),
            };
            let at = driver.mem_address_reserve(LEN, 0).unwrap();
            // SAFETY: range and handle were made above, with this length.
            unsafe { driver.mem_map(at, LEN, handle) }.unwrap();
            let place = CuMemLocation { kind: location::DEVICE, id: 0 };
            let rights = CuAccessDesc { location: place, flags: access::READ_WRITE };
            // SAFETY: mapped above.
            unsafe { driver.mem_set_access(at, LEN, &rights) }.unwrap();
            let witness = device.witness_address(at.0, LEN as u64).unwrap();
            assert!(!witness.pinned_on_device && witness.memory == MemoryKind::Host);
            rejected(&device, witness);
            // SAFETY: mapped above; nothing uses it.
            unsafe { driver.mem_unmap(at, LEN) }.unwrap();
            // SAFETY: the one reference, made above.
            unsafe { driver.mem_release(handle) }.unwrap();
            // SAFETY: reserved above; nothing is mapped in it.
            unsafe { driver.mem_address_free(at, LEN) }.unwrap();
        });
    }

    fn an_address_of_nothing_is_no_residence(machine: &Machine) {
        let device = machine.open();
        let local = 0_u64;
        match device.witness_address((&raw const local).addr() as u64, 8) {
            Ok(witness) => assert!(!rejected(&device, witness).is_empty()),
            Err(why) => assert!(!why.is_loss(), "{why}"),
        }
        assert_eq!(local, 0);
    }
}

/// What the driver calls no virtual memory, in whatever words, is none: a
/// weaker witness, which the policy judges, and no failure.
#[test]
fn a_driver_that_does_not_tell_the_physical_memory_gives_a_weaker_witness() {
    for code in [1, 800, 801] {
        let machine = common::Machine::fake("vram=64M");
        let device = machine.open();
        let extent = take(&device, 5000);
        let fault = format!("fail cuMemRetainAllocationHandle 1 {code}");
        machine.fake_ctl().tell(&fault);
        let witness = device.witness(extent.buffer).unwrap();
        assert!(!witness.pinned_on_device, "{fault}");
        assert_eq!(witness.memory, MemoryKind::Device, "{fault}");
    }
}
