//! The 32-byte name of a file's contents and its text form.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{BlockHash, HASH_BYTES};

/// The fs-verity SHA-256 file digest: 4096-byte blocks, no salt.
///
/// It is the value that `fsverity digest FILE` prints and that the Linux kernel enforces on files
/// with fs-verity enabled. Text form: exactly 64 lower-case hexadecimal digits, without a prefix
/// (requirement: DG-1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest([u8; HASH_BYTES]);

/// Why a text is not a [`FileDigest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDigestError {
    /// Not 64 bytes long.
    #[error("digest has {0} characters, needs exactly 64 lower-case hex digits")]
    Length(usize),
    /// A hex digit in upper case.
    #[error("digest has an upper-case hex digit at position {0}; write it in lower case")]
    UpperCase(usize),
    /// Something that is no hex digit.
    #[error("digest has a character that is not a hex digit at position {0}")]
    NotHex(usize),
}

impl FileDigest {
    /// Takes the 32 raw bytes of a digest.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; HASH_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }

    /// Compares in time that does not depend on the bytes (requirement: DG-3).
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Seals root hash and length into the file digest.
///
/// The result is SHA-256 of the 256-byte `struct fsverity_descriptor` of the Linux kernel
/// (`Documentation/filesystems/fsverity.rst`): version 1, algorithm 1 (SHA-256), log2 of the block
/// size 12, no salt, no signature, the file size, the root padded to 64 bytes, zeros.
/// `len` is in bytes.
#[must_use]
pub fn file_digest(root: &BlockHash, len: u64) -> FileDigest {
    let mut hash = Sha256::new();
    hash.update([1, 1, 12, 0, 0, 0, 0, 0]);
    hash.update(len.to_le_bytes());
    hash.update(root);
    hash.update([0; 32 + 32 + 144]);
    FileDigest(hash.finalize().into())
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The value of one lower-case hex digit found at `position`.
fn nibble(digit: u8, position: usize) -> Result<u8, ParseDigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Ok(digit.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Err(ParseDigestError::UpperCase(position)),
        _ => Err(ParseDigestError::NotHex(position)),
    }
}

impl FromStr for FileDigest {
    type Err = ParseDigestError;

    /// Accepts exactly what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != HASH_BYTES.saturating_mul(2) {
            return Err(ParseDigestError::Length(text.chars().count()));
        }
        let mut bytes = [0_u8; HASH_BYTES];
        for (position, (&digit, index)) in digits
            .iter()
            .zip((0..HASH_BYTES).flat_map(|i| [i, i]))
            .enumerate()
        {
            let value = nibble(digit, position)?;
            if let Some(byte) = bytes.get_mut(index) {
                *byte = byte.wrapping_mul(16).wrapping_add(value);
            }
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_is_strict() {
        let digest = FileDigest::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        let text = digest.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(text, format!("{digest:?}"));
        assert_eq!(text.parse::<FileDigest>().unwrap(), digest);
        let parse = |text: &str| text.parse::<FileDigest>();
        let most: String = text.chars().take(62).collect();
        assert_eq!(parse(&most), Err(ParseDigestError::Length(62)));
        assert_eq!(parse(""), Err(ParseDigestError::Length(0)));
        assert_eq!(
            parse(&format!("{text}0")),
            Err(ParseDigestError::Length(65))
        );
        assert_eq!(
            parse(&format!("{most}0A")),
            Err(ParseDigestError::UpperCase(63))
        );
        assert_eq!(
            parse(&format!(" 0{most}")),
            Err(ParseDigestError::NotHex(0))
        );
        assert_eq!(
            parse(&format!("{most}\u{e4}")),
            Err(ParseDigestError::NotHex(62))
        );
    }

    #[test]
    fn every_differing_bit_is_seen() {
        let one = FileDigest::from_bytes([0x5a; 32]);
        assert!(one.ct_eq(&one));
        for bit in 0..256 {
            let mut bytes = [0x5a; 32];
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!one.ct_eq(&FileDigest::from_bytes(bytes)), "bit {bit}");
        }
    }
}
