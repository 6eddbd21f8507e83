//! Memory that a load takes beyond the model: at most 64 MiB on the simulated
//! device, plus 1/128 of the model for the hashes of its blocks. The process's
//! own high-water mark is the measure, since staging memory is mapped rather
//! than allocated; so this file holds one test.

use std::io;

use vram_residency::format::ReadAt;
use vram_residency::key::RootKey;
use vram_residency::load::Source;
use vram_residency::random::OsRandom;
use vram_residency::sim::{SimDevice, SimOptions};
use vram_residency::{SealRequest, VramManager};

/// Far more than the bound, so that holding the model would show.
const LEN: u64 = (2 << 30) + 4097;
const FIXED: u64 = 64 << 20;

/// A source of any length that costs little to read.
struct Cheap;

impl ReadAt for Cheap {
    fn len(&self) -> u64 {
        LEN
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill((offset >> 20).to_le_bytes()[0]);
        Ok(())
    }
}

impl Source for Cheap {
    fn name(&self) -> String {
        "cheap".to_owned()
    }
}

/// A size in bytes out of `/proc/self/status`.
fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

// requirement: PF-11
#[test]
fn a_load_takes_64_mib_and_a_128th_at_most() {
    let device = SimDevice::with_options(SimOptions::new(4 << 30).discard_contents());
    let manager = VramManager::builder()
        .device(device.clone())
        .key(RootKey::generate(&OsRandom).unwrap())
        .build()
        .unwrap();
    // The first seal pays for what every process pays once.
    let small = manager.seal(SealRequest::bytes(&[7; 4096])).unwrap();
    manager.deallocate(&small).unwrap();

    let before = status("VmRSS:");
    let shard = manager.seal(SealRequest::source(Cheap)).unwrap();
    let peak = status("VmHWM:");
    let beyond = peak - before;
    let bound = FIXED + LEN / 128;
    assert_eq!(shard.record().vram_bytes, LEN);
    assert_eq!(device.host_bytes(), 0, "the contents are dropped");
    assert!(
        beyond <= bound,
        "{beyond} bytes beyond the model, at most {bound} allowed"
    );
    // The measure works: the hashes alone are this large.
    assert!(beyond >= LEN / 128, "{beyond}");
}
