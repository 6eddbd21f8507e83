//! Uploads: what arrives is measured, all of it, in memory that is shared.

use std::sync::Arc;

use vram_digest::{BLOCK_BYTES, hash_block, nh};

use super::support::{Outcome, ensure, key, plan, sample, text, with_buffer};
use crate::device::{
    Device, DeviceError, Extent, Measured, StagingRoom, StagingShare, UPLOAD_ALIGN, Upload,
    UploadPlan,
};

/// Uploads `bytes` in slots, the last slot first.
fn upload(
    device: &dyn Device,
    extent: Extent,
    bytes: &[u8],
    key: &nh::Key,
) -> Result<Measured, String> {
    let session = device.upload(plan(extent, key, 2)).map_err(text)?;
    let align = usize::try_from(UPLOAD_ALIGN).unwrap_or(usize::MAX);
    for (i, chunk) in bytes.chunks(align).enumerate().rev() {
        submit(
            session.as_ref(),
            (i as u64).saturating_mul(UPLOAD_ALIGN),
            chunk,
        )?;
    }
    session.finish().map_err(text)
}

fn submit(session: &dyn Upload, offset: u64, chunk: &[u8]) -> Outcome {
    let mut slot = session.slot().map_err(text)?;
    let room = slot.bytes_mut().get_mut(..chunk.len());
    room.ok_or("a slot is too small")?.copy_from_slice(chunk);
    session.submit(slot, offset, chunk.len()).map_err(text)
}

pub(super) fn uploads_measure_what_arrived(device: &dyn Device) -> Outcome {
    for (len, start) in [
        (1, 0),
        (4097, 100),
        ((1 << 20) + 1, 0),
        ((3 << 20) + 5, 240),
    ] {
        let bytes = sample(len, len as u64);
        let room = (len as u64).saturating_add(start);
        with_buffer(device, room, |buffer| {
            let extent = Extent {
                buffer,
                start,
                len: len as u64,
            };
            let key = key(2);
            let measured = upload(device, extent, &bytes, &key)?;
            let hashes: Vec<_> = bytes
                .chunks(BLOCK_BYTES)
                .filter_map(|b| hash_block(b).ok())
                .collect();
            ensure(measured.level0 == hashes, || {
                format!("{len} bytes: other block hashes")
            })?;
            let tags = bytes.chunks(nh::SEGMENT_BYTES).map(|s| nh::tag(&key, s));
            ensure(tags.eq(measured.tags), || {
                format!("{len} bytes: other tags")
            })?;
            let mut out = vec![0; len];
            device.read(extent, 0, &mut out).map_err(text)?;
            ensure(out == bytes, || format!("{len} bytes: other contents"))
        })?;
    }
    Ok(())
}

pub(super) fn uploads_must_be_complete(device: &dyn Device) -> Outcome {
    let len = UPLOAD_ALIGN.saturating_add(10);
    with_buffer(device, len, |buffer| {
        let key = key(3);
        let extent = Extent {
            buffer,
            start: 0,
            len,
        };
        let session = device.upload(plan(extent, &key, 1)).map_err(text)?;
        submit(session.as_ref(), UPLOAD_ALIGN, &[1; 10])?;
        let slot = session.slot().map_err(text)?;
        let again = session.submit(slot, UPLOAD_ALIGN, 10);
        ensure(again.is_err(), || {
            "the same bytes were taken twice".to_owned()
        })?;
        let missing = DeviceError::Incomplete {
            missing: UPLOAD_ALIGN,
        };
        let answer = session.finish().map(|_| ());
        ensure(answer == Err(missing), || {
            format!("an incomplete upload gave {answer:?}")
        })
    })
}

pub(super) fn aborted_uploads_leave_the_device_usable(device: &dyn Device) -> Outcome {
    let len = UPLOAD_ALIGN.saturating_mul(2);
    let before = device.memory().map_err(text)?.free;
    with_buffer(device, len, |buffer| {
        let key = key(4);
        let extent = Extent {
            buffer,
            start: 0,
            len,
        };
        for _ in 0..3 {
            let session = device.upload(plan(extent, &key, 2)).map_err(text)?;
            submit(session.as_ref(), 0, &vec![1; 1 << 20])?;
            drop(session.slot().map_err(text)?);
        }
        upload(device, extent, &sample(2 << 20, 5), &key).map(|_| ())
    })?;
    let after = device.memory().map_err(text)?.free;
    ensure(before == after, || {
        format!("free was {before} and is {after}")
    })
}

pub(super) fn uploads_share_staging_memory(device: &dyn Device) -> Outcome {
    let len = UPLOAD_ALIGN.saturating_mul(4);
    let segment = usize::try_from(UPLOAD_ALIGN).unwrap_or(usize::MAX);
    // For one slot, with what a device adds to it, and not for two.
    let room = Arc::new(StagingRoom::new(segment.saturating_add(segment / 2)));
    let room_left = || StagingShare::of(&room).take(segment);
    with_buffer(device, len, |buffer| {
        let key = key(5);
        let extent = Extent {
            buffer,
            start: 0,
            len,
        };
        let open = || {
            let plan = UploadPlan {
                room: Arc::clone(&room),
                ..plan(extent, &key, 4)
            };
            device.upload(plan).map_err(text)
        };
        for _ in 0..2 {
            let (one, other) = (open()?, open()?);
            ensure(room_left(), || "a first slot took room".to_owned())?;
            let first = [one.slot(), other.slot()];
            let second = one.slot().map_err(text)?;
            ensure(!room_left(), || "a second slot took no room".to_owned())?;
            drop((first, second));
            ensure(!room_left(), || "a slot went before its session".to_owned())?;
            drop((one, other));
            ensure(room_left(), || "a session kept its room".to_owned())?;
        }
        Ok(())
    })
}
