//! The real-GPU extras and the dual-mode list of the sources (requirement
//! 1.13.6), through the manager, on the fake driver and on a real GPU.

mod common;

use std::sync::Arc;

use common::{Machine, assert_restored, free, sample, skipped, take};
use vram_residency::device::{Device, DeviceError, DeviceKind, MemoryKind, Protection};
use vram_residency::key::RootKey;
use vram_residency::{Error, Mode, SealRequest, VramManager};
use vram_residency_cuda::CudaDevice;

/// A manager of the machine's first device, and that device.
fn manager(machine: &Machine) -> (VramManager, Arc<CudaDevice>) {
    let device = Arc::new(machine.open());
    let shared = Arc::clone(&device) as Arc<dyn Device>;
    let manager = VramManager::builder()
        .device_with(shared, None, vram_residency::capacity::Sharing::Dedicated)
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .build()
        .unwrap();
    (manager, device)
}

on_each_machine! {
    fn real_allocation(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 10 << 20);
        let witness = device.witness(extent.buffer).unwrap();
        assert_eq!(witness.memory, MemoryKind::Device);
        assert!(!witness.managed && !witness.host_pointer);
        assert_eq!(witness.pinned_on_device, device.has_virtual_memory());
        assert_eq!(witness.ordinal, 0);
        device.free(extent.buffer).unwrap();
    }

    fn real_capacity(machine: &Machine) {
        let (manager, device) = manager(machine);
        let capacity = manager.capacity(0).unwrap();
        assert_eq!(capacity.used + capacity.free + capacity.stranded, capacity.total);
        assert!(capacity.total <= device.info().total_bytes);
        assert_eq!(manager.total_vram(), capacity.total);
    }

    fn uma_detection(machine: &Machine) {
        let (manager, device) = manager(machine);
        assert!(!device.info().integrated, "this suite needs a discrete GPU");
        manager.enforce_vram_only_policy().unwrap();
        if machine.fake.is_some() {
            assert!(Machine::fake("integrated").cuda.info(0).unwrap().integrated);
        }
    }

    fn real_oom(machine: &Machine) {
        let device = machine.open();
        let room = free(&device);
        let answer = device.allocate(room + (1 << 20));
        assert!(matches!(answer, Err(DeviceError::OutOfMemory { .. })), "{answer:?}");
        assert!(answer.unwrap_err().is_retriable());
        assert_restored(machine, &device, room);
    }

    fn multi_gpu_allocation(machine: &Machine) {
        let pair = machine.fake.as_ref().map(|_| Machine::fake("gpus=2 vram=1G"));
        let cuda = pair.as_ref().map_or(&machine.cuda, |pair| &pair.cuda);
        if cuda.count().unwrap() < 2 {
            skipped("allocation on several GPUs: there is one only");
            return;
        }
        let (first, second) = (cuda.device(0).unwrap(), cuda.device(1).unwrap());
        assert_ne!(first.info().uuid, second.info().uuid);
        let (from, to) = (take(&first, 3_000_001), take(&second, 3_000_001));
        let bytes = sample(3_000_001, 3);
        first.write(from, 0, &bytes).unwrap();
        first.copy_to(from, &second, to).unwrap();
        let mut out = vec![0; bytes.len()];
        second.read(to, 0, &mut out).unwrap();
        assert!(out == bytes);
        assert_eq!(second.witness(to.buffer).unwrap().ordinal, 1);
        assert_eq!(first.free(to.buffer).unwrap_err().source, DeviceError::UnknownBuffer);
    }

    fn cuda_error_handling(machine: &Machine) {
        let driver = machine.cuda.driver();
        let error = driver.device_get(i32::MAX).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cuDeviceGet failed: CUDA_ERROR_INVALID_DEVICE (101)"), "{text}");
        assert!(!DeviceError::from(error).is_loss());
        machine.open().close().unwrap();
    }

    fn seal(machine: &Machine) {
        let (manager, device) = manager(machine);
        let bytes = sample(3_000_017, 4);
        let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
        let record = manager.get_shard(shard.id()).unwrap();
        assert_eq!(record.digest, vram_digest::digest(&bytes));
        let expected = if machine.fake.is_some() { DeviceKind::Simulated } else { DeviceKind::Cuda };
        assert_eq!(record.device_kind, expected);
        assert_eq!(device.info().kind, expected);
        manager.deallocate(&shard).unwrap();
    }

    fn verify(machine: &Machine) {
        let (manager, device) = manager(machine);
        let shard = manager.seal(SealRequest::bytes(&sample(2_000_000, 5))).unwrap();
        for mode in [Mode::Full, Mode::Keyed, Mode::TagOnly] {
            assert_eq!(manager.verify_sealed(&shard, mode).unwrap().verification().mode, mode);
        }
        let lease = manager.lease(&shard, Mode::Full).unwrap();
        assert!(lease.address().is_some());
        let address = lease.address().unwrap().raw();
        let witness = device.witness_address(address, lease.bytes()).unwrap();
        assert_eq!(witness.protection, Protection::ReadOnly);
        lease.finish();
        manager.unseal_and_free(&shard).unwrap();
    }

    fn multiple_allocations(machine: &Machine) {
        let (manager, device) = manager(machine);
        let before = free(&device);
        let shards: Vec<_> = (0..4)
            .map(|i| manager.seal(SealRequest::bytes(&sample(700_001, i))).unwrap())
            .collect();
        for shard in &shards {
            assert_eq!(manager.verify_sealed(shard, Mode::Full).unwrap().verification().bytes_checked, 700_001);
        }
        for shard in &shards {
            manager.deallocate(shard).unwrap();
        }
        assert_restored(machine, &device, before);
        assert_eq!(manager.used_vram(), 0);
    }

    fn capacity_queries(machine: &Machine) {
        let (manager, _device) = manager(machine);
        let total = manager.total_vram();
        let shard = manager.seal(SealRequest::bytes(&sample(5_000_000, 6))).unwrap();
        let used = manager.used_vram();
        assert!(used >= 5_000_000 && used.is_multiple_of(2 << 20));
        assert_eq!(manager.available_vram() + used, total);
        manager.deallocate(&shard).unwrap();
        assert_eq!(manager.available_vram(), total);
    }

    fn zero_size_rejected(machine: &Machine) {
        let (manager, _device) = manager(machine);
        let answer = manager.seal(SealRequest::bytes(&[])).map(|_| ());
        assert!(matches!(answer, Err(Error::Input(_))), "{answer:?}");
    }

    fn digest_determinism(machine: &Machine) {
        let (manager, _device) = manager(machine);
        let bytes = sample(1_500_000, 7);
        let digests: Vec<_> = (0..3)
            .map(|_| {
                let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
                manager.get_shard(shard.id()).unwrap().digest
            })
            .collect();
        assert!(digests.iter().all(|digest| *digest == vram_digest::digest(&bytes)));
    }

    fn large_allocation(machine: &Machine) {
        let (manager, device) = manager(machine);
        let before = free(&device);
        let len = if machine.fake.is_some() { 24 << 20 } else { 1 << 30 };
        let bytes = sample(len, 8);
        let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
        let record = manager.get_shard(shard.id()).unwrap();
        assert_eq!(record.digest, vram_digest::digest(&bytes));
        assert!(device.pinned_bytes() <= vram_residency_cuda::device::PINNED_LIMIT);
        manager.deallocate(&shard).unwrap();
        assert_restored(machine, &device, before);
    }
}
