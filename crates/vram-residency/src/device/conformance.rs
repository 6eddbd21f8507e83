//! The suite that every [`Device`] must pass, whatever it is made of: run on
//! the simulator, on CUDA with the fake driver, and on real GPUs.
//!
//! Each check allocates at most a few MiB, leaves nothing behind, and returns a
//! message instead of panicking, so that a runner without a test harness can
//! use it.

use std::sync::Arc;

use vram_digest::{BLOCK_BYTES, hash_block, nh};

use super::{
    BufferId, Device, DeviceError, DeviceInstance, Extent, Protection, StagingRoom, StagingShare,
    UPLOAD_ALIGN, Upload, UploadPlan,
};

/// A named check.
pub type Check = (&'static str, fn(&dyn Device) -> Result<(), String>);

/// Every check, in an order that tests simple things first.
pub const CHECKS: &[Check] = &[
    ("facts_are_plausible", facts_are_plausible),
    ("zero_bytes_are_refused", zero_bytes_are_refused),
    ("huge_allocations_are_refused", huge_allocations_are_refused),
    ("free_memory_is_accounted", free_memory_is_accounted),
    ("writes_are_read_back", writes_are_read_back),
    ("bounds_hold", bounds_hold),
    (
        "stale_and_foreign_handles_are_refused",
        stale_and_foreign_handles_are_refused,
    ),
    (
        "read_only_memory_refuses_writes",
        read_only_memory_refuses_writes,
    ),
    (
        "witness_tells_protection_and_ordinal",
        witness_tells_protection_and_ordinal,
    ),
    ("uploads_measure_what_arrived", uploads_measure_what_arrived),
    ("uploads_must_be_complete", uploads_must_be_complete),
    (
        "aborted_uploads_leave_the_device_usable",
        aborted_uploads_leave_the_device_usable,
    ),
    ("uploads_share_staging_memory", uploads_share_staging_memory),
    (
        "block_digests_at_every_alignment",
        block_digests_at_every_alignment,
    ),
    (
        "keyed_tags_at_every_alignment",
        keyed_tags_at_every_alignment,
    ),
    (
        "a_flipped_bit_changes_digest_and_tag",
        a_flipped_bit_changes_digest_and_tag,
    ),
    ("copies_arrive_whole", copies_arrive_whole),
    (
        "freed_memory_does_not_leak_contents",
        freed_memory_does_not_leak_contents,
    ),
];

/// Runs every check and returns the failures.
#[must_use]
pub fn run(device: &dyn Device) -> Vec<(&'static str, String)> {
    let failure = |(name, check): &Check| check(device).err().map(|why| (*name, why));
    CHECKS.iter().filter_map(failure).collect()
}

type Outcome = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(what()) }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Repeatable bytes without a pattern that a shift could hide.
fn sample(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(len)
        .collect()
}

fn key(seed: u64) -> nh::Key {
    let bytes = sample(nh::KEY_BYTES, seed);
    let mut array = [0; nh::KEY_BYTES];
    array.copy_from_slice(&bytes);
    nh::Key::from_bytes(&array)
}

/// Runs `work` on a fresh buffer and frees it whatever happens.
fn with_buffer(device: &dyn Device, len: u64, work: impl FnOnce(BufferId) -> Outcome) -> Outcome {
    let allocated = device.allocate(len).map_err(text)?;
    let answer = work(allocated.id);
    let freed = device.free(allocated.id).map_err(text);
    answer.and(freed)
}

fn facts_are_plausible(device: &dyn Device) -> Outcome {
    let info = device.info();
    ensure(info.granularity >= 1, || "granularity is 0".to_owned())?;
    ensure(info.total_bytes > 0, || "no memory".to_owned())?;
    ensure(!info.name.is_empty(), || "no name".to_owned())?;
    let memory = device.memory().map_err(text)?;
    ensure(memory.free <= memory.total, || {
        format!("free above total: {memory:?}")
    })
}

fn zero_bytes_are_refused(device: &dyn Device) -> Outcome {
    let refused = matches!(device.allocate(0), Err(DeviceError::OutOfRange { .. }));
    ensure(refused, || {
        "an allocation of 0 bytes was not refused".to_owned()
    })
}

fn huge_allocations_are_refused(device: &dyn Device) -> Outcome {
    for len in [u64::MAX, device.info().total_bytes.saturating_add(1 << 30)] {
        let refused = matches!(device.allocate(len), Err(DeviceError::OutOfMemory { .. }));
        ensure(refused, || {
            format!("{len} bytes were not refused as out of memory")
        })?;
    }
    with_buffer(device, 1, |_| Ok(()))
}

fn free_memory_is_accounted(device: &dyn Device) -> Outcome {
    let before = device.memory().map_err(text)?.free;
    let allocated = device.allocate(5 << 20).map_err(text)?;
    let during = device.memory().map_err(text)?.free;
    device.free(allocated.id).map_err(text)?;
    let after = device.memory().map_err(text)?.free;
    ensure(allocated.granted >= 5 << 20, || {
        "granted less than asked for".to_owned()
    })?;
    ensure(before.saturating_sub(during) >= 5 << 20, || {
        format!("free went from {before} to {during} for 5 MiB")
    })?;
    ensure(after == before, || {
        format!("free was {before} and is {after} after a free")
    })
}

fn writes_are_read_back(device: &dyn Device) -> Outcome {
    let len = 3 * 4096 + 77;
    with_buffer(device, len as u64, |buffer| {
        let extent = Extent {
            buffer,
            start: 0,
            len: len as u64,
        };
        let bytes = sample(len, 1);
        device.write(extent, 0, &bytes).map_err(text)?;
        let mut out = vec![0; len];
        device.read(extent, 0, &mut out).map_err(text)?;
        ensure(out == bytes, || "read back other bytes".to_owned())?;
        let mut part = vec![0; 100];
        device.read(extent, 4090, &mut part).map_err(text)?;
        ensure(bytes.get(4090..4190) == Some(&part), || {
            "a part differs".to_owned()
        })?;
        device
            .fill(
                Extent {
                    buffer,
                    start: 10,
                    len: 20,
                },
                0x5c,
            )
            .map_err(text)?;
        device.read(extent, 0, &mut out).map_err(text)?;
        let inside = |i: usize| (10..30).contains(&i);
        let same = |(i, (a, b)): (usize, (&u8, &u8))| if inside(i) { *a == 0x5c } else { a == b };
        ensure(out.iter().zip(&bytes).enumerate().all(same), || {
            "fill missed".to_owned()
        })?;
        device.read(extent, 0, &mut []).map_err(text)?;
        device.write(extent, 0, &[]).map_err(text)
    })
}

fn bounds_hold(device: &dyn Device) -> Outcome {
    with_buffer(device, 1000, |buffer| {
        let extent = Extent {
            buffer,
            start: 0,
            len: 1000,
        };
        let mut out = [0; 10];
        for offset in [991, 1000, u64::MAX - 3] {
            let read = device.read(extent, offset, &mut out);
            let write = device.write(extent, offset, &out);
            let outside = |answer: &Result<(), DeviceError>| {
                matches!(answer, Err(DeviceError::OutOfRange { .. }))
            };
            ensure(outside(&read) && outside(&write), || {
                format!("offset {offset} was let in")
            })?;
        }
        let far = Extent {
            buffer,
            start: u64::MAX - 1,
            len: 2,
        };
        ensure(device.fill(far, 0).is_err(), || {
            "an overflowing extent was let in".to_owned()
        })?;
        let digests = device.block_digests(extent, 0..2, &mut [[0; 32]; 2]);
        ensure(digests.is_err(), || {
            "a block past the end was hashed".to_owned()
        })?;
        let tags = device.keyed_tags(extent, &[1], &[&key(1)]);
        ensure(tags.is_err(), || {
            "a segment past the end was tagged".to_owned()
        })
    })
}

fn stale_and_foreign_handles_are_refused(device: &dyn Device) -> Outcome {
    let stale = device.allocate(4096).map_err(text)?.id;
    device.free(stale).map_err(text)?;
    let foreign = BufferId::new(DeviceInstance::next(), stale.serial());
    with_buffer(device, 4096, |_| {
        for id in [stale, foreign] {
            let extent = Extent {
                buffer: id,
                start: 0,
                len: 1,
            };
            let answers = [
                device.read(extent, 0, &mut [0]),
                device.write(extent, 0, &[0]),
                device.protect(id, Protection::ReadOnly),
                device.witness(id).map(|_| ()),
                device.address(extent).map(|_| ()),
                device.free(id).map_err(|error| error.source),
            ];
            let refused = answers
                .iter()
                .all(|a| *a == Err(DeviceError::UnknownBuffer));
            ensure(refused, || format!("a dead handle was let in: {answers:?}"))?;
        }
        Ok(())
    })
}

fn read_only_memory_refuses_writes(device: &dyn Device) -> Outcome {
    with_buffer(device, 8192, |buffer| {
        let extent = Extent {
            buffer,
            start: 0,
            len: 8192,
        };
        device.write(extent, 0, &[7; 8192]).map_err(text)?;
        device.protect(buffer, Protection::ReadOnly).map_err(text)?;
        let write = device.write(extent, 0, &[1]);
        let fill = device.fill(extent, 1);
        let key = key(1);
        let plan = UploadPlan {
            extent,
            key: &key,
            slot_bytes: 1,
            slots: 1,
            room: Arc::default(),
        };
        let upload = device.upload(plan).map(|_| ());
        let refused = [write, fill, upload]
            .iter()
            .all(|a| *a == Err(DeviceError::Protected));
        ensure(refused, || "sealed memory was written".to_owned())?;
        let mut out = [0; 1];
        device.read(extent, 8191, &mut out).map_err(text)?;
        ensure(out == [7], || "sealed memory changed".to_owned())?;
        device
            .protect(buffer, Protection::ReadWrite)
            .map_err(text)?;
        device.write(extent, 0, &[1]).map_err(text)
    })
}

fn witness_tells_protection_and_ordinal(device: &dyn Device) -> Outcome {
    with_buffer(device, 4096, |buffer| {
        let filling = device.witness(buffer).map_err(text)?;
        device.protect(buffer, Protection::ReadOnly).map_err(text)?;
        let sealed = device.witness(buffer).map_err(text)?;
        let order = [filling.protection, sealed.protection];
        let expected = [Protection::ReadWrite, Protection::ReadOnly];
        ensure(order == expected, || format!("protections were {order:?}"))?;
        ensure(sealed.ordinal == device.info().ordinal, || {
            "wrong ordinal".to_owned()
        })?;
        ensure(!sealed.managed && !sealed.host_pointer, || {
            format!("{sealed:?}")
        })
    })
}

/// Uploads `bytes` in slots, the last slot first.
fn upload(
    device: &dyn Device,
    extent: Extent,
    bytes: &[u8],
    key: &nh::Key,
) -> Result<super::Measured, String> {
    let plan = UploadPlan {
        extent,
        key,
        slot_bytes: 1 << 20,
        slots: 2,
        room: Arc::default(),
    };
    let session = device.upload(plan).map_err(text)?;
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

fn uploads_measure_what_arrived(device: &dyn Device) -> Outcome {
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

fn uploads_must_be_complete(device: &dyn Device) -> Outcome {
    let len = UPLOAD_ALIGN.saturating_add(10);
    with_buffer(device, len, |buffer| {
        let key = key(3);
        let extent = Extent {
            buffer,
            start: 0,
            len,
        };
        let plan = UploadPlan {
            extent,
            key: &key,
            slot_bytes: 1 << 20,
            slots: 1,
            room: Arc::default(),
        };
        let session = device.upload(plan).map_err(text)?;
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

fn aborted_uploads_leave_the_device_usable(device: &dyn Device) -> Outcome {
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
            let plan = UploadPlan {
                extent,
                key: &key,
                slot_bytes: 1 << 20,
                slots: 2,
                room: Arc::default(),
            };
            let session = device.upload(plan).map_err(text)?;
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

fn uploads_share_staging_memory(device: &dyn Device) -> Outcome {
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
                extent,
                key: &key,
                slot_bytes: segment,
                slots: 4,
                room: Arc::clone(&room),
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

fn block_digests_at_every_alignment(device: &dyn Device) -> Outcome {
    let len = 5 * BLOCK_BYTES + 123;
    for start in 0..16 {
        let room = (len as u64).saturating_add(start);
        with_buffer(device, room, |buffer| {
            let extent = Extent {
                buffer,
                start,
                len: len as u64,
            };
            let bytes = sample(len, start);
            device.write(extent, 0, &bytes).map_err(text)?;
            let hashes: Vec<_> = bytes
                .chunks(BLOCK_BYTES)
                .filter_map(|b| hash_block(b).ok())
                .collect();
            let mut out = [[0; 32]; 6];
            device.block_digests(extent, 0..6, &mut out).map_err(text)?;
            ensure(out.as_slice() == hashes, || {
                format!("start {start}: other hashes")
            })?;
            let mut two = [[0; 32]; 2];
            device.block_digests(extent, 3..5, &mut two).map_err(text)?;
            ensure(hashes.get(3..5) == Some(&two), || {
                format!("start {start}: other range")
            })
        })?;
    }
    Ok(())
}

fn keyed_tags_at_every_alignment(device: &dyn Device) -> Outcome {
    let len = (2 << 20) + 1000 + 3;
    let (one, two) = (key(6), key(7));
    let bytes = sample(len, 6);
    for start in 0..16 {
        let room = (len as u64).saturating_add(start);
        with_buffer(device, room, |buffer| {
            let extent = Extent {
                buffer,
                start,
                len: len as u64,
            };
            device.write(extent, 0, &bytes).map_err(text)?;
            let tags = device
                .keyed_tags(extent, &[2, 0], &[&one, &two])
                .map_err(text)?;
            let segment = |i: usize| bytes.chunks(nh::SEGMENT_BYTES).nth(i).unwrap_or_default();
            let expected = [
                nh::tag(&one, segment(2)),
                nh::tag(&two, segment(2)),
                nh::tag(&one, segment(0)),
                nh::tag(&two, segment(0)),
            ];
            ensure(tags == expected, || format!("start {start}: other tags"))?;
            let single = device.keyed_tags(extent, &[1], &[&two]).map_err(text)?;
            ensure(single == [nh::tag(&two, segment(1))], || {
                format!("start {start}: one key")
            })
        })?;
    }
    Ok(())
}

fn a_flipped_bit_changes_digest_and_tag(device: &dyn Device) -> Outcome {
    with_buffer(device, 2 << 20, |buffer| {
        let extent = Extent {
            buffer,
            start: 0,
            len: 2 << 20,
        };
        let mut bytes = sample(2 << 20, 8);
        device.write(extent, 0, &bytes).map_err(text)?;
        let key = key(8);
        let measure = || -> Result<_, String> {
            let mut hashes = vec![[0; 32]; 512];
            device
                .block_digests(extent, 0..512, &mut hashes)
                .map_err(text)?;
            Ok((
                hashes,
                device.keyed_tags(extent, &[0, 1], &[&key]).map_err(text)?,
            ))
        };
        let (hashes, tags) = measure()?;
        let at = 300 * BLOCK_BYTES + 17;
        let byte = bytes.get_mut(at).ok_or("sample too short")?;
        *byte ^= 0x10;
        let flipped = [*byte];
        device.write(extent, at as u64, &flipped).map_err(text)?;
        let (hashes_after, tags_after) = measure()?;
        let pairs = hashes.iter().zip(&hashes_after).enumerate();
        let changed: Vec<_> = pairs.filter(|(_, (a, b))| a != b).map(|(i, _)| i).collect();
        ensure(changed == [300], || format!("changed blocks: {changed:?}"))?;
        let kept = tags.first() == tags_after.first() && tags.get(1) != tags_after.get(1);
        ensure(kept, || "tags did not tell the segment".to_owned())
    })
}

fn copies_arrive_whole(device: &dyn Device) -> Outcome {
    let len = (9 << 20) + 11;
    with_buffer(device, len, |from| {
        with_buffer(device, len.saturating_add(7), |to| {
            let source = Extent {
                buffer: from,
                start: 0,
                len,
            };
            let dest = Extent {
                buffer: to,
                start: 7,
                len,
            };
            let bytes = sample(usize::try_from(len).unwrap_or(0), 9);
            device.write(source, 0, &bytes).map_err(text)?;
            device.copy_to(source, device, dest).map_err(text)?;
            let mut out = vec![0; bytes.len()];
            device.read(dest, 0, &mut out).map_err(text)?;
            ensure(out == bytes, || "other bytes arrived".to_owned())?;
            let short = Extent { len: 5, ..dest };
            let refused = device.copy_to(source, device, short).is_err();
            ensure(refused, || "unequal lengths were copied".to_owned())
        })
    })
}

fn freed_memory_does_not_leak_contents(device: &dyn Device) -> Outcome {
    let secret = sample(1 << 20, 10);
    with_buffer(device, 1 << 20, |buffer| {
        let extent = Extent {
            buffer,
            start: 0,
            len: 1 << 20,
        };
        device.write(extent, 0, &secret).map_err(text)
    })?;
    with_buffer(device, 1 << 20, |buffer| {
        let extent = Extent {
            buffer,
            start: 0,
            len: 1 << 20,
        };
        let mut out = vec![0; 1 << 20];
        device.read(extent, 0, &mut out).map_err(text)?;
        let kept = out
            .chunks(32)
            .zip(secret.chunks(32))
            .filter(|(a, b)| a == b)
            .count();
        ensure(kept == 0, || {
            format!("{kept} of the earlier owner's 32-byte pieces are there")
        })
    })
}
