//! The fuzz targets without a fuzzer: every checked-in seed and many seeded
//! mutations of each go through the same functions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "test code"
)]

mod common;
mod fuzz_support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::Seeded;

const SEED: u64 = 20_260_121;
/// Mutated inputs of each seed.
const MUTATIONS: u64 = 10_000;
/// Numbers that lengths, counts and offsets break at.
const EDGES: [u64; 8] = [
    0,
    1,
    0x7F,
    0xFFFF,
    u32::MAX as u64,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// A target and its name.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 6] = [
    ("safetensors_header", fuzz_support::safetensors_header),
    ("index", fuzz_support::index),
    ("gguf", fuzz_support::gguf),
    ("lfs_pointer", fuzz_support::lfs_pointer),
    ("record", fuzz_support::record),
    ("checkpoint", fuzz_support::checkpoint),
];

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = std::fs::read_dir(corpus().join(name)).unwrap();
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut seeds: Vec<_> = paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    if name == "checkpoint" {
        seeds.push(fuzz_support::signed_note().into());
    }
    seeds
}

/// One to four changes of `seed`.
fn mutated(seed: &[u8], other: &[u8], random: &Seeded) -> Vec<u8> {
    let below = |limit: usize| (random.next() % (limit as u64).max(1)) as usize;
    let mut data = seed.to_vec();
    for _ in 0..=below(4) {
        let at = below(data.len());
        let end = (at + 1 + below(16)).min(data.len());
        match below(7) {
            0 if !data.is_empty() => data[at] ^= 1 << below(8),
            1 if !data.is_empty() => data[at] = b"\"{}[],:\n-9/.\0\xFF"[below(14)],
            2 => drop(data.drain(at.min(end)..end)),
            3 => {
                let copy = data[at.min(end)..end].to_vec();
                data.splice(at..at, copy);
            }
            4 => data.truncate(at),
            5 => {
                data.truncate(at);
                data.extend_from_slice(&other[below(other.len())..]);
            }
            _ => {
                let edge = EDGES[below(EDGES.len())].to_le_bytes();
                data.iter_mut()
                    .skip(at)
                    .zip(edge)
                    .for_each(|(byte, new)| *byte = new);
            }
        }
    }
    data
}

// requirement: TP-5
#[test]
fn every_target_takes_its_seeds_and_what_is_made_of_them() {
    for (name, target) in TARGETS {
        let random = Seeded::new(SEED);
        let seeds = seeds(name);
        for seed in &seeds {
            target(seed);
            for i in 0..MUTATIONS {
                let other = &seeds[(i as usize) % seeds.len()];
                let data = mutated(seed, other, &random);
                let held = catch_unwind(AssertUnwindSafe(|| target(&data)));
                assert!(held.is_ok(), "{name}, seed {SEED}: {data:?}");
            }
        }
    }
}

#[test]
fn every_target_of_the_fuzzer_is_replayed() {
    let listed = |folder: &str| {
        let entries = std::fs::read_dir(corpus().join(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .into()
            })
            .collect();
        names.sort();
        names
    };
    let mut ours: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    ours.sort_unstable();
    assert_eq!(listed("../fuzz_targets"), ours);
    assert_eq!(listed("."), ours);
}
