//! NH of one whole unit in 256-bit vectors: two strides at a step.

use std::arch::x86_64::*;

use super::key::NhKey;
use super::{NH_UNIT_BYTES, PASSES};
use crate::cpu::Avx2;

/// The four sums of a whole unit.
pub(super) fn nh(_: Avx2, key: &NhKey, unit: &[u8; NH_UNIT_BYTES]) -> [u64; PASSES] {
    // SAFETY: the `Avx2` value exists only after detection of AVX2.
    unsafe { sums(key, unit) }
}

#[target_feature(enable = "avx2")]
#[expect(
    clippy::indexing_slicing,
    reason = "data and key lines both have two halves"
)]
fn sums(key: &NhKey, unit: &[u8; NH_UNIT_BYTES]) -> [u64; PASSES] {
    let mut sums = [_mm256_setzero_si256(); PASSES];
    for (line, key) in unit.as_chunks::<64>().0.iter().zip(key) {
        for (half, bytes) in line.as_chunks::<32>().0.iter().enumerate() {
            let message = _mm256_shuffle_epi32::<0xd8>(load(bytes));
            for (sum, key) in sums.iter_mut().zip(key) {
                let x = _mm256_add_epi32(message, load_key(&key.0.as_chunks().0[half]));
                let products = _mm256_mul_epu32(x, _mm256_srli_epi64::<32>(x));
                *sum = _mm256_add_epi64(*sum, products);
            }
        }
    }
    sums.map(|sum| store(sum).into_iter().fold(0, u64::wrapping_add))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference gives 32 readable bytes; this load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_key(words: &[[u32; 4]; 2]) -> __m256i {
    // SAFETY: the reference gives 32 readable bytes; this load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(x: __m256i) -> [u64; 4] {
    let mut words = [0; 4];
    // SAFETY: the array is 32 writable bytes; this store needs no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), x) };
    words
}
