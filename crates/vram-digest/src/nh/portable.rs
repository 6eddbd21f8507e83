//! NH in plain Rust.

use super::key::{KeyLine, NhKey};
use super::{NH_UNIT_BYTES, PASSES, STRIDE_BYTES};

/// The four sums of one unit; bytes missing to a multiple of 16 count as zeros.
pub(super) fn nh(key: &NhKey, unit: &[u8]) -> [u64; PASSES] {
    debug_assert!(unit.len() <= NH_UNIT_BYTES);
    let mut sums = [0; PASSES];
    for (line, key) in unit.chunks(64).zip(key) {
        let (strides, short) = line.as_chunks();
        let mut at = 0..4;
        for (stride, at) in strides.iter().zip(&mut at) {
            add_stride(&mut sums, key, at, stride);
        }
        if let (false, Some(at)) = (short.is_empty(), at.next()) {
            let mut padded = [0; STRIDE_BYTES];
            for (to, from) in padded.iter_mut().zip(short) {
                *to = *from;
            }
            add_stride(&mut sums, key, at, &padded);
        }
    }
    sums
}

/// Adds the stride at place `at` of its 64 bytes to the sums.
#[inline]
fn add_stride(
    sums: &mut [u64; PASSES],
    key: &[KeyLine; PASSES],
    at: usize,
    stride: &[u8; STRIDE_BYTES],
) {
    let (words, _) = stride.as_chunks::<4>();
    let &[m0, m1, m2, m3] = words else { return };
    let [m0, m1, m2, m3] = [m0, m1, m2, m3].map(u32::from_le_bytes);
    for (sum, key) in sums.iter_mut().zip(key) {
        let [k0, k2, k1, k3] = key.0.get(at).copied().unwrap_or_default();
        *sum = sum
            .wrapping_add(product(m0.wrapping_add(k0), m2.wrapping_add(k2)))
            .wrapping_add(product(m1.wrapping_add(k1), m3.wrapping_add(k3)));
    }
}

/// The full product of two words.
#[inline]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a 32 by 32 bit product fits 64 bits"
)]
fn product(a: u32, b: u32) -> u64 {
    u64::from(a) * u64::from(b)
}
