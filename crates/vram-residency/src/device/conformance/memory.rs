//! Memory: its account, bounds, handles, protection, copies and end.

use super::support::{Outcome, ensure, key, plan, sample, text, with_buffer};
use crate::device::{BufferId, Device, DeviceError, DeviceInstance, Extent, Protection};

pub(super) fn facts_are_plausible(device: &dyn Device) -> Outcome {
    let info = device.info();
    ensure(info.granularity >= 1, || "granularity is 0".to_owned())?;
    ensure(info.total_bytes > 0, || "no memory".to_owned())?;
    ensure(!info.name.is_empty(), || "no name".to_owned())?;
    let memory = device.memory().map_err(text)?;
    ensure(memory.free <= memory.total, || {
        format!("free above total: {memory:?}")
    })
}

pub(super) fn zero_bytes_are_refused(device: &dyn Device) -> Outcome {
    let refused = matches!(device.allocate(0), Err(DeviceError::OutOfRange { .. }));
    ensure(refused, || {
        "an allocation of 0 bytes was not refused".to_owned()
    })
}

pub(super) fn huge_allocations_are_refused(device: &dyn Device) -> Outcome {
    for len in [u64::MAX, device.info().total_bytes.saturating_add(1 << 30)] {
        let refused = matches!(device.allocate(len), Err(DeviceError::OutOfMemory { .. }));
        ensure(refused, || {
            format!("{len} bytes were not refused as out of memory")
        })?;
    }
    with_buffer(device, 1, |_| Ok(()))
}

pub(super) fn free_memory_is_accounted(device: &dyn Device) -> Outcome {
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

pub(super) fn writes_are_read_back(device: &dyn Device) -> Outcome {
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

pub(super) fn bounds_hold(device: &dyn Device) -> Outcome {
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

pub(super) fn stale_and_foreign_handles_are_refused(device: &dyn Device) -> Outcome {
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

pub(super) fn read_only_memory_refuses_writes(device: &dyn Device) -> Outcome {
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
        let upload = device.upload(plan(extent, &key(1), 1)).map(|_| ());
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

pub(super) fn witness_tells_protection_and_ordinal(device: &dyn Device) -> Outcome {
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

pub(super) fn copies_arrive_whole(device: &dyn Device) -> Outcome {
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

pub(super) fn freed_memory_does_not_leak_contents(device: &dyn Device) -> Outcome {
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
