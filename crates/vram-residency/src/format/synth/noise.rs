//! Weights from a counter: any word of any tensor is a pure function of the
//! seed, so the bytes do not depend on how they are cut into pieces.

use crate::format::dtype::Dtype;

/// Steps of the Weyl sequence under SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood 2014).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The stream of one tensor's bytes.
pub(super) struct Noise {
    key: u64,
    next: u64,
    dtype: Dtype,
}

impl Noise {
    /// The stream of tensor `number` in the model of `seed`.
    pub(super) const fn new(seed: u64, number: u64, dtype: Dtype) -> Self {
        let key = mix(mix(seed.wrapping_add(GOLDEN)) ^ number.wrapping_mul(GOLDEN));
        Self {
            key,
            next: 0,
            dtype,
        }
    }

    const fn word(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        mix(self.key.wrapping_add(self.next.wrapping_mul(GOLDEN)))
    }

    /// Fills `out` with the next bytes. All pieces but the last of a tensor
    /// must be whole words and whole blocks.
    pub(super) fn fill(&mut self, out: &mut [u8]) {
        match self.dtype {
            Dtype::Q8_0 => self.fill_blocks(out),
            Dtype::F32 => self.fill_words(out, near_one),
            _ => self.fill_words(out, small_bf16),
        }
    }

    fn fill_words(&mut self, out: &mut [u8], shape: impl Fn(u64) -> u64) {
        for chunk in out.chunks_mut(8) {
            let bytes = shape(self.word()).to_le_bytes();
            let (now, _) = bytes.split_at_checked(chunk.len()).unwrap_or_default();
            chunk.copy_from_slice(now);
        }
    }

    /// Q8_0: a half-precision scale and 32 signed bytes.
    fn fill_blocks(&mut self, out: &mut [u8]) {
        for block in out.chunks_exact_mut(34) {
            let (scale, weights) = block.split_at_mut_checked(2).unwrap_or_default();
            // 2^-11 times 1.0 to 2.0: weights up to 0.12.
            let [low, high, ..] = self.word().to_le_bytes();
            scale.copy_from_slice(&[low, 0x10 | (high & 0x03)]);
            self.fill_words(weights, |word| word);
        }
    }
}

/// Four BF16 values, uniform in -1/32 to 1/32.
fn small_bf16(word: u64) -> u64 {
    let lane = |shift: u32| {
        let bits = word >> shift;
        // Each further leading zero halves the magnitude: a uniform number.
        let zeros = u64::from(((bits >> 7) & 0xff | 0x100).trailing_zeros());
        let exponent = 121_u64.saturating_sub(zeros);
        ((bits & 0x8000) | (exponent << 7) | (bits & 0x7f)) << shift
    };
    lane(0) | lane(16) | lane(32) | lane(48)
}

/// Two F32 values from 1.0 to 1.125, as norms have.
fn near_one(word: u64) -> u64 {
    word & 0x000f_ffff_000f_ffff | 0x3f80_0000_3f80_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(dtype: Dtype, seed: u64, number: u64, pieces: &[usize]) -> Vec<u8> {
        let mut noise = Noise::new(seed, number, dtype);
        let mut all = Vec::new();
        for piece in pieces {
            let mut out = vec![0; *piece];
            noise.fill(&mut out);
            all.extend(out);
        }
        all
    }

    #[test]
    fn pieces_do_not_matter_but_seed_and_tensor_do() {
        for (dtype, unit) in [(Dtype::Bf16, 8), (Dtype::F32, 8), (Dtype::Q8_0, 34)] {
            let whole = bytes(dtype, 7, 1, &[unit * 10]);
            assert_eq!(bytes(dtype, 7, 1, &[unit, unit * 4, unit * 5]), whole);
            assert_ne!(bytes(dtype, 7, 2, &[unit * 10]), whole);
            assert_ne!(bytes(dtype, 8, 1, &[unit * 10]), whole);
        }
        let cut = bytes(Dtype::Bf16, 7, 1, &[8, 6]);
        assert!(bytes(Dtype::Bf16, 7, 1, &[16]).starts_with(&cut));
    }

    #[test]
    fn weights_are_finite_and_of_the_right_size() {
        let bf16 = bytes(Dtype::Bf16, 3, 0, &[80_000]);
        let values: Vec<f32> = bf16
            .chunks_exact(2)
            .map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16))
            .collect();
        assert!(values.iter().all(|v| v.abs() < 1.0 / 32.0 && *v != 0.0));
        let count = f64::from(u32::try_from(values.len()).unwrap());
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let square = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / count;
        // Uniform on -1/32..1/32: standard deviation 1 / (32 * sqrt(3)).
        assert!(mean.abs() < 5e-4, "{mean}");
        assert!((square.sqrt() - 0.018).abs() < 1e-3, "{square}");

        let f32s = bytes(Dtype::F32, 3, 0, &[4_000]);
        for b in f32s.chunks_exact(4) {
            let value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            assert!((1.0..1.125).contains(&value), "{value}");
        }
        let q8 = bytes(Dtype::Q8_0, 3, 0, &[3_400]);
        for block in q8.chunks_exact(34) {
            let scale = u16::from_le_bytes([block[0], block[1]]);
            assert!((0x1000..0x1400).contains(&scale), "{scale:#x}");
        }
    }
}
