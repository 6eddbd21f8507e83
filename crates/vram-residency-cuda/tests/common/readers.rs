//! Several readers of one upload session, until each of them fails.

use std::sync::Arc;

use vram_digest::nh;
use vram_residency::device::{Device as _, DeviceError, Upload, UploadPlan};
use vram_residency::sync::atomic::{AtomicU64, Ordering};
use vram_residency::sync::thread;
use vram_residency_cuda::CudaDevice;

use super::{sample, take};

/// What each of `count` readers of one session of `mib` MiB ends with.
pub fn readers(device: &CudaDevice, mib: u64, slots: usize, count: usize) -> Vec<DeviceError> {
    let key = nh::Key::from_bytes(&sample(nh::KEY_BYTES, 9).try_into().unwrap());
    let plan = UploadPlan {
        extent: take(device, mib << 20),
        key: &key,
        slot_bytes: 1 << 20,
        slots,
        room: Arc::default(),
    };
    let session = device.upload(plan).unwrap();
    let (session, next) = (session.as_ref(), AtomicU64::new(0));
    thread::scope(|scope| {
        let read = || read_until_error(session, &next);
        let readers: Vec<_> = (0..count).map(|_| scope.spawn(read)).collect();
        readers.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

/// Submits one MiB after the other until something fails.
fn read_until_error(session: &dyn Upload, next: &AtomicU64) -> DeviceError {
    loop {
        let turn = session.slot().and_then(|mut slot| {
            slot.bytes_mut().fill(7);
            let offset = next.fetch_add(1, Ordering::Relaxed) << 20;
            session.submit(slot, offset, 1 << 20)
        });
        if let Err(error) = turn {
            return error;
        }
    }
}
