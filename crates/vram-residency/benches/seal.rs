//! What sealing and verifying cost on the simulated device (requirement: PF-1, PF-3, PF-4, PF-5, PF-6, PF-10).
//!
//! `cargo bench -p vram-residency`; criterion keeps the last results under
//! `target/criterion` and reports regressions against them. `vram bench` puts
//! the machine's own roofs beside such figures.
#![allow(missing_docs, reason = "bench code")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vram_residency::key::{KeyContext, KeyProvider as _, RootKey};
use vram_residency::random::OsRandom;
use vram_residency::seal::authenticate;
use vram_residency::shard::ShardId;
use vram_residency::sim::SimDevice;
use vram_residency::{Mode, Policy, SealRequest, VramManager};

/// A simulated gigabyte.
fn manager() -> VramManager {
    let policy = Policy {
        max_lease_age: Some(Duration::from_secs(3600)),
        ..Policy::default()
    };
    VramManager::builder()
        .device(SimDevice::new(1 << 30))
        .key(RootKey::generate(&OsRandom).unwrap())
        .policy(policy)
        .build()
        .unwrap()
}

/// Bytes that do not repeat within a block.
fn pattern(len: usize) -> Vec<u8> {
    let word = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    (0..len.div_ceil(8)).flat_map(word).take(len).collect()
}

fn constant_parts(c: &mut Criterion) {
    let manager = manager();
    let shard = manager.seal(SealRequest::bytes(&pattern(1024))).unwrap();
    let mut record = shard.record().clone();
    let root = RootKey::generate(&OsRandom).unwrap();
    let context = KeyContext {
        salt: &record.key_salt,
        worker: &record.worker_id,
        device: record.device_uuid,
    };
    let keys = [root.seal_key(&context).unwrap()];
    record.key_id = keys[0].id();
    record.tag = keys[0].tag(&record.statement()).unwrap();
    c.bench_function("seal_signature", |b| {
        b.iter(|| keys[0].tag(&black_box(&record).statement()).unwrap());
    });
    c.bench_function("seal_verification", |b| {
        b.iter(|| {
            let _ = authenticate(black_box(&record), &keys).unwrap();
        });
    });
    c.bench_function("validate_identifier", |b| {
        b.iter(|| {
            black_box("orch-shard-0123456789abcdef")
                .parse::<ShardId>()
                .unwrap()
        });
    });
    c.bench_function("capacity", |b| b.iter(|| manager.capacity(0).unwrap()));
    let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
    c.bench_function("lease_on_a_fresh_verification", |b| {
        b.iter(|| manager.lease(&shard, Mode::Full).unwrap().finish());
    });
}

fn seal_and_verify(c: &mut Criterion) {
    let manager = manager();
    let mut group = c.benchmark_group("shard");
    for len in [1 << 10, 1 << 20, 64 << 20] {
        let bytes = pattern(len);
        group.throughput(Throughput::Bytes(len as u64));
        if len > 1 << 20 {
            group.sample_size(10);
        }
        group.bench_with_input(BenchmarkId::new("seal", len), &bytes, |b, bytes| {
            // The shard is returned and so wiped outside the time.
            let seal = |()| manager.seal(SealRequest::bytes(bytes)).unwrap();
            b.iter_batched(|| (), seal, BatchSize::PerIteration);
        });
        let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
        for (name, mode) in [("verify_full", Mode::Full), ("verify_keyed", Mode::Keyed)] {
            group.bench_function(BenchmarkId::new(name, len), |b| {
                b.iter(|| {
                    manager
                        .verify_sealed(&shard, mode)
                        .unwrap()
                        .into_verification()
                });
            });
        }
        group.bench_function(BenchmarkId::new("unseal", len), |b| {
            b.iter(|| manager.unseal_to(&shard, &mut std::io::sink()).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, constant_parts, seal_and_verify);
criterion_main!(benches);
