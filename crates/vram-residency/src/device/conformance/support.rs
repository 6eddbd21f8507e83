//! What the checks are made of.

use std::sync::Arc;

use vram_digest::nh;

use crate::device::{BufferId, Device, Extent, UploadPlan};

pub(super) type Outcome = Result<(), String>;

pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(what()) }
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Repeatable bytes without a pattern that a shift could hide.
pub(super) fn sample(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(len)
        .collect()
}

pub(super) fn key(seed: u64) -> nh::Key {
    let bytes = sample(nh::KEY_BYTES, seed);
    let mut array = [0; nh::KEY_BYTES];
    array.copy_from_slice(&bytes);
    nh::Key::from_bytes(&array)
}

/// Runs `work` on a fresh buffer and frees it whatever happens.
pub(super) fn with_buffer(
    device: &dyn Device,
    len: u64,
    work: impl FnOnce(BufferId) -> Outcome,
) -> Outcome {
    let allocated = device.allocate(len).map_err(text)?;
    let answer = work(allocated.id);
    let freed = device.free(allocated.id).map_err(text);
    answer.and(freed)
}

/// An upload in slots of 1 MiB, with room for as many as are asked for.
pub(super) fn plan(extent: Extent, key: &nh::Key, slots: usize) -> UploadPlan<'_> {
    UploadPlan {
        extent,
        key,
        slot_bytes: 1 << 20,
        slots,
        room: Arc::default(),
    }
}
