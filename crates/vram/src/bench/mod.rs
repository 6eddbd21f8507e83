//! `vram bench`: the machine's own roofs and our rates, in one run.

mod costs;
mod load;
mod ours;
mod pin;
mod ratios;
mod roofs;
mod sample;
mod scaling;
mod target;
mod teams;
mod verify;
mod whole;

use std::num::NonZeroUsize;

use serde::Serialize;
use vram_digest::path;

use crate::device::DeviceSpec;
use crate::failure::Failure;
use crate::measure::cores;
use crate::output::Output;
use crate::text;
use sample::{Cost, Rate};
use scaling::Scaling;
use target::Target;

/// Smallest working set: less would measure caches and thread starts.
const MIN_MIB: u64 = 1;
/// Largest working set; seals hold it twice.
const MAX_MIB: u64 = 16 << 10;

/// Measure this machine and what vram makes of it
///
/// Rates of memory and files first: nothing can be faster than they are. Then
/// digest, seal, full verification and export on the simulated device, on one
/// core and on all; then what all cores make of one core's rates, the parts
/// whose cost does not depend on the size, and the targets that the project
/// states for a machine of two cores. A missed target fails nothing.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram bench
  vram bench --size-mib 1024 --runs 9
  vram bench --json > bench.json
  vram bench load model.safetensors
  vram bench verify --device sim
  vram bench --device cuda:0 --size-mib 4096

Each line is the median of the runs, with the slowest and the fastest. A row on
one core and the same row on all run in turn, and the one core is another each
time. Let the machine rest: other work shows as spread. Where fsverity is
installed, the same file is digested by both programs in turn.

Exit codes: 0 fine, 1 failure, 2 usage. A missed target is
no failure.")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Bytes that each run works on, in MiB; memory use is four times that
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(MIN_MIB..=MAX_MIB))]
    size_mib: u64,
    /// Runs of each measurement
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Also seal and verify on this device: cuda:N
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceSpec>,
}

/// Benches of one thing.
#[derive(clap::Subcommand)]
enum What {
    Load(load::Args),
    Verify(verify::Args),
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    digest_path: String,
    cores: usize,
    bytes: u64,
    runs: u32,
    rates: Vec<Rate>,
    scaling: Vec<Scaling>,
    costs: Vec<Cost>,
    targets: Vec<Target>,
}

/// What every measurement needs to know.
struct Plan {
    bytes: usize,
    runs: u32,
    cores: NonZeroUsize,
}

impl Plan {
    fn new(size_mib: u64, runs: u32) -> Result<Self, Failure> {
        let bytes = usize::try_from(size_mib.saturating_mul(1 << 20));
        let too_many = |_| Failure::usage("--size-mib is more than this machine can address");
        Ok(Self {
            bytes: bytes.map_err(too_many)?,
            runs,
            cores: cores(),
        })
    }

    /// What the figures below it were measured with.
    fn line(&self) -> String {
        format!(
            "{} core(s), digests by {}, {} a run, {} runs",
            self.cores,
            path::active(),
            text::size(self.bytes as u64),
            self.runs,
        )
    }

    /// One core, then all of them where there are more.
    fn teams(&self) -> Vec<NonZeroUsize> {
        let mut teams = vec![NonZeroUsize::MIN, self.cores];
        teams.dedup();
        teams
    }
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        match self.what {
            Some(What::Load(args)) => return args.run(output),
            Some(What::Verify(args)) => return args.run(output),
            None => {}
        }
        let plan = Plan::new(self.size_mib, self.runs)?;
        if !output.is_json() {
            output.line(plan.line())?;
        }
        let (mut rates, mut targets) = (Vec::new(), Vec::new());
        let mut show = |rate: Rate| {
            if !output.is_json() {
                output.line(rate.line())?;
            }
            rates.push(rate);
            Ok(())
        };
        roofs::memory(&plan, &mut show)?;
        let scratch = roofs::Scratch::new(&plan)?;
        roofs::file(&plan, &scratch, &mut show)?;
        let faster = whole::digests(&plan, scratch.path(), &mut show, output)?;
        ours::measure(&plan, &mut show)?;
        if let Some(spec) = &self.device {
            ours::on_device(&plan, spec, &mut show)?;
        }
        let scaling = scaling::of(&rates);
        targets.extend(ratios::targets(&rates));
        targets.extend(faster);
        targets.push(whole::peak(&plan, scratch.path())?);
        let costs = costs::measure(&plan)?;
        if !output.is_json() {
            scaling.iter().try_for_each(|row| output.line(row.line()))?;
            costs.iter().try_for_each(|cost| output.line(cost.line()))?;
            return targets.iter().try_for_each(|row| output.line(row.line()));
        }
        output.json(&Report {
            schema: "vram-residency/bench/v1",
            digest_path: path::active().to_string(),
            cores: plan.cores.get(),
            bytes: plan.bytes as u64,
            runs: plan.runs,
            rates,
            scaling,
            costs,
            targets,
        })
    }
}

/// Takes each rate as it is measured.
type Show<'a> = &'a mut dyn FnMut(Rate) -> Result<(), Failure>;
