//! Sixteen blocks at once in 512-bit vectors.

use std::arch::x86_64::*;

use super::rounds::{INITIAL, PADDING, ROUND, extending_rounds, lane_hash, sixteen_times};
use super::{Block, PIECES};
use crate::BlockHash;
use crate::cpu::Avx512;

/// Bytes of sixteen blocks.
const GROUP_BYTES: usize = size_of::<[Block; 16]>();

/// SHA-256 of sixteen whole blocks.
pub(super) fn hash16(_: Avx512, blocks: &[Block; 16], out: &mut [BlockHash; 16]) {
    // SAFETY: the `Avx512` value exists only after detection of AVX-512F and AVX-512BW.
    unsafe { hash(blocks, out) }
}

lane_hash!("avx512f,avx512bw", __m512i, 16);

#[inline]
#[target_feature(enable = "avx512f")]
#[expect(
    clippy::cast_possible_wrap,
    reason = "same 32 bits, the intrinsic's type is signed"
)]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word as i32)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0x96>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(e: __m512i, f: __m512i, g: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xca>(e, f, g)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xe8>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rotate<const N: i32>(x: __m512i) -> __m512i {
    _mm512_ror_epi32::<N>(x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shift<const N: u32>(x: __m512i) -> __m512i {
    _mm512_srli_epi32::<N>(x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference gives 64 readable bytes; this load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(x: __m512i) -> [u32; 16] {
    let mut words = [0; 16];
    // SAFETY: the array is 64 writable bytes; this store needs no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), x) };
    words
}

/// Message words of piece `at`: vector `i` holds big-endian word `i` of every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "indices are constants below 16, and `at` is below PIECES"
)]
fn transpose(blocks: &[Block; 16], at: usize) -> [__m512i; 16] {
    let swap = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let mut w = [_mm512_setzero_si512(); 16];
    for (row, block) in w.iter_mut().zip(blocks) {
        // The same piece of the group after this one: what follows a block is elsewhere, and
        // the processor does not foresee sixteen such streams.
        let next = block[at].as_ptr().wrapping_add(GROUP_BYTES);
        _mm_prefetch::<_MM_HINT_T1>(next.cast());
        *row = _mm512_shuffle_epi8(load(&block[at]), swap);
    }
    // 4 by 4 words within each 128-bit part ...
    let mut v = w;
    for q in [0, 4, 8, 12] {
        let ab_low = _mm512_unpacklo_epi32(w[q], w[q + 1]);
        let ab_high = _mm512_unpackhi_epi32(w[q], w[q + 1]);
        let cd_low = _mm512_unpacklo_epi32(w[q + 2], w[q + 3]);
        let cd_high = _mm512_unpackhi_epi32(w[q + 2], w[q + 3]);
        v[q] = _mm512_unpacklo_epi64(ab_low, cd_low);
        v[q + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
        v[q + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        v[q + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    // ... then 4 by 4 of the parts.
    for i in 0..4 {
        let ab_low = _mm512_shuffle_i32x4::<0x44>(v[i], v[i + 4]);
        let ab_high = _mm512_shuffle_i32x4::<0xee>(v[i], v[i + 4]);
        let cd_low = _mm512_shuffle_i32x4::<0x44>(v[i + 8], v[i + 12]);
        let cd_high = _mm512_shuffle_i32x4::<0xee>(v[i + 8], v[i + 12]);
        w[i] = _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low);
        w[i + 4] = _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low);
        w[i + 8] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
        w[i + 12] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
    }
    w
}
