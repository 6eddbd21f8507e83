//! What a GPU can do, measured: roofs, kernels, sealing, verifying, loading,
//! and how its virtual memory behaves between processes.
//!
//! `cargo xtask gpu-suite` carries it to a GPU machine, where `run.sh` runs the
//! sections one after the other, each in a process of its own. By hand:
//! `cargo run --release -p vram-residency-cuda --example gpu_probe -- kernels --out DIR`
//!
//! Every row goes to `results.json` and `results.txt` in DIR as soon as it is
//! measured, so that nothing is lost when a section is stopped. A measurement
//! that fails is a row with its error, never the end of the run.

mod attach;
mod kernels;
mod loading;
mod options;
mod processes;
mod raw;
mod report;
mod roofs;
mod sealing;
mod times;

use std::process::ExitCode;

use options::Options;
use report::Report;
use vram_residency::device::{DeviceInfo, DeviceKind};
use vram_residency_cuda::Cuda;

/// What a section takes, besides the report.
pub(crate) struct Machine<'a> {
    pub(crate) options: &'a Options,
    pub(crate) cuda: Cuda,
    pub(crate) info: DeviceInfo,
}

impl Machine<'_> {
    /// A GPU, not the project's own fake driver.
    pub(crate) fn is_real(&self) -> bool {
        self.info.kind == DeviceKind::Cuda
    }

    /// Bytes of the data that kernels work on, smallest first.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        let usual: [u64; 3] = if self.is_real() {
            [1 << 30, 16 << 30, 64 << 30]
        } else {
            [2 << 20, 4 << 20, 8 << 20]
        };
        self.options.sizes.clone().unwrap_or_else(|| usual.into())
    }

    /// The middle size: what single figures are given for.
    pub(crate) fn main_size(&self) -> u64 {
        let sizes = self.sizes();
        sizes[sizes.len() / 2]
    }
}

type Section = fn(&Machine<'_>, &mut Report);

/// The sections, in the order in which they tell most.
const SECTIONS: &[(&str, Section)] = &[
    ("facts", |machine, report| report.facts(machine)),
    ("jit", roofs::jit),
    ("cached", roofs::cached),
    ("roofs", roofs::measure),
    ("kernels", kernels::measure),
    ("memory", processes::measure),
    ("sealing", sealing::measure),
    ("loading", loading::measure),
];

/// Exit status of a run that found no device: the usual one for a skipped test.
const NO_DEVICE: u8 = 77;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("role") => return processes::role(&args[1..]),
        Some("note") => return note(&args[1..]),
        _ => {}
    }
    let name = args.first().map_or("", String::as_str);
    let Some((name, section)) = SECTIONS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
        eprintln!(
            "usage: gpu_probe SECTION [--out DIR]; sections: {}",
            known.join(" ")
        );
        return ExitCode::from(2);
    };
    let options = Options::parse(&args[1..]);
    let machine = match machine(&options) {
        Ok(machine) => machine,
        Err(why) => {
            println!("no CUDA device: {why}");
            return ExitCode::from(NO_DEVICE);
        }
    };
    let mut report = Report::open(&options, name);
    report.judge(machine.is_real());
    section(&machine, &mut report);
    ExitCode::from(u8::from(report.failed()))
}

fn machine(options: &Options) -> Result<Machine<'_>, String> {
    let cuda = options.cuda()?;
    let info = cuda
        .info(options.ordinal)
        .map_err(|error| error.to_string())?;
    Ok(Machine {
        options,
        cuda,
        info,
    })
}

/// `note NAME STATUS SECONDS --out DIR`: how a section of the suite ended.
fn note(args: &[String]) -> ExitCode {
    let options = Options::parse(&args[3..]);
    let seconds = args[2].parse().expect("seconds");
    Report::open(&options, "").section(&args[0], &args[1], seconds);
    ExitCode::SUCCESS
}
