//! Every fast path against the plain definition, at every size and alignment where it could differ.

mod common;

use common::{level, pattern, skipped};
use vram_digest::nh::{self, Key, SEGMENT_BYTES, Tag};
use vram_digest::path::{self, Path};
use vram_digest::{BlockHash, FileDigest, digest, hash_blocks};

/// Runs `check` under every path of this CPU and says which ones it lacks.
fn on_every_path(check: impl Fn(Path)) {
    for path in Path::ALL {
        if !path.is_available() {
            skipped(&format!("the path `{path}`: this CPU cannot take it"));
            continue;
        }
        let _cap = path::cap_for_tests(path);
        assert_eq!(path::active(), path);
        check(path);
    }
}

/// Or every test here would skip what it is for.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_paths_are_those_of_this_cpu() {
    let avx2 = is_x86_feature_detected!("avx2");
    let sha = is_x86_feature_detected!("sha") && is_x86_feature_detected!("avx");
    let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    for (path, has, name) in [
        (Path::Portable, true, "portable"),
        (Path::Avx2, avx2, "AVX2, 8 lanes"),
        (Path::ShaNi, sha, "SHA-NI, 2 streams"),
        (Path::Avx512, avx512, "AVX-512, 16 lanes"),
    ] {
        assert_eq!(path.is_available(), has, "{path}");
        assert_eq!(path.to_string(), name);
        assert!(path <= path::detected() || !has, "{path}");
    }
}

#[test]
fn block_hashes_are_those_of_the_definition() {
    let data = pattern(50 * 4096, 31);
    let expected = level(&data);
    on_every_path(|path| {
        for blocks in 0..=50 {
            let mut out = vec![BlockHash::default(); blocks];
            hash_blocks(&data[..blocks * 4096], &mut out).unwrap();
            assert_eq!(out, expected[..blocks], "{path}, {blocks} blocks");
        }
    });
}

#[test]
fn short_last_blocks_are_padded() {
    let data = pattern(34 * 4096, 32);
    on_every_path(|path| {
        for blocks in [1, 2, 7, 8, 9, 15, 16, 17, 18, 32, 33] {
            for extra in [-4095, -64, -1, 1, 63, 64, 65, 4095] {
                let size = (blocks * 4096_usize).strict_add_signed(extra);
                let mut out = vec![BlockHash::default(); size.div_ceil(4096)];
                hash_blocks(&data[..size], &mut out).unwrap();
                assert_eq!(out, level(&data[..size]), "{path}, {size} bytes");
            }
        }
    });
}

#[test]
fn any_alignment_will_do() {
    let data = pattern(17 * 4096 + 64, 33);
    on_every_path(|path| {
        for shift in 0..64 {
            let shifted = &data[shift..shift + 17 * 4096];
            let mut out = vec![BlockHash::default(); 17];
            hash_blocks(shifted, &mut out).unwrap();
            assert_eq!(out, level(shifted), "{path}, shifted by {shift}");
        }
    });
}

/// Words of equal bytes, at which a wrong carry, rotate or byte order shows.
#[test]
fn extreme_words_hash_right() {
    on_every_path(|path| {
        for byte in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let data = vec![byte; 19 * 4096];
            let mut out = vec![BlockHash::default(); 19];
            hash_blocks(&data, &mut out).unwrap();
            assert_eq!(out, level(&data), "{path}, byte {byte}");
        }
    });
}

#[test]
fn whole_digests_agree() {
    let data = pattern(129 * 128 * 4096 + 1, 34);
    let expected = FileDigest::from_bytes(common::fsverity(&data));
    on_every_path(|path| assert_eq!(digest(&data), expected, "{path}"));
}

#[test]
fn tags_are_those_of_the_definition() {
    let data = pattern(9000, 35);
    let bytes = pattern(nh::KEY_BYTES, 36).try_into().unwrap();
    let key = Key::from_bytes(&bytes);
    let mut sizes: Vec<usize> = (0..9000).step_by(127).collect();
    sizes.extend((1..=8).flat_map(|units| [units * 1024 - 1, units * 1024, units * 1024 + 1]));
    let expected: Vec<_> = sizes
        .iter()
        .map(|size| common::nhpoly1305(&bytes, &data[..*size]))
        .collect();
    on_every_path(|path| {
        for (size, expected) in sizes.iter().zip(&expected) {
            assert_eq!(
                nh::tag(&key, &data[..*size]).as_bytes(),
                expected,
                "{path}, {size} bytes"
            );
        }
        for shift in 0..64 {
            let unit = &data[shift..shift + 1024];
            let sums = nh::nh_unit(&key, unit).unwrap();
            assert_eq!(
                sums,
                common::nh(&bytes[16..], unit),
                "{path}, shifted by {shift}"
            );
        }
    });
}

/// All ones drive every carry of sums and products.
#[test]
fn extreme_words_tag_right() {
    on_every_path(|path| {
        for key_byte in [0x00, 0x01, 0x80, 0xff] {
            for byte in [0x00, 0x7f, 0xff] {
                let key = [key_byte; nh::KEY_BYTES];
                let data = [byte; 2048];
                let tag = nh::tag(&Key::from_bytes(&key), &data);
                assert_eq!(
                    tag.as_bytes(),
                    &common::nhpoly1305(&key, &data),
                    "{path}, {key_byte}, {byte}"
                );
            }
        }
    });
}

#[test]
fn tags_of_many_segments_agree() {
    let data = pattern(2 * SEGMENT_BYTES + 1000, 37);
    let [one, two] =
        [38, 39].map(|seed| Key::from_bytes(&pattern(nh::KEY_BYTES, seed).try_into().unwrap()));
    let all = |out: &mut [[Tag; 3]; 3]| {
        let [a, b, c] = out;
        nh::tags(&one, &data, a).unwrap();
        nh::tags2(&one, &two, &data, b, c).unwrap();
    };
    let mut expected = [[Tag::ZERO; 3]; 3];
    {
        let _cap = path::cap_for_tests(Path::Portable);
        all(&mut expected);
    }
    assert!(expected[0] == expected[1] && expected[0] != expected[2]);
    on_every_path(|path| {
        let mut out = [[Tag::ZERO; 3]; 3];
        all(&mut out);
        assert!(out == expected, "{path}");
    });
}

#[test]
fn a_cap_limits_and_is_lifted() {
    {
        let _cap = path::cap_for_tests(Path::Portable);
        assert_eq!(path::active(), Path::Portable);
    }
    let _all = path::cap_for_tests(Path::Avx512);
    assert_eq!(path::active(), path::detected());
}
