//! NH of one whole unit in 512-bit vectors: four strides at a step.

use std::arch::x86_64::*;

use super::key::{KeyLine, NhKey};
use super::{NH_UNIT_BYTES, PASSES};
use crate::cpu::Avx512;

/// The four sums of a whole unit.
pub(super) fn nh(_: Avx512, key: &NhKey, unit: &[u8; NH_UNIT_BYTES]) -> [u64; PASSES] {
    // SAFETY: the `Avx512` value exists only after detection of AVX-512F and AVX-512BW.
    unsafe { sums(key, unit) }
}

#[target_feature(enable = "avx512f")]
fn sums(key: &NhKey, unit: &[u8; NH_UNIT_BYTES]) -> [u64; PASSES] {
    let mut sums = [_mm512_setzero_si512(); PASSES];
    for (line, key) in unit.as_chunks::<64>().0.iter().zip(key) {
        prefetch(line);
        let message = _mm512_shuffle_epi32::<0xd8>(load(line));
        for (sum, key) in sums.iter_mut().zip(key) {
            let x = _mm512_add_epi32(message, load_key(key));
            let products = _mm512_mul_epu32(x, _mm512_srli_epi64::<32>(x));
            *sum = _mm512_add_epi64(*sum, products);
        }
    }
    add_across(sums)
}

/// Asks for the data that comes a few units later: the hash is faster than the CPU's own guess.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch(line: &[u8; 64]) {
    let ahead = line.as_ptr().wrapping_add(8 * NH_UNIT_BYTES);
    // A hint: it reads nothing and cannot fault, even where the address is past the data.
    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
}

/// Adds up the eight parts of each sum.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_across([a, b, c, d]: [__m512i; PASSES]) -> [u64; PASSES] {
    let ab = _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let cd = _mm512_add_epi64(_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
    let low = _mm512_shuffle_i64x2::<0x88>(ab, cd);
    let high = _mm512_shuffle_i64x2::<0xdd>(ab, cd);
    // Now parts 0 and 1 hold sums a and b, parts 2 and 3 hold c and d.
    let halves = _mm512_add_epi64(low, high);
    let swapped = _mm512_shuffle_i64x2::<0xb1>(halves, halves);
    let [a, b, _, _, c, d, _, _] = store(_mm512_add_epi64(halves, swapped));
    [a, b, c, d]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference gives 64 readable bytes; this load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_key(line: &KeyLine) -> __m512i {
    // SAFETY: a `KeyLine` is 64 readable bytes, and 64-aligned as this load needs.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(x: __m512i) -> [u64; 8] {
    let mut words = [0; 8];
    // SAFETY: the array is 64 writable bytes; this store needs no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), x) };
    words
}
