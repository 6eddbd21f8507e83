//! Reads that fail for a moment, and those that fail for good.

mod common;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use common::source::{Hooked, load_error, refused};
use common::{Rig, rig, weights};
use rustix::io::Errno;
use vram_residency::format::{Format, FormatError};
use vram_residency::load::{CancelToken, FormatChoice, LoadError, PatternSource};
use vram_residency::sim::SimOptions;
use vram_residency::{Policy, SealRequest};

const LEN: usize = (5 << 20) + 11;

/// A hook that fails the first `failures` reads at offset 0 with `error`.
fn failing(error: Errno, failures: u32, seen: &AtomicU32) -> impl Fn(u64) -> io::Result<()> {
    move |offset| {
        if offset == 0 && seen.fetch_add(1, Ordering::Relaxed) < failures {
            return Err(error.into());
        }
        Ok(())
    }
}

#[test]
fn a_transient_failure_costs_nothing_but_time() {
    let bytes = weights(LEN, 3);
    for (error, failures) in [(Errno::INTR, 3), (Errno::AGAIN, 2), (Errno::IO, 1)] {
        let rig = rig(64 << 20);
        let seen = AtomicU32::new(0);
        let source = Hooked(bytes.as_slice(), failing(error, failures, &seen));
        let shard = rig.manager.seal(SealRequest::source(source)).unwrap();
        assert_eq!(shard.record().digest, vram_digest::digest(&bytes));
        assert_eq!(seen.into_inner(), failures + 1, "{error}");
    }
}

#[test]
fn a_header_is_read_again_as_the_data_is() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/small.safetensors"
    );
    let model = std::fs::read(path).unwrap();
    for (error, failures) in [(Errno::INTR, 3), (Errno::AGAIN, 2), (Errno::IO, 1)] {
        let rig = rig(64 << 20);
        let seen = AtomicU32::new(0);
        // The first reads are those of the header.
        let source = Hooked(model.as_slice(), failing(error, failures, &seen));
        let format = FormatChoice::Exactly(Format::Safetensors);
        let request = SealRequest::source(source).format(format);
        let shard = rig.manager.seal(request).unwrap();
        assert_eq!(shard.tensors().tensors().len(), 32, "{error}");
        assert!(seen.into_inner() > failures, "{error}");
    }
    let rig = rig(64 << 20);
    let seen = AtomicU32::new(0);
    let source = Hooked(model.as_slice(), failing(Errno::IO, 2, &seen));
    let request = SealRequest::source(source).format(FormatChoice::Auto);
    let told = load_error(refused(&rig, request));
    assert!(matches!(
        told,
        LoadError::Format {
            source: FormatError::Io { offset: 0, .. },
            ..
        }
    ));
}

#[test]
fn tries_are_bounded_and_the_last_error_is_told() {
    let bytes = weights(LEN, 3);
    for (error, tries) in [(Errno::AGAIN, 4), (Errno::IO, 2), (Errno::BADF, 1)] {
        let rig = rig(64 << 20);
        let seen = AtomicU32::new(0);
        let source = Hooked(bytes.as_slice(), failing(error, u32::MAX, &seen));
        let told = load_error(refused(&rig, SealRequest::source(source)));
        let LoadError::Read { offset, source, .. } = told else {
            panic!("{told}");
        };
        assert_eq!(offset, 0);
        assert_eq!(source.raw_os_error(), Some(error.raw_os_error()));
        assert_eq!(seen.into_inner(), tries, "{error}");
    }
}

#[test]
fn a_cancelled_load_does_not_try_again() {
    let bytes = weights(LEN, 3);
    let rig = rig(64 << 20);
    let (token, seen) = (CancelToken::new(), AtomicU32::new(0));
    let hook = |offset| {
        if offset == 0 {
            seen.fetch_add(1, Ordering::Relaxed);
            token.cancel();
            return Err(Errno::AGAIN.into());
        }
        Ok(())
    };
    let source = Hooked(bytes.as_slice(), hook);
    let told = load_error(refused(&rig, SealRequest::source(source).cancel(&token)));
    assert_eq!(seen.into_inner(), 1);
    // Not what came of it.
    assert!(matches!(told, LoadError::Cancelled { .. }), "{told}");
}

// requirement: PF-11
#[test]
fn a_source_takes_no_memory_for_bytes_that_it_only_claims() {
    const CLAIMED: u64 = 1 << 49;
    let options = [SimOptions::new(1 << 50).discard_contents()];
    let policy = Policy {
        max_model_bytes: 1 << 50,
        ..Policy::default()
    };
    let rig = Rig::build(&options, policy, |builder| builder);
    let seen = AtomicU32::new(0);
    let claims = PatternSource::new(CLAIMED, 3);
    let source = Hooked(claims, failing(Errno::BADF, u32::MAX, &seen));
    let told = load_error(refused(&rig, SealRequest::source(source)));
    assert!(matches!(told, LoadError::Read { offset: 0, .. }), "{told}");
}
