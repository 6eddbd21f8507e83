//! The unsafe code of every path on inputs small enough for Miri, which sees each
//! access outside an allocation, each read of uninitialised memory and each
//! instruction that the CPU was not asked for. `cargo xtask races --miri` runs it.
//!
//! requirement: TP-6

mod common;

use common::{level, pattern};
use vram_digest::nh::{self, Key};
use vram_digest::path::{self, Path};
use vram_digest::{BlockHash, hash_blocks};

/// Every path that can be taken, which is said: at least the portable one, and
/// under Miri all, or the unsafe code of the others would pass unseen.
fn paths() -> Vec<Path> {
    let paths: Vec<Path> = Path::ALL
        .into_iter()
        .filter(|path| path.is_available())
        .collect();
    assert!(paths.contains(&Path::Portable));
    if cfg!(all(miri, target_arch = "x86_64")) {
        assert_eq!(paths, Path::ALL, "Miri sees only what runs");
    }
    for path in &paths {
        println!("path: {path}");
    }
    paths
}

/// One block alone, and a full set of lanes with one more; the last one short, at
/// an odd address, in memory that ends where the data does.
#[test]
fn hashing_stays_within_its_input() {
    for blocks in [1_usize, 17] {
        let data = pattern(blocks * 4096, 7).into_boxed_slice();
        let input = &data[1..];
        let expected = level(input);
        for path in paths() {
            let _cap = path::cap_for_tests(path);
            let mut out = vec![BlockHash::default(); blocks].into_boxed_slice();
            hash_blocks(input, &mut out).unwrap();
            assert_eq!(*out, expected, "{path}, {blocks} blocks");
        }
    }
}

/// Whole units, and every kind of rest.
#[test]
fn tagging_stays_within_its_input() {
    let key = Key::from_bytes(&pattern(nh::KEY_BYTES, 8).try_into().unwrap());
    for len in [1_usize, 15, 16, 1023, 1024, 1025, 3 * 1024 + 40] {
        let data = pattern(len + 1, 9).into_boxed_slice();
        let mut tags = Vec::new();
        for path in paths() {
            let _cap = path::cap_for_tests(path);
            tags.push(nh::tag(&key, &data[1..]));
        }
        assert!(tags.iter().all(|tag| *tag == tags[0]), "{len} bytes");
    }
}
