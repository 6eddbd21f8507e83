//! What a driver says of its GPUs beyond what sealing needs: for reports.

use serde::Serialize;
use vram_residency::device::{Device as _, DeviceError, DeviceInfo};
use vram_residency_cuda::Cuda;
use vram_residency_cuda::nvml::{Nvml, NvmlFacts};

/// The driver and what it shows.
pub(crate) struct Found {
    /// The driver's number, such as 12040.
    pub(crate) version: u32,
    /// The file that the loader really opened.
    pub(crate) library: String,
    /// Devices that this process may see.
    pub(crate) gpus: Vec<Gpu>,
}

/// One device. What could not be asked is absent, or says why.
#[derive(Serialize)]
pub(crate) struct Gpu {
    #[serde(flatten)]
    pub(crate) info: DeviceInfo,
    /// Virtual memory management: read-only mappings and the strong witness.
    pub(crate) virtual_memory: Option<bool>,
    /// Memory can be handed to another process as a file descriptor.
    pub(crate) fd_export: Option<bool>,
    /// `default`, `exclusive process`, `prohibited`.
    pub(crate) compute_mode: Option<&'static str>,
    /// Free bytes now; asking makes a context for a moment.
    pub(crate) free_bytes: Option<u64>,
    /// What NVML knows.
    pub(crate) nvml: NvmlReport,
}

/// NVML's facts, or why there are none.
#[derive(Default, Serialize)]
pub(crate) struct NvmlReport {
    pub(crate) unavailable: Option<String>,
    pub(crate) driver_version: Option<String>,
    pub(crate) uncorrected_errors: Option<u64>,
    pub(crate) remapped_rows_pending: Option<bool>,
    pub(crate) remapped_rows_failed: Option<bool>,
}

impl From<NvmlFacts> for NvmlReport {
    fn from(facts: NvmlFacts) -> Self {
        Self {
            unavailable: None,
            driver_version: Some(facts.driver_version),
            uncorrected_errors: facts.uncorrected_errors,
            remapped_rows_pending: facts.remapped_rows.map(|rows| rows.pending),
            remapped_rows_failed: facts.remapped_rows.map(|rows| rows.failed),
        }
    }
}

/// Looks for the CUDA driver and asks it about every device.
pub(crate) fn find() -> Result<Found, DeviceError> {
    let cuda = Cuda::open()?;
    let version = cuda.driver().driver_get_version();
    let version = version.map_err(|error| DeviceError::Unavailable {
        reason: error.to_string(),
    })?;
    let nvml = Nvml::open().map_err(|error| error.to_string());
    let infos = cuda.devices()?;
    Ok(Found {
        version: version.unsigned_abs(),
        library: cuda.driver().library().to_owned(),
        gpus: infos
            .into_iter()
            .map(|info| gpu(&cuda, nvml.as_ref(), info))
            .collect(),
    })
}

fn gpu(cuda: &Cuda, nvml: Result<&Nvml, &String>, info: DeviceInfo) -> Gpu {
    let abilities = cuda.abilities(info.ordinal).ok();
    let free = cuda.device(info.ordinal).and_then(|device| device.memory());
    Gpu {
        virtual_memory: abilities.map(|abilities| abilities.virtual_memory),
        fd_export: abilities.map(|abilities| abilities.fd_export),
        compute_mode: abilities
            .and_then(|abilities| abilities.compute_mode)
            .map(mode),
        free_bytes: free.ok().map(|memory| memory.free),
        nvml: nvml_report(nvml, info.pci.as_deref()),
        info,
    }
}

fn nvml_report(nvml: Result<&Nvml, &String>, pci: Option<&str>) -> NvmlReport {
    let facts = match (nvml, pci) {
        (Err(why), _) => Err(why.clone()),
        (Ok(_), None) => Err("the device has no PCI address".to_owned()),
        (Ok(nvml), Some(pci)) => nvml.facts(pci).map_err(|error| error.to_string()),
    };
    match facts {
        Ok(facts) => facts.into(),
        Err(why) => NvmlReport {
            unavailable: Some(why),
            ..NvmlReport::default()
        },
    }
}

const fn mode(number: i32) -> &'static str {
    match number {
        0 => "default",
        2 => "prohibited",
        3 => "exclusive process",
        _ => "unknown",
    }
}
