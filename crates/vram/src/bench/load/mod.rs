//! `vram bench load`: a sealed load beside the roofs of its parts.

mod cuda;
mod subject;

use std::path::PathBuf;

use serde::Serialize;

use super::sample::{Rate, in_turn};
use super::target::{Bound, Target};
use super::{Show, ours};
use crate::device::{self, DeviceSpec};
use crate::failure::Failure;
use crate::output::Output;
use subject::{COPY, DIGEST, KEYED, LOAD, Subject};

/// What a warm load on the simulated device should reach of what the roofs of
/// its parts allow.
const SHARE: f64 = 0.9;

/// Measure a sealed load of a file beside the roofs of its parts
///
/// First reads and loads that find the file on disk. Then, from the page cache
/// and in turn: reads of the file, a copy of memory, the digest and the keyed
/// hash, each on all cores, and the load on the simulated device, which copies,
/// hashes and tags every byte. Its memory was touched before, as VRAM is; what
/// the first touch of fresh memory costs is a line of its own. With --device
/// the same load onto a GPU, beside copies from pinned memory and a load
/// without any check.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram synth model.safetensors --size 4GiB
  vram bench load model.safetensors
  vram bench load model.safetensors --runs 9 --json
  vram bench load model.safetensors --device cuda:0

Memory use is the file twice, and up to 3 GiB. Cold reads ask the system to
forget the file, which it does for clean pages only.

Exit codes: 0 fine, 1 failure, 2 usage. A missed target is
no failure.")]
pub(super) struct Args {
    /// The model file to load
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Runs of each measurement
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Also load onto this device: cuda:N
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceSpec>,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    model: String,
    bytes: u64,
    cores: usize,
    runs: u32,
    rates: &'a [Rate],
    allowed_bytes_per_second: f64,
    ratio: f64,
    targets: &'a [Target],
}

impl Args {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        // Better now than after minutes of measuring.
        let device = self.device.as_ref().map(device::open).transpose()?;
        let subject = Subject::open(self.model, self.runs)?;
        let mut rates = Vec::new();
        let mut show = |rate: Rate| {
            if !output.is_json() {
                output.line(rate.line())?;
            }
            rates.push(rate);
            Ok(())
        };
        subject.simulated(&mut show)?;
        let mut targets = Vec::new();
        if let Some(device) = device {
            targets.extend(cuda::measure(&subject, &device, &mut show)?);
        }
        let allowed = allowed(&rates)?;
        let ratio = of_name(&rates, LOAD)?.median() / allowed;
        let name = "warm load, share of what the roofs allow";
        targets.insert(0, Target::new(name, ratio, "", Bound::AtLeast(SHARE)));
        if output.is_json() {
            return output.json(&Report {
                schema: "vram-residency/bench-load/v1",
                model: subject.name(),
                bytes: subject.bytes() as u64,
                cores: subject.team().get(),
                runs: self.runs,
                rates: &rates,
                allowed_bytes_per_second: allowed,
                ratio,
                targets: &targets,
            });
        }
        output.line(format!(
            "1/(1/digest + 1/keyed + 2/copy) is {:.2} GB/s; the warm load is {ratio:.2} of it",
            1e-9 * allowed,
        ))?;
        targets.iter().try_for_each(|row| output.line(row.line()))
    }
}

/// Bytes a second that the roofs allow: one copy into staging memory, one to the
/// device; both hashes of the device's bytes. The keyed hash of the source's
/// bytes, which lie in the cache, is not granted.
fn allowed(rates: &[Rate]) -> Result<f64, Failure> {
    let time = |name| of_name(rates, name).map(Rate::time_per_byte);
    Ok(1.0 / (time(DIGEST)? + time(KEYED)? + 2.0 * time(COPY)?))
}

fn of_name<'r>(rates: &'r [Rate], name: &str) -> Result<&'r Rate, Failure> {
    let found = rates.iter().find(|rate| rate.name() == name);
    found.ok_or_else(|| Failure::new(format!("'{name}' was not measured")))
}
