//! Poly1305 as a polynomial hash modulo 2^130 - 5, without the final nonce.
//!
//! Numbers are held as two 64-bit limbs and a small third one. No branch and no address depends on
//! the key or the data.

use zeroize::Zeroize as _;

use super::TAG_BYTES;
use super::tag::Tag;

/// The clamped `r` and what the reduction needs of it.
#[derive(Default)]
pub(super) struct Multiplier {
    r0: u64,
    r1: u64,
    /// `r1 * 5 / 4`: folds what passes 2^130 back in. Exact, as clamping clears r1's low bits.
    s1: u64,
}

impl Multiplier {
    /// Reads and clamps 16 bytes.
    pub(super) fn set(&mut self, r: &[u8]) {
        let mut limbs = r.as_chunks::<8>().0.iter().copied().map(u64::from_le_bytes);
        self.r0 = limbs.next().unwrap_or_default() & 0x0fff_fffc_0fff_ffff;
        self.r1 = limbs.next().unwrap_or_default() & 0x0fff_fffc_0fff_fffc;
        self.s1 = self.r1.wrapping_add(self.r1 >> 2);
    }

    /// Overwrites the secret.
    pub(super) fn wipe(&mut self) {
        self.r0.zeroize();
        self.r1.zeroize();
        self.s1.zeroize();
    }
}

/// The running value of the polynomial.
pub(super) struct Poly<'k> {
    by: &'k Multiplier,
    h0: u64,
    h1: u64,
    /// At most a few bits.
    h2: u64,
}

/// The full product of two 64-bit numbers.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a 64 by 64 bit product fits 128 bits"
)]
fn wide(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

/// The low and the high 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "splitting is the purpose")]
fn split(x: u128) -> (u64, u64) {
    (x as u64, (x >> 64) as u64)
}

impl<'k> Poly<'k> {
    /// Starts at zero.
    pub(super) fn new(by: &'k Multiplier) -> Self {
        Self {
            by,
            h0: 0,
            h1: 0,
            h2: 0,
        }
    }

    /// Adds a full 16-byte block and multiplies by `r`.
    #[inline]
    pub(super) fn block(&mut self, low: u64, high: u64) {
        self.block_with_top(low, high, 1);
    }

    /// Adds a block whose 129th bit is given, as the last short block of plain Poly1305 needs.
    #[inline]
    pub(super) fn block_with_top(&mut self, low: u64, high: u64, top: u64) {
        let (h0, carry) = self.h0.overflowing_add(low);
        let sum = u128::from(self.h1)
            .wrapping_add(u128::from(high))
            .wrapping_add(u128::from(carry));
        let (h1, carry) = split(sum);
        let h2 = self.h2.wrapping_add(carry).wrapping_add(top);

        // h2 stays below 8 and r below 2^124, so no sum below can overflow its type.
        let Multiplier { r0, r1, s1 } = *self.by;
        let d0 = wide(h0, r0).wrapping_add(wide(h1, s1));
        let d1 = wide(h0, r1)
            .wrapping_add(wide(h1, r0))
            .wrapping_add(u128::from(h2.wrapping_mul(s1)));
        let (h0, carry) = split(d0);
        let (h1, carry) = split(d1.wrapping_add(u128::from(carry)));
        let h2 = h2.wrapping_mul(r0).wrapping_add(carry);

        // Everything from bit 130 up comes back five-fold: (h2 >> 2) * 5.
        let fold = (h2 >> 2).wrapping_add(h2 & !3);
        let (h0, carry) = h0.overflowing_add(fold);
        let (h1, carry) = h1.overflowing_add(u64::from(carry));
        (self.h0, self.h1, self.h2) = (h0, h1, (h2 & 3).wrapping_add(u64::from(carry)));
    }

    /// Reduces fully and gives the low 128 bits.
    pub(super) fn finish(self) -> Tag {
        let (g0, carry) = self.h0.overflowing_add(5);
        let (g1, carry) = self.h1.overflowing_add(u64::from(carry));
        let g2 = self.h2.wrapping_add(u64::from(carry));
        // All ones when the value is at least 2^130 - 5.
        let take = (g2 >> 2).min(1).wrapping_neg();
        let low = (self.h0 & !take) | (g0 & take);
        let high = (self.h1 & !take) | (g1 & take);
        let mut tag = [0; TAG_BYTES];
        for (to, from) in tag
            .iter_mut()
            .zip(low.to_le_bytes().into_iter().chain(high.to_le_bytes()))
        {
            *to = from;
        }
        Tag::from_bytes(tag)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "test code")]
mod tests {
    use super::*;

    /// Poly1305 of any message, plus the 16-byte mask that plain Poly1305 adds.
    fn mac(key: &[u8], mask: &[u8], message: &[u8]) -> [u8; 16] {
        let mut by = Multiplier::default();
        by.set(key);
        let mut poly = Poly::new(&by);
        for block in message.chunks(16) {
            let mut padded = [0; 17];
            padded[..block.len()].copy_from_slice(block);
            padded[block.len()] = 1;
            let limb = |at: usize| u64::from_le_bytes(padded[at..at + 8].try_into().unwrap());
            poly.block_with_top(limb(0), limb(8), u64::from(padded[16]));
        }
        let hash = u128::from_le_bytes(*poly.finish().as_bytes());
        let mask = u128::from_le_bytes(mask.try_into().unwrap());
        hash.wrapping_add(mask).to_le_bytes()
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] * 16 + pair[1])
            .collect()
    }

    /// The worked example of RFC 8439, section 2.5.2.
    #[test]
    fn rfc_8439_example() {
        let tag = mac(
            &unhex("85d6be7857556d337f4452fe42d506a8"),
            &unhex("0103808afb0db2fd4abff6af4149f51b"),
            b"Cryptographic Forum Research Group",
        );
        assert_eq!(tag.as_slice(), unhex("a8061dc1305136c6c22b8baf0c0127a9"));
    }

    /// RFC 8439, appendix A.3, numbers 7 to 9: values at and around 2^130 - 5.
    #[test]
    fn values_around_the_modulus() {
        let one = unhex("01000000000000000000000000000000");
        let zero = [0; 16];
        let ff = "ffffffffffffffffffffffffffffffff";
        let cases = [
            (
                1,
                format!("{ff}f0{}11{}", "ff".repeat(15), "00".repeat(15)),
                "05",
            ),
            (
                1,
                format!("{ff}fb{}{}", "fe".repeat(15), "01".repeat(16)),
                "00",
            ),
            (2, format!("fd{}", "ff".repeat(15)), "fa"),
        ];
        for (r, message, first) in cases {
            let mut key = one.clone();
            key[0] = r;
            let tag = mac(&key, &zero, &unhex(&message));
            let rest = if r == 2 { "ff" } else { "00" };
            assert_eq!(
                tag.as_slice(),
                unhex(&format!("{first}{}", rest.repeat(15))),
                "{message}"
            );
        }
    }

    /// Below the modulus nothing is taken off, also where the trial subtraction carries.
    #[test]
    fn a_carry_of_the_trial_subtraction_is_not_seen() {
        let mut by = Multiplier::default();
        by.set(&1_u128.to_le_bytes());
        let mut poly = Poly::new(&by);
        poly.block_with_top(u64::MAX, 0, 0);
        let tag = *poly.finish().as_bytes();
        assert_eq!(u128::from_le_bytes(tag), u128::from(u64::MAX));
    }

    #[test]
    fn published_vectors() {
        let text = include_str!("../../testdata/adiantum/Poly1305.json");
        let vectors: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
        assert!(vectors.len() > 10, "{} vectors", vectors.len());
        for vector in vectors {
            let field = |name: &str| unhex(vector["input"][name].as_str().unwrap());
            let tag = mac(&field("key_hex"), &field("mask_hex"), &field("message_hex"));
            assert_eq!(
                tag.as_slice(),
                unhex(vector["mac_hex"].as_str().unwrap()),
                "{vector}"
            );
        }
    }
}
