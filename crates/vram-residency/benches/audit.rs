//! The audit log: events taken, critical events made durable, a log checked.
//!
//! `cargo bench -p vram-residency --bench audit`; what is durable depends on the disk.
#![allow(missing_docs, reason = "bench code")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};
use vram_residency::audit::check::{self, DirFiles};
use vram_residency::audit::log::{LogOptions, LogSink};
use vram_residency::audit::note::Origin;
use vram_residency::audit::{Body, Event, Sink, Text};
use vram_residency::clock::{SystemClock, Timestamp};
use vram_residency::key::{RootKey, SigningKey};
use vram_residency::sim::SimDevice;
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};

const BURST: u64 = 200_000;
/// Fewer than the queue holds.
const QUEUED: u64 = 900;
const CHECKED: u64 = 1_000_000;
/// Events from one start to the next, of a writer that is killed again and again.
const START: u64 = 9;

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

/// A log of as many events as are checked, in a directory.
fn logged(dir: &Path, event: impl Fn(u64) -> Event) {
    let log = open(dir);
    (0..CHECKED).for_each(|id| log.record(&event(id)).unwrap());
}

/// What a start says that adopted all that stands before it.
fn opened() -> Body {
    Body::AuditOpened {
        adopted_events: START - 1,
        refused_lines: 0,
        torn_bytes: 0,
        caveat: None,
    }
}

fn verify(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let (plain, starts) = (temp.path().join("plain"), temp.path().join("starts"));
    logged(&plain, verified);
    logged(&starts, |id| match id % START {
        0 if id > 0 => event(0, opened()),
        _ => verified(id),
    });
    let trusted = [key().public().clone()];
    let options = check::Options {
        trusted: &trusted,
        ..check::Options::default()
    };
    let mut group = c.benchmark_group("audit");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(CHECKED));
    let start = format!("verify a million, a start every {START} events");
    for (name, dir) in [("verify a million", plain), (start.as_str(), starts)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let report = check::verify(&DirFiles::new(&dir), &options).unwrap();
                assert!(report.is_good());
            });
        });
    }
    group.finish();
}

/// Bursts with and without a log for one figure; their middle is it.
const PAIRS: usize = 101;

/// A shard, and whether a verification counts for more than one lease.
fn sealed(reuse: bool, log: Option<LogSink>) -> (VramManager, SealedShard) {
    let policy = Policy {
        max_lease_age: reuse.then_some(Duration::from_secs(3600)),
        ..Policy::default()
    };
    let builder = VramManager::builder()
        .device(SimDevice::new(1 << 20))
        .key(RootKey::from_token(b"0123456789abcdef0123456789abcdef").unwrap())
        .policy(policy);
    let builder = match log {
        Some(log) => builder.sink(Arc::new(log)),
        None => builder,
    };
    let manager = builder.build().unwrap();
    let shard = manager.seal(SealRequest::bytes(&[7; 1024])).unwrap();
    (manager, shard)
}

/// Seconds by some clock.
type Seconds = fn() -> f64;

fn wall() -> f64 {
    seconds(ClockId::Monotonic)
}

/// Of this thread alone: what a lease pays on a machine that does other things.
fn processor() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Seconds for as many leases as the queue has room for, each with one event.
fn burst((manager, shard): &(VramManager, SealedShard), now: Seconds) -> f64 {
    let start = now();
    (0..QUEUED).for_each(|_| manager.lease(shard, Mode::TagOnly).unwrap().finish());
    let spent = now() - start;
    manager.flush_audit().unwrap();
    spent
}

/// What a log adds to a lease: the middle of the differences between bursts in
/// turn, so that neither a busy machine nor its drift decides.
fn lease(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("audit");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (name, reuse) in [("verified lease", false), ("reused verification", true)] {
        let without = sealed(reuse, None);
        let with = sealed(reuse, Some(open(&temp.path().join(name))));
        for (clock, now) in [("wall", wall as Seconds), ("processor", processor)] {
            group.bench_function(format!("added to a {name}, {clock} time"), |b| {
                b.iter_custom(|rounds| {
                    let pairs = (0..PAIRS).map(|_| burst(&with, now) - burst(&without, now));
                    let mut added: Vec<f64> = pairs.collect();
                    added.sort_by(f64::total_cmp);
                    let one = added[PAIRS / 2].max(0.0) / QUEUED as f64;
                    Duration::from_secs_f64(one * rounds as f64)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, write, lease, verify);
criterion_main!(benches);
