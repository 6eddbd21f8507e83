//! NH in plain Rust.

use super::{NH_KEY_WORDS, NH_UNIT_BYTES, STRIDE_BYTES};

/// The four sums of one unit; bytes missing to a multiple of 16 count as zeros.
pub(super) fn nh(key: &[u32; NH_KEY_WORDS], unit: &[u8]) -> [u64; 4] {
    debug_assert!(unit.len() <= NH_UNIT_BYTES);
    let (strides, short) = unit.as_chunks::<STRIDE_BYTES>();
    let mut sums = [0; 4];
    let mut key = key.as_slice();
    for stride in strides {
        add_stride(&mut sums, key, stride);
        key = key.get(4..).unwrap_or_default();
    }
    if !short.is_empty() {
        let mut padded = [0; STRIDE_BYTES];
        for (to, from) in padded.iter_mut().zip(short) {
            *to = *from;
        }
        add_stride(&mut sums, key, &padded);
    }
    sums
}

/// Adds one stride to the four sums; pass `p` uses the key shifted by `p` strides.
#[inline]
fn add_stride(sums: &mut [u64; 4], key: &[u32], stride: &[u8; STRIDE_BYTES]) {
    let (words, _) = stride.as_chunks::<4>();
    let &[m0, m1, m2, m3] = words else { return };
    let [m0, m1, m2, m3] = [m0, m1, m2, m3].map(u32::from_le_bytes);
    for (sum, k) in sums.iter_mut().zip(key.as_chunks::<4>().0) {
        let [k0, k1, k2, k3] = *k;
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
