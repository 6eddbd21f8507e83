//! Eight blocks at once in 256-bit vectors.

use std::arch::x86_64::*;

use super::rounds::{INITIAL, PADDING, ROUND, extending_rounds, lane_hash, sixteen_times};
use super::{Block, PIECES};
use crate::BlockHash;
use crate::cpu::Avx2;

/// SHA-256 of eight whole blocks.
pub(super) fn hash8(_: Avx2, blocks: &[Block; 8], out: &mut [BlockHash; 8]) {
    // SAFETY: the `Avx2` value exists only after detection of AVX2.
    unsafe { hash(blocks, out) }
}

lane_hash!("avx2", __m256i, 8);

#[inline]
#[target_feature(enable = "avx2")]
#[expect(
    clippy::cast_possible_wrap,
    reason = "same 32 bits, the intrinsic's type is signed"
)]
fn splat(word: u32) -> __m256i {
    _mm256_set1_epi32(word as i32)
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(e: __m256i, f: __m256i, g: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_and_si256(e, _mm256_xor_si256(f, g)), g)
}

#[inline]
#[target_feature(enable = "avx2")]
fn majority(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    let either = _mm256_or_si256(a, b);
    _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(either, c))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const N: i32>(x: __m256i) -> __m256i {
    let left = _mm256_sllv_epi32(x, _mm256_set1_epi32(32_i32.wrapping_sub(N)));
    _mm256_or_si256(_mm256_srli_epi32::<N>(x), left)
}

#[inline]
#[target_feature(enable = "avx2")]
fn shift<const N: i32>(x: __m256i) -> __m256i {
    _mm256_srli_epi32::<N>(x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference gives 32 readable bytes; this load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(x: __m256i) -> [u32; 8] {
    let mut words = [0; 8];
    // SAFETY: the array is 32 writable bytes; this store needs no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), x) };
    words
}

/// Message words of piece `at`: vector `i` holds big-endian word `i` of every lane.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(
    clippy::indexing_slicing,
    reason = "constant indices within 16; `at` is below PIECES"
)]
fn transpose(blocks: &[Block; 8], at: usize) -> [__m256i; 16] {
    let mut w = [_mm256_setzero_si256(); 16];
    for (half, rows) in w.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for (row, block) in rows.iter_mut().zip(blocks) {
            *row = load(&block[at].as_chunks().0[half]);
        }
        transpose8(rows);
    }
    w
}

/// Eight rows of eight little-endian words to eight columns of big-endian ones.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "indices are constants below 8"
)]
fn transpose8(rows: &mut [__m256i; 8]) {
    let swap = _mm256_set_epi64x(
        0x0c0d_0e0f_0809_0a0b,
        0x0405_0607_0001_0203,
        0x0c0d_0e0f_0809_0a0b,
        0x0405_0607_0001_0203,
    );
    let r = rows.map(|row| _mm256_shuffle_epi8(row, swap));
    let mut v = r;
    for q in [0, 4] {
        let ab_low = _mm256_unpacklo_epi32(r[q], r[q + 1]);
        let ab_high = _mm256_unpackhi_epi32(r[q], r[q + 1]);
        let cd_low = _mm256_unpacklo_epi32(r[q + 2], r[q + 3]);
        let cd_high = _mm256_unpackhi_epi32(r[q + 2], r[q + 3]);
        v[q] = _mm256_unpacklo_epi64(ab_low, cd_low);
        v[q + 1] = _mm256_unpackhi_epi64(ab_low, cd_low);
        v[q + 2] = _mm256_unpacklo_epi64(ab_high, cd_high);
        v[q + 3] = _mm256_unpackhi_epi64(ab_high, cd_high);
    }
    for i in 0..4 {
        rows[i] = _mm256_permute2x128_si256::<0x20>(v[i], v[i + 4]);
        rows[i + 4] = _mm256_permute2x128_si256::<0x31>(v[i], v[i + 4]);
    }
}
