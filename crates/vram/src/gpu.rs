//! What a driver says of its GPUs beyond what sealing needs: for reports.

use std::fmt;

use serde::Serialize;
use vram_residency::device::{Device as _, DeviceError, DeviceInfo};
use vram_residency_cuda::driver::Driver;
use vram_residency_cuda::nvml::{Nvml, NvmlFacts};
use vram_residency_cuda::sys::{DEFAULT_LIBRARY, LoadError};
use vram_residency_cuda::{Cuda, CudaDevice};

/// Why there is nothing to tell.
pub(crate) enum Missing {
    /// No libcuda, or none that can be loaded.
    Driver(LoadError),
    /// The driver is there and does not work, or has no device.
    Device(DeviceError),
}

impl From<DeviceError> for Missing {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(error) => error.fmt(f),
            Self::Device(error) => error.fmt(f),
        }
    }
}

/// The driver and what it shows.
pub(crate) struct Found {
    /// The driver's number, such as 12040.
    pub(crate) version: u32,
    /// The file that the loader really opened.
    pub(crate) library: String,
    /// Devices that this process may see.
    pub(crate) gpus: Vec<Gpu>,
    /// Devices that the driver counts and cannot describe.
    pub(crate) silent: Vec<Silent>,
}

/// A device about which the driver answers nothing useful.
#[derive(Serialize)]
pub(crate) struct Silent {
    pub(crate) ordinal: u32,
    pub(crate) error: String,
}

/// One device. What could not be asked is absent, or says why.
#[derive(Serialize)]
pub(crate) struct Gpu {
    #[serde(flatten)]
    pub(crate) info: DeviceInfo,
    /// Virtual memory management: read-only mappings and the strong witness.
    /// As found by use where the device can be opened, else as the driver says.
    pub(crate) virtual_memory: Option<bool>,
    /// Memory can be handed to another process as a file descriptor.
    pub(crate) fd_export: Option<bool>,
    /// `default`, `exclusive process`, `prohibited`.
    pub(crate) compute_mode: Option<&'static str>,
    /// Free bytes now; asking makes a context for a moment.
    pub(crate) free_bytes: Option<u64>,
    /// Why the device cannot be opened now.
    pub(crate) unusable: Option<String>,
    /// What NVML knows.
    pub(crate) nvml: NvmlReport,
}

/// NVML's facts, or why there are none.
#[derive(Default, Serialize)]
pub(crate) struct NvmlReport {
    pub(crate) unavailable: Option<String>,
    pub(crate) driver_version: Option<String>,
    pub(crate) ecc: Option<bool>,
    pub(crate) mig: Option<bool>,
    pub(crate) uncorrected_errors: Option<u64>,
    pub(crate) remapped_rows: Option<u32>,
    pub(crate) remapped_rows_pending: Option<bool>,
    pub(crate) remapped_rows_failed: Option<bool>,
}

impl From<NvmlFacts> for NvmlReport {
    fn from(facts: NvmlFacts) -> Self {
        let rows = facts.remapped_rows;
        Self {
            unavailable: None,
            driver_version: Some(facts.driver_version),
            ecc: facts.ecc,
            mig: facts.mig,
            uncorrected_errors: facts.uncorrected_errors,
            remapped_rows: rows.map(|rows| rows.correctable.saturating_add(rows.uncorrectable)),
            remapped_rows_pending: rows.map(|rows| rows.pending),
            remapped_rows_failed: rows.map(|rows| rows.failed),
        }
    }
}

/// Looks for the CUDA driver and asks it about every device.
pub(crate) fn find() -> Result<Found, Missing> {
    Driver::load(DEFAULT_LIBRARY).map_err(Missing::Driver)?;
    let cuda = Cuda::open()?;
    let version = cuda.driver().driver_get_version();
    let version = version.map_err(|error| DeviceError::Unavailable {
        reason: error.to_string(),
    })?;
    let nvml = Nvml::open().map_err(|error| error.to_string());
    let mut found = Found {
        version: version.unsigned_abs(),
        library: cuda.driver().library().to_owned(),
        gpus: Vec::new(),
        silent: Vec::new(),
    };
    for ordinal in 0..cuda.count()? {
        // One broken device hides no other.
        match cuda.info(ordinal) {
            Ok(info) => found.gpus.push(gpu(&cuda, nvml.as_ref(), info)),
            Err(error) => found.silent.push(Silent {
                ordinal,
                error: error.to_string(),
            }),
        }
    }
    Ok(found)
}

fn gpu(cuda: &Cuda, nvml: Result<&Nvml, &String>, info: DeviceInfo) -> Gpu {
    let told = cuda.abilities(info.ordinal).ok();
    let opened = cuda.device(info.ordinal);
    let memory = opened.as_ref().map_err(Clone::clone);
    let memory = memory.and_then(|device| device.memory());
    let opened = opened.as_ref().ok();
    Gpu {
        // A sandbox may promise what it then refuses.
        virtual_memory: opened
            .map(CudaDevice::has_virtual_memory)
            .or(told.map(|told| told.virtual_memory)),
        fd_export: opened
            .map(CudaDevice::can_export)
            .or(told.map(|told| told.fd_export)),
        compute_mode: told.and_then(|told| told.compute_mode).map(mode),
        free_bytes: memory.as_ref().ok().map(|memory| memory.free),
        unusable: memory.err().map(|error| error.to_string()),
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
