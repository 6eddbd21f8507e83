//! Ten thousand lives of a shard leave nothing behind. Alone in its process,
//! so that nobody else's memory counts.

use peak_alloc::PeakAlloc;
use vram_residency::key::RootKey;
use vram_residency::sim::SimDevice;
use vram_residency::{Mode, SealRequest, VramManager};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a table may have grown by, and a thread that ends may still hold: far less than
/// nine thousand cycles of one byte each.
const SLACK: usize = 1024;

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
    // The least of many looks, between which threads come to their ends.
    let live = |cycles: std::ops::Range<u32>| {
        let looks = cycles.map(|i| {
            cycle(i);
            MEMORY.current_usage()
        });
        looks.min().unwrap()
    };
    (0..900).for_each(cycle);
    let early = live(900..1000);
    let (warm, open) = footprint();
    (1000..9900).for_each(cycle);
    let late = live(9900..10_000);
    let (rss, open_after) = footprint();
    println!("{early} bytes live after 1000 cycles, {late} after 10000");
    println!("resident {warm} KiB after 1000 cycles, {rss} KiB after 10000");
    assert!(
        late <= early.saturating_add(SLACK),
        "{early} bytes became {late}"
    );
    assert_eq!(manager.used_vram(), 0);
    assert_eq!(sim.buffers(), []);
    assert_eq!(sim.host_bytes(), 0);
    assert_eq!(open_after, open);
    // What the allocator's count does not see: mappings, and pages that it keeps in pieces.
    assert!(
        rss <= warm.saturating_add(1024),
        "{warm} KiB became {rss} KiB"
    );
}
