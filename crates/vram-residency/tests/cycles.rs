//! Ten thousand lives of a shard leave nothing behind. Alone in its process,
//! so that nobody else's memory counts.

use vram_residency::key::RootKey;
use vram_residency::sim::SimDevice;
use vram_residency::{Mode, SealRequest, VramManager};

/// Resident KiB and open descriptors of this process.
fn footprint() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = rss.unwrap().trim().strip_suffix(" kB").unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (rss.parse().unwrap(), open)
}

#[test]
fn ten_thousand_cycles_leave_no_memory_and_no_descriptor() {
    let sim = SimDevice::new(1 << 20);
    let manager = VramManager::builder()
        .device(sim.clone())
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .build()
        .unwrap();
    let bytes = vec![7; 60_000];
    let cycle = |i: u32| {
        let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
        let mode = if i.is_multiple_of(2) {
            Mode::Full
        } else {
            Mode::Keyed
        };
        manager.lease(&shard, mode).unwrap().finish();
        match i % 3 {
            0 => manager.deallocate(&shard).unwrap(),
            1 => manager.unseal_and_free(&shard).unwrap(),
            _ => drop(shard),
        }
    };
    (0..1000).for_each(cycle);
    let (warm, open) = footprint();
    (1000..10_000).for_each(cycle);
    let (rss, open_after) = footprint();
    println!("resident {warm} KiB after 1000 cycles, {rss} KiB after 10000");
    assert_eq!(manager.used_vram(), 0);
    assert_eq!(sim.buffers(), []);
    assert_eq!(sim.host_bytes(), 0);
    assert_eq!(open_after, open);
    // 9000 cycles of one lost record or event each would be far more.
    assert!(
        rss <= warm.saturating_add(1024),
        "{warm} KiB became {rss} KiB"
    );
}
