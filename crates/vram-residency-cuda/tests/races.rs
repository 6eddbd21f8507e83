//! The staging ring under a scheduler that picks, at every lock, which reader goes
//! on; `cargo xtask races` builds and runs it. Empty in ordinary builds.
//!
//! requirement: FF-11, TP-9
#![cfg(shuttle)]

mod common;
#[path = "../../vram-residency/src/races/explore.rs"]
mod explore;

use common::readers;
use explore::explore;
use fake_cuda::Ctl;
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
