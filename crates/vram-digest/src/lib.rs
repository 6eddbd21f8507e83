//! fs-verity SHA-256 file digests and NHPoly1305 tags: bytes in, digests out, no I/O.
//!
//! * [`digest`], [`Hasher`] and [`Tree`]: the digest that `fsverity digest` prints and the Linux
//!   kernel enforces (SHA-256, 4096-byte blocks, no salt). Block hashes are kept, so any 4 KiB of a
//!   file can be checked, located or repaired alone.
//! * [`nh`]: the keyed universal hash NHPoly1305 as Adiantum defines it, one tag per 1 MiB
//!   segment, for checks at the speed of memory.
//! * [`path`]: which implementation runs on this CPU. All give the same answers.
//!
//! Nothing here panics, reads the environment or keeps global state beyond CPU detection.
//!
//! # Examples
//!
//! ```
//! use vram_digest::{BLOCK_BYTES, Hasher, hash_block};
//!
//! let file = vec![7_u8; 10_000];
//! let mut hasher = Hasher::new();
//! for piece in file.chunks(999) {
//!     hasher.update(piece);
//! }
//! let tree = hasher.finalize();
//! assert_eq!(tree.digest(), vram_digest::digest(&file));
//!
//! // Any block can be checked without the others.
//! let third = file.chunks(BLOCK_BYTES).nth(2).unwrap_or_default();
//! assert_eq!(tree.block(2), Some(&hash_block(third)?));
//! # Ok::<(), vram_digest::TooLong>(())
//! ```
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_ptr_alignment,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::string_slice,
    clippy::missing_panics_doc
)]

mod block;
#[cfg(target_arch = "x86_64")]
mod cpu;
mod error;
mod file_digest;
mod hasher;
mod lanes;
pub mod nh;
pub mod path;
mod tree;

pub use block::{hash_block, hash_blocks, hash_blocks_parallel};
pub use error::{LengthMismatch, TooLong};
pub use file_digest::{FileDigest, ParseDigestError, file_digest};
pub use hasher::Hasher;
pub use tree::{Tree, digest, root};

/// Bytes of data under one level-0 hash.
pub const BLOCK_BYTES: usize = 4096;

/// Bytes of one SHA-256 hash.
pub const HASH_BYTES: usize = 32;

/// SHA-256 of one zero-padded block of [`BLOCK_BYTES`].
pub type BlockHash = [u8; HASH_BYTES];
