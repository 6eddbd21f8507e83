//! The staging ring and the lanes under a scheduler that picks, at every lock, which
//! thread goes on; `cargo xtask races` builds and runs it. Empty in ordinary builds.
//!
//! requirement: FF-11, TP-9
#![cfg(shuttle)]

mod common;
#[path = "../../vram-residency/src/races/explore.rs"]
mod explore;

use common::{readers, take};
use explore::explore;
use fake_cuda::Ctl;
use vram_residency::device::{Device as _, DeviceError};
use vram_residency::sync::thread;
use vram_residency_cuda::Cuda;

const READERS: usize = 3;

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
            let errors = readers(&device, 4, slots, READERS);
            assert_eq!(errors.len(), READERS);
            for error in errors {
                assert!(error.is_loss(), "{slots} slots: {error}");
            }
        });
    }
}

/// More work than lanes, each piece with more jobs than it may have lanes, on a device
/// that is closed meanwhile: nobody is left waiting. That who waits is served between two
/// jobs of another a test of the lanes shows, as the order here is the scheduler's.
#[test]
fn nobody_waits_for_ever_for_a_lane() {
    const WORK: usize = 6;
    let fake = Ctl::open_private().unwrap();
    explore(move || {
        // Lanes of 64 KiB.
        fake.run("reset vram=64M granularity=64K nopoison").unwrap();
        let cuda = Cuda::open_library(fake.path()).unwrap();
        let device = cuda.device(0).unwrap();
        let extent = take(&device, 256 << 10);
        thread::scope(|scope| {
            for _ in 0..WORK {
                scope.spawn(|| {
                    let read = device.read(extent, 0, &mut vec![0; 256 << 10]);
                    let gone = [DeviceError::Closed, DeviceError::UnknownBuffer];
                    assert!(
                        read.as_ref().err().is_none_or(|why| gone.contains(why)),
                        "{read:?}"
                    );
                });
            }
            device.close().unwrap();
        });
    });
}
