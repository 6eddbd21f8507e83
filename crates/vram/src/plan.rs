//! `vram plan`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::Serialize;
use vram_residency::capacity::Sharing;
use vram_residency::capacity::plan::{DevicePlan, MAX_PADDING, Placement, Plan, PlanPart};
use vram_residency::capacity::ranks::rank_bytes;
use vram_residency::key::RootKey;
use vram_residency::load::{Model, Part};
use vram_residency::random::OsRandom;
use vram_residency::{Policy, VramManager};

use crate::device::{self, DeviceSpec};
use crate::failure::{Exit, Failure};
use crate::limits::LimitArgs;
use crate::output::Output;
use crate::text;

/// Say whether a model fits, and where, before a byte of it is loaded
///
/// Reads headers and asks the drivers what is free. Files go to devices whole,
/// the largest first, each where it leaves the least room; where that fails other
/// layouts are tried, up to a limit. With --tensor-parallel the model is cut into ranks first, each on a device of its
/// own: matrices evenly, all else whole on every rank. Sealing cuts no file, so
/// the ranks need files made for them. Exit code 1 when it does not fit.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram plan model.safetensors --device cuda:0 --reserve 8GiB
  vram plan model.safetensors.index.json --device cuda:0 --device cuda:1
  vram plan model.safetensors --tensor-parallel 2 --device cuda:0 --device cuda:1
  vram plan model.gguf --device sim:24GiB --headroom 2GiB --json

The answer is of this moment: others may take the room before the load.

Exit codes: 0 it fits, 1 it does not or a failure, 2 usage.")]
pub(crate) struct Args {
    /// A model file, an index, the first part of a split model, or a directory
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// A device that may be used; give it several times for several devices
    #[arg(long, value_name = "DEVICE", required = true)]
    device: Vec<DeviceSpec>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Cut the model for this many devices
    #[arg(long, value_name = "RANKS", default_value = "1")]
    tensor_parallel: NonZeroU32,
    /// Set aside on each device for context, activations and KV cache
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size_or_zero)]
    reserve: u64,
    /// Never hand out this much of each device: others' share
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size_or_zero)]
    headroom: u64,
}

fn size_or_zero(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    text::parse_size(text)
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    model: &'a str,
    bytes: u64,
    headroom: u64,
    tensor_parallel: NonZeroU32,
    #[serde(flatten)]
    plan: &'a Plan,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        self.check()?;
        let model = Model::open_with(&self.model, &self.limits.limits())?;
        let manager = self.manager()?;
        let plan = if self.tensor_parallel.get() > 1 {
            manager.plan_ranks(&self.ranks(&model), self.reserve)?
        } else {
            let files: Vec<PlanPart> = model.parts().iter().map(PlanPart::from).collect();
            manager.plan(&files, self.reserve)?
        };
        if output.is_json() {
            output.json(&Report {
                schema: "vram-residency/plan/v1",
                model: model.name(),
                bytes: model.bytes(),
                headroom: self.headroom,
                tensor_parallel: self.tensor_parallel,
                plan: &plan,
            })?;
        } else {
            for placement in &plan.placements {
                output.line(placed(placement))?;
            }
            for device in &plan.devices {
                output.line(summary(device, self.headroom))?;
            }
        }
        if plan.fits {
            return Ok(());
        }
        if output.is_json() {
            // The report says so.
            return Err(Failure::reported(Exit::Failure));
        }
        let name = text::printable(model.name());
        let failure = Failure::new(format!("{name} does not fit on these devices"))
            .hint("free other uses of the memory, reserve less, or name more devices");
        if plan.certain {
            return Err(failure);
        }
        Err(failure.with_note("not every layout was tried: another one may fit"))
    }

    fn check(&self) -> Result<(), Failure> {
        let (ranks, named) = (self.tensor_parallel.get(), self.device.len());
        if u32::try_from(named).is_ok_and(|named| named < ranks) {
            return Err(Failure::usage(format!(
                "--tensor-parallel {ranks} needs as many devices, {named} named"
            ))
            .hint("give --device once for each rank"));
        }
        Ok(())
    }

    /// What each rank would hold of all files.
    fn ranks(&self, model: &Model) -> Vec<PlanPart> {
        let degree = self.tensor_parallel;
        let held = |part: &Part| rank_bytes(part.bytes(), part.tensors(), degree);
        let bytes = model.parts().iter().map(held).fold(0, u64::saturating_add);
        let rank = |rank: u32| PlanPart {
            name: format!("rank {rank} of {degree}"),
            bytes,
            // Of a file that is yet to be made.
            padding: MAX_PADDING,
        };
        (0..degree.get()).map(rank).collect()
    }

    /// A manager that only asks: its key seals nothing.
    fn manager(&self) -> Result<VramManager, Failure> {
        let policy = self.limits.widen(Policy::default());
        let builder = VramManager::builder().policy(policy);
        let mut builder = builder.key(RootKey::generate(&OsRandom)?);
        for spec in &self.device {
            let device = device::open(spec)?;
            builder = builder.device_with(device, None, Sharing::Headroom(self.headroom));
        }
        Ok(builder.build()?)
    }
}

fn placed(placement: &Placement) -> String {
    let (part, size) = (
        text::printable(&placement.part),
        text::size(placement.bytes),
    );
    match placement.ordinal {
        Some(ordinal) => format!("{part}: {size} on device {ordinal}"),
        None if placement.missing == 0 => format!("{part}: {size} fits on no device"),
        None => {
            let missing = placement.missing;
            format!("{part}: {size} fits on no device, {missing} bytes missing")
        }
    }
}

fn summary(device: &DevicePlan, headroom: u64) -> String {
    let what = format!(
        "device {}: {} placed, {} reserved, {} headroom",
        device.ordinal,
        text::size(device.placed),
        text::size(device.reserve),
        text::size(headroom),
    );
    if device.fits {
        format!("{what}, {} left", text::size(device.left))
    } else {
        format!("{what}, {} bytes missing", device.missing)
    }
}
