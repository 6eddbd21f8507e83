//! The suite that every device must pass.

mod common;

use vram_residency::device::{Checked, Device, conformance};

on_each_machine! {
    fn every_check_passes(machine: &Machine) {
        let failures = conformance::run(&machine.open());
        assert!(failures.is_empty(), "{failures:#?}");
    }

    fn every_check_passes_behind_the_latch(machine: &Machine) {
        let checked = Checked::new(std::sync::Arc::new(machine.open()));
        let failures = conformance::run(&checked);
        assert!(failures.is_empty() && checked.lost().is_none(), "{failures:#?}");
        checked.close().unwrap();
    }
}
