//! What a GPU can do, measured in one run: roofs, kernels, sealing, verifying,
//! and how its virtual memory behaves between processes.
//!
//! `cargo xtask gpu-suite` carries it to a GPU machine. By hand:
//! `cargo run --release -p vram-residency-cuda --example gpu_probe -- --sizes-mib 1024,16384 --out DIR`
//!
//! Writes `probe.json` and `probe.txt` into DIR and prints the table. A
//! measurement that fails is a row with its error, never the end of the run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a measuring program: a row that fails is caught and reported"
)]

mod kernels;
mod processes;
mod raw;
mod report;
mod residency;
mod roofs;

use std::path::PathBuf;

use report::Report;

/// What the command line says.
pub(crate) struct Options {
    pub(crate) library: Option<String>,
    pub(crate) ordinal: u32,
    pub(crate) sizes: Vec<u64>,
    pub(crate) out: PathBuf,
    pub(crate) scratch: PathBuf,
}

impl Options {
    pub(crate) fn cuda(&self) -> Result<vram_residency_cuda::Cuda, String> {
        match &self.library {
            Some(library) => vram_residency_cuda::Cuda::open_library(library),
            None => vram_residency_cuda::Cuda::open(),
        }
        .map_err(|error| error.to_string())
    }

    /// The middle size: what single figures are given for.
    pub(crate) fn main_size(&self) -> u64 {
        self.sizes[self.sizes.len() / 2]
    }
}

fn main() -> std::process::ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "--role") {
        return processes::role(&args[1..]);
    }
    let options = parse(&mut args);
    let mut report = Report::new();
    match options.cuda() {
        Ok(cuda) => {
            report.facts(&cuda, options.ordinal);
            roofs::measure(&options, &cuda, &mut report);
            kernels::measure(&options, &cuda, &mut report);
            residency::measure(&options, &cuda, &mut report);
            processes::measure(&options, &cuda, &mut report);
        }
        Err(why) => {
            eprintln!("==================================================================");
            eprintln!("NO CUDA DEVICE: {why}");
            eprintln!("Nothing was measured. Real VRAM, the driver and the kernels on a GPU");
            eprintln!("are NOT verified by this run.");
            eprintln!("==================================================================");
            let required = std::env::var("VRAM_REQUIRE_GPU").is_ok_and(|value| value == "1");
            return std::process::ExitCode::from(u8::from(required));
        }
    }
    report.write(&options.out);
    std::process::ExitCode::from(u8::from(report.failed()))
}

fn parse(args: &mut Vec<String>) -> Options {
    let mut options = Options {
        library: None,
        ordinal: 0,
        sizes: vec![1 << 30, 16 << 30, 64 << 30],
        out: PathBuf::from("."),
        scratch: std::env::temp_dir(),
    };
    let mut args = args.drain(..);
    while let Some(name) = args.next() {
        let value = args
            .next()
            .unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--library" => options.library = Some(value),
            "--ordinal" => options.ordinal = value.parse().expect("an ordinal"),
            "--sizes-mib" => {
                let size = |mib: &str| mib.parse::<u64>().expect("sizes in MiB") << 20;
                options.sizes = value.split(',').map(size).collect();
            }
            "--out" => options.out = value.into(),
            "--scratch" => options.scratch = value.into(),
            _ => panic!("unknown option {name}"),
        }
    }
    options
}
