//! The driver with the file that the loader chose, and its devices.

use vram_residency::device::DeviceKind;

use super::Check;
use crate::devices;
use crate::gpu::{self, Gpu, Missing, NvmlReport, Silent};
use crate::text;

pub(super) fn checks() -> Vec<Check> {
    const NAME: &str = "CUDA driver";
    let found = match gpu::find() {
        Ok(found) => found,
        Err(Missing::Driver(error)) => {
            let advice = "install the NVIDIA driver to use a GPU; --device sim works without one";
            return vec![Check::look(NAME, error.to_string(), advice)];
        }
        Err(Missing::Device(error)) => {
            return vec![Check::look(NAME, error.to_string(), NO_DEVICE)];
        }
    };
    let (major, minor) = (found.version / 1000, (found.version % 1000) / 10);
    let text = format!("CUDA {major}.{minor}, {}", found.library);
    let mut checks = vec![if found.gpus.is_empty() {
        Check::look(NAME, text, NO_DEVICE)
    } else {
        Check::ok(NAME, text)
    }];
    for Silent { ordinal, error } in found.silent {
        let text = format!("cuda:{ordinal}: {error}");
        let advice = "the driver cannot describe this device; look at nvidia-smi and dmesg";
        checks.push(Check::bad("device", text, advice));
    }
    for gpu in &found.gpus {
        checks.push(device(gpu));
        checks.push(virtual_memory(gpu));
        checks.push(mode(gpu));
        checks.push(free(gpu));
        checks.push(health(&gpu.nvml));
    }
    checks.extend(order(&found.gpus));
    checks
}

/// Whether the numbers of several devices are those of other tools, which count
/// by PCI address.
fn order(gpus: &[Gpu]) -> Option<Check> {
    const NAME: &str = "device order";
    let addresses: Vec<&str> = gpus
        .iter()
        .filter_map(|gpu| gpu.info.pci.as_deref())
        .collect();
    if addresses.len() < 2 {
        return None;
    }
    let text = addresses.join(", ");
    Some(if addresses.is_sorted() {
        Check::ok(NAME, text)
    } else {
        let advice = "nvidia-smi numbers these otherwise; CUDA_DEVICE_ORDER=PCI_BUS_ID and an \
                      ascending CUDA_VISIBLE_DEVICES number them alike";
        Check::look(NAME, text, advice)
    })
}

const NO_DEVICE: &str =
    "the driver shows no usable device; look at CUDA_VISIBLE_DEVICES and nvidia-smi";

fn device(gpu: &Gpu) -> Check {
    const NAME: &str = "device";
    let line = devices::line(&gpu.info);
    if gpu.info.integrated {
        return Check::look(NAME, line, "use a card with memory of its own");
    }
    if gpu.info.ecc == Some(false) {
        let advice = "without ECC bits flip unseen between verifications: nvidia-smi -e 1";
        return Check::look(NAME, line, advice);
    }
    if gpu.info.kind == DeviceKind::Simulated {
        let advice =
            "no GPU: a driver that pretends; nothing sealed on it counts as sealed in VRAM";
        return Check::look(NAME, line, advice);
    }
    Check::ok(NAME, line)
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
        None => {
            let why = gpu.unusable.as_deref().unwrap_or("unknown");
            let advice = "sealing on it will fail; nvidia-smi shows what holds it";
            Check::bad(NAME, format!("the device cannot be opened: {why}"), advice)
        }
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
    let counted = match nvml.uncorrected_errors {
        Some(errors) => format!("{errors} uncorrected memory errors"),
        None => "memory errors are not counted".to_owned(),
    };
    let rows = nvml.remapped_rows;
    let rows = rows.map_or_else(String::new, |rows| format!(", {rows} remapped rows"));
    let text = format!("driver {version}, {counted}{rows}");
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

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn failing_memory_is_bad_and_memory_that_nobody_counts_is_said_to_be_so() {
        let well = NvmlReport {
            driver_version: Some("570.86.15".to_owned()),
            uncorrected_errors: Some(0),
            remapped_rows: Some(2),
            ..NvmlReport::default()
        };
        let check = health(&well);
        assert_eq!(check.verdict, Verdict::Ok);
        let text = "driver 570.86.15, 0 uncorrected memory errors, 2 remapped rows";
        assert_eq!(check.found, text);
        for (report, verdict) in [
            (
                NvmlReport {
                    uncorrected_errors: Some(1),
                    ..NvmlReport::default()
                },
                Verdict::Bad,
            ),
            (
                NvmlReport {
                    remapped_rows_failed: Some(true),
                    ..NvmlReport::default()
                },
                Verdict::Bad,
            ),
            (
                NvmlReport {
                    remapped_rows_pending: Some(true),
                    ..NvmlReport::default()
                },
                Verdict::Look,
            ),
            (
                NvmlReport {
                    unavailable: Some("gone".to_owned()),
                    ..NvmlReport::default()
                },
                Verdict::Look,
            ),
        ] {
            assert_eq!(health(&report).verdict, verdict);
        }
        let uncounted = health(&NvmlReport::default());
        assert!(
            uncounted.found.contains("not counted"),
            "{}",
            uncounted.found
        );
    }
}
