//! NHPoly1305 against the definition, checked-in vectors and the published ones.

mod common;

use std::num::NonZeroUsize;

use common::{nhpoly1305, pattern, published, unhex};
use vram_digest::nh::{self, KEY_BYTES, Key, SEGMENT_BYTES, Tag};

/// A repeatable key.
fn key(seed: u64) -> Key {
    Key::from_bytes(&key_bytes(seed))
}

fn key_bytes(seed: u64) -> [u8; KEY_BYTES] {
    pattern(KEY_BYTES, seed).try_into().unwrap()
}

#[test]
fn equals_the_definition_at_every_border() {
    let data = pattern(5000, 11);
    for size in (0..=70)
        .chain(1000..=1100)
        .chain(2040..=2056)
        .chain([4096, 5000])
    {
        let expected = nhpoly1305(&key_bytes(12), &data[..size]);
        assert_eq!(
            nh::tag(&key(12), &data[..size]).as_bytes(),
            &expected,
            "size {size}"
        );
    }
}

/// All ones in key and data drive every carry.
#[test]
fn extreme_words_carry_right() {
    for key_byte in [0x00, 0x01, 0x7f, 0x80, 0xff] {
        for byte in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let data = vec![byte; 3 * 1024 + 48];
            let key = [key_byte; KEY_BYTES];
            let tag = nh::tag(&Key::from_bytes(&key), &data);
            assert_eq!(
                tag.as_bytes(),
                &nhpoly1305(&key, &data),
                "key {key_byte}, data {byte}"
            );
        }
    }
}

#[test]
fn equals_the_checked_in_vectors() {
    let text = include_str!("../testdata/nhpoly1305.txt");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(lines.len() > 10);
    for line in lines {
        let fields: Vec<&str> = line.split(' ').collect();
        let [key_seed, size, seed, expected] = fields[..] else {
            panic!("{line}")
        };
        let data = pattern(size.parse().unwrap(), seed.parse().unwrap());
        let tag = nh::tag(&key(key_seed.parse().unwrap()), &data);
        assert_eq!(tag.as_bytes().as_slice(), unhex(expected), "{line}");
    }
}

#[test]
fn nh_equals_the_published_vectors() {
    for vector in published(include_str!("../testdata/adiantum/NH.json")) {
        let field = |name: &str| unhex(vector["input"][name].as_str().unwrap());
        let mut bytes = vec![0; 16];
        bytes.extend(field("key_hex"));
        let key = Key::from_bytes(&bytes.try_into().unwrap());
        let hash = nh::nh_unit(&key, &field("message_hex")).unwrap();
        assert_eq!(
            hash.as_slice(),
            unhex(vector["hash_hex"].as_str().unwrap()),
            "{}",
            vector["description"]
        );
    }
}

#[test]
fn halves_make_the_whole() {
    let key = key(13);
    let data = pattern(10 * 1024 + 100, 14);
    let units: Vec<_> = data
        .chunks(nh::NH_UNIT_BYTES)
        .map(|unit| nh::nh_unit(&key, unit).unwrap())
        .collect();
    assert!(nh::tag_of_units(&key, &units) == nh::tag(&key, &data));
    let error = nh::nh_unit(&key, &[0; 1025]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "NH unit of 1025 bytes is longer than 1024; split it first"
    );
}

#[test]
fn one_tag_per_started_segment() {
    let (one, two) = (key(15), key(16));
    for size in [
        0,
        1,
        SEGMENT_BYTES - 1,
        SEGMENT_BYTES,
        SEGMENT_BYTES + 1,
        3 * SEGMENT_BYTES + 16,
    ] {
        let data = pattern(size, 17);
        let expected: Vec<Tag> = data
            .chunks(SEGMENT_BYTES)
            .map(|segment| nh::tag(&one, segment))
            .collect();
        let second: Vec<Tag> = data
            .chunks(SEGMENT_BYTES)
            .map(|segment| nh::tag(&two, segment))
            .collect();
        let count = nh::tag_count(size);
        assert_eq!(count, expected.len());
        let mut out = vec![Tag::ZERO; count];
        nh::tags(&one, &data, &mut out).unwrap();
        assert!(out == expected, "size {size}");
        for threads in [1, 2, 9] {
            let mut out = vec![Tag::ZERO; count];
            nh::tags_parallel(&one, &data, &mut out, NonZeroUsize::new(threads).unwrap()).unwrap();
            assert!(out == expected, "size {size}, {threads} threads");
        }
        let (mut out1, mut out2) = (vec![Tag::ZERO; count], vec![Tag::ZERO; count]);
        nh::tags2(&one, &two, &data, &mut out1, &mut out2).unwrap();
        assert!(out1 == expected && out2 == second, "size {size}, two keys");
    }
}

#[test]
fn wrong_counts_are_refused() {
    let data = pattern(SEGMENT_BYTES + 1, 18);
    let (one, two) = (key(19), key(20));
    for count in [0, 1, 3] {
        let mut out = vec![Tag::ZERO; count];
        assert_eq!(nh::tags(&one, &data, &mut out).unwrap_err().expected, 2);
        assert!(nh::tags_parallel(&one, &data, &mut out, NonZeroUsize::MIN).is_err());
        let mut right = [Tag::ZERO; 2];
        assert!(nh::tags2(&one, &two, &data, &mut out, &mut right).is_err());
        assert!(nh::tags2(&one, &two, &data, &mut right, &mut out).is_err());
        assert!(right == [Tag::ZERO; 2]);
    }
}

#[test]
fn one_flipped_bit_changes_the_tag() {
    let key = key(21);
    let data = pattern(2000, 22);
    let expected = nh::tag(&key, &data);
    for bit in 0..data.len() * 8 {
        let mut flipped = data.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(nh::tag(&key, &flipped) != expected, "bit {bit}");
    }
}

#[test]
fn a_key_gives_its_bytes_back() {
    let bytes = key_bytes(23);
    assert_eq!(Key::from_bytes(&bytes).as_bytes(), &bytes);
}
