//! Every path beside the crate it must beat and the memory it reads from.
//!
//! `cargo bench -p vram-digest`; a figure is comparable only with others of the same run.

#![allow(missing_docs, reason = "bench code")]

use std::hint::black_box;
use std::num::NonZeroUsize;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sha2::{Digest as _, Sha256};
use vram_digest::nh::{self, KEY_BYTES, Key, Tag};
use vram_digest::path::{self, Path};
use vram_digest::{BLOCK_BYTES, BlockHash, hash_blocks, hash_blocks_parallel};

/// Larger than any cache, so that memory is part of what is measured.
const BYTES: usize = 256 << 20;

/// Bytes that are not all equal.
fn data() -> Vec<u8> {
    (0..BYTES as u64 / 8)
        .flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

/// Each path this CPU has.
fn paths() -> impl Iterator<Item = Path> {
    Path::ALL.into_iter().filter(|path| path.is_available())
}

fn digests(c: &mut Criterion) {
    let data = data();
    let mut group = c.benchmark_group("block hashes");
    group
        .throughput(Throughput::Bytes(BYTES as u64))
        .sample_size(10);
    group.bench_function("sha2, one stream", |b| {
        b.iter(|| Sha256::digest(black_box(&data)))
    });
    let mut out = vec![BlockHash::default(); BYTES / BLOCK_BYTES];
    for path in paths() {
        let _cap = path::cap_for_tests(path);
        group.bench_function(path.to_string(), |b| {
            b.iter(|| hash_blocks(black_box(&data), &mut out).unwrap());
        });
    }
    for threads in [1, 2, 4].map(|n| NonZeroUsize::new(n).unwrap()) {
        group.bench_function(format!("fastest path, {threads} threads"), |b| {
            b.iter(|| hash_blocks_parallel(black_box(&data), &mut out, threads).unwrap());
        });
    }
    group.finish();
}

fn tags(c: &mut Criterion) {
    let data = data();
    let keys = [1, 2].map(|byte| Key::from_bytes(&[byte; KEY_BYTES]));
    let mut group = c.benchmark_group("keyed tags");
    group
        .throughput(Throughput::Bytes(BYTES as u64))
        .sample_size(10);
    group.bench_function("memory read", |b| {
        b.iter(|| {
            let words = black_box(&data).as_chunks::<8>().0;
            words.iter().fold(0, |sum: u64, word| {
                sum.wrapping_add(u64::from_le_bytes(*word))
            })
        });
    });
    let mut out = vec![Tag::ZERO; nh::tag_count(BYTES)];
    let mut out2 = out.clone();
    for path in paths() {
        let _cap = path::cap_for_tests(path);
        group.bench_function(format!("one key, {path}"), |b| {
            b.iter(|| nh::tags(&keys[0], black_box(&data), &mut out).unwrap());
        });
        group.bench_function(format!("two keys, {path}"), |b| {
            let [one, two] = &keys;
            b.iter(|| nh::tags2(one, two, black_box(&data), &mut out, &mut out2).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, digests, tags);
criterion_main!(benches);
