//! Behaviour scenarios on simulated devices; the same ones run on CUDA in the
//! tests of its crate (requirement: TP-3, DM-8, DM-9).

mod suite;

use std::process::ExitCode;
use std::sync::Arc;

use suite::{Machine, Setting};
use vram_residency::device::Device;
use vram_residency::sim::{SimDevice, SimOptions};

/// Sparse: costs nothing until it is written.
const DEVICE_BYTES: u64 = 4 << 30;

fn simulated(count: u32) -> Machine {
    let device = |ordinal| -> Arc<dyn Device> {
        let options = SimOptions::new(DEVICE_BYTES).ordinal(ordinal);
        Arc::new(SimDevice::with_options(options))
    };
    Machine {
        devices: (0..count).map(device).collect(),
        keep: Box::new(()),
    }
}

fn main() -> ExitCode {
    let setting = Setting {
        name: "the simulated device",
        devices: 2,
        fast: true,
        // Fresh memory reads as poison there, whatever was left in it.
        reuses: false,
        make: simulated,
        without_gpu: None,
    };
    suite::bad_features_fail(setting);
    match suite::run(setting) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
