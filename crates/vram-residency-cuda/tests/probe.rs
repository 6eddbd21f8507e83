//! What a device is found to offer: each kind of memory is tried, and a weaker
//! one is taken, and reported, where a stronger one is refused
//! (requirement: FF-2).

mod common;

use common::{Machine, take};
use vram_residency::device::{Device as _, DeviceError, Protection};

/// Opens a device under a fault: can export, has virtual memory, and whether
/// the driver confirms that its memory is pinned on the device.
fn found(options: &str, fault: &str) -> (bool, bool, bool) {
    let machine = Machine::fake(options);
    if !fault.is_empty() {
        machine.fake_ctl().tell(fault);
    }
    let device = machine.open();
    machine.fake_ctl().tell("clear");
    let extent = take(&device, 100_000);
    device.fill(extent, 3).unwrap();
    device.protect(extent.buffer, Protection::ReadOnly).unwrap();
    let witness = device.witness(extent.buffer).unwrap();
    let offers = (device.can_export(), device.has_virtual_memory());
    assert_eq!(device.export_fd(extent.buffer).is_ok(), offers.0, "{fault}");
    device.free(extent.buffer).unwrap();
    device.close().unwrap();
    drop(device);
    assert_eq!(machine.fake_ctl().held(), [], "{fault}");
    (offers.0, offers.1, witness.pinned_on_device)
}

#[test]
fn what_is_refused_is_not_offered() {
    let vram = "vram=64M";
    assert_eq!(found(vram, ""), (true, true, true));
    assert_eq!(found("vram=64M nofd", ""), (false, true, true));
    for code in [1, 304, 800, 801, 999, 12345] {
        for (call, uses, offers) in [
            ("cuMemExportToShareableHandle", "1", (false, true, true)),
            ("cuMemCreate", "1", (false, true, true)),
            ("cuMemGetAllocationGranularity", "1", (false, true, true)),
            ("cuMemCreate", "*", (false, false, false)),
            ("cuMemGetAllocationGranularity", "*", (false, false, false)),
        ] {
            let fault = format!("fail {call} {uses} {code}");
            assert_eq!(found(vram, &fault), offers, "{fault}");
        }
    }
}

#[test]
fn faults_and_lack_of_memory_are_no_refusals() {
    for call in ["cuMemCreate", "cuMemExportToShareableHandle"] {
        for code in [2, 700] {
            let machine = Machine::fake("vram=64M");
            let sticky = if code == 700 { " sticky" } else { "" };
            let fault = format!("fail {call} 1 {code}{sticky}");
            machine.fake_ctl().tell(&fault);
            let error = machine.cuda.device(0).err().unwrap();
            let right = match code {
                700 => error.is_loss(),
                _ => matches!(error, DeviceError::OutOfMemory { .. }),
            };
            assert!(right, "{fault}: {error}");
        }
    }
}

/// A slice of a card is named by its own identity, not by the card's.
#[test]
fn a_slice_is_told_from_its_card() {
    let whole = Machine::fake("gpus=2 vram=64M");
    let slice = Machine::fake("gpus=2 vram=64M mig");
    let older = Machine::fake_without(&["cuDeviceGetUuid_v2"], "gpus=2 vram=64M mig");
    let [card, mine, unknown] = [whole, slice, older].map(|machine| {
        let info = machine.cuda.info(0).unwrap();
        let found = machine.cuda.device_by_uuid(info.uuid).unwrap();
        assert_eq!(found.info().ordinal, 0);
        (info.uuid, info.mig)
    });
    assert_eq!((card.1, mine.1, unknown.1), (Some(false), Some(true), None));
    assert!(card.0 != mine.0, "the slice has the card's identity");
    assert!(card.0 == unknown.0, "an old driver knows no other identity");
}

/// Listing goes by what opening would find, so that one device without virtual
/// memory hides nothing.
#[test]
fn a_device_that_tells_no_granularity_is_listed_and_opened() {
    for code in [1, 800, 801] {
        let machine = Machine::fake("vram=64M");
        let fault = format!("fail cuMemGetAllocationGranularity * {code}");
        machine.fake_ctl().tell(&fault);
        let listed = machine.cuda.devices().expect(&fault);
        let device = machine.open();
        assert!(!device.has_virtual_memory(), "{fault}");
        assert_eq!(listed[0].granularity, device.info().granularity, "{fault}");
    }
}

/// Real drivers answer absurd sizes in several ways; more than the device has is
/// a lack of memory whatever they say.
#[test]
fn more_than_a_device_has_is_a_lack_of_memory() {
    let machine = Machine::fake("vram=64M");
    let device = machine.open();
    machine.fake_ctl().tell("fail cuMemCreate * 1");
    for len in [(64 << 20) + 1, 1 << 60, u64::MAX] {
        let answer = device.allocate(len).unwrap_err();
        assert_eq!(answer, DeviceError::OutOfMemory { requested: len });
    }
}
