//! Drivers that are old, refuse things, lie, or silently do nothing.

mod common;

use std::os::fd::AsFd as _;
use std::sync::Arc;

use common::{Machine, free, sample, take};
use vram_digest::nh;
use vram_residency::device::{Device as _, DeviceError, MemoryKind, Protection, UploadPlan};
use vram_residency_cuda::CudaDevice;
use vram_residency_cuda::sys::CuDevicePtr;

fn key() -> nh::Key {
    let bytes = sample(nh::KEY_BYTES, 9);
    nh::Key::from_bytes(&bytes.try_into().unwrap())
}

/// Uploads `bytes` and returns what the device measured.
fn upload(
    device: &CudaDevice,
    bytes: &[u8],
) -> Result<vram_residency::device::Measured, DeviceError> {
    let extent = take(device, bytes.len() as u64);
    let plan = UploadPlan {
        extent,
        key: &key(),
        slot_bytes: 1 << 20,
        slots: 2,
        room: Arc::default(),
    };
    let session = device.upload(plan)?;
    for (i, chunk) in bytes.chunks(1 << 20).enumerate() {
        let mut slot = session.slot()?;
        slot.bytes_mut()[..chunk.len()].copy_from_slice(chunk);
        session.submit(slot, (i as u64) << 20, chunk.len())?;
    }
    session.finish()
}

#[test]
fn a_driver_without_a_device_is_unavailable_and_says_why() {
    let machine = Machine::fake("vram=64M");
    machine.fake_ctl().tell("reset gpus=0");
    let error = machine.cuda.driver().init().unwrap_err();
    assert!(
        error.to_string().contains("CUDA_ERROR_NO_DEVICE (100)"),
        "{error}"
    );
    let missing = vram_residency_cuda::Cuda::open_library("/nonexistent/libcuda.so.1");
    let text = missing.err().unwrap().to_string();
    assert!(
        text.contains("libcuda.so.1") && text.contains("cannot open"),
        "{text}"
    );
}

#[test]
fn a_driver_without_virtual_memory_gives_the_weaker_witness() {
    let old = Machine::fake_without(&["cuMemCreate", "cuMemMap"], "vram=256M");
    let refusing = Machine::fake("vram=256M novmm");
    for machine in [&old, &refusing] {
        let device = machine.open();
        assert!(!device.has_virtual_memory() && !device.can_export());
        let before = free(&device);
        let extent = take(&device, 1_000_000);
        device.fill(extent, 7).unwrap();
        device.protect(extent.buffer, Protection::ReadOnly).unwrap();
        let witness = device.witness(extent.buffer).unwrap();
        assert_eq!(witness.memory, MemoryKind::Device);
        assert!(!witness.pinned_on_device);
        assert_eq!(
            witness.protection,
            Protection::ReadWrite,
            "nothing protects it"
        );
        assert_eq!(device.write(extent, 0, &[1]), Err(DeviceError::Protected));
        device.free(extent.buffer).unwrap();
        assert_eq!(free(&device), before);
    }
}

#[test]
fn refused_or_ignored_protection_is_told_by_the_witness() {
    let machine = Machine::fake("vram=256M noreadonly");
    let device = machine.open();
    let extent = take(&device, 4096);
    device.protect(extent.buffer, Protection::ReadOnly).unwrap();
    let witness = device.witness(extent.buffer).unwrap();
    assert_eq!(witness.protection, Protection::ReadWrite);
    device.free(extent.buffer).unwrap();
}

// requirement: FF-9
#[test]
fn a_missing_required_symbol_is_an_error_that_names_it() {
    use fake_cuda::Ctl;
    let ctl = Ctl::open_without(&["cuMemcpyHtoDAsync_v2"]).unwrap();
    let error = vram_residency_cuda::Cuda::open_library(ctl.path())
        .err()
        .unwrap();
    std::fs::remove_file(ctl.path()).unwrap();
    assert!(
        error.to_string().contains("cuMemcpyHtoDAsync_v2"),
        "{error}"
    );
}

// requirement: POL-7
#[test]
fn a_driver_too_old_for_the_kernels_says_so() {
    let machine = Machine::fake("vram=256M ptx=6.4");
    let error = machine.cuda.device(0).err().unwrap();
    assert!(
        matches!(error, DeviceError::Driver { code: 222, .. }),
        "{error}"
    );
    assert_eq!(machine.fake_ctl().held(), []);
    let weak = Machine::fake("vram=256M cc=5.2")
        .cuda
        .device(0)
        .err()
        .unwrap();
    assert!(matches!(weak, DeviceError::Unsupported { .. }), "{weak}");
}

#[test]
fn kernels_that_silently_do_nothing_are_found_out() {
    for kernel in ["vram_sha256_blocks", "vram_nh_tags_1"] {
        let machine = Machine::fake("vram=256M");
        let device = machine.open();
        let bytes = sample(2_000_000, 1);
        upload(&device, &bytes).unwrap();
        machine
            .fake_ctl()
            .tell(&format!("skip exec.launch.{kernel} 1"));
        let error = upload(&device, &bytes).err().unwrap();
        let text = error.to_string();
        assert!(
            text.contains("no effect") && text.contains("the kernel left no"),
            "{text}"
        );
    }
}

#[test]
fn results_that_are_silently_not_fetched_are_not_the_last_ones() {
    let machine = Machine::fake("vram=256M");
    let device = machine.open();
    let extent = take(&device, 1_000_000);
    device.write(extent, 0, &sample(1_000_000, 6)).unwrap();
    let mut hashes = vec![[0; 32]; 245];
    device.block_digests(extent, 0..245, &mut hashes).unwrap();
    let root = device.tree_root(extent).unwrap();
    machine.fake_ctl().tell("skip exec.dtoh 1");
    device.block_digests(extent, 0..245, &mut hashes).unwrap();
    assert!(hashes == [[0; 32]; 245]);
    machine.fake_ctl().tell("skip exec.dtoh 1");
    assert_ne!(device.tree_root(extent).unwrap(), root);
    machine.fake_ctl().tell("skip exec.dtoh 1");
    let tags = device.keyed_tags(extent, &[0], &[&key()]).unwrap();
    assert_eq!(tags, [nh::Tag::ZERO]);
}

/// A machine, its device, and the number of the memory that has the tables and results
/// of whoever works with the device alone.
fn with_tables() -> (Machine, CudaDevice, u64) {
    let machine = Machine::fake("vram=256M");
    let device = machine.open();
    let report = machine.fake_ctl().report();
    let rows = report["physical"].as_array().unwrap().iter();
    let last = rows.map(|row| row["serial"].as_u64().unwrap()).max();
    (machine, device, last.unwrap())
}

/// One that the device does not write hides none of the others.
// requirement: DG-2
#[test]
fn every_result_of_a_launch_stands_for_itself() {
    let (machine, device, tables) = with_tables();
    let extent = take(&device, 3 << 20);
    // One lane is enough for this: the same as for what follows.
    device.fill(extent, 6).unwrap();
    device.write(extent, 2 << 20, &sample(99, 6)).unwrap();
    let tags = || device.keyed_tags(extent, &[0, 2], &[&key()]).unwrap();
    let good = tags();
    // The first record of the table says that its tag goes 2 KiB elsewhere.
    let kernel = "exec.launch.vram_nh_tags_1";
    let astray = format!("before {kernel} 1 flip {tables} {} 3", 4096 + 25);
    machine.fake_ctl().tell(&astray);
    assert_eq!(tags(), [nh::Tag::ZERO, good[1]]);
    assert_eq!(tags(), good);
    let mut hashes = vec![[0; 32]; 25];
    let mut measure = || {
        device.block_digests(extent, 0..25, &mut hashes).unwrap();
        hashes.clone()
    };
    let good = measure();
    // The record says that its hashes go 512 bytes elsewhere: 16 of these that are alike
    // are not written.
    let astray = format!("before exec.launch.vram_sha256_blocks 1 flip {tables} 25 1");
    machine.fake_ctl().tell(&astray);
    let some = measure();
    let unwritten = some.iter().filter(|hash| **hash == [0; 32]).count();
    let right = some.iter().filter(|hash| **hash == good[0]).count();
    assert_eq!((unwritten, right), (16, 9));
    assert!(measure() == good);
}

#[test]
fn a_copy_that_silently_does_nothing_changes_the_measurement() {
    let machine = Machine::fake("vram=256M");
    let device = machine.open();
    let bytes = sample(2_000_000, 1);
    let honest = upload(&device, &bytes).unwrap();
    // The first copy of a slot is the weights; tables and keys follow.
    machine.fake_ctl().tell("skip exec.htod 1");
    let lied = upload(&device, &bytes).unwrap();
    assert!(honest.tags != lied.tags && honest.level0 != lied.level0);
}

#[test]
fn a_scrub_or_its_check_that_does_nothing_strands_the_memory() {
    for skipped in ["exec.memset", "exec.launch.vram_check"] {
        let machine = Machine::fake("vram=256M");
        let device = machine.open();
        let extent = take(&device, 100_000);
        device.write(extent, 0, &sample(100_000, 2)).unwrap();
        machine.fake_ctl().tell(&format!("skip {skipped} 1"));
        let failure = device.free(extent.buffer).unwrap_err();
        assert_eq!(failure.stranded, 2 << 20, "{skipped}");
        assert!(
            failure.to_string().contains("kept its contents"),
            "{failure}"
        );
        assert_eq!(
            device.free(extent.buffer).unwrap_err().stranded,
            0,
            "the handle is dead"
        );
    }
}

#[test]
fn a_stray_kernel_write_to_sealed_memory_faults() {
    let machine = Machine::fake("vram=256M");
    let (device, driver) = (machine.open(), machine.cuda.driver());
    let extent = take(&device, 4096);
    device.fill(extent, 5).unwrap();
    device.protect(extent.buffer, Protection::ReadOnly).unwrap();
    let at = device.address(extent).unwrap().unwrap().raw();
    let context = driver
        .primary_ctx_retain(driver.device_get(0).unwrap())
        .unwrap();
    // SAFETY: retained above; the pretended machine ends with this test.
    unsafe { driver.ctx_push_current(context) }.unwrap();
    let stream = driver.stream_create(1).unwrap();
    // SAFETY: live memory of this test; that it is read-only is the point.
    unsafe { driver.memset_d8_async(CuDevicePtr(at), 9, 16, stream) }.unwrap();
    // SAFETY: created above.
    let fault = unsafe { driver.stream_synchronize(stream) }.unwrap_err();
    assert!(DeviceError::from(fault).is_loss());
    assert!(device.read(extent, 0, &mut [0; 1]).unwrap_err().is_loss());
    let failure = device.free(extent.buffer).unwrap_err();
    assert_eq!(failure.stranded, 2 << 20);
}

#[test]
fn a_flipped_bit_in_device_memory_is_seen() {
    let machine = Machine::fake("vram=256M");
    let device = machine.open();
    let bytes = sample(300_000, 3);
    let extent = take(&device, bytes.len() as u64);
    device.write(extent, 0, &bytes).unwrap();
    let report = machine.fake_ctl().report();
    let rows = report["physical"].as_array().unwrap();
    let ours = rows
        .iter()
        .find(|row| row["places"][0]["kind"] == "mapped")
        .unwrap();
    let serial = ours["serial"].as_u64().unwrap();
    let mut hashes = vec![[0; 32]; 74];
    device.block_digests(extent, 0..74, &mut hashes).unwrap();
    let before = hashes.clone();
    machine
        .fake_ctl()
        .tell(&format!("flip {serial} {} 3", 41 * 4096 + 5));
    device.block_digests(extent, 0..74, &mut hashes).unwrap();
    let changed: Vec<_> = (0..74).filter(|i| before[*i] != hashes[*i]).collect();
    assert_eq!(changed, [41]);
}

#[test]
fn exported_memory_is_the_same_memory() {
    let machine = Machine::fake("vram=256M");
    let (device, driver) = (machine.open(), machine.cuda.driver());
    let extent = take(&device, 4096);
    device.fill(extent, 0x3c).unwrap();
    let fd = device.export_fd(extent.buffer).unwrap();
    let handle = driver.mem_import_fd(fd.as_fd()).unwrap();
    // SAFETY: imported above.
    let prop = unsafe { driver.mem_get_allocation_properties(handle) }.unwrap();
    assert_eq!(
        prop.location.kind,
        vram_residency_cuda::sys::location::DEVICE
    );
    // SAFETY: the one reference of the import.
    unsafe { driver.mem_release(handle) }.unwrap();
    drop(fd);
    device.free(extent.buffer).unwrap();
    device.close().unwrap();
    drop(device);
    assert_eq!(machine.fake_ctl().held(), []);
}

#[test]
fn forged_and_foreign_slots_are_refused() {
    use vram_residency::device::Slot;
    let machine = Machine::fake("vram=256M");
    let device = machine.open();
    let (key, len) = (key(), 4 << 20);
    let plan = |extent| UploadPlan {
        extent,
        key: &key,
        slot_bytes: 1 << 20,
        slots: 2,
        room: Arc::default(),
    };
    let one = device.upload(plan(take(&device, len))).unwrap();
    let two = device.upload(plan(take(&device, len))).unwrap();
    let lent = one.slot().unwrap();
    let forged = Slot::new(lent.session(), lent.index(), Box::new(vec![0_u8; 1 << 20]));
    assert!(
        one.submit(forged, 0, 1 << 20).is_err(),
        "not the bytes that were lent"
    );
    assert!(
        one.submit(two.slot().unwrap(), 0, 1 << 20).is_err(),
        "another session's slot"
    );
    one.submit(lent, 0, 1 << 20).unwrap();
    drop((one, two));
    device.close().unwrap();
}

#[test]
fn the_host_applications_context_stays_current() {
    let machine = Machine::fake("gpus=2 vram=256M");
    let driver = machine.cuda.driver();
    let other = driver
        .primary_ctx_retain(driver.device_get(1).unwrap())
        .unwrap();
    // SAFETY: retained above; the pretended machine ends with this test.
    unsafe { driver.ctx_push_current(other) }.unwrap();
    let device = machine.open();
    upload(&device, &sample(1_500_000, 4)).unwrap();
    device.close().unwrap();
    drop(device);
    assert!(driver.ctx_get_current().unwrap() == other);
}

// requirement: FF-11
#[test]
fn pinned_memory_is_bounded_wiped_and_given_back() {
    let machine = Machine::fake("vram=1G");
    let device = machine.open();
    let idle = device.pinned_bytes();
    let key = key();
    let extent = take(&device, 900 << 20);
    let plan = UploadPlan {
        extent,
        key: &key,
        slot_bytes: 64 << 20,
        slots: 100,
        room: Arc::default(),
    };
    let session = device.upload(plan).unwrap();
    let held = [session.slot().unwrap(), session.slot().unwrap()];
    assert!(device.pinned_bytes() > 100 << 20);
    assert!(device.pinned_bytes() <= vram_residency_cuda::device::PINNED_LIMIT);
    assert_eq!(
        machine.fake_ctl().count("pinned_bytes"),
        device.pinned_bytes()
    );
    for mut slot in held {
        slot.bytes_mut().fill(0x77);
    }
    let again = session.slot().unwrap();
    assert!(
        again.bytes().iter().all(|byte| *byte == 0),
        "a dropped slot is wiped"
    );
    drop((again, session));
    assert_eq!(device.pinned_bytes(), idle);
    // Scrubbing 900 MiB on an interpreter takes long and is not the point here.
    machine.fake_ctl().tell("sticky 0 700");
}
