//! Hashes: what the device computes is what the CPU computes.

use vram_digest::{BLOCK_BYTES, hash_block, nh};

use super::support::{Outcome, ensure, key, sample, text, with_buffer};
use crate::device::{Device, Extent};

pub(super) fn block_digests_at_every_alignment(device: &dyn Device) -> Outcome {
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

pub(super) fn keyed_tags_at_every_alignment(device: &dyn Device) -> Outcome {
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

pub(super) fn a_flipped_bit_changes_digest_and_tag(device: &dyn Device) -> Outcome {
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
