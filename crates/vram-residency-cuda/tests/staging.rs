//! Staging slots: shared by readers, bounded whoever loads, and never waited
//! for once the device is lost (requirement: FF-11).

mod common;

use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use common::{Machine, readers, sample, take};
use vram_digest::nh;
use vram_residency::device::{Device as _, DeviceError, Extent, UploadPlan};
use vram_residency_cuda::CudaDevice;
use vram_residency_cuda::device::PINNED_LIMIT;

fn key() -> nh::Key {
    nh::Key::from_bytes(&sample(nh::KEY_BYTES, 9).try_into().unwrap())
}

fn plan(extent: Extent, key: &nh::Key, slot_mib: usize, slots: usize) -> UploadPlan<'_> {
    UploadPlan {
        extent,
        key,
        slot_bytes: slot_mib << 20,
        slots,
        room: Arc::default(),
    }
}

#[test]
fn readers_that_wait_for_a_slot_hear_of_a_lost_device() {
    for slots in [1, 2] {
        let machine = Machine::fake("vram=256M nopoison");
        let device = Arc::new(machine.open());
        machine.fake_ctl().tell("fail exec.htod 3 700");
        let (done, ended) = mpsc::channel();
        let lost = Arc::clone(&device);
        thread::spawn(move || done.send(readers(&lost, 64, slots, 4)));
        let errors = ended.recv_timeout(Duration::from_secs(120));
        let errors = errors.expect("a reader waits for ever");
        assert_eq!(errors.len(), 4);
        for error in errors {
            assert!(error.is_loss(), "{slots} slots: {error}");
        }
    }
}

/// Opens a session, holds a slot of it until all others hold theirs, and has
/// another reader ask for more meanwhile. The sizes of the two slots.
fn two_readers(device: &CudaDevice, all: &Barrier) -> Result<[usize; 2], DeviceError> {
    let (extent, key) = (take(device, 208 << 20), key());
    let session = device.upload(plan(extent, &key, 32, 6));
    let sizes = session.as_ref().map(|session| {
        thread::scope(|scope| {
            let first = session.slot().unwrap();
            let second = scope.spawn(|| session.slot().unwrap().bytes().len());
            all.wait();
            let size = first.bytes().len();
            drop(first);
            [size, second.join().unwrap()]
        })
    });
    if sizes.is_err() {
        all.wait();
    }
    sizes.map_err(Clone::clone)
}

#[test]
fn concurrent_large_uploads_share_the_pinned_memory_and_none_fails() {
    let machine = Machine::fake("vram=4G nopoison");
    let device = machine.open();
    let before = device.pinned_bytes();
    let all = Barrier::new(13);
    let (ends, held) = thread::scope(|scope| {
        let load = || two_readers(&device, &all);
        let loads: Vec<_> = (0..12).map(|_| scope.spawn(load)).collect();
        all.wait();
        let held = device.pinned_bytes();
        let ends = loads.into_iter().map(|load| load.join().unwrap());
        (ends.collect::<Vec<_>>(), held)
    });
    for end in ends {
        let sizes = end.unwrap();
        assert!(sizes.iter().all(|size| *size >= 1 << 20), "{sizes:?}");
    }
    assert!(held > 12 << 20 && held <= PINNED_LIMIT, "{held}");
    let driver = machine.fake_ctl().count("pinned_bytes");
    assert_eq!((device.pinned_bytes(), driver), (before, before));
}
