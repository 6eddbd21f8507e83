//! What failures leave behind: no key anywhere that it can be wiped from, and
//! no memory given back under work that may still use it
//! (requirement: MS-004, FF-8).

mod common;

use std::sync::Arc;

use common::{Machine, sample, take};
use vram_digest::nh;
use vram_residency::device::{Device as _, DeviceError, Extent, UploadPlan};
use vram_residency_cuda::CudaDevice;

/// Small rooms, because every case has all of memory searched.
const OPTIONS: &str = "vram=64M granularity=64K nopoison";

/// Bytes of the NH part of a key.
fn secret() -> Vec<u8> {
    sample(nh::KEY_BYTES, 77)
}

fn key() -> nh::Key {
    nh::Key::from_bytes(&secret().try_into().unwrap())
}

/// Keyed tags, then a session; both are tried.
fn use_a_key(device: &CudaDevice, extent: Extent) -> Result<(), DeviceError> {
    let key = key();
    let tagged = device.keyed_tags(extent, &[0, 1], &[&key, &key]);
    tagged.map(drop).and(load(device, extent))
}

/// A session that loads two slots.
fn load(device: &CudaDevice, extent: Extent) -> Result<(), DeviceError> {
    let session = device.upload(UploadPlan {
        extent,
        key: &key(),
        slot_bytes: 1 << 20,
        slots: 2,
        room: Arc::default(),
    })?;
    for offset in [0, 1 << 20] {
        let slot = session.slot()?;
        let len = usize::try_from(extent.len - offset).unwrap().min(1 << 20);
        session.submit(slot, offset, len)?;
    }
    session.finish().map(drop)
}

/// Every call and every piece of queued work that using a key comes to.
fn uses(machine: &Machine) -> Vec<(String, u64)> {
    let fake = machine.fake_ctl();
    let device = machine.open();
    let extent = take(&device, 1_100_000);
    fake.tell("untrace");
    use_a_key(&device, extent).unwrap();
    fake.trace()
}

/// Searches for the key while the device is still open.
fn leftover(machine: &Machine, fault: &str) -> (usize, usize) {
    let device = machine.open();
    let extent = take(&device, 1_100_000);
    machine.fake_ctl().tell(fault);
    // Some faults concern what is only given back: no error then.
    let _told = use_a_key(&device, extent);
    machine.fake_ctl().find(&secret()[16..80])
}

fn fresh(machine: &Machine) {
    machine.fake_ctl().tell(&format!("reset {OPTIONS}"));
    machine.cuda.driver().init().unwrap();
}

// requirement: MS-004
#[test]
fn no_failed_call_leaves_a_key_on_either_side() {
    let machine = Machine::fake(OPTIONS);
    let uses = uses(&machine);
    let mut cases = 0;
    for (name, count) in uses.iter().filter(|(name, _)| name.starts_with("cu")) {
        let step = if name.starts_with("cuCtx") { 3 } else { 1 };
        for nth in (1..=*count).step_by(step) {
            fresh(&machine);
            let fault = format!("fail {name} {nth} 999");
            assert_eq!(leftover(&machine, &fault), (0, 0), "{fault}");
            cases += 1;
        }
    }
    assert!(cases > 50, "only {cases} cases: {uses:?}");
    // Nor do fills that fail from some moment on: there is another way to wipe.
    for nth in 1..8 {
        fresh(&machine);
        let fault = format!("fail cuMemsetD8Async {nth}+ 999");
        assert_eq!(leftover(&machine, &fault), (0, 0), "{fault}");
    }
}

/// Memory of a lost device is out of everybody's reach, this crate's included.
#[test]
fn no_lost_device_leaves_a_key_in_host_memory() {
    let machine = Machine::fake(OPTIONS);
    let uses = uses(&machine);
    let mut cases = 0;
    for (name, count) in uses.iter().filter(|(name, _)| name.starts_with("exec.")) {
        for nth in 1..=*count {
            fresh(&machine);
            let fault = format!("fail {name} {nth} 700");
            assert_eq!(leftover(&machine, &fault).1, 0, "{fault}");
            cases += 1;
        }
    }
    assert!(cases > 15, "only {cases} cases: {uses:?}");
}

#[test]
fn the_search_finds_what_is_there() {
    let machine = Machine::fake(OPTIONS);
    let device = machine.open();
    let extent = take(&device, 100_000);
    device.write(extent, 5000, &secret()).unwrap();
    assert_eq!(machine.fake_ctl().find(&secret()[16..80]), (1, 0));
}

/// Memory is not given back while a lane that could not be waited for may still
/// have work on it.
#[test]
fn memory_under_work_that_cannot_be_waited_for_is_stranded() {
    for upload in [false, true] {
        let machine = Machine::fake("vram=64M schedule=lazy nopoison");
        let (device, fake) = (machine.open(), machine.fake_ctl());
        let extent = take(&device, 1_100_000);
        fake.tell("fail cuStreamSynchronize 1+ 999");
        let worked = if upload {
            load(&device, extent)
        } else {
            let mut hashes = vec![[0; 32]; 25];
            device.block_digests(extent, 0..25, &mut hashes)
        };
        let error = worked.unwrap_err();
        assert!(
            matches!(error, DeviceError::Driver { code: 999, .. }),
            "{error}"
        );
        fake.tell("clear");
        let freed = device.free(extent.buffer).unwrap_err();
        assert_eq!((freed.stranded, freed.source), (2 << 20, error));
        assert_eq!(fake.weights_held(), 1, "the memory must stay mapped");
        // The queued work still finds its memory.
        let other = take(&device, 4096);
        let filled = device.fill(other, 1);
        assert_eq!(filled, Ok(()), "upload {upload}: {}", fake.log());
        // And its code, whatever becomes of the device.
        drop(device);
        assert_eq!(fake.count("modules"), 1, "upload {upload}");
    }
}
