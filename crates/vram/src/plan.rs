//! `vram plan`.

use std::path::PathBuf;

use serde::Serialize;
use vram_residency::VramManager;
use vram_residency::capacity::Sharing;
use vram_residency::capacity::plan::{DevicePlan, Placement, Plan, PlanPart};
use vram_residency::key::RootKey;
use vram_residency::load::Model;
use vram_residency::random::OsRandom;

use crate::device::{self, DeviceSpec};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::text;

/// Say whether a model fits, and where, before a byte of it is loaded
///
/// Reads headers and asks the drivers what is free. Files go to devices whole,
/// the largest first, each where it leaves the least room; tensors within a
/// file are not split, so a tensor-parallel model needs a file for each rank.
/// Exit code 1 when it does not fit.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram plan model.safetensors --device cuda:0 --reserve 8GiB
  vram plan model.safetensors.index.json --device cuda:0 --device cuda:1
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
    #[serde(flatten)]
    plan: &'a Plan,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let model = Model::open(&self.model)?;
        let parts: Vec<PlanPart> = model
            .parts()
            .iter()
            .map(|part| PlanPart {
                name: part.path().to_string_lossy().into_owned(),
                bytes: part.bytes(),
            })
            .collect();
        let plan = self.manager()?.plan(&parts, self.reserve)?;
        if output.is_json() {
            output.json(&Report {
                schema: "vram-residency/plan/v1",
                model: model.name(),
                bytes: model.bytes(),
                headroom: self.headroom,
                plan: &plan,
            })?;
        } else {
            for placement in &plan.placements {
                output.line(placed(placement))?;
            }
            for device in &plan.devices {
                output.line(summary(device))?;
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
        Err(
            Failure::new(format!("{name} does not fit on these devices"))
                .hint("free other uses of the memory, reserve less, or name more devices"),
        )
    }

    /// A manager that only asks: its key seals nothing.
    fn manager(&self) -> Result<VramManager, Failure> {
        let mut builder = VramManager::builder().key(RootKey::generate(&OsRandom)?);
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
        None => format!("{part}: {size} fits on no device"),
    }
}

fn summary(device: &DevicePlan) -> String {
    let what = format!(
        "device {}: {} placed, {} reserved",
        device.ordinal,
        text::size(device.placed),
        text::size(device.reserve),
    );
    if device.fits {
        format!("{what}, {} left", text::size(device.left))
    } else {
        format!("{what}, {} missing", text::size(device.missing))
    }
}
