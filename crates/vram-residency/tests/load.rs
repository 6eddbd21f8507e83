//! Loading: cancellation and deadlines, progress and order, expectations, and
//! copies that go wrong. Nothing may stay on the device.

mod common;

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::source::{Hooked, load_error, refused};
use common::{newest, rig, weights};
use sha2::{Digest, Sha256};
use vram_residency::SealRequest;
use vram_residency::clock::ManualClock;
use vram_residency::error::{Code, Error, InputError, VerifyError};
use vram_residency::format::{Format, ReadAt};
use vram_residency::load::{CancelToken, FormatChoice, LoadError, Source};
use vram_residency::sim::{Flip, LostCopy, Moment, Op};

const MIB: usize = 1 << 20;
const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../testdata/small.safetensors"
);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// requirement: RP-004
#[test]
fn a_read_that_fails_names_the_source_and_the_offset() {
    let rig = rig(32 << 20);
    let bytes = weights(7 * MIB, 3);
    let source = Hooked(&bytes[..], |offset| match offset {
        4_194_304 => Err(io::Error::other("bad sector")),
        _ => Ok(()),
    });
    let error = refused(&rig, SealRequest::source(source).with_content_digest());
    assert_eq!(
        error.to_string(),
        "cannot read bytes at offset 4194304: bad sector"
    );
}

// requirement: ER-8
#[test]
fn a_load_can_be_cancelled_and_has_a_deadline() {
    let rig = rig(32 << 20);
    let bytes = weights(9 * MIB, 4);
    let token = CancelToken::new();
    let seen = Arc::new(AtomicU64::new(0));
    let (cancel, count) = (token.clone(), seen.clone());
    let request = SealRequest::bytes(&bytes)
        .cancel(&token)
        .progress(move |progress| {
            assert_eq!(progress.total, 9 << 20);
            count.fetch_add(1, Ordering::SeqCst);
            cancel.cancel();
        });
    let error = load_error(refused(&rig, request.with_content_digest()));
    assert!(matches!(error, LoadError::Cancelled { .. }), "{error}");
    assert!(
        (1..5).contains(&seen.load(Ordering::SeqCst)),
        "it stopped in between"
    );
    let error = load_error(refused(&rig, SealRequest::bytes(&bytes).cancel(&token)));
    assert!(!error.is_retriable());

    let clock: Arc<ManualClock> = rig.clock.clone();
    let slow = Hooked(&bytes[..], move |_| {
        clock.advance(1_000_000_000);
        Ok(())
    });
    let request = SealRequest::source(slow).timeout(Duration::from_secs(2));
    let error = load_error(refused(&rig, request));
    assert!(
        matches!(error, LoadError::Deadline { .. }) && error.is_retriable(),
        "{error}"
    );
    let enough = SealRequest::bytes(&bytes).timeout(Duration::from_secs(2));
    drop(rig.manager.seal(enough).unwrap());
}

/// Its last word takes long.
struct EndsLate<'a>(&'a [u8], &'a ManualClock);

impl ReadAt for EndsLate<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, out)
    }
}

impl Source for EndsLate<'_> {
    fn name(&self) -> String {
        "late".to_owned()
    }

    fn check_unchanged(&self) -> Result<(), LoadError> {
        self.1.advance(3_000_000_000);
        Ok(())
    }
}

// requirement: ER-8
#[test]
fn a_load_that_ends_late_has_failed() {
    let rig = rig(4 << 20);
    let (bytes, model) = (weights(MIB, 4), fs::read(MODEL).unwrap());
    let slow = |bytes| {
        let clock = rig.clock.clone();
        SealRequest::source(Hooked(bytes, move |_| {
            clock.advance(1_100_000_000);
            Ok(())
        }))
    };
    let after_all = rig.clock.clone();
    let late = [
        // The header alone, which is read piece by piece.
        slow(&model[..]).format(FormatChoice::Exactly(Format::Safetensors)),
        // The one chunk there is, with what was spent before.
        slow(&bytes[..]).spent(Duration::from_secs(1)),
        slow(&bytes[..]).spent(Duration::from_secs(3)),
        // All is read and handed to the device.
        SealRequest::bytes(&bytes).progress(move |_| {
            after_all.advance(3_000_000_000);
        }),
        SealRequest::source(EndsLate(&bytes, &rig.clock)),
    ];
    for (case, request) in late.into_iter().enumerate() {
        let error = load_error(refused(&rig, request.timeout(Duration::from_secs(2))));
        let deadline = matches!(error, LoadError::Deadline { .. });
        assert!(deadline, "case {case}: {error}");
    }
    assert_eq!(rig.count("model.load_completed"), 0);
    let in_time = slow(&bytes[..]).timeout(Duration::from_secs(2));
    drop(rig.manager.seal(in_time).unwrap());
}

// requirement: DG-1
#[test]
fn progress_adds_up_and_the_content_digest_keeps_file_order() {
    let rig = rig(64 << 20);
    let bytes = weights(21 * MIB + 11, 5);
    let expected = hex(&Sha256::digest(&bytes));
    for round in 0..3 {
        let done = Arc::new(AtomicU64::new(0));
        let seen = done.clone();
        // Readers are slowed unevenly, so chunks finish out of order.
        let source = Hooked(&bytes[..], move |offset| {
            let turns = (offset / (2 << 20) * 7 + round) % 5;
            (0..turns * 50).for_each(|_| std::thread::yield_now());
            Ok(())
        });
        let request = SealRequest::source(source).with_content_digest();
        let request = request.progress(move |p| {
            seen.fetch_max(p.done, Ordering::SeqCst);
        });
        let shard = rig.manager.seal(request).unwrap();
        assert_eq!(
            shard.record().content_sha256.map(|hash| hex(&hash)),
            Some(expected.clone())
        );
        assert_eq!(done.load(Ordering::SeqCst), bytes.len() as u64);
        assert_eq!(shard.digest(), vram_digest::digest(&bytes));
    }
    drop(
        rig.manager
            .seal(SealRequest::bytes(&bytes).expect_content(&expected))
            .unwrap(),
    );
}

// requirement: WORKER-4113, DG-4
#[test]
fn a_copy_fault_is_seen_though_the_source_was_good() {
    let rig = rig(16 << 20);
    let bytes = weights(5 * MIB, 6);
    rig.device().flip_at(Flip {
        moment: Moment::AfterCopy,
        offset: 3 * MIB as u64 + 1,
        bit: 0,
    });
    let error = refused(&rig, SealRequest::bytes(&bytes));
    let Error::Verify(VerifyError::Copy {
        segments,
        first_offset,
    }) = error
    else {
        panic!("{error}");
    };
    assert_eq!((segments, first_offset), (1, 3 * MIB as u64));
    for offset in [0, 2 * MIB as u64, 5 * MIB as u64 - 1] {
        rig.device().flip_at(Flip {
            moment: Moment::AfterCopy,
            offset,
            bit: 7,
        });
    }
    let error = refused(&rig, SealRequest::bytes(&bytes)).to_string();
    assert!(
        error.contains("3 of its 1 MiB segments differ") && error.contains("offset 0"),
        "{error}"
    );
    assert_eq!(rig.count("vram.seal_failed"), 2);
    drop(rig.manager.seal(SealRequest::bytes(&bytes)).unwrap());
}

// requirement: DG-4, ER-4, WORKER-4223
#[test]
fn an_expectation_that_is_not_met_leaves_nothing() {
    let rig = rig(1 << 20);
    let bytes = weights(9000, 7);
    let (right, sha) = (
        vram_digest::digest(&bytes).to_string(),
        hex(&Sha256::digest(&bytes)),
    );
    for request in [
        SealRequest::bytes(&bytes).expect(&sha),
        SealRequest::bytes(&bytes).expect(&"0".repeat(64)),
        SealRequest::bytes(&bytes).expect_content(&right),
        SealRequest::bytes(&bytes)
            .expect(&right)
            .expect_content(&right),
    ] {
        let error = refused(&rig, request);
        assert!(
            matches!(error, Error::Verify(VerifyError::Unexpected { .. })),
            "{error}"
        );
        assert_eq!(error.code(), Code::SealVerificationFailed);
    }
    assert_eq!(rig.device().calls(Op::Protect), 0, "no seal was begun");
    assert_eq!(
        (rig.count("vram.sealed"), rig.count("vram.seal_failed")),
        (0, 4)
    );
    let good = SealRequest::bytes(&bytes)
        .expect(&right)
        .expect_content(&sha);
    drop(rig.manager.seal(good).unwrap());
}

// requirement: CO-6, FF-2
#[test]
fn tensor_data_is_aligned_in_device_memory() {
    let rig = rig(4 << 20);
    let file = fs::read(MODEL).unwrap();
    for _ in 0..3 {
        let shard = rig.manager.seal(SealRequest::file(MODEL)).unwrap();
        let address = rig
            .device()
            .simulated_address(newest(rig.device()))
            .unwrap();
        let data = shard.tensors().data_start();
        let shift = rig.manager.used_vram() - shard.record().vram_bytes;
        assert_eq!((address + shift + data) % 256, 0);
        assert_eq!(
            shard.digest(),
            vram_digest::digest(&file),
            "the shift is no part of it"
        );
        assert_eq!(shard.record().model_ref.as_str(), "small.safetensors");
        assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
        drop(shard);
    }
    let raw = SealRequest::file(MODEL).format(FormatChoice::Exactly(Format::Raw));
    assert!(
        rig.manager
            .seal(raw)
            .unwrap()
            .tensors()
            .tensors()
            .is_empty()
    );
}

// requirement: MS-005
#[test]
fn a_panic_of_the_callers_own_code_leaves_no_thread_waiting() {
    let rig = rig(32 << 20);
    let bytes = weights(15 * MIB, 9);
    let source = Hooked(&bytes[..], |offset| {
        assert!(offset != 4 << 20, "the caller's own bug");
        Ok(())
    });
    let request = SealRequest::source(source).with_content_digest();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = rig.manager.seal(request);
    }));
    assert!(caught.is_err());
    rig.assert_empty();
    drop(rig.manager.seal(SealRequest::bytes(&bytes)).unwrap());
}

/// Whatever memory holds where a copy never arrived, other than what was sent.
// requirement: DG-2, CI-004
#[test]
fn a_copy_that_does_not_arrive_whole_seals_nothing() {
    let rig = rig(64 << 20);
    let bytes = weights((3 << 20) + 77, 9);
    for (offset, len) in [(0, bytes.len()), (1 << 20, 1 << 20), (bytes.len() - 1, 1)] {
        let held = vec![bytes[offset] ^ 1; len];
        rig.device().lose_copy(LostCopy {
            offset: offset as u64,
            held,
        });
        let error = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap_err();
        assert!(
            matches!(error, Error::Verify(VerifyError::Copy { .. })),
            "{error}"
        );
        rig.assert_empty();
        // It was that one load.
        drop(rig.manager.seal(SealRequest::bytes(&bytes)).unwrap());
    }
}

#[test]
fn deduplication_asks_for_nothing_else() {
    let rig = rig(1 << 20);
    let bytes = weights(10_000, 10);
    let one = rig.manager.seal(SealRequest::bytes(&bytes).id("one"));
    let one = one.unwrap();
    let digest = one.digest().to_string();
    let same = || SealRequest::bytes(&bytes).expect(&digest).dedupe();
    assert_eq!(rig.manager.seal(same()).unwrap().id(), one.id());
    for wrong in [
        same().id("two"),
        same().position(0, 2),
        same().with_content_digest(),
        SealRequest::bytes(&bytes).dedupe(),
    ] {
        let refused = rig.manager.seal(wrong).unwrap_err();
        assert!(
            matches!(refused, Error::Input(InputError::Dedupe)),
            "{refused}"
        );
    }
    // Another length cannot be those bytes: it is loaded, and refused.
    let other = SealRequest::bytes(&bytes[..50]).expect(&digest).dedupe();
    let refused = rig.manager.seal(other).unwrap_err();
    assert!(
        matches!(refused, Error::Verify(VerifyError::Unexpected { .. })),
        "{refused}"
    );
}
