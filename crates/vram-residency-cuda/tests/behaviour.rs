//! The behaviour scenarios on CUDA: the fake driver always, then real GPUs when
//! there are some, else the banner (requirement: DM-3, DM-4, DM-5, DM-8). The features and steps are those of the core's tests.

mod common;
#[path = "../../vram-residency/tests/behaviour/suite/mod.rs"]
mod suite;

use std::process::ExitCode;
use std::sync::Arc;

use vram_residency::device::Device;

/// A driver, which devices need as long as they live.
struct Kept(common::Machine);

impl Drop for Kept {
    /// A fake driver stays loaded, and would keep all memory that it hands out again.
    fn drop(&mut self) {
        if let Some(fake) = &self.0.fake {
            fake.tell("reset");
        }
    }
}

fn opened(machine: common::Machine, count: u32) -> suite::Machine {
    let open = |ordinal| -> Arc<dyn Device> { Arc::new(machine.cuda.device(ordinal).unwrap()) };
    suite::Machine {
        devices: (0..count).map(open).collect(),
        keep: Box::new(Kept(machine)),
    }
}

/// Small pages: the fake driver interprets every instruction of every scrub.
fn pretended(count: u32) -> suite::Machine {
    let options = format!("gpus={count} vram=4G granularity=64K reuse");
    opened(common::Machine::fake(&options), count)
}

fn real(count: u32) -> suite::Machine {
    opened(common::Machine::gpu().unwrap(), count)
}

fn main() -> ExitCode {
    // Thousands of operations take minutes on an interpreter.
    let fake = suite::Setting {
        name: "CUDA with the fake driver",
        devices: 2,
        fast: false,
        reuses: true,
        make: pretended,
        without_gpu: Some(common::machine::banner),
    };
    // `cargo xtask gpu-suite` carries this to a GPU; the fake driver's part ran here.
    let real_only = std::env::args().any(|arg| arg == "--real-only");
    let mut good = real_only || suite::run(fake);
    let gpus = common::Machine::gpu().map(|machine| machine.cuda.devices().unwrap().len());
    match gpus {
        Some(gpus) => {
            good &= suite::run(suite::Setting {
                name: "CUDA with real GPUs",
                devices: gpus.min(2) as u32,
                fast: true,
                make: real,
                ..fake
            });
        }
        None => {
            println!("behaviour: real GPUs did NOT run, there is none");
            good &= !real_only;
        }
    }
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
