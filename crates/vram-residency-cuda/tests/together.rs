//! Several users of one device at once, and several devices at once.

mod common;

use std::sync::Arc;
use std::thread;

use common::{Machine, assert_restored, free, sample, take};
use vram_digest::nh;
use vram_residency::device::{Device as _, DeviceError, Protection, UploadPlan};

fn key() -> nh::Key {
    nh::Key::from_bytes(&sample(nh::KEY_BYTES, 9).try_into().unwrap())
}

on_each_machine! {
    // requirement: MS-002, MS-006, MS-007
    fn threads_write_hash_and_free_side_by_side(machine: &Machine) {
        let device = Arc::new(machine.open());
        let before = free(&device);
        thread::scope(|scope| {
            for seed in 0..6 {
                let device = Arc::clone(&device);
                scope.spawn(move || {
                    for round in 0..3_u64 {
                        let len = 200_000 + 4096 * usize::try_from(seed * 7 + round).unwrap();
                        let bytes = sample(len, seed * 100 + round);
                        let extent = take(&device, len as u64);
                        device.write(extent, 0, &bytes).unwrap();
                        let mut hashes = vec![[0; 32]; len.div_ceil(4096)];
                        device.block_digests(extent, 0..hashes.len() as u64, &mut hashes).unwrap();
                        assert_eq!(vram_digest::root(&hashes), {
                            let mut host = vec![[0; 32]; hashes.len()];
                            vram_digest::hash_blocks(&bytes, &mut host).unwrap();
                            vram_digest::root(&host)
                        });
                        let tags = device.keyed_tags(extent, &[0], &[&key()]).unwrap();
                        assert_eq!(tags, [nh::tag(&key(), &bytes)]);
                        device.free(extent.buffer).unwrap();
                    }
                });
            }
        });
        assert_restored(machine, &device, before);
    }

    // requirement: MS-004, MS-005
    fn freeing_under_an_open_upload_waits_and_ends_it(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 4 << 20);
        let key = key();
        let plan = UploadPlan { extent, key: &key, slot_bytes: 1 << 20, slots: 2, room: Arc::default() };
        let session = device.upload(plan).unwrap();
        for turn in 0..2 {
            let mut slot = session.slot().unwrap();
            slot.bytes_mut().fill(7);
            session.submit(slot, turn << 20, 1 << 20).unwrap();
        }
        device.free(extent.buffer).unwrap();
        let slot = session.slot().unwrap();
        let late = session.submit(slot, 2 << 20, 1 << 20);
        assert_eq!(late, Err(DeviceError::UnknownBuffer));
        drop(session);
        let next = take(&device, 4096);
        device.fill(next, 1).unwrap();
        device.close().unwrap();
        assert_eq!(device.fill(next, 2), Err(DeviceError::Closed));
    }

    fn protecting_under_an_open_upload_ends_it(machine: &Machine) {
        let device = machine.open();
        let extent = take(&device, 2 << 20);
        let key = key();
        let plan = UploadPlan { extent, key: &key, slot_bytes: 1 << 20, slots: 1, room: Arc::default() };
        let session = device.upload(plan).unwrap();
        session.submit(session.slot().unwrap(), 0, 1 << 20).unwrap();
        device.protect(extent.buffer, Protection::ReadOnly).unwrap();
        let late = session.submit(session.slot().unwrap(), 1 << 20, 1 << 20);
        assert_eq!(late, Err(DeviceError::Protected));
        assert!(session.finish().is_err());
        device.free(extent.buffer).unwrap();
    }

    fn overlapping_copies_within_a_buffer_are_refused(machine: &Machine) {
        let device = machine.open();
        let whole = take(&device, 10_000);
        let part = |start| vram_residency::device::Extent { start, len: 4000, ..whole };
        device.write(whole, 0, &sample(10_000, 1)).unwrap();
        let overlap = device.copy_to(part(0), &device, part(3999));
        assert!(matches!(overlap, Err(DeviceError::OutOfRange { .. })), "{overlap:?}");
        device.copy_to(part(0), &device, part(4000)).unwrap();
        let (mut a, mut b) = (vec![0; 4000], vec![1; 4000]);
        device.read(part(0), 0, &mut a).unwrap();
        device.read(part(4000), 0, &mut b).unwrap();
        assert!(a == b);
    }
}

#[test]
fn devices_without_a_direct_path_copy_through_the_host() {
    for options in ["gpus=2 vram=256M nopeer", "gpus=2 vram=256M"] {
        let machine = Machine::fake(options);
        let (first, second) = (machine.open(), machine.cuda.device(1).unwrap());
        let (from, to) = (take(&first, 9_000_001), take(&second, 9_000_001));
        let bytes = sample(9_000_001, 5);
        first.write(from, 0, &bytes).unwrap();
        if !options.contains("nopeer") {
            // The driver says that there is a path, and then refuses to use it.
            machine.fake_ctl().tell("fail cuMemcpyPeerAsync 1 801");
        }
        first.copy_to(from, &second, to).unwrap();
        let mut out = vec![0; bytes.len()];
        second.read(to, 0, &mut out).unwrap();
        assert!(out == bytes, "{options}");
    }
}

#[test]
fn queued_work_that_fails_loses_the_device_and_nothing_else() {
    for work in [
        "exec.htod",
        "exec.dtoh",
        "exec.memset",
        "exec.launch.vram_sha256_blocks",
    ] {
        let machine = Machine::fake("gpus=2 vram=256M");
        let (first, second) = (machine.open(), machine.cuda.device(1).unwrap());
        let (lost, kept) = (take(&first, 100_000), take(&second, 100_000));
        machine.fake_ctl().tell(&format!("fail {work} 1 700"));
        let mut hashes = vec![[0; 32]; 25];
        let error = first
            .write(lost, 0, &[1; 100])
            .and_then(|()| first.block_digests(lost, 0..25, &mut hashes))
            .unwrap_err();
        assert!(
            matches!(error, DeviceError::Lost { code: 700, .. }),
            "{work}: {error}"
        );
        assert!(
            first
                .block_digests(lost, 0..25, &mut hashes)
                .unwrap_err()
                .is_loss()
        );
        assert_eq!(
            first.free(lost.buffer).unwrap_err().stranded,
            2 << 20,
            "{work}"
        );
        second.write(kept, 0, &[1; 100]).unwrap();
        second.free(kept.buffer).unwrap();
    }
}
