//! The secret key.

use zeroize::{Zeroize as _, ZeroizeOnDrop};

use super::poly::Multiplier;
use super::{KEY_BYTES, NH_UNIT_BYTES, PASSES};

/// An NHPoly1305 key: 16 bytes `r` of Poly1305, then 1072 bytes for NH.
///
/// On the heap and wiped when dropped. It cannot be printed, cloned, compared or serialised.
///
/// ```compile_fail
/// let key = vram_digest::nh::Key::from_bytes(&[0; 1088]);
/// println!("{key:?}");
/// ```
///
/// ```compile_fail
/// let key = vram_digest::nh::Key::from_bytes(&[0; 1088]);
/// let copy = key.clone();
/// ```
pub struct Key(Box<Parts>);

/// Key words for 64 bytes of data in one pass: four strides of words 0, 2, 1 and 3, in this order.
///
/// NH multiplies word 0 by word 2 and word 1 by word 3; in this order both factors of a product
/// share one 64-bit half, and vectors reach them with a shift instead of two shuffles.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct KeyLine(pub(super) [[u32; 4]; 4]);

/// The NH part, for each 64 bytes of a unit and each pass.
///
/// Pass `p` sees the key shifted by `p` strides. Four shifted copies cost 3 KiB and keep every
/// vector load within one cache line.
pub(super) type NhKey = [[KeyLine; PASSES]; NH_UNIT_BYTES / 64];

/// The key as it came, and as the hash uses it.
struct Parts {
    bytes: [u8; KEY_BYTES],
    nh: NhKey,
    multiplier: Multiplier,
}

impl Key {
    /// Takes a key of fresh random bytes; the caller wipes its own copy.
    ///
    /// Every value is a valid key: Poly1305 clears the bits of `r` that must be clear.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut parts = Box::new(Parts {
            bytes: [0; KEY_BYTES],
            nh: [[KeyLine([[0; 4]; 4]); PASSES]; NH_UNIT_BYTES / 64],
            multiplier: Multiplier::default(),
        });
        parts.bytes.copy_from_slice(bytes);
        let (words, _) = bytes.as_chunks::<4>();
        if let ([r, nh @ ..], _) = words.as_chunks::<4>() {
            parts.multiplier.set(r.as_flattened());
            for (line, seven) in parts.nh.iter_mut().zip(nh.windows(7).step_by(4)) {
                for (pass, four) in line.iter_mut().zip(seven.array_windows()) {
                    *pass = KeyLine::new(four);
                }
            }
        }
        Self(parts)
    }

    /// The key's bytes, for upload to a device that computes the same tags.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0.bytes
    }

    /// The NH part.
    pub(super) fn nh(&self) -> &NhKey {
        &self.0.nh
    }

    /// The Poly1305 part.
    pub(super) fn multiplier(&self) -> &Multiplier {
        &self.0.multiplier
    }
}

impl KeyLine {
    /// Reads four strides of little-endian words.
    fn new(strides: &[[[u8; 4]; 4]; 4]) -> Self {
        Self(strides.map(|stride| {
            let [w0, w1, w2, w3] = stride.map(u32::from_le_bytes);
            [w0, w2, w1, w3]
        }))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.bytes.zeroize();
        for line in self.0.nh.as_flattened_mut() {
            line.0.zeroize();
        }
        self.0.multiplier.wipe();
    }
}

impl ZeroizeOnDrop for Key {}
