//! The sources' stress suite: many, big, small and repeated. Speed is measured
//! by benches; here everything must stay correct and nothing may leak.

mod common;

use common::{Rig, rig, root_key, weights};
use vram_residency::audit::Severity;
use vram_residency::format::ReadAt;
use vram_residency::load::Source;
use vram_residency::sim::{SimDevice, SimOptions};
use vram_residency::verify::check_record;
use vram_residency::{Error, Mode, Policy, SealRequest, SealedShard};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn seal(rig: &Rig, bytes: &[u8]) -> vram_residency::Result<SealedShard> {
    rig.manager.seal(SealRequest::bytes(bytes))
}

/// Any number of equal bytes, without holding them.
struct Constant(u64, u8);

impl ReadAt for Constant {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_exact_at(&self, _offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        out.fill(self.1);
        Ok(())
    }
}

impl Source for Constant {
    fn name(&self) -> String {
        "constant".to_owned()
    }
}

// requirement: CAP-6, CAP-5
#[test]
fn seal_until_vram_exhausted() {
    let rig = rig(10 * MIB as u64);
    let mut shards = Vec::new();
    let last = loop {
        match seal(&rig, &weights(700 * KIB, shards.len() as u64)) {
            Ok(shard) => shards.push(shard),
            Err(error) => break error,
        }
    };
    assert!(matches!(last, Error::InsufficientVram(_)), "{last}");
    assert_eq!(shards.len(), 10 * MIB / (700 * KIB));
    for (i, shard) in shards.iter().enumerate() {
        assert!(rig.manager.verify_shard_integrity(shard).unwrap());
        assert!(rig.manager.unseal_model(shard).unwrap() == weights(700 * KIB, i as u64));
    }
    shards.pop();
    drop(seal(&rig, &weights(700 * KIB, 99)).unwrap());
}

// requirement: CAP-2, API-F26
#[test]
fn rapid_seal_cycles() {
    let rig = rig(MIB as u64);
    for round in 0..100 {
        let bytes = weights(50_000 - round, round as u64);
        let shard = seal(&rig, &bytes).unwrap();
        assert_eq!(shard.digest(), vram_digest::digest(&bytes));
        rig.manager.deallocate(&shard).unwrap();
        assert!(!shard.is_sealed());
    }
    assert_eq!(rig.count("vram.sealed"), 100);
    rig.assert_empty();
}

// requirement: API-F24, API-F25, CAP-2
#[test]
fn seal_unseal_cycles() {
    let rig = rig(MIB as u64);
    for round in 0..100 {
        let bytes = weights(50_000 + round, round as u64);
        let shard = seal(&rig, &bytes).unwrap();
        assert!(rig.manager.unseal_model(&shard).unwrap() == bytes);
        rig.manager.unseal_and_free(&shard).unwrap();
        rig.assert_empty();
    }
    assert_eq!(rig.count("shard.exported"), 100);
}

// requirement: CAP-2, CAP-12, API-F25
#[test]
fn memory_leak_detection() {
    let rig = rig(MIB as u64);
    for round in 0..100 {
        // Most of the device each time: a leak of one byte in any cycle shows.
        let shard = seal(&rig, &weights(MIB - round, round as u64)).unwrap();
        match round % 3 {
            0 => rig.manager.unseal_and_free(&shard).unwrap(),
            1 => rig.manager.deallocate(&shard).unwrap(),
            _ => drop(shard),
        }
        rig.assert_empty();
        assert_eq!(rig.device().host_bytes(), 0);
    }
    assert_eq!(rig.count("vram.deallocated"), 100);
}

#[test]
fn large_model_seal() {
    let rig = rig(16 * MIB as u64);
    let bytes = weights(10 * MIB, 1);
    let shard = seal(&rig, &bytes).unwrap();
    assert_eq!(shard.digest(), vram_digest::digest(&bytes));
    assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
}

// requirement: PF-2
#[test]
fn a_model_larger_than_memory_is_sealed_on_a_device_that_discards() {
    let len = (256 * MIB + 5) as u64;
    let options = SimOptions::new(1 << 40).discard_contents();
    let rig = Rig::build(&[options], Policy::default(), |b| b);
    let shard = rig
        .manager
        .seal(SealRequest::source(Constant(len, 9)))
        .unwrap();
    assert_eq!(rig.device().host_bytes(), 0);
    let mut hasher = vram_digest::Hasher::new();
    let piece = vec![9; MIB];
    let mut left = len as usize;
    while left > 0 {
        hasher.update(&piece[..left.min(MIB)]);
        left -= left.min(MIB);
    }
    assert_eq!(shard.digest(), hasher.finalize().digest());
    // It says that it cannot verify, and condemns nothing.
    let error = rig.manager.verify_sealed(&shard, Mode::Full).err().unwrap();
    assert!(matches!(error, Error::Device(_)), "{error}");
    assert!(!shard.is_quarantined());
}

// requirement: CAP-4, CAP-12
#[test]
fn many_small_allocations() {
    let rig = rig(MIB as u64);
    let bytes: Vec<_> = (0..1000).map(|i| weights(KIB, i)).collect();
    let shards: Vec<_> = bytes
        .iter()
        .map(|bytes| seal(&rig, bytes).unwrap())
        .collect();
    assert_eq!(rig.manager.used_vram() as usize, 1000 * KIB);
    assert_eq!(rig.manager.shards().len(), 1000);
    for (shard, bytes) in shards.iter().zip(&bytes) {
        assert_eq!(shard.digest(), vram_digest::digest(bytes));
    }
    drop(shards);
    rig.assert_empty();
}

// requirement: WORKER-4121
#[test]
fn repeated_verification() {
    let rig = rig(MIB as u64);
    let shard = seal(&rig, &weights(64 * KIB, 1)).unwrap();
    for _ in 0..1000 {
        let verified = rig.manager.verify_sealed(&shard, Mode::Full).unwrap();
        assert_eq!(verified.verification().bytes_checked, 64 * KIB as u64);
    }
    assert_eq!(rig.manager.metrics().verify_operations_total, 1000);
}

// requirement: WORKER-4121, API-F19
#[test]
fn alternating_seal_verify() {
    let rig = rig(MIB as u64);
    let shard = seal(&rig, &weights(64 * KIB, 1)).unwrap();
    for i in 0..100 {
        let other = seal(&rig, &weights(5000, i)).unwrap();
        assert!(rig.manager.verify_shard_integrity(&other).unwrap());
        assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
    }
    assert_eq!(rig.manager.metrics().verify_operations_total, 200);
}

// requirement: CAP-1, API-F32
#[test]
fn capacity_queries_under_load() {
    let rig = rig(64 * MIB as u64);
    let mut shards = Vec::new();
    let mut sum = 0;
    for i in 0..50_u64 {
        let len = 10_000 + i * 1000;
        shards.push(seal(&rig, &weights(len as usize, i)).unwrap());
        sum += len;
        rig.assert_balanced();
        assert_eq!(rig.manager.used_vram(), sum);
        assert_eq!(rig.manager.available_vram(), 64 * MIB as u64 - sum);
        let driver = rig.manager.driver_memory(0).unwrap();
        assert_eq!(driver.total - driver.free, sum);
    }
}

/// The sizes of the sources' list.
const SIZES: [usize; 5] = [1, KIB, 10 * KIB, 100 * KIB, MIB];

// requirement: DG-1
#[test]
fn seal_with_varying_sizes() {
    let rig = rig(8 * MIB as u64);
    for len in SIZES {
        let bytes = weights(len, len as u64);
        let shard = seal(&rig, &bytes).unwrap();
        assert_eq!(shard.record().vram_bytes, len as u64);
        assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
        assert!(rig.manager.unseal_model(&shard).unwrap() == bytes);
    }
}

// requirement: IV-001, VA-3
#[test]
fn seal_one_byte() {
    let rig = rig(MIB as u64);
    let digests: std::collections::BTreeSet<_> = (0..=255_u8)
        .map(|byte| {
            let shard = seal(&rig, &[byte]).unwrap();
            assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
            assert_eq!(rig.manager.unseal_model(&shard).unwrap(), [byte]);
            shard.digest().to_string()
        })
        .collect();
    assert_eq!(digests.len(), 256);
    rig.assert_empty();
}

// requirement: DG-1
#[test]
fn seal_all_ones() {
    let rig = rig(8 * MIB as u64);
    for len in SIZES {
        let (zeros, ones) = (vec![0; len], vec![0xFF; len]);
        let (a, b) = (seal(&rig, &zeros).unwrap(), seal(&rig, &ones).unwrap());
        assert_ne!(a.digest(), b.digest(), "{len} bytes");
        assert!(rig.manager.unseal_model(&b).unwrap() == ones);
    }
}

// requirement: DG-1
#[test]
fn seal_all_zeros() {
    let rig = rig(8 * MIB as u64);
    for len in SIZES {
        let zeros = vec![0; len];
        let shard = seal(&rig, &zeros).unwrap();
        assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
        assert!(rig.manager.unseal_model(&shard).unwrap() == zeros);
        // Fresh memory that was never written is poisoned, not zero.
        rig.flip_newest(&shard, len as u64 - 1, 7);
        let other = rig.manager.unseal_model(&shard);
        assert!(other.is_err(), "{len} bytes");
    }
    // Zeros of another length are another model: the length is in the digest.
    let digest = |len| seal(&rig, &vec![0; len]).unwrap().digest();
    assert_ne!(digest(4095), digest(4096));
}

// requirement: CI-001, KD-1
#[test]
fn signature_computation_stress() {
    let rig = rig(MIB as u64);
    let record = seal(&rig, b"weights").unwrap().record().clone();
    let context = vram_residency::key::KeyContext {
        salt: &record.key_salt,
        worker: &record.worker_id,
        device: record.device_uuid,
    };
    let key = root_key(1).derive(&context).unwrap();
    let mut tags = std::collections::BTreeSet::new();
    for sequence in 1..=1000 {
        let record = vram_residency::Record {
            sequence,
            ..record.clone()
        };
        let tag = vram_residency::key::SealKey::tag(&key, &record.statement()).unwrap();
        assert!(tags.insert(*tag.as_bytes()), "{sequence}");
    }
    assert!(
        tags.contains(record.tag.as_bytes()),
        "the first is the seal's"
    );
}

// requirement: SG-7, CI-001
#[test]
fn verification_stress() {
    let rig = rig(MIB as u64);
    let shard = seal(&rig, b"weights").unwrap();
    let key = root_key(1);
    for i in 0..1000_u64 {
        let mut record = shard.record().clone();
        check_record(&record, &key).unwrap();
        record.vram_bytes = record.vram_bytes.wrapping_add(i + 1);
        assert!(check_record(&record, &key).is_err(), "{i}");
    }
}

// requirement: DG-5
#[test]
fn digest_computation_stress() {
    let bytes = weights(300_000, 3);
    let expected = vram_digest::digest(&bytes);
    for piece in (1..300_000).step_by(3001) {
        let mut hasher = vram_digest::Hasher::new();
        bytes.chunks(piece).for_each(|chunk| hasher.update(chunk));
        assert_eq!(hasher.finalize().digest(), expected, "pieces of {piece}");
    }
}

// requirement: MS-005, API-F27, AU-6
#[test]
fn drop_never_panics() {
    let rig = rig(MIB as u64);
    let device: SimDevice = rig.device().clone();
    let (shard, other) = (
        seal(&rig, b"weights").unwrap(),
        seal(&rig, b"others").unwrap(),
    );
    let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
    let sink = rig.sink.clone();
    // Manager, then shards, then the lease that keeps the memory.
    drop(rig);
    drop(other);
    drop(shard);
    assert_eq!(device.buffers().len(), 1, "the lease keeps its memory");
    assert_eq!(lease.bytes(), 7);
    drop(lease);
    assert!(device.buffers().is_empty());
    let freed = sink
        .types()
        .iter()
        .filter(|t| *t == "vram.deallocated")
        .count();
    assert_eq!(freed, 2);
    assert!(
        sink.events()
            .iter()
            .all(|event| event.severity < Severity::Critical)
    );
    assert!(
        sink.flushes() > 0,
        "the log is flushed when the last owner ends"
    );
}
