//! The conformance suite on the simulated device, at granularity 1 and odd.

use vram_residency::device::Device;
use vram_residency::device::conformance::{CHECKS, run};
use vram_residency::sim::{SimDevice, SimOptions};

// requirement: FF-10, MS-002, MS-003, MS-007, FF-2, TY-10, PM-9
#[test]
fn simulated_device_conforms() {
    assert!(CHECKS.len() >= 17);
    for granularity in [1, 3, 4096, 2 << 20] {
        let device = SimDevice::with_options(SimOptions::new(64 << 20).granularity(granularity));
        assert_eq!(run(&device), [], "granularity {granularity}");
        assert!(device.buffers().is_empty());
        device.close().unwrap();
    }
}

#[test]
fn a_terabyte_device_costs_nothing_until_written() {
    let device = SimDevice::new(1 << 40);
    let big = device.allocate(1 << 39).unwrap();
    assert_eq!(device.host_bytes(), 0);
    device.free(big.id).unwrap();
    assert_eq!(run(&device), []);
}
