//! NHPoly1305, the keyed universal hash of Adiantum.
//!
//! Reference: Crowley and Biggers, "Adiantum: length-preserving encryption for entry-level
//! processors" (2018), and the Linux kernel's `nhpoly1305`. 32-bit words, 4 passes, stride 2,
//! 1 KiB units, Poly1305 over the 32-byte NH results, no nonce added.
//!
//! Two equal tags under a fresh random key mean equal bytes but for a chance of about 2^-92 per
//! segment. The key is one-time in spirit: a tag must not be shown to whoever can choose bytes for
//! the same key, and the length of the data is not part of the hash, so whoever stores a tag stores
//! the length too.
//!
//! # Examples
//!
//! ```
//! use vram_digest::nh;
//!
//! let key = nh::Key::from_bytes(&[0x42; nh::KEY_BYTES]); // random in earnest
//! let data = vec![1_u8; 3 * nh::SEGMENT_BYTES / 2];
//! let mut tags = vec![nh::Tag::ZERO; nh::tag_count(data.len())];
//! nh::tags(&key, &data, &mut tags)?;
//! assert!(tags.last() == Some(&nh::tag(&key, &data[nh::SEGMENT_BYTES..])));
//! # Ok::<(), vram_digest::LengthMismatch>(())
//! ```

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
mod key;
mod poly;
mod portable;
mod segment;
mod tag;

pub use key::Key;
pub use segment::{NhHash, nh_unit, tag, tag_count, tag_of_units, tags, tags_parallel, tags2};
pub use tag::Tag;

/// Bytes of data under one tag.
pub const SEGMENT_BYTES: usize = 1 << 20;

/// Bytes that one NH result covers.
pub const NH_UNIT_BYTES: usize = 1024;

/// Bytes of one NH result: four little-endian 64-bit sums.
pub const NH_HASH_BYTES: usize = 32;

/// Bytes of a key: 16 for Poly1305's `r`, then 1072 for NH, as little-endian words.
pub const KEY_BYTES: usize = 1088;

/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;

/// Sums that NH makes of a unit.
const PASSES: usize = 4;

/// Bytes that NH takes at a step.
const STRIDE_BYTES: usize = 16;
