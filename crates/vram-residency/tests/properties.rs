//! What must hold for all inputs: the property lists of the sources. Their two
//! timing properties are benches here (nothing asserts a duration).
//!
//! requirement: TP-4

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::{Rig, Seeded, cases, rig, rig_of, root_key, weights};
use proptest::prelude::*;
use vram_digest::{BLOCK_BYTES, FileDigest};
use vram_residency::compat::s4::SealModel as _;
use vram_residency::key::{KeyContext, SealKey, SealTag};
use vram_residency::seal::Record;
use vram_residency::shard::ShardId;
use vram_residency::verify::check_record;
use vram_residency::{Error, Mode, Policy, SealRequest, SealedShard};

const MIB: u64 = 1 << 20;

fn seal(rig: &Rig, bytes: &[u8]) -> SealedShard {
    rig.manager.seal(SealRequest::bytes(bytes)).unwrap()
}

fn tag_of(record: &Record, seed: u64) -> SealTag {
    let context = KeyContext {
        salt: &record.key_salt,
        worker: &record.worker_id,
        device: record.device_uuid,
    };
    let key = root_key(seed).derive(&context).unwrap();
    key.tag(&record.statement()).unwrap()
}

fn bytes_up_to(len: usize) -> impl Strategy<Value = Vec<u8>> {
    (1..=len, any::<u64>()).prop_map(|(len, seed)| weights(len, seed))
}

/// Without the variable the number is the test's; then the test runs once more with it.
// requirement: EV-8
#[test]
fn the_environment_says_how_many_cases() {
    const VARIABLE: &str = "PROPTEST_CASES";
    let cases = cases(7).cases;
    if let Ok(asked) = std::env::var(VARIABLE) {
        assert_eq!(cases.to_string(), asked);
        return;
    }
    assert_eq!(cases, 7);
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_environment_says_how_many_cases"])
        .env(VARIABLE, "3")
        .output()
        .unwrap();
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(
        again.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

// requirement: API-F19, API-F20
#[test]
fn prop_seal_verify_roundtrip() {
    let rig = rig(MIB);
    proptest!(cases(1000), |(bytes in bytes_up_to(10_000))| {
        let shard = seal(&rig, &bytes);
        prop_assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
        prop_assert!(shard.is_sealed() && !shard.is_quarantined());
    });
    rig.assert_empty();
}

// requirement: API-F24
#[test]
fn seal_unseal_roundtrip() {
    let rig = rig(MIB);
    proptest!(cases(1000), |(bytes in bytes_up_to(10_000))| {
        let shard = seal(&rig, &bytes);
        prop_assert_eq!(rig.manager.unseal_model(&shard).unwrap(), bytes);
    });
    let nothing = rig.manager.seal(SealRequest::bytes(&[]));
    assert!(
        matches!(nothing, Err(Error::Input(_))),
        "0 bytes are refused"
    );
    rig.assert_empty();
}

// requirement: DG-1, CI-004
#[test]
fn prop_different_data_different_digests() {
    proptest!(cases(1000), |(a in bytes_up_to(9000), b in bytes_up_to(9000))| {
        prop_assert_eq!(a == b, vram_digest::digest(&a) == vram_digest::digest(&b));
    });
}

// requirement: DG-1
#[test]
fn prop_digest_format() {
    let rig = rig(MIB);
    proptest!(cases(1000), |(bytes in bytes_up_to(9000))| {
        let digest = seal(&rig, &bytes).digest();
        let text = digest.to_string();
        prop_assert_eq!(text.len(), 64);
        prop_assert!(text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
        prop_assert_eq!(text.parse::<FileDigest>().unwrap(), digest);
    });
}

// requirement: DG-1, DG-5
#[test]
fn prop_digest_deterministic() {
    let rig = rig(64 * MIB);
    let mut keep = Vec::new();
    proptest!(cases(1000), |(bytes in bytes_up_to(9000))| {
        let (one, two) = (seal(&rig, &bytes), seal(&rig, &bytes));
        prop_assert_eq!(one.digest(), two.digest());
        prop_assert_eq!(one.digest(), vram_digest::digest(&bytes));
    });
    // The order of allocations does not matter either.
    let bytes = weights(5000, 1);
    for _ in 0..5 {
        keep.push(seal(&rig, &bytes));
    }
    assert!(
        keep.iter()
            .all(|shard| shard.digest() == vram_digest::digest(&bytes))
    );
}

/// The record of a sealed shard with another sequence number and length, and
/// without the tag for them.
fn changed() -> impl Fn(u64, u64) -> Record {
    let record = seal(&rig(MIB), b"weights").record().clone();
    move |sequence, vram_bytes| Record {
        sequence,
        vram_bytes,
        ..record.clone()
    }
}

// requirement: KD-1, CI-001
#[test]
fn prop_signature_deterministic() {
    let changed = changed();
    proptest!(cases(1000), |(key in any::<u64>(), a in any::<u64>(), b in any::<u64>())| {
        let (one, two) = (tag_of(&changed(a, b), key), tag_of(&changed(a, b), key));
        prop_assert_eq!(one.as_bytes(), two.as_bytes());
    });
}

// requirement: CI-001, CI-005
#[test]
fn prop_different_keys_different_signatures() {
    let changed = changed();
    proptest!(cases(1000), |(a in any::<u64>(), b in any::<u64>(), sequence in any::<u64>())| {
        let record = changed(sequence, 1);
        let (one, two) = (tag_of(&record, a), tag_of(&record, b));
        prop_assert_eq!(a == b, one.as_bytes() == two.as_bytes());
    });
}

// requirement: CI-001, TY-11
#[test]
fn prop_signature_length() {
    let changed = changed();
    proptest!(cases(1000), |(key in any::<u64>(), a in any::<u64>(), b in any::<u64>())| {
        let tag = tag_of(&changed(a, b), key);
        prop_assert_eq!(tag.as_bytes().len(), 32);
        prop_assert_eq!(String::from(tag).len(), 64, "in hex");
    });
}

// requirement: SG-4, CI-002
#[test]
fn prop_valid_signature_verifies() {
    let changed = changed();
    proptest!(cases(1000), |(a in any::<u64>(), b in any::<u64>())| {
        let record = changed(a, b);
        let record = Record { tag: tag_of(&record, 1), ..record };
        prop_assert!(check_record(&record, &root_key(1)).is_ok());
    });
}

// requirement: CI-001, KD-1, WORKER-4120, API-F38
#[test]
fn hmac_verification() {
    let rig = rig(MIB);
    proptest!(cases(1000), |(bytes in bytes_up_to(5000), bit in 0..256_usize)| {
        let shard = seal(&rig, &bytes);
        let record = shard.record();
        prop_assert!(check_record(record, &root_key(1)).is_ok());
        let mut digest = *record.digest.as_bytes();
        digest[bit / 8] ^= 1 << (bit % 8);
        let forged = Record { digest: FileDigest::from_bytes(digest), ..record.clone() };
        prop_assert!(check_record(&forged, &root_key(1)).is_err());
        prop_assert!(check_record(record, &root_key(2)).is_err());
    });
}

// requirement: SG-4, CI-002
#[test]
fn prop_invalid_signature_fails() {
    let rig = rig(MIB);
    let shard = seal(&rig, b"weights");
    check_record(shard.record(), &root_key(1)).unwrap();
    proptest!(cases(1000), |(tag in any::<[u8; 32]>())| {
        let record = Record { tag: SealTag::from_bytes(tag), ..shard.record().clone() };
        let refused = check_record(&record, &root_key(1)).is_err();
        prop_assert_eq!(refused, &tag != shard.record().tag.as_bytes());
    });
}

// requirement: CI-003, DG-3, SG-7
#[test]
fn comparisons_see_a_difference_at_every_position() {
    proptest!(cases(1000), |(a in any::<[u8; 32]>(), at in 0..32_usize, by in 1..=255_u8)| {
        let mut b = a;
        b[at] ^= by;
        prop_assert!(SealTag::from_bytes(a) == SealTag::from_bytes(a));
        prop_assert!(SealTag::from_bytes(a) != SealTag::from_bytes(b));
        prop_assert!(!FileDigest::from_bytes(a).ct_eq(&FileDigest::from_bytes(b)));
    });
}

// requirement: IV-003, TY-1
#[test]
fn prop_unique_shard_ids() {
    proptest!(cases(1000), |(seed in any::<u64>())| {
        let random = Seeded::new(seed);
        let ids = (0..20).map(|_| ShardId::generate(&random).unwrap());
        prop_assert_eq!(ids.collect::<BTreeSet<_>>().len(), 20);
    });
}

// requirement: IV-003, API-F16
#[test]
fn shard_ids_unique() {
    let rig = rig(MIB);
    let mut ids = BTreeSet::new();
    let mut held = Vec::new();
    for i in 0..1000_u32 {
        let shard = seal(&rig, &i.to_le_bytes());
        assert!(ids.insert(shard.id().clone()), "{} came twice", shard.id());
        held.push(shard);
    }
    assert_eq!(rig.manager.shards().len(), 1000);
    drop(held);
    rig.assert_empty();
}

// requirement: IV-003, VA-1
#[test]
fn shard_id_format() {
    let id = seal(&rig(MIB), b"weights").id().clone();
    assert!(id.as_str().starts_with("orch-shard-"), "{id}");
    assert_eq!(id.as_str().len(), 11 + 32);
    assert_eq!(id.as_str().parse::<ShardId>().unwrap(), id);
    proptest!(cases(1000), |(text in "\\PC{0,300}")| {
        let alphabet = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let good = (1..=256).contains(&text.len()) && text.chars().all(alphabet);
        prop_assert_eq!(text.parse::<ShardId>().is_ok(), good, "{:?}", text);
    });
}

// requirement: WORKER-4110
#[test]
fn prop_seal_preserves_size() {
    let rig = rig(MIB);
    proptest!(cases(1000), |(len in 1..20_000_usize)| {
        let shard = seal(&rig, &vec![1; len]);
        prop_assert_eq!(shard.record().vram_bytes, len as u64);
        prop_assert_eq!(rig.manager.used_vram(), len as u64);
    });
}

// requirement: CI-002, SG-3
#[test]
fn prop_tampered_shard_id_fails() {
    let rig = rig(MIB);
    let shard = rig
        .manager
        .seal(SealRequest::bytes(b"weights").id("original"))
        .unwrap();
    proptest!(cases(1000), |(id in "[A-Za-z0-9_-]{1,256}")| {
        let shard_id: ShardId = id.parse().unwrap();
        let forged = shard_id != shard.record().shard_id;
        let record = Record { shard_id, ..shard.record().clone() };
        prop_assert_eq!(check_record(&record, &root_key(1)).is_err(), forged);
    });
}

// requirement: DG-1
#[test]
fn prop_digest_avalanche_effect() {
    proptest!(cases(1000), |(bytes in bytes_up_to(9000), at in any::<prop::sample::Index>(), bit in 0..8_u8)| {
        let mut other = bytes.clone();
        let at = at.index(bytes.len());
        other[at] ^= 1 << bit;
        let (a, b) = (vram_digest::digest(&bytes), vram_digest::digest(&other));
        let differ = a.as_bytes().iter().zip(b.as_bytes());
        let bits: u32 = differ.map(|(a, b)| (a ^ b).count_ones()).sum();
        prop_assert!((70..=186).contains(&bits), "{} of 256 bits changed", bits);
    });
}

// requirement: API-F24, API-F28
#[test]
fn seal_unseal_all_sizes() {
    let rig = rig(32 * MIB);
    let refused = rig.manager.seal(SealRequest::bytes(&[])).unwrap_err();
    assert!(
        matches!(refused, Error::Input(_)),
        "0 bytes cannot be sealed: {refused}"
    );
    let around = |n: u64| [n - 1, n, n + 1];
    let borders = [
        BLOCK_BYTES as u64,
        128 * BLOCK_BYTES as u64,
        MIB,
        2 * MIB,
        10 * MIB,
    ];
    let mut sizes: Vec<u64> = borders.into_iter().flat_map(around).collect();
    sizes.push(1);
    for len in sizes {
        let bytes = weights(len as usize, len);
        let shard = seal(&rig, &bytes);
        assert_eq!(shard.digest(), vram_digest::digest(&bytes), "{len} bytes");
        assert!(
            rig.manager.unseal_model(&shard).unwrap() == bytes,
            "{len} bytes"
        );
    }
    proptest!(cases(100), |(bytes in bytes_up_to(1_000_000))| {
        let shard = seal(&rig, &bytes);
        prop_assert!(rig.manager.unseal_model(&shard).unwrap() == bytes);
    });
    rig.assert_empty();
}

// requirement: API-F11, API-F13, WORKER-4000
#[test]
fn seal_deterministic() {
    // Equal devices, keys, clocks and randomness give equal records.
    proptest!(cases(50), |(bytes in bytes_up_to(20_000), label in "[a-z]{1,20}")| {
        let make = || {
            let rig = rig(MIB);
            let shard = rig.manager.seal_model(&label, 0, &bytes).unwrap();
            (shard.record().to_json().unwrap(), rig.manager.unseal_model(&shard).unwrap())
        };
        prop_assert_eq!(make(), make());
    });
}

// requirement: RP-001, CAP-3
#[test]
fn allocation_bounds_enforced() {
    const ROOM: u64 = 20_000;
    let rig = rig(ROOM);
    proptest!(cases(1000), |(taken in 0..ROOM, len in 1..2 * ROOM)| {
        let held = (taken > 0).then(|| rig.manager.reserve(0, taken).unwrap());
        match rig.manager.seal(SealRequest::bytes(&vec![1; len as usize])) {
            Ok(shard) => prop_assert!(taken + len <= ROOM, "{:?}", shard),
            Err(Error::InsufficientVram(error)) => {
                prop_assert!(taken + len > ROOM);
                prop_assert_eq!((error.needed, error.available), (len, ROOM - taken));
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
        drop(held);
    });
    rig.assert_empty();
}

// requirement: VA-8, MS-006, MS-007
#[test]
fn offset_bounds_checked() {
    let rig = rig(MIB);
    let bytes = weights(10_000, 3);
    let shard = seal(&rig, &bytes);
    let wide = || prop_oneof![0..12_000_u64, any::<u64>(), Just(u64::MAX)];
    proptest!(cases(1000), |(offset in wide(), len in wide())| {
        let inside = offset.checked_add(len).is_some_and(|end| end <= 10_000);
        match rig.manager.read_shard_at_offset(&shard, offset, len) {
            Ok(out) => {
                prop_assert!(inside);
                prop_assert_eq!(&out[..], &bytes[offset as usize..(offset + len) as usize]);
            }
            Err(error) => prop_assert!(!inside && matches!(error, Error::Input(_)), "{}", error),
        }
    });
}

// requirement: API-F24
#[test]
fn concurrent_unseal_safe() {
    proptest!(cases(10), |(threads in 2..=8_usize, shards in 10..=100_u64)| {
        let rig = rig(64 * MIB);
        let sealed: Vec<_> = (0..shards).map(|i| seal(&rig, &weights(500 + i as usize, i))).collect();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (rig, sealed) = (&rig, &sealed);
                scope.spawn(move || {
                    for (i, shard) in (0..).zip(sealed).skip(thread) {
                        let out = rig.manager.unseal_model(shard).unwrap();
                        assert_eq!(out, weights(500 + i as usize, i));
                    }
                });
            }
        });
        drop(sealed);
        rig.assert_empty();
    });
}

// requirement: API-F12, CAP-7
#[test]
fn concurrent_sealing_safe() {
    proptest!(cases(10), |(threads in 2..=10_u64, operations in 10..=100_u64)| {
        let rig = rig(64 * MIB);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let rig = &rig;
                scope.spawn(move || {
                    for operation in 0..operations {
                        let bytes = weights(1000 + operation as usize, thread * 100 + operation);
                        let shard = seal(rig, &bytes);
                        assert_eq!(shard.digest(), vram_digest::digest(&bytes));
                    }
                });
            }
        });
        assert_eq!(rig.count("vram.sealed") as u64, threads * operations);
        rig.assert_empty();
    });
}

// requirement: API-F19, CO-9
#[test]
fn seal_verification_deterministic() {
    proptest!(cases(300), |(bytes in bytes_up_to(20_000), at in any::<prop::sample::Index>(), damaged in any::<bool>())| {
        let answer = || {
            let rig = rig(MIB);
            let shard = seal(&rig, &bytes);
            if damaged {
                rig.flip_newest(&shard, at.index(bytes.len()) as u64, 3);
            }
            let words = |error: Error| error.to_string();
            let verified = rig.manager.verify_sealed(&shard, Mode::Full).map_err(words);
            verified.map(|verified| verified.into_verification())
        };
        let first = answer();
        prop_assert_eq!(first.is_err(), damaged);
        prop_assert_eq!(first, answer());
    });
}

// requirement: DG-2, CI-007
#[test]
fn seal_verification_rejects_modified_data() {
    proptest!(cases(300), |(bytes in bytes_up_to(20_000), at in any::<prop::sample::Index>(), flips in 1..20_u64)| {
        let rig = rig(MIB);
        let shard = seal(&rig, &bytes);
        let start = at.index(bytes.len()) as u64;
        let end = (start + flips).min(bytes.len() as u64);
        for offset in start..end {
            rig.flip_newest(&shard, offset, (offset % 8) as u8);
        }
        prop_assert!(!rig.manager.verify_shard_integrity(&shard).unwrap());
        prop_assert!(shard.is_quarantined());
        prop_assert!(rig.manager.lease(&shard, Mode::Full).is_err());
    });
}

// requirement: DG-2, DG-7
#[test]
fn tampering_detected() {
    proptest!(cases(300), |(bytes in bytes_up_to(50_000), at in any::<prop::sample::Index>(), bit in 0..8_u8)| {
        let rig = rig(MIB);
        let shard = seal(&rig, &bytes);
        prop_assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
        let at = at.index(bytes.len()) as u64;
        rig.flip_newest(&shard, at, bit);
        let _ = rig.manager.verify_sealed(&shard, Mode::TagOnly).unwrap();
        let error = rig.manager.verify_sealed(&shard, Mode::Full).err().unwrap();
        let Error::Verify(vram_residency::error::VerifyError::Contents { damage, .. }) = error else {
            panic!("{error}");
        };
        prop_assert_eq!(damage.runs, [(at / BLOCK_BYTES as u64, 1)]);
        prop_assert!(rig.manager.unseal_model(&shard).is_err());
    });
}

// requirement: API-F30, PM-4
#[test]
fn shard_migration() {
    proptest!(cases(100), |(bytes in bytes_up_to(50_000), gpus in 2..=8_u32, to in any::<prop::sample::Index>())| {
        let rig = rig_of(gpus, MIB, Policy::default());
        let shard = seal(&rig, &bytes);
        let to = to.index(gpus as usize) as u32;
        let moved = rig.manager.migrate_shard(&shard, to).unwrap();
        prop_assert_eq!(moved.record().gpu_device, to);
        prop_assert!(!shard.is_sealed() && moved.id() == shard.id());
        prop_assert_eq!(rig.manager.unseal_model(&moved).unwrap(), bytes);
        prop_assert_eq!(rig.manager.used_vram(), moved.record().vram_bytes);
    });
}

// requirement: IV-002, VA-2, API-F39
#[test]
fn invalid_gpu_rejected() {
    proptest!(cases(200), |(gpus in 1..=8_u32, index in 8..=256_u32)| {
        let rig = rig_of(gpus, MIB, Policy::default());
        let error = rig.manager.seal_model("model", index, b"weights").unwrap_err();
        prop_assert!(matches!(error, Error::Input(_)), "{}", error);
        prop_assert!(error.to_string().contains(&index.to_string()));
        prop_assert!(rig.manager.capacity(index).is_err());
        prop_assert!(rig.sink.events().is_empty());
    });
}

// requirement: TP-9
#[test]
fn verification_never_panics() {
    // And answers the same when it is asked again.
    let rig = rig(MIB);
    let shard = seal(&rig, b"weights");
    let json = shard.record().to_json().unwrap();
    proptest!(cases(1000), |(at in any::<prop::sample::Index>(), with in any::<char>())| {
        let at = at.index(json.len());
        let (head, tail) = json.split_at(at);
        let text: String = head.chars().chain([with]).chain(tail.chars().skip(1)).collect();
        if let Ok(record) = Record::from_json(&text) {
            let answer = || rig.manager.verify_record(&record, Mode::Full).map(|_| ()).map_err(|e| e.to_string());
            let first = answer();
            prop_assert_eq!(first.is_ok(), &record == shard.record());
            prop_assert_eq!(first, answer());
        }
    });
    assert!(!shard.is_quarantined(), "forged records harm no shard");
}
