//! The CUDA kernel and FFI list of the sources (requirement 1.13.6), on the
//! fake driver and on a real GPU.

mod common;

use common::{assert_restored, free, sample, take};
use vram_residency::device::{Device as _, DeviceError, Extent};

fn refused<T: std::fmt::Debug>(answer: Result<T, DeviceError>) {
    assert!(
        matches!(answer, Err(DeviceError::OutOfRange { .. })),
        "{answer:?}"
    );
}

on_each_machine! {
    fn context_creation_with_gpu(machine: &Machine) {
        let device = machine.open();
        assert!(!device.info().name.is_empty());
        assert!(device.info().driver.as_ref().unwrap().version >= 11_000);
        device.close().unwrap();
    }

    // requirement: FF-6
    fn context_invalid_device(machine: &Machine) {
        for ordinal in [machine.cuda.count().unwrap(), 99, u32::MAX] {
            let answer = machine.cuda.device(ordinal).map(|_| ());
            assert!(matches!(answer, Err(DeviceError::Unavailable { .. })), "{answer:?}");
        }
    }

    // requirement: FF-2
    fn allocate_valid(machine: &Machine) {
        let device = machine.open();
        let allocated = device.allocate(1 << 20).unwrap();
        assert!(allocated.granted >= 1 << 20);
        device.free(allocated.id).unwrap();
    }

    fn allocate_zero(machine: &Machine) {
        refused(machine.open().allocate(0));
    }

    // requirement: MS-003, FF-2
    fn allocate_huge(machine: &Machine) {
        let device = machine.open();
        for len in [device.info().total_bytes + 1, 1 << 60, u64::MAX] {
            let answer = device.allocate(len);
            assert!(matches!(answer, Err(DeviceError::OutOfMemory { .. })), "{len}: {answer:?}");
        }
    }

    fn allocate_large_valid(machine: &Machine) {
        let device = machine.open();
        let before = free(&device);
        let extent = take(&device, machine.large());
        assert!(before - free(&device) >= machine.large());
        device.free(extent.buffer).unwrap();
    }

    fn allocate_multiple(machine: &Machine) {
        let device = machine.open();
        let extents: Vec<_> = (1..=5).map(|i| take(&device, i * 1_000_003)).collect();
        for (i, extent) in extents.iter().enumerate() {
            device.fill(*extent, i as u8).unwrap();
        }
        for (i, extent) in extents.iter().enumerate() {
            let mut out = vec![0; extent.len as usize];
            device.read(*extent, 0, &mut out).unwrap();
            assert!(out.iter().all(|byte| *byte == i as u8), "buffer {i}");
            device.free(extent.buffer).unwrap();
        }
    }

    fn write_and_read(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 10_000);
        let bytes = sample(10_000, 1);
        device.write(extent, 0, &bytes).unwrap();
        let mut out = vec![0; 10_000];
        device.read(extent, 0, &mut out).unwrap();
        assert!(out == bytes);
    }

    fn write_at_offset(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 1000);
        device.fill(extent, 0).unwrap();
        device.write(extent, 333, b"weights").unwrap();
        let mut out = [0; 9];
        device.read(extent, 332, &mut out).unwrap();
        assert_eq!(&out, b"\0weights\0");
    }

    fn write_out_of_bounds(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 1000);
        refused(device.write(extent, 1000, &[1]));
        refused(device.write(extent, 0, &[1; 1001]));
    }

    // requirement: MS-006, MS-007
    fn write_overflow(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 1000);
        refused(device.write(extent, u64::MAX, &[1, 2]));
        refused(device.write(Extent { start: u64::MAX, ..extent }, 0, &[1]));
    }

    // requirement: FF-4
    fn write_zero_bytes(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 1000);
        device.write(extent, 0, &[]).unwrap();
        device.write(extent, 1000, &[]).unwrap();
        refused(device.write(extent, 1001, &[]));
    }

    fn read_out_of_bounds(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 1000);
        refused(device.read(extent, 1000, &mut [0]));
        refused(device.read(extent, 0, &mut [0; 1001]));
    }

    fn read_overflow(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 1000);
        refused(device.read(extent, u64::MAX, &mut [0, 0]));
        refused(device.read(Extent { len: u64::MAX, ..extent }, 0, &mut [0]));
    }

    fn read_zero_bytes(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 1000);
        device.read(extent, 1000, &mut []).unwrap();
        refused(device.read(extent, 1001, &mut []));
    }

    fn large_copy(machine: &Machine) {
        let device = machine.open();
        let len = (33 << 20) + 5;
        let bytes = sample(len, 2);
        let extent = take(&device, len as u64);
        device.write(extent, 0, &bytes).unwrap();
        let mut out = vec![0; len];
        device.read(extent, 0, &mut out).unwrap();
        assert!(out == bytes);
    }

    // requirement: FF-5
    fn free_vram_query(machine: &Machine) {
        let device = machine.open();
        let before = free(&device);
        let allocated = device.allocate(3 << 20).unwrap();
        let taken = before - free(&device);
        assert!(machine.is_about(taken, allocated.granted), "{taken} for {}", allocated.granted);
        device.free(allocated.id).unwrap();
        assert_restored(machine, &device, before);
    }

    fn total_vram_query(machine: &Machine) {
        let device = machine.open();
        let total = device.memory().unwrap().total;
        assert!(total > 0 && total <= device.info().total_bytes);
    }

    fn info_consistency(machine: &Machine) {
        let device = machine.open();
        let memory = device.memory().unwrap();
        assert!(memory.free <= memory.total);
        let listed = machine.cuda.info(0).unwrap();
        assert_eq!(listed.uuid, device.info().uuid);
        assert_eq!(listed.granularity, device.info().granularity);
        let again = machine.cuda.device_by_uuid(listed.uuid).unwrap();
        assert_eq!(again.info().ordinal, 0);
    }

    // requirement: MS-005, FF-3
    fn drop_frees_memory(machine: &Machine) {
        let watcher = machine.open();
        let before = free(&watcher);
        let device = machine.open();
        take(&device, 5 << 20);
        take(&device, 7 << 20);
        assert!(before - free(&watcher) >= 12 << 20);
        drop(device);
        assert_restored(machine, &watcher, before);
    }

    fn alignment_256(machine: &Machine) {
        let device = machine.open();
        for len in [1, 255, 257, 4097, 1_000_001] {
            let extent = take(&device, len);
            let address = device.address(extent).unwrap().unwrap();
            assert!(address.raw().is_multiple_of(256), "{len}");
        }
    }

    fn many_small_allocations(machine: &Machine) {
        let device = machine.open();
        let before = free(&device);
        let all: Vec<_> = (1..=40).map(|i| take(&device, i)).collect();
        for (i, extent) in all.iter().enumerate() {
            device.fill(*extent, i as u8).unwrap();
        }
        for (i, extent) in all.iter().enumerate() {
            let mut out = vec![0xff; extent.len as usize];
            device.read(*extent, 0, &mut out).unwrap();
            assert!(out.iter().all(|byte| *byte == i as u8), "buffer {i}");
            device.free(extent.buffer).unwrap();
        }
        assert_restored(machine, &device, before);
    }

    fn write_read_pattern(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 256 * 64);
        for value in 0..=255_u8 {
            device.write(extent, u64::from(value) * 64, &[value; 64]).unwrap();
        }
        let mut out = vec![0; 256 * 64];
        device.read(extent, 0, &mut out).unwrap();
        assert!(out.iter().enumerate().all(|(i, byte)| *byte == (i / 64) as u8));
    }

    fn recovery_after_failed_allocation(machine: &Machine) {
        let device = machine.open();
        let before = free(&device);
        assert!(device.allocate(device.info().total_bytes + 1).is_err());
        assert_restored(machine, &device, before);
        let extent = take(&device, 4096);
        device.fill(extent, 3).unwrap();
        device.free(extent.buffer).unwrap();
    }

    // requirement: FF-8
    fn recovery_after_invalid_operation(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 4096);
        refused(device.write(extent, 4096, &[1]));
        assert!(device.free(take(&device, 1).buffer).is_ok());
        device.write(extent, 0, &[9; 4096]).unwrap();
        let mut out = [0; 4096];
        device.read(extent, 0, &mut out).unwrap();
        assert_eq!(out, [9; 4096]);
    }

    /// Fragmentation: every second buffer goes, larger ones come (requirement: PM-14).
    fn fragmentation_leaves_usable_memory(machine: &Machine) {
        let device = machine.open();
        let before = free(&device);
        let all: Vec<_> = (0..16).map(|_| take(&device, 4 << 20)).collect();
        for extent in all.iter().step_by(2) {
            device.free(extent.buffer).unwrap();
        }
        let larger: Vec<_> = (0..4).map(|_| take(&device, 8 << 20)).collect();
        for extent in all.iter().skip(1).step_by(2).chain(&larger) {
            device.free(extent.buffer).unwrap();
        }
        assert_restored(machine, &device, before);
    }

    /// Odd sizes, as quantised models have (requirement: PM-14).
    fn odd_sizes_are_granted_and_hashed(machine: &Machine) {
        let device = machine.open();
        for len in [1_usize, 17, 4095, 4097, 123_457, (1 << 20) + 13] {
            let bytes = sample(len, len as u64);
            let extent = take(&device, len as u64);
            device.write(extent, 0, &bytes).unwrap();
            let mut hashes = vec![[0; 32]; len.div_ceil(4096)];
            device.block_digests(extent, 0..hashes.len() as u64, &mut hashes).unwrap();
            let root = vram_digest::root(&hashes);
            let digest = vram_digest::file_digest(&root, len as u64);
            assert_eq!(digest, vram_digest::digest(&bytes), "{len}");
            device.free(extent.buffer).unwrap();
        }
    }
}
