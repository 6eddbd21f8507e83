//! The driver with the file that the loader chose, and its devices.

use super::Check;
use crate::devices;
use crate::gpu::{self, Gpu, NvmlReport};
use crate::text;

pub(super) fn checks() -> Vec<Check> {
    const NAME: &str = "CUDA driver";
    let found = match gpu::find() {
        Ok(found) => found,
        Err(error) => {
            let advice = "install the NVIDIA driver to use a GPU; --device sim works without one";
            return vec![Check::look(NAME, error.to_string(), advice)];
        }
    };
    let (major, minor) = (found.version / 1000, (found.version % 1000) / 10);
    let text = format!("CUDA {major}.{minor}, {}", found.library);
    let mut checks = vec![if found.gpus.is_empty() {
        Check::look(
            NAME,
            text,
            "it shows no device; look at CUDA_VISIBLE_DEVICES and nvidia-smi",
        )
    } else {
        Check::ok(NAME, text)
    }];
    for gpu in &found.gpus {
        checks.push(device(gpu));
        checks.push(virtual_memory(gpu));
        checks.push(mode(gpu));
        checks.push(free(gpu));
        checks.push(health(&gpu.nvml));
    }
    checks
}

fn device(gpu: &Gpu) -> Check {
    let line = devices::line(&gpu.info);
    if gpu.info.integrated {
        return Check::look("device", line, "use a card with memory of its own");
    }
    Check::ok("device", line)
}

fn virtual_memory(gpu: &Gpu) -> Check {
    const NAME: &str = "virtual memory";
    match (gpu.virtual_memory, gpu.fd_export) {
        (Some(true), Some(true)) => Check::ok(NAME, "read-only mappings and fd export"),
        (Some(true), _) => Check::look(
            NAME,
            "read-only mappings, no fd export",
            "memory cannot be handed to another process on this device",
        ),
        (Some(false), _) => Check::look(
            NAME,
            "missing",
            "sealed memory cannot be made read-only; a newer driver may have it",
        ),
        (None, _) => Check::look(NAME, "the driver does not tell", "a newer driver does"),
    }
}

fn mode(gpu: &Gpu) -> Check {
    const NAME: &str = "compute mode";
    match gpu.compute_mode {
        Some("prohibited") => Check::bad(NAME, "prohibited", "nvidia-smi -c DEFAULT"),
        Some(mode) => Check::ok(NAME, mode),
        None => Check::look(NAME, "the driver does not tell", "look with nvidia-smi -q"),
    }
}

fn free(gpu: &Gpu) -> Check {
    const NAME: &str = "free VRAM";
    match gpu.free_bytes {
        Some(free) => Check::ok(
            NAME,
            format!(
                "{} of {}",
                text::size(free),
                text::size(gpu.info.total_bytes)
            ),
        ),
        None => Check::look(
            NAME,
            "the device cannot be opened",
            "look at nvidia-smi for what holds it",
        ),
    }
}

fn health(nvml: &NvmlReport) -> Check {
    const NAME: &str = "NVML";
    if let Some(why) = &nvml.unavailable {
        let advice = "error counters are not known without libnvidia-ml; sealing works";
        return Check::look(NAME, why.clone(), advice);
    }
    let errors = nvml.uncorrected_errors.unwrap_or(0);
    let version = nvml.driver_version.as_deref().unwrap_or("unknown");
    let text = format!("driver {version}, {errors} uncorrected memory errors");
    if errors > 0 || nvml.remapped_rows_failed == Some(true) {
        return Check::bad(
            NAME,
            text,
            "memory of this card is failing; take it out of service",
        );
    }
    if nvml.remapped_rows_pending == Some(true) {
        return Check::look(NAME, text, "rows wait to be remapped: reset the card");
    }
    Check::ok(NAME, text)
}
