//! The secret key.

use zeroize::{Zeroize as _, ZeroizeOnDrop};

use super::poly::Multiplier;
use super::{KEY_BYTES, NH_KEY_WORDS};

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

/// The key as it came, and as the hash uses it.
struct Parts {
    bytes: [u8; KEY_BYTES],
    words: [u32; NH_KEY_WORDS],
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
            words: [0; NH_KEY_WORDS],
            multiplier: Multiplier::default(),
        });
        parts.bytes.copy_from_slice(bytes);
        let (quads, _) = bytes.as_chunks::<4>();
        let (r, nh) = quads.split_at(4.min(quads.len()));
        for (word, quad) in parts.words.iter_mut().zip(nh) {
            *word = u32::from_le_bytes(*quad);
        }
        parts.multiplier.set(r.as_flattened());
        Self(parts)
    }

    /// The key's bytes, for upload to a device that computes the same tags.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0.bytes
    }

    /// The NH part as words.
    pub(super) fn words(&self) -> &[u32; NH_KEY_WORDS] {
        &self.0.words
    }

    /// The Poly1305 part.
    pub(super) fn multiplier(&self) -> &Multiplier {
        &self.0.multiplier
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.bytes.zeroize();
        self.0.words.zeroize();
        self.0.multiplier.wipe();
    }
}

impl ZeroizeOnDrop for Key {}
