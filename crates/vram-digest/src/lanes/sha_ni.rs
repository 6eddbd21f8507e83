//! Two blocks at once with the SHA instructions: while one stream waits for its rounds, the other
//! one runs.

use std::arch::x86_64::*;

use super::rounds::{INITIAL, PADDING, ROUND, quad, sixteen_times};
use super::{Block, PIECES};
use crate::BlockHash;
use crate::cpu::ShaNi;

/// Streams that run interleaved.
pub(super) const STREAMS: usize = 2;

/// SHA-256 of two whole blocks.
pub(super) fn hash2(_: ShaNi, blocks: &[Block; STREAMS], out: &mut [BlockHash; STREAMS]) {
    // SAFETY: the `ShaNi` value exists only after detection of SHA-NI and AVX.
    unsafe { hash(blocks, out) }
}

/// The state as the instructions want it: words a, b, e, f and words c, d, g, h.
#[derive(Clone, Copy)]
struct State {
    abef: __m128i,
    cdgh: __m128i,
}

#[target_feature(enable = "sha,avx")]
#[expect(clippy::indexing_slicing, reason = "`at` is below PIECES")]
fn hash(blocks: &[Block; STREAMS], out: &mut [BlockHash; STREAMS]) {
    let [a, b, c, d, e, f, g, h] = INITIAL;
    let initial = State {
        abef: words([f, e, b, a]),
        cdgh: words([h, g, d, c]),
    };
    let mut states = [initial; STREAMS];
    for at in 0..PIECES {
        compress(&mut states, blocks.each_ref().map(|block| &block[at]));
    }
    compress_padding(&mut states);
    for (hash, state) in out.iter_mut().zip(states) {
        write(hash, state);
    }
}

/// Adds one 64-byte piece of every stream.
#[inline]
#[target_feature(enable = "sha,avx")]
fn compress(states: &mut [State; STREAMS], pieces: [&[u8; 64]; STREAMS]) {
    let [mut one, mut two] = *states;
    let [mut v, mut w] = pieces.map(|piece| message(piece));
    sixteen_times!(I, {
        const K: [u32; 4] = quad(&ROUND, I);
        one = four_rounds(one, _mm_add_epi32(v[0], words(K)));
        two = four_rounds(two, _mm_add_epi32(w[0], words(K)));
        v = advance::<I>(v);
        w = advance::<I>(w);
    });
    add_to(states, [one, two]);
}

/// Adds the padding that ends a 4096-byte message; its schedule is a constant.
#[inline]
#[target_feature(enable = "sha,avx")]
fn compress_padding(states: &mut [State; STREAMS]) {
    let [mut one, mut two] = *states;
    sixteen_times!(I, {
        const K: [u32; 4] = quad(&PADDING, I);
        one = four_rounds(one, words(K));
        two = four_rounds(two, words(K));
    });
    add_to(states, [one, two]);
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn add_to(states: &mut [State; STREAMS], now: [State; STREAMS]) {
    for (state, now) in states.iter_mut().zip(now) {
        state.abef = _mm_add_epi32(state.abef, now.abef);
        state.cdgh = _mm_add_epi32(state.cdgh, now.cdgh);
    }
}

/// Four rounds, given round constants plus message words.
#[inline]
#[target_feature(enable = "sha,avx")]
fn four_rounds(State { abef, cdgh }: State, kw: __m128i) -> State {
    let cdgh = _mm_sha256rnds2_epu32(cdgh, abef, kw);
    let abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32::<0x0e>(kw));
    State { abef, cdgh }
}

/// Moves on by four message words after group `I` of four rounds; the last four have no successors.
#[inline]
#[target_feature(enable = "sha,avx")]
fn advance<const I: usize>([w0, w1, w2, w3]: [__m128i; 4]) -> [__m128i; 4] {
    if I >= 12 {
        return [w1, w2, w3, w0];
    }
    let partial = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8::<4>(w3, w2));
    [w1, w2, w3, _mm_sha256msg2_epu32(partial, w3)]
}

/// The sixteen big-endian words of a piece.
#[inline]
#[target_feature(enable = "sha,avx")]
fn message(piece: &[u8; 64]) -> [__m128i; 4] {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut w = [_mm_setzero_si128(); 4];
    for (to, from) in w.iter_mut().zip(piece.as_chunks::<16>().0) {
        *to = _mm_shuffle_epi8(load(from), swap);
    }
    w
}

#[inline]
#[target_feature(enable = "sse2")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference gives 16 readable bytes; this load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// A vector of four words, the first in the lowest place.
#[inline]
#[target_feature(enable = "sse2")]
#[expect(
    clippy::cast_possible_wrap,
    reason = "same 32 bits, the intrinsic's type is signed"
)]
fn words([w0, w1, w2, w3]: [u32; 4]) -> __m128i {
    _mm_set_epi32(w3 as i32, w2 as i32, w1 as i32, w0 as i32)
}

/// The hash of a final state.
#[inline]
#[target_feature(enable = "sse4.1")]
#[expect(
    clippy::cast_sign_loss,
    reason = "same 32 bits, the intrinsic's type is signed"
)]
fn write(hash: &mut BlockHash, State { abef, cdgh }: State) {
    let words = [
        _mm_extract_epi32::<3>(abef),
        _mm_extract_epi32::<2>(abef),
        _mm_extract_epi32::<3>(cdgh),
        _mm_extract_epi32::<2>(cdgh),
        _mm_extract_epi32::<1>(abef),
        _mm_extract_epi32::<0>(abef),
        _mm_extract_epi32::<1>(cdgh),
        _mm_extract_epi32::<0>(cdgh),
    ];
    for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = (word as u32).to_be_bytes();
    }
}
