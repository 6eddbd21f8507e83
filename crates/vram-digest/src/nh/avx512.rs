//! NH of one whole unit in 512-bit vectors: four strides at a step.

use std::arch::x86_64::*;

use super::{NH_KEY_WORDS, NH_UNIT_BYTES};
use crate::cpu::Avx512;

/// The four sums of a whole unit.
pub(super) fn nh(_: Avx512, key: &[u32; NH_KEY_WORDS], unit: &[u8; NH_UNIT_BYTES]) -> [u64; 4] {
    // SAFETY: the `Avx512` value exists only after detection of AVX-512F and AVX-512BW.
    unsafe { sums(key, unit) }
}

#[target_feature(enable = "avx512f")]
#[expect(
    clippy::cast_sign_loss,
    reason = "same 64 bits, the intrinsic's type is signed"
)]
fn sums(key: &[u32; NH_KEY_WORDS], unit: &[u8; NH_UNIT_BYTES]) -> [u64; 4] {
    let mut sums = [_mm512_setzero_si512(); 4];
    // Pass `p` sees the key shifted by `p` strides of four words.
    let keys = key.as_chunks::<4>().0.windows(7).step_by(4);
    for (line, keys) in unit.as_chunks::<64>().0.iter().zip(keys) {
        let message = load(line);
        for (sum, key) in sums.iter_mut().zip(keys.array_windows::<4>()) {
            let x = _mm512_add_epi32(message, load_key(key));
            let products = _mm512_mul_epu32(
                _mm512_shuffle_epi32::<0x10>(x),
                _mm512_shuffle_epi32::<0x32>(x),
            );
            *sum = _mm512_add_epi64(*sum, products);
        }
    }
    sums.map(|sum| _mm512_reduce_add_epi64(sum) as u64)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference gives 64 readable bytes; this load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_key(words: &[[u32; 4]; 4]) -> __m512i {
    // SAFETY: the reference gives 64 readable bytes; this load needs no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}
