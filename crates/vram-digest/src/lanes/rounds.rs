//! SHA-256 as FIPS 180-4 defines it, written once for vectors that hold one word of each lane.

/// The initial hash value.
pub(super) const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The round constants.
pub(super) const ROUND: [[u32; 16]; 4] = [
    [
        0x428a_2f98,
        0x7137_4491,
        0xb5c0_fbcf,
        0xe9b5_dba5,
        0x3956_c25b,
        0x59f1_11f1,
        0x923f_82a4,
        0xab1c_5ed5,
        0xd807_aa98,
        0x1283_5b01,
        0x2431_85be,
        0x550c_7dc3,
        0x72be_5d74,
        0x80de_b1fe,
        0x9bdc_06a7,
        0xc19b_f174,
    ],
    [
        0xe49b_69c1,
        0xefbe_4786,
        0x0fc1_9dc6,
        0x240c_a1cc,
        0x2de9_2c6f,
        0x4a74_84aa,
        0x5cb0_a9dc,
        0x76f9_88da,
        0x983e_5152,
        0xa831_c66d,
        0xb003_27c8,
        0xbf59_7fc7,
        0xc6e0_0bf3,
        0xd5a7_9147,
        0x06ca_6351,
        0x1429_2967,
    ],
    [
        0x27b7_0a85,
        0x2e1b_2138,
        0x4d2c_6dfc,
        0x5338_0d13,
        0x650a_7354,
        0x766a_0abb,
        0x81c2_c92e,
        0x9272_2c85,
        0xa2bf_e8a1,
        0xa81a_664b,
        0xc24b_8b70,
        0xc76c_51a3,
        0xd192_e819,
        0xd699_0624,
        0xf40e_3585,
        0x106a_a070,
    ],
    [
        0x19a4_c116,
        0x1e37_6c08,
        0x2748_774c,
        0x34b0_bcb5,
        0x391c_0cb3,
        0x4ed8_aa4a,
        0x5b9c_ca4f,
        0x682e_6ff3,
        0x748f_82ee,
        0x78a5_636f,
        0x84c8_7814,
        0x8cc7_0208,
        0x90be_fffa,
        0xa450_6ceb,
        0xbef9_a3f7,
        0xc671_78f2,
    ],
];

/// Round constants with the words of the padding block of a 4096-byte message already added: that
/// block is the same for every 4 KiB block, so its schedule is made at compile time.
pub(super) const PADDING: [[u32; 16]; 4] = padding();

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "evaluated at compile time, where a slip is a build error"
)]
const fn padding() -> [[u32; 16]; 4] {
    let mut w = [0_u32; 64];
    w[0] = 0x8000_0000;
    w[15] = 4096 * 8;
    let mut i = 16;
    while i < 64 {
        let (x, y) = (w[i - 15], w[i - 2]);
        let s0 = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
        let s1 = y.rotate_right(17) ^ y.rotate_right(19) ^ (y >> 10);
        w[i] = w[i - 16]
            .wrapping_add(s0)
            .wrapping_add(w[i - 7])
            .wrapping_add(s1);
        i += 1;
    }
    let mut out = [[0; 16]; 4];
    let mut i = 0;
    while i < 64 {
        out[i / 16][i % 16] = w[i].wrapping_add(ROUND[i / 16][i % 16]);
        i += 1;
    }
    out
}

/// The constants of four rounds, at group `i` of sixteen.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "evaluated at compile time, where a slip is a build error"
)]
pub(super) const fn quad(k: &[[u32; 16]; 4], i: usize) -> [u32; 4] {
    let (row, at) = (&k[i / 4], i % 4 * 4);
    [row[at], row[at + 1], row[at + 2], row[at + 3]]
}

/// Repeats a block sixteen times with the constant `$i` counting, so that every index is known
/// and all vectors stay in registers.
macro_rules! sixteen_times {
    ($i:ident, $body:block) => {
        sixteen_times!(@ $i, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $i:ident, $body:block, $($n:literal)*) => { $({ const $i: usize = $n; $body })* };
}
pub(super) use sixteen_times;

/// Sixteen rounds on `$s`, after which `$w` holds the next sixteen words. No function: a
/// compiler that does not inline it passes the message words through memory.
macro_rules! extending_rounds {
    ($s:ident, $w:ident, $k:ident) => {
        sixteen_times!(I, {
            $s = round($s, add($w[I], splat($k[I])));
            $w[I] = extend($w[I], $w[(I + 1) % 16], $w[(I + 9) % 16], $w[(I + 14) % 16]);
        });
    };
}
pub(super) use extending_rounds;

/// Defines SHA-256 of as many whole 4 KiB blocks as the vector has lanes.
///
/// The file that uses it brings vector operations of these names: `splat`, `add`, `xor3`,
/// `choose`, `majority`, `rotate`, `shift`, `transpose` and `store`.
macro_rules! lane_hash {
    ($features:literal, $vector:ty, $lanes:literal) => {
        /// One round on the working variables a..h, given round constant plus message word.
        #[inline]
        #[target_feature(enable = $features)]
        fn round([a, b, c, d, e, f, g, h]: [$vector; 8], kw: $vector) -> [$vector; 8] {
            let sigma1 = xor3(rotate::<6>(e), rotate::<11>(e), rotate::<25>(e));
            let t1 = add(add(add(h, kw), choose(e, f, g)), sigma1);
            let sigma0 = xor3(rotate::<2>(a), rotate::<13>(a), rotate::<22>(a));
            let t2 = add(sigma0, majority(a, b, c));
            [add(t1, t2), a, b, c, add(d, t1), e, f, g]
        }

        /// The message word sixteen after `w0`.
        #[inline]
        #[target_feature(enable = $features)]
        fn extend(w0: $vector, w1: $vector, w9: $vector, w14: $vector) -> $vector {
            let s0 = xor3(rotate::<7>(w1), rotate::<18>(w1), shift::<3>(w1));
            let s1 = xor3(rotate::<17>(w14), rotate::<19>(w14), shift::<10>(w14));
            add(add(w0, s0), add(w9, s1))
        }

        /// Adds the words of one 64-byte piece of every lane to the state.
        #[inline]
        #[target_feature(enable = $features)]
        fn compress(state: &mut [$vector; 8], mut w: [$vector; 16]) {
            let [k0, k1, k2, k3] = &ROUND;
            let mut s = *state;
            extending_rounds!(s, w, k0);
            extending_rounds!(s, w, k1);
            extending_rounds!(s, w, k2);
            sixteen_times!(I, {
                s = round(s, add(w[I], splat(k3[I])));
            });
            for (to, from) in state.iter_mut().zip(s) {
                *to = add(*to, from);
            }
        }

        /// Adds the padding that ends a 4096-byte message.
        #[inline]
        #[target_feature(enable = $features)]
        fn compress_padding(state: &mut [$vector; 8]) {
            let mut s = *state;
            for k in &PADDING {
                sixteen_times!(I, {
                    s = round(s, splat(k[I]));
                });
            }
            for (to, from) in state.iter_mut().zip(s) {
                *to = add(*to, from);
            }
        }

        /// SHA-256 of one whole block per lane.
        #[target_feature(enable = $features)]
        #[expect(clippy::indexing_slicing, reason = "there are as many words as lanes")]
        fn hash(blocks: &[Block; $lanes], out: &mut [BlockHash; $lanes]) {
            let mut state = INITIAL.map(|word| splat(word));
            for at in 0..PIECES {
                compress(&mut state, transpose(blocks, at));
            }
            compress_padding(&mut state);
            let words = state.map(|vector| store(vector));
            for (lane, hash) in out.iter_mut().enumerate() {
                for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(&words) {
                    *bytes = word[lane].to_be_bytes();
                }
            }
        }
    };
}
pub(super) use lane_hash;
