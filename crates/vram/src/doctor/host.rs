//! What the host's CPU, memory and device files are like.

use std::fs;

use vram_digest::path::{self, Path};

use super::Check;
use crate::measure::cores;
use crate::text;

/// Which implementation hashes.
pub(super) fn digest_path() -> Check {
    const NAME: &str = "digests";
    let (active, detected) = (path::active(), path::detected());
    let found = format!("{active}; {} core(s)", cores());
    if active < detected {
        return Check::look(NAME, found, format!("this CPU can do {detected}"));
    }
    if active == Path::Portable {
        return Check::look(
            NAME,
            found,
            "no vector path for this CPU: digests are slower, not wrong",
        );
    }
    Check::ok(NAME, found)
}

/// Memory for the simulated device.
pub(super) fn memory() -> Check {
    const NAME: &str = "free memory";
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match field_kib(&info, "MemAvailable:") {
        Some(kib) => Check::ok(NAME, text::size(kib.saturating_mul(1024))),
        None => Check::look(NAME, "/proc/meminfo does not say", "mount /proc"),
    }
}

/// `NAME   123 kB` in a list of such lines.
fn field_kib(info: &str, name: &str) -> Option<u64> {
    let rest = info.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Transparent huge pages speed the simulated device up.
pub(super) fn huge_pages() -> Check {
    const NAME: &str = "huge pages";
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let Ok(modes) = fs::read_to_string(FILE) else {
        return Check::look(
            NAME,
            "the kernel has none",
            "only the simulated device is slower",
        );
    };
    match chosen(&modes) {
        Some(mode @ ("always" | "madvise")) => Check::ok(NAME, mode),
        mode => {
            let found = mode.unwrap_or("unknown").to_owned();
            Check::look(
                NAME,
                found,
                format!("for a faster simulated device: echo madvise > {FILE}"),
            )
        }
    }
}

/// The mode in brackets.
fn chosen(modes: &str) -> Option<&str> {
    let (_, rest) = modes.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode)
}

/// The files by which a process reaches the kernel driver.
pub(super) fn device_nodes() -> Check {
    const NAME: &str = "device files";
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut nodes: Vec<String> = names.filter(|name| name.starts_with("nvidia")).collect();
    nodes.sort();
    if nodes.is_empty() {
        let advice = "no NVIDIA driver is loaded, or a container was not given its devices";
        return Check::look(NAME, "no /dev/nvidia*", advice);
    }
    Check::ok(NAME, nodes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_read() {
        let info = "MemTotal:       100 kB\nMemAvailable:   42 kB\n";
        assert_eq!(field_kib(info, "MemAvailable:"), Some(42));
        assert_eq!(field_kib(info, "Swap:"), None);
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(chosen("nonsense"), None);
    }
}
