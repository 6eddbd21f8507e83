//! Many threads on one manager: nothing is counted twice, nothing is lost, and
//! nobody waits for somebody else's I/O.
//!
//! requirement: TP-9, MS-004

mod common;

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::{Rig, assert_within, rig, root_key, weights};
use vram_residency::capacity::Sharing;
use vram_residency::key::{KeyContext, SealKey};
use vram_residency::sim::{SimDevice, SimOptions};
use vram_residency::{Error, Mode, Policy, SealRequest, SealedShard};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Runs `work` in `count` threads that start together.
fn together<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(count);
    let (barrier, work) = (&barrier, &work);
    thread::scope(|scope| {
        let start = |i| {
            scope.spawn(move || {
                barrier.wait();
                work(i)
            })
        };
        let threads: Vec<_> = (0..count).map(start).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

fn seal(rig: &Rig, len: u64, seed: usize) -> vram_residency::Result<SealedShard> {
    let bytes = weights(len as usize, seed as u64);
    rig.manager.seal(SealRequest::bytes(&bytes))
}

// requirement: API-F12, CAP-7
#[test]
fn test_concurrent_seal_operations() {
    let rig = rig(16 * MIB);
    let shards = together(10, |i| seal(&rig, 64 * KIB + i as u64, i).unwrap());
    let ids: BTreeSet<_> = shards.iter().map(|s| s.id().to_string()).collect();
    assert_eq!(ids.len(), 10);
    let lengths: u64 = (0..10).map(|i| 64 * KIB + i).sum();
    assert_eq!(rig.manager.used_vram(), lengths);
    let sequences: BTreeSet<_> = shards.iter().map(|s| s.record().sequence).collect();
    assert_eq!(sequences, (1..=10).collect(), "no sequence number twice");
    for (i, shard) in shards.iter().enumerate() {
        let bytes = weights(64 * KIB as usize + i, i as u64);
        assert_eq!(shard.digest(), vram_digest::digest(&bytes));
        let _ = rig.manager.verify_sealed(shard, Mode::Full).unwrap();
    }
    drop(shards);
    rig.assert_empty();
}

// requirement: API-F19
#[test]
fn test_concurrent_seal_and_verify() {
    let rig = rig(64 * MIB);
    let shared = seal(&rig, 3 * MIB, 99).unwrap();
    let done = together(10, |i| {
        if i % 2 == 0 {
            let verified = rig.manager.verify_sealed(&shared, Mode::Full).unwrap();
            assert_eq!(verified.verification().bytes_checked, 3 * MIB);
            None
        } else {
            Some(seal(&rig, 256 * KIB, i).unwrap())
        }
    });
    assert_eq!(done.iter().flatten().count(), 5);
    assert_eq!(rig.count("seal.verified"), 5);
    assert_eq!(rig.manager.used_vram(), 3 * MIB + 5 * 256 * KIB);
}

// requirement: ER-1, CAP-3, CAP-6
#[test]
fn test_concurrent_seal_with_capacity_limit() {
    let rig = rig(10 * MIB);
    let answers = together(20, |i| seal(&rig, MIB, i));
    let (sealed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((sealed.len(), refused.len()), (10, 10));
    for error in refused.into_iter().map(Result::unwrap_err) {
        let Error::InsufficientVram(refusal) = error else {
            panic!("{error}");
        };
        assert_eq!((refusal.needed, refusal.total), (MIB, 10 * MIB));
        assert!(refusal.available < MIB);
    }
    for shard in sealed.iter().flatten() {
        assert!(rig.manager.verify_shard_integrity(shard).unwrap());
    }
    drop(sealed);
    rig.assert_empty();
}

// requirement: CAP-1, CAP-2, CAP-11, RP-005
#[test]
fn test_no_race_condition_in_allocation_tracking() {
    let rig = rig(4 * MIB);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                assert_within(&rig.manager, 6, 1024);
                thread::yield_now();
            }
        });
        together(6, |i| {
            for round in 0..25 {
                let shard = seal(&rig, 1000 + round, i).unwrap();
                if round % 2 == 0 {
                    rig.manager.deallocate(&shard).unwrap();
                }
            }
        });
        stop.store(true, Ordering::SeqCst);
        watcher.join().unwrap();
    });
    rig.assert_empty();
    assert_eq!(rig.count("vram.allocated"), 150);
    assert_eq!(rig.count("vram.deallocated"), 150);
}

// requirement: CAP-7, API-F32, EXP-VRAM-7002
#[test]
fn test_concurrent_capacity_queries() {
    let rig = rig(32 * MIB);
    let total = rig.manager.total_vram();
    together(20, |i| {
        if i < 4 {
            for round in 0..5 {
                drop(seal(&rig, 512 * KIB, round).unwrap());
            }
        }
        for _ in 0..200 {
            assert_within(&rig.manager, 4, 512 * KIB);
            assert!(rig.manager.available_vram() <= total);
            assert!(rig.manager.used_vram() <= 4 * 512 * KIB);
        }
    });
    rig.assert_empty();
}

#[test]
fn test_interleaved_seal_verify_operations() {
    let rig = rig(32 * MIB);
    let answers = together(20, |i| {
        let shard = seal(&rig, 10_000 + i as u64, i).unwrap();
        for _ in 0..3 {
            assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
        }
        let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
        assert!(rig.manager.deallocate(&shard).is_err(), "a lease is out");
        lease.finish();
        shard
    });
    assert_eq!(answers.len(), 20);
    assert_eq!(rig.count("seal.verified"), 20 * 4);
    assert_eq!(rig.count("seal.verification_failed"), 0);
}

// requirement: CI-001, WORKER-4120
#[test]
fn test_concurrent_signature_computation() {
    let key = root_key(3);
    let worker = "worker".parse().unwrap();
    let device = SimDevice::new(1);
    let context = KeyContext {
        salt: &[7; 32],
        worker: &worker,
        device: vram_residency::device::Device::info(&device).uuid,
    };
    let derived = key.derive(&context).unwrap();
    let tags = together(16, |_| derived.tag(b"the same statement").unwrap());
    assert!(tags.iter().all(|tag| tag.as_bytes() == tags[0].as_bytes()));
    let others = together(16, |i| derived.tag(&[i as u8]).unwrap());
    let distinct: BTreeSet<_> = others.iter().map(|tag| *tag.as_bytes()).collect();
    assert_eq!(distinct.len(), 16);
}

// requirement: SG-4, CI-003
#[test]
fn test_concurrent_signature_verification() {
    let rig = rig(MIB);
    let shard = seal(&rig, 5000, 1).unwrap();
    let key = root_key(1);
    let forged = {
        let mut record = shard.record().clone();
        record.sequence += 1;
        record
    };
    let answers = together(16, |i| {
        let record = if i % 2 == 0 { shard.record() } else { &forged };
        vram_residency::verify::check_record(record, &key).is_ok()
    });
    for (i, good) in answers.into_iter().enumerate() {
        assert_eq!(good, i % 2 == 0, "thread {i}");
    }
}

// requirement: CAP-9, GC-3, GC-6, API-F35
#[test]
fn test_concurrent_allocation_contention() {
    let rig = Rig::build(&[SimOptions::new(15 << 30)], Policy::default(), |b| b);
    // Held until every thread had its turn, so exactly 7 of 10 fit in 15 GiB.
    let answers = together(10, |_| rig.manager.reserve(0, 2 << 30));
    let held = answers.iter().flatten().count();
    assert_eq!(held, 7);
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(matches!(error, Error::InsufficientVram(_)), "{error}");
        assert!(error.is_retriable());
    }
    assert_eq!(rig.manager.used_vram(), 7 * (2 << 30));
    drop(answers);
    rig.assert_empty();
}

// requirement: CAP-8, API-F34
#[test]
fn test_vram_headroom_enforced() {
    let size = 64_u64 << 30;
    let headroom = Sharing::Shared.headroom(size);
    assert_eq!(headroom, size / 10, "10 % is more than 2 GiB here");
    let device = std::sync::Arc::new(SimDevice::with_options(SimOptions::new(size).ordinal(7)));
    let rig = Rig::build(&[], Policy::default(), |b| {
        b.device_with(device, None, Sharing::Shared)
    });
    let free = rig.manager.effective_available_vram();
    assert_eq!(free, size - headroom);
    let held = together(10, |_| rig.manager.reserve(7, 8 << 30));
    assert_eq!(held.iter().flatten().count(), 7, "7 x 8 GiB below 57.6 GiB");
    let left = rig.manager.capacity(7).unwrap();
    assert!(left.free >= headroom, "{left:?}");
    assert!(!rig.manager.can_admit(7, left.available + 1).unwrap());
    assert!(rig.manager.can_admit(7, left.available).unwrap());
}

/// Gives its bytes only after a signal.
struct Gate(Receiver<()>, u64);

impl Read for Gate {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.1 == 0 {
            return Ok(0);
        }
        self.0.recv().unwrap();
        let n = out.len().min(self.1 as usize);
        out[..n].fill(7);
        self.1 -= n as u64;
        Ok(n)
    }
}

// requirement: EXP-VRAM-7002, API-F32
#[test]
fn a_stalled_load_blocks_nobody_else() {
    let rig = rig(8 * MIB);
    let other = seal(&rig, 2 * MIB, 1).unwrap();
    let (go, gate) = channel();
    thread::scope(|scope| {
        let request = SealRequest::reader(Gate(gate, 4096), 4096).id("stalled");
        let stalled = scope.spawn(|| rig.manager.seal(request));
        while rig.manager.used_vram() < 2 * MIB + 4096 {
            thread::yield_now();
        }
        assert!(rig.manager.verify_shard_integrity(&other).unwrap());
        rig.manager.lease(&other, Mode::Full).unwrap().finish();
        drop(seal(&rig, MIB, 2).unwrap());
        assert!(rig.manager.get_shard(&"stalled".parse().unwrap()).is_none());
        go.send(()).unwrap();
        let shard = stalled.join().unwrap().unwrap();
        assert_eq!(shard.digest(), vram_digest::digest(&[7; 4096]));
    });
}

// requirement: MS-005, API-F26
#[test]
fn freeing_one_shard_from_many_threads_frees_it_once() {
    let rig = rig(MIB);
    let shard = seal(&rig, 100_000, 5).unwrap();
    let freed = together(12, |_| rig.manager.deallocate(&shard).is_ok());
    assert_eq!(freed.iter().filter(|ok| **ok).count(), 1);
    assert_eq!(rig.count("vram.deallocated"), 1);
    rig.assert_empty();
}
