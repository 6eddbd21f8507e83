//! The staging ring under a scheduler that picks, at every lock, which reader goes
//! on; `cargo xtask races` builds and runs it. Empty in ordinary builds.
//!
//! requirement: FF-11, TP-9
#![cfg(shuttle)]

mod common;
#[path = "../../vram-residency/src/races/explore.rs"]
mod explore;

use common::{sample, take};
use explore::explore;
use fake_cuda::Ctl;
use vram_digest::nh;
use vram_residency::device::{Device as _, DeviceError, Extent, Upload, UploadPlan};
use vram_residency::sync::atomic::{AtomicU64, Ordering};
use vram_residency::sync::thread;
use vram_residency_cuda::{Cuda, CudaDevice};

const READERS: usize = 3;

/// Submits one MiB after the other until something fails.
fn read_until_error(session: &dyn Upload, next: &AtomicU64) -> DeviceError {
    loop {
        let turn = session.slot().and_then(|mut slot| {
            slot.bytes_mut().fill(7);
            let offset = next.fetch_add(1, Ordering::Relaxed) << 20;
            session.submit(slot, offset, 1 << 20)
        });
        if let Err(error) = turn {
            return error;
        }
    }
}

/// What each of several readers of one session ends with.
fn readers(device: &CudaDevice, slots: usize) -> Vec<DeviceError> {
    let key = nh::Key::from_bytes(&sample(nh::KEY_BYTES, 9).try_into().unwrap());
    let extent: Extent = take(device, 4 << 20);
    let plan = UploadPlan {
        extent,
        key: &key,
        slot_bytes: 1 << 20,
        slots,
    };
    let session = device.upload(plan).unwrap();
    let (session, next) = (session.as_ref(), AtomicU64::new(0));
    thread::scope(|scope| {
        let read = || read_until_error(session, &next);
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        readers.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

/// A device that is lost at a copy, with more readers than slots: a schedule in
/// which one of them waits for ever is a deadlock, which the scheduler reports.
#[test]
fn no_reader_waits_for_ever_for_a_slot_of_a_lost_device() {
    for slots in [1, 2] {
        // One for all schedules: the addresses of a driver stay reserved with its process.
        let fake = Ctl::open_private().unwrap();
        explore(move || {
            fake.run("reset vram=64M nopoison").unwrap();
            let cuda = Cuda::open_library(fake.path()).unwrap();
            let device = cuda.device(0).unwrap();
            fake.run("fail exec.htod 1 700").unwrap();
            let errors = readers(&device, slots);
            assert_eq!(errors.len(), READERS);
            for error in errors {
                assert!(error.is_loss(), "{slots} slots: {error}");
            }
        });
    }
}
