//! No byte outside a shard is ever read, written or counted, whatever offsets
//! and lengths are asked for.

mod common;

use common::{cases, newest, rig, weights};
use proptest::prelude::*;
use vram_residency::device::{Device, DeviceError, Extent};
use vram_residency::error::InputError;
use vram_residency::format::{Format, ReadAt};
use vram_residency::load::{FormatChoice, PatternSource};
use vram_residency::sim::{SimDevice, SimOptions};
use vram_residency::{Error, Mode, Policy, SealRequest};

const LEN: u64 = 10_000;

/// Offsets and lengths around every border, the largest numbers included.
fn wild() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..2 * LEN,
        any::<u64>(),
        (u64::MAX - 2 * LEN)..=u64::MAX,
        Just(LEN),
    ]
}

// requirement: MS-002, MS-007, VA-8, API-F42, TY-7
#[test]
fn bounds_checking() {
    // The device itself refuses, whatever a caller above it forgot to check.
    let device = SimDevice::new(1 << 20);
    let buffer = device.allocate(LEN).unwrap().id;
    let mut neighbour = vec![0; 64];
    let other = device.allocate(64).unwrap().id;
    let whole = |buffer, len| Extent {
        buffer,
        start: 0,
        len,
    };
    device.fill(whole(buffer, LEN), 1).unwrap();
    device.fill(whole(other, 64), 2).unwrap();
    proptest!(cases(1000), |(start in wild(), len in wild(), offset in wild(), count in 0..2 * LEN)| {
        let extent = Extent { buffer, start, len };
        let mut out = vec![9; count as usize];
        let fits = |offset: u64, len: u64, size: u64| offset.checked_add(len).is_some_and(|end| end <= size);
        let inside = fits(start, len, LEN) && fits(offset, count, len);
        let read = device.read(extent, offset, &mut out);
        prop_assert_eq!(read.is_ok(), inside, "{:?}", read);
        let expected = 9 - 8 * u8::from(inside);
        prop_assert!(out.iter().all(|byte| *byte == expected));
        let written = device.write(extent, offset, &vec![1; count as usize]);
        prop_assert_eq!(written.is_ok(), inside, "{:?}", written);
        let filled = device.fill(extent, 1);
        prop_assert_eq!(filled.is_ok(), fits(start, len, LEN), "{:?}", filled);
    });
    device.read(whole(other, 64), 0, &mut neighbour).unwrap();
    assert_eq!(neighbour, [2; 64], "the neighbour is as it was");
}

// requirement: MS-002, FF-4
#[test]
fn safe_memcpy() {
    // Upload, copy between devices, and back: the same bytes and no others.
    let (one, two) = (
        SimDevice::with_options(SimOptions::new(1 << 20)),
        SimDevice::with_options(SimOptions::new(1 << 20).ordinal(1)),
    );
    proptest!(cases(300), |(len in 1..LEN, from in 0..100_u64, to in 0..100_u64, cut in 0..LEN)| {
        let take = |device: &SimDevice| device.allocate(LEN + 100).unwrap().id;
        let source = Extent { buffer: take(&one), start: from, len };
        let dest = Extent { buffer: take(&two), start: to, len };
        let whole = Extent { buffer: dest.buffer, start: 0, len: LEN + 100 };
        two.fill(whole, 5).unwrap();
        let bytes = weights(len as usize, len);
        one.write(source, 0, &bytes).unwrap();
        one.copy_to(source, &two, dest).unwrap();
        let mut out = vec![0; (LEN + 100) as usize];
        two.read(whole, 0, &mut out).unwrap();
        let end = (to + len) as usize;
        prop_assert_eq!(&out[to as usize..end], &bytes[..]);
        prop_assert!(out[..to as usize].iter().chain(&out[end..]).all(|byte| *byte == 5));
        // Ends that differ in length, and ends that are gone, copy nothing.
        if cut != len {
            let shorter = Extent { len: cut, ..dest };
            prop_assert!(one.copy_to(source, &two, shorter).is_err());
        }
        one.free(source.buffer).unwrap();
        prop_assert_eq!(one.copy_to(source, &two, dest), Err(DeviceError::UnknownBuffer));
        two.free(dest.buffer).unwrap();
    });
}

// requirement: VA-8, MS-006, MS-007
#[test]
fn offset_overflow_prevented() {
    let rig = rig(1 << 20);
    let shard = rig
        .manager
        .seal(SealRequest::bytes(&weights(LEN as usize, 1)));
    let shard = shard.unwrap();
    for (offset, len) in [
        (u64::MAX, 1),
        (1, u64::MAX),
        (u64::MAX, u64::MAX),
        (u64::MAX - LEN + 1, LEN),
        (1 << 63, 1 << 63),
        (LEN, 1),
        (LEN - 1, 2),
        (LEN + 1, 0),
    ] {
        let error = rig.manager.read_shard_at_offset(&shard, offset, len);
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Input(_)), "{offset}, {len}: {error}");
        assert!(error.to_string().contains(&LEN.to_string()), "{error}");
    }
    assert!(
        rig.manager
            .read_shard_at_offset(&shard, LEN, 0)
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        rig.count("shard.exported"),
        1,
        "only the one that was allowed"
    );
    // The same for a tensor of a lease.
    let header = r#"{"w":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#;
    let len = (header.len() as u64).to_le_bytes();
    let model = [&len[..], header.as_bytes(), &[3; 8]].concat();
    let format = FormatChoice::Exactly(Format::Safetensors);
    let shard = rig.manager.seal(SealRequest::bytes(&model).format(format));
    let shard = shard.unwrap();
    let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
    let tensor = lease.tensor("w").unwrap();
    for offset in [8, u64::MAX, u64::MAX - 3, 5] {
        let mut out = [9; 4];
        assert!(tensor.read(offset, &mut out).is_err(), "{offset}");
        assert_eq!(out, [9; 4]);
    }
    let mut out = [9; 4];
    tensor.read(4, &mut out).unwrap();
    assert_eq!(out, [3; 4]);
    let unknown = lease.tensor("v").err().unwrap();
    assert!(
        matches!(&unknown, Error::Input(InputError::NoSuchTensor { .. })),
        "{unknown}"
    );
}

// requirement: FF-2, IV-001, VA-3, API-F8
#[test]
fn max_size_enforced() {
    // The default limit is 100 GiB: that much is admitted and not a byte more,
    // long before memory is asked for.
    let limit = 100_u64 << 30;
    let options = SimOptions::new(1 << 40).discard_contents();
    let rig = common::Rig::build(&[options], Policy::default(), |b| b);
    assert_eq!(rig.manager.policy().max_model_bytes, limit);
    assert!(rig.manager.can_admit(0, limit).unwrap());
    for len in [limit + 1, 1 << 40, u64::MAX] {
        assert!(rig.manager.can_admit(0, len).is_err());
        let source = PatternSource::new(len, 1);
        assert_eq!(source.len(), len);
        let error = rig.manager.seal(SealRequest::source(source)).unwrap_err();
        assert!(matches!(error, Error::Input(_)), "{error}");
    }
    assert!(rig.device().buffers().is_empty());
    assert!(rig.sink.events().is_empty());
    let small = rig.manager.seal(SealRequest::bytes(b"fits")).unwrap();
    assert_eq!(rig.device().buffers(), [newest(rig.device())]);
    drop(small);
}
