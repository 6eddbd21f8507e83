//! NH of one whole unit in 256-bit vectors: two strides at a step.

use std::arch::x86_64::*;

use super::{NH_KEY_WORDS, NH_UNIT_BYTES};
use crate::cpu::Avx2;

/// The four sums of a whole unit.
pub(super) fn nh(_: Avx2, key: &[u32; NH_KEY_WORDS], unit: &[u8; NH_UNIT_BYTES]) -> [u64; 4] {
    // SAFETY: the `Avx2` value exists only after detection of AVX2.
    unsafe { sums(key, unit) }
}

#[target_feature(enable = "avx2")]
fn sums(key: &[u32; NH_KEY_WORDS], unit: &[u8; NH_UNIT_BYTES]) -> [u64; 4] {
    let mut sums = [_mm256_setzero_si256(); 4];
    // Pass `p` sees the key shifted by `p` strides of four words.
    let keys = key.as_chunks::<4>().0.windows(5).step_by(2);
    for (line, keys) in unit.as_chunks::<32>().0.iter().zip(keys) {
        let message = load(line);
        for (sum, key) in sums.iter_mut().zip(keys.array_windows::<2>()) {
            let x = _mm256_add_epi32(message, load_key(key));
            let products = _mm256_mul_epu32(
                _mm256_shuffle_epi32::<0x10>(x),
                _mm256_shuffle_epi32::<0x32>(x),
            );
            *sum = _mm256_add_epi64(*sum, products);
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
