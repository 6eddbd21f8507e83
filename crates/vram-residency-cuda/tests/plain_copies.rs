//! Copies without checks, which benches hold sealed loads against: they are
//! real copies, bounded, and leave nothing behind.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Machine, sample, take};
use vram_residency::device::{Device as _, DeviceError};
use vram_residency_cuda::device::PINNED_LIMIT;

const LEN: usize = (5 << 20) + 77;

fn check(machine: &Machine) {
    let device = machine.open();
    let before = device.pinned_bytes();
    let extent = take(&device, LEN as u64);
    let model = sample(LEN, 3);
    let reads = AtomicUsize::new(0);
    let read = |offset: u64, out: &mut [u8]| {
        reads.fetch_add(1, Ordering::Relaxed);
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(&model[at..at + out.len()]);
        Ok::<_, DeviceError>(())
    };
    for (threads, slots) in [(1, 1), (2, 4), (8, 3)] {
        device.fill(extent, 0).unwrap();
        reads.store(0, Ordering::Relaxed);
        let copies = device.plain_copies(extent, 1 << 20, slots).unwrap();
        copies.load(threads, read).unwrap();
        let mut found = vec![0; LEN];
        device.read(extent, 0, &mut found).unwrap();
        assert!(found == model, "{threads} threads, {slots} slots");
        assert_eq!(reads.load(Ordering::Relaxed), 6);
        let held = device.pinned_bytes() - before;
        assert!(held >= 1 << 20 && held <= (slots as u64) * ((1 << 20) + (64 << 10)));
        copies.roof().unwrap();
        drop(copies);
        assert_eq!(device.pinned_bytes(), before);
    }
    // More than the limit allows is fewer slots, and no failure.
    let copies = device.plain_copies(extent, 64 << 20, 100).unwrap();
    copies.load(8, read).unwrap();
    assert!(device.pinned_bytes() <= PINNED_LIMIT);
    drop(copies);
    device.free(extent.buffer).unwrap();
    let stale = device.plain_copies(extent, 1 << 20, 1);
    assert!(matches!(stale.err(), Some(DeviceError::UnknownBuffer)));
}

#[test]
fn the_bytes_arrive_and_the_pinned_memory_goes_back() {
    check(&Machine::fake("vram=256M nopoison"));
    if let Some(machine) = Machine::gpu() {
        check(&machine);
    }
}

#[test]
fn failures_of_the_reader_and_of_the_driver_end_it_clean() {
    let machine = Machine::fake("vram=256M nopoison");
    let device = machine.open();
    let before = device.pinned_bytes();
    let extent = take(&device, LEN as u64);
    let copies = device.plain_copies(extent, 1 << 20, 4).unwrap();
    let refused = copies.load(2, |offset, _| {
        let op = "reading";
        if offset > 2 << 20 {
            return Err(DeviceError::NoResult { op });
        }
        Ok(())
    });
    assert!(matches!(refused, Err(DeviceError::NoResult { .. })));
    machine.fake_ctl().tell("fail cuMemcpyHtoDAsync_v2 2 1");
    let failed = copies.roof().unwrap_err();
    assert!(matches!(failed, DeviceError::Driver { .. }), "{failed}");
    // Neither is remembered.
    copies.roof().unwrap();
    drop(copies);
    assert_eq!(device.pinned_bytes(), before);
    device.free(extent.buffer).unwrap();
}
