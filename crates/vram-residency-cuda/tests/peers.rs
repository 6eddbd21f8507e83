//! Copies between devices: virtual memory is open to a peer only while it is
//! copied from, and there is a way where it cannot be opened.

mod common;

use common::{Machine, sample, take};
use vram_residency::device::{Device as _, DeviceError, Protection};
use vram_residency_cuda::CudaDevice;

const LEN: usize = 300_001;

/// Copies sealed memory to the other device; what came out, and how often the
/// driver was asked for a copy between devices.
fn move_sealed(machine: &Machine, fault: &str) -> (Result<(), DeviceError>, u64) {
    let (first, second) = (machine.open(), machine.cuda.device(1).unwrap());
    let (from, to) = (take(&first, LEN as u64), take(&second, LEN as u64));
    let bytes = sample(LEN, 3);
    first.write(from, 0, &bytes).unwrap();
    first.protect(from.buffer, Protection::ReadOnly).unwrap();
    machine.fake_ctl().tell("untrace");
    if !fault.is_empty() {
        machine.fake_ctl().tell(fault);
    }
    let copied = first.copy_to(from, &second, to);
    machine.fake_ctl().tell("clear");
    if copied.is_ok() {
        let mut out = vec![0; LEN];
        second.read(to, 0, &mut out).unwrap();
        assert!(out == bytes, "{fault}");
    }
    let peer_copies = trace(machine, "cuMemcpyPeerAsync");
    assert_eq!(strangers(machine), 0, "{fault}: the peer kept its rights");
    give_up(&first, &second);
    (copied, peer_copies)
}

fn trace(machine: &Machine, name: &str) -> u64 {
    let trace = machine.fake_ctl().trace();
    let found = trace.into_iter().find(|(call, _)| call == name);
    found.map_or(0, |(_, count)| count)
}

/// Mappings on which a device that does not own them has rights.
fn strangers(machine: &Machine) -> usize {
    let report = machine.fake_ctl().report();
    let open = |row: &serde_json::Value| {
        let owner = usize::try_from(row["device"].as_u64().unwrap()).unwrap();
        let places = row["places"].as_array().unwrap().iter();
        let mapped = places.filter(|place| place["kind"] == "mapped");
        mapped
            .flat_map(move |place| {
                let rights = place["rights"].as_array().unwrap().clone();
                rights
                    .into_iter()
                    .enumerate()
                    .filter(move |(device, flags)| *device != owner && *flags != 0)
            })
            .count()
    };
    let report = report["physical"].as_array().unwrap().iter();
    report.filter(|row| row["device"].is_u64()).map(open).sum()
}

fn give_up(first: &CudaDevice, second: &CudaDevice) {
    first.close().unwrap();
    second.close().unwrap();
}

#[test]
fn sealed_memory_is_lent_to_the_peer_for_the_copy_only() {
    let machine = Machine::fake("gpus=2 vram=256M");
    let (copied, peer_copies) = move_sealed(&machine, "");
    copied.unwrap();
    assert_eq!(peer_copies, 1, "the direct path was not taken");
}

#[test]
fn memory_that_cannot_be_lent_goes_through_the_host() {
    for code in [1, 101, 217, 800, 801] {
        let machine = Machine::fake("gpus=2 vram=256M");
        let (copied, peer_copies) = move_sealed(&machine, &format!("fail cuMemSetAccess 1 {code}"));
        copied.unwrap();
        assert_eq!(peer_copies, 0, "{code}");
    }
}

#[test]
fn a_refused_copy_ends_the_loan_and_goes_through_the_host() {
    let machine = Machine::fake("gpus=2 vram=256M");
    let (copied, peer_copies) = move_sealed(&machine, "fail cuMemcpyPeerAsync 1 801");
    copied.unwrap();
    assert_eq!(peer_copies, 1);
}

#[test]
fn a_failed_copy_ends_the_loan() {
    let machine = Machine::fake("gpus=2 vram=256M");
    let (copied, _) = move_sealed(&machine, "fail cuMemcpyPeerAsync 1 999");
    let error = copied.unwrap_err();
    assert!(
        matches!(error, DeviceError::Driver { code: 999, .. }),
        "{error}"
    );
}

/// The plain memory of drivers without the virtual memory API needs no loan.
#[test]
fn plain_memory_is_copied_as_it_is() {
    let machine = Machine::fake("gpus=2 vram=256M novmm");
    let (copied, peer_copies) = move_sealed(&machine, "");
    copied.unwrap();
    assert_eq!((peer_copies, trace(&machine, "cuMemSetAccess")), (1, 0));
}
