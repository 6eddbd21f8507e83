//! `vram devices`.

use serde::Serialize;
use vram_residency::device::DeviceInfo;

use crate::device::{self, DeviceSpec};
use crate::failure::Failure;
use crate::gpu::{self, Gpu, Silent};
use crate::output::Output;
use crate::text;

/// List the devices that can hold models
///
/// Without --device: every CUDA device that this process may see. A machine
/// without a driver has none; the reason goes to stderr.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram devices
  vram devices --json
  vram devices --device sim:8GiB       what a simulated device looks like

Exit codes: 0 fine, 1 failure, 2 usage. Without a driver or a GPU
the list is empty, and the note says why.")]
pub(crate) struct Args {
    /// Look at this one instead: cuda:N, sim or sim:SIZE
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceSpec>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    /// GPUs with all that their driver tells, or the one device asked for.
    devices: Vec<Listed>,
    /// Devices that the driver counts and cannot describe, and why.
    silent: Vec<Silent>,
    /// Why no CUDA device was looked for successfully.
    unavailable: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Listed {
    Gpu(Box<Gpu>),
    Other(Box<DeviceInfo>),
}

impl Listed {
    fn line(&self) -> String {
        match self {
            Self::Gpu(gpu) => gpu_line(gpu),
            Self::Other(info) => line(info),
        }
    }
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let (devices, silent, unavailable) = match &self.device {
            Some(spec) => {
                let info = device::open(spec)?.info().clone();
                (vec![Listed::Other(Box::new(info))], Vec::new(), None)
            }
            None => match gpu::find() {
                Ok(found) => {
                    let listed = |gpu| Listed::Gpu(Box::new(gpu));
                    let gpus = found.gpus.into_iter().map(listed).collect();
                    (gpus, found.silent, None)
                }
                Err(error) => (Vec::new(), Vec::new(), Some(error.to_string())),
            },
        };
        for Silent { ordinal, error } in &silent {
            output.note(&format!("cuda:{ordinal}: {error}"));
        }
        if let Some(reason) = &unavailable {
            output.note(reason);
            output.note(
                "without a GPU name the simulated device where a command takes --device: sim",
            );
        }
        if output.is_json() {
            return output.json(&Report {
                schema: "vram-residency/devices/v1",
                devices,
                silent,
                unavailable,
            });
        }
        devices
            .iter()
            .try_for_each(|listed| output.line(listed.line()))
    }
}

/// One GPU on one line, with what only a running driver knows.
fn gpu_line(gpu: &Gpu) -> String {
    let mut facts = vec![line(&gpu.info)];
    facts.extend(
        gpu.free_bytes
            .map(|free| format!("{} free", text::size(free))),
    );
    let missing =
        |what: &str, has: Option<bool>| (has == Some(false)).then(|| format!("no {what}"));
    facts.extend(missing("virtual memory management", gpu.virtual_memory));
    facts.extend(missing("fd export", gpu.fd_export));
    facts.extend(
        gpu.unusable
            .as_ref()
            .map(|why| format!("cannot be opened: {why}")),
    );
    let unusual = gpu.compute_mode.filter(|mode| *mode != "default");
    facts.extend(unusual.map(|mode| format!("compute mode {mode}")));
    text::printable(&facts.join(", "))
}

/// One device on one line.
pub(crate) fn line(info: &DeviceInfo) -> String {
    let mut facts = vec![
        format!("{}:{}", info.kind, info.ordinal),
        info.name.clone(),
        text::size(info.total_bytes),
    ];
    if let Some((major, minor)) = info.compute_capability {
        facts.push(format!("compute capability {major}.{minor}"));
    }
    let known = |what: &str, on: Option<bool>| {
        on.map(|on| format!("{what} {}", if on { "on" } else { "off" }))
    };
    facts.extend(known("ECC", info.ecc));
    facts.extend(known("MIG", info.mig));
    if info.integrated {
        facts.push("integrated, cannot hold models".to_owned());
    }
    facts.extend(info.pci.clone());
    facts.push(info.uuid.to_string());
    text::printable(&facts.join(", "))
}
