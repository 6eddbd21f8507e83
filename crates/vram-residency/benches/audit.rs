//! The audit log: events taken, critical events made durable, a log checked.
//!
//! `cargo bench -p vram-residency --bench audit`; what is durable depends on the disk.
#![allow(missing_docs, reason = "bench code")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vram_residency::audit::check::{self, DirFiles};
use vram_residency::audit::log::{LogOptions, LogSink};
use vram_residency::audit::note::Origin;
use vram_residency::audit::{Body, Event, Sink, Text};
use vram_residency::clock::{SystemClock, Timestamp};
use vram_residency::key::{RootKey, SigningKey};

const BURST: u64 = 200_000;
/// Fewer than the queue holds.
const QUEUED: u64 = 900;
const CHECKED: u64 = 1_000_000;

fn key() -> SigningKey {
    let root = RootKey::from_token(b"0123456789abcdef0123456789abcdef").unwrap();
    SigningKey::new(&root).unwrap()
}

fn open(dir: &Path) -> LogSink {
    let origin = Origin::new("bench").unwrap();
    let mut options = LogOptions::new(origin, "worker".parse().unwrap());
    options.full_wait = Duration::from_secs(60);
    LogSink::open(dir, options, key(), Arc::new(SystemClock::new())).unwrap()
}

fn event(id: u64, body: Body) -> Event {
    Event {
        audit_id: id,
        timestamp: Timestamp::from_nanos(1_700_000_000_000_000_000 + id),
        worker_id: "worker".parse().unwrap(),
        severity: body.severity(),
        correlation_id: None,
        body,
    }
}

fn verified(id: u64) -> Event {
    let body = Body::SealVerified {
        shard_id: "model-a".parse().unwrap(),
        gpu_device: 0,
        result: Text::new("pass"),
        mode: Text::new("full"),
        bytes_checked: 1 << 34,
        nanos: 5_000_000 + id,
    };
    event(id, body)
}

fn write(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let log = open(&temp.path().join("log"));
    let events: Vec<Event> = (0..BURST).map(verified).collect();
    let mut group = c.benchmark_group("audit");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(BURST));
    group.bench_function("record, sustained", |b| {
        b.iter(|| events.iter().for_each(|event| log.record(event).unwrap()));
    });
    // The caller's own cost, with room in the queue: flushed outside the time.
    group.throughput(Throughput::Elements(QUEUED));
    let queued: Vec<Event> = (0..QUEUED).map(verified).collect();
    group.bench_function("record, room in the queue", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                queued.iter().for_each(|event| log.record(event).unwrap());
                spent += start.elapsed();
                log.flush().unwrap();
            }
            spent
        });
    });
    let reason = Text::new("bench");
    let critical = event(1, Body::ManagerStopped { reason });
    group.throughput(Throughput::Elements(1));
    group.bench_function("record, critical and durable", |b| {
        b.iter(|| log.record(&critical).unwrap());
    });
    group.finish();
}

fn verify(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir);
    (0..CHECKED).for_each(|id| log.record(&verified(id)).unwrap());
    drop(log);
    let trusted = [key().public().clone()];
    let options = check::Options {
        trusted: &trusted,
        ..check::Options::default()
    };
    let mut group = c.benchmark_group("audit");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(CHECKED));
    group.bench_function("verify a million", |b| {
        b.iter(|| {
            assert!(
                check::verify(&DirFiles::new(&dir), &options)
                    .unwrap()
                    .is_good()
            )
        });
    });
    group.finish();
}

criterion_group!(benches, write, verify);
criterion_main!(benches);
