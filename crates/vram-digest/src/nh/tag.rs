//! The tag.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};

use super::TAG_BYTES;

/// An NHPoly1305 hash of one segment.
///
/// `==` takes the same time whatever the bytes are, and the bytes are never printed: together with
/// the data they would tell about the key.
#[derive(Clone, Copy)]
pub struct Tag([u8; TAG_BYTES]);

impl Tag {
    /// The tag of no bytes; also what to fill a slice with before [`tags`](super::tags).
    pub const ZERO: Self = Self([0; TAG_BYTES]);

    /// Takes the 16 raw bytes, as a device returned them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; TAG_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 16 raw bytes. They are secret as long as the key is in use.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; TAG_BYTES] {
        &self.0
    }
}

impl ConstantTimeEq for Tag {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for Tag {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Tag {}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_byte() {
        assert_eq!(format!("{:?}", Tag::from_bytes([0xab; 16])), "Tag(..)");
    }

    #[test]
    fn every_differing_bit_is_seen() {
        let one = Tag::from_bytes([0xc3; 16]);
        assert!(one == Tag::from_bytes([0xc3; 16]));
        for bit in 0..128 {
            let mut bytes = [0xc3; 16];
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(one != Tag::from_bytes(bytes), "bit {bit}");
        }
    }
}
