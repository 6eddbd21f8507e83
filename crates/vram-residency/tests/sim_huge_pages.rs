//! The simulated device's memory lies in huge pages where the system gives
//! them: the first touch of small ones costs more than hashing them. The figures
//! are those of the whole process, so this file holds one test.

#[path = "common/skipped.rs"]
mod skipped;

use skipped::skipped;
use vram_residency::key::RootKey;
use vram_residency::load::PatternSource;
use vram_residency::sim::SimDevice;
use vram_residency::{SealRequest, VramManager};

const LEN: u64 = 64 << 20;
/// Bytes of one huge page.
const HUGE: u64 = 2 << 20;

/// A figure of a file under `/proc`, by its name.
fn figure(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn huge_bytes() -> u64 {
    figure("/proc/self/smaps_rollup", "AnonHugePages:") * 1024
}

fn not_looked_at(why: &str) {
    skipped(&format!("huge pages of the simulated device: {why}"));
}

#[test]
fn a_sealed_shard_lies_in_huge_pages() {
    let switch = "/sys/kernel/mm/transparent_hugepage/enabled";
    let enabled = std::fs::read_to_string(switch).unwrap_or_default();
    if !enabled.contains("[always]") && !enabled.contains("[madvise]") {
        return not_looked_at(&format!("{switch} is {enabled:?}"));
    }
    let manager = VramManager::builder()
        .device(SimDevice::new(2 * LEN))
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .build()
        .unwrap();
    let (before, fallbacks) = (huge_bytes(), figure("/proc/vmstat", "thp_fault_fallback "));
    let shard = manager
        .seal(SealRequest::source(PatternSource::new(LEN, 1)))
        .unwrap();
    let gained = huge_bytes() - before;
    let refused = figure("/proc/vmstat", "thp_fault_fallback ") - fallbacks;
    manager.deallocate(&shard).unwrap();
    if refused > 0 && gained < LEN - HUGE {
        return not_looked_at(&format!("the system had none left {refused} times"));
    }
    // All of it but what shares its last page with nothing.
    assert!(gained >= LEN - HUGE, "{gained} of {LEN} bytes");
    assert!(huge_bytes() <= before + HUGE, "the memory goes back");
}
