//! The Merkle tree over block hashes.

use std::num::NonZeroUsize;

use crate::block::{bytes, hash_blocks, hash_blocks_parallel};
use crate::error::{LengthMismatch, check_count};
use crate::file_digest::{FileDigest, file_digest};
use crate::{BLOCK_BYTES, BlockHash, HASH_BYTES};

/// Hashes that fit one block of an upper level.
const FAN_OUT: usize = BLOCK_BYTES / HASH_BYTES;

/// Levels above the block hashes of the longest file: 2^64 bytes are 2^52 blocks, and each level
/// has 2^7 times fewer hashes.
const MOST_LEVELS: usize = 8;

/// The root hash over level-0 block hashes.
///
/// Each upper level hashes 4096-byte blocks (128 hashes) of the level below until one hash remains.
/// One block hash is its own root. No blocks give the all-zero root, as the Linux kernel defines it
/// for empty files.
#[must_use]
pub fn root(level0: &[BlockHash]) -> BlockHash {
    root_on(level0, NonZeroUsize::MIN)
}

/// The same on up to `threads` threads.
fn root_on(level0: &[BlockHash], threads: NonZeroUsize) -> BlockHash {
    let mut top: Option<Vec<BlockHash>> = None;
    for _ in 0..MOST_LEVELS {
        let Some(above) = parents(top.as_deref().unwrap_or(level0), threads) else {
            break;
        };
        top = Some(above);
    }
    let top = top.as_deref().unwrap_or(level0);
    top.first().copied().unwrap_or_default()
}

/// The level above, or `None` when there is none.
fn parents(level: &[BlockHash], threads: NonZeroUsize) -> Option<Vec<BlockHash>> {
    if level.len() <= 1 {
        return None;
    }
    let mut above = vec![BlockHash::default(); level.len().div_ceil(FAN_OUT)];
    hash_blocks_parallel(level.as_flattened(), &mut above, threads).ok()?;
    Some(above)
}

/// The fs-verity file digest of bytes in memory, on this thread.
///
/// # Examples
///
/// ```
/// // What `fsverity digest` prints for an empty file.
/// let empty = "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95";
/// assert_eq!(vram_digest::digest(b"").to_string(), empty);
/// ```
#[must_use]
pub fn digest(data: &[u8]) -> FileDigest {
    let mut level0 = vec![BlockHash::default(); data.len().div_ceil(BLOCK_BYTES)];
    // The count was just made from the data.
    let hashed = hash_blocks(data, &mut level0);
    debug_assert!(hashed.is_ok(), "level 0 is sized by the data");
    file_digest(&root(&level0), bytes(data))
}

/// Level-0 block hashes of a file, its length and its digest.
///
/// 32 bytes per 4096 bytes of data; enough to check, locate or repair any single block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    level0: Vec<BlockHash>,
    len: u64,
    digest: FileDigest,
}

impl Tree {
    /// Builds the upper levels over block hashes of a file of `len` bytes.
    ///
    /// # Errors
    ///
    /// [`LengthMismatch`] when `level0` does not have one hash per started 4096 bytes.
    pub fn from_level0(level0: Vec<BlockHash>, len: u64) -> Result<Self, LengthMismatch> {
        check_count("block hashes", len, BLOCK_BYTES, level0.len())?;
        Ok(Self::from_parts(level0, len))
    }

    /// [`Self::from_level0`] on up to `threads` threads: the block hashes of 16 GiB are 128 MiB.
    ///
    /// # Errors
    ///
    /// As [`Self::from_level0`].
    pub fn from_level0_parallel(
        level0: Vec<BlockHash>,
        len: u64,
        threads: NonZeroUsize,
    ) -> Result<Self, LengthMismatch> {
        check_count("block hashes", len, BLOCK_BYTES, level0.len())?;
        let digest = file_digest(&root_on(&level0, threads), len);
        Ok(Self {
            level0,
            len,
            digest,
        })
    }

    /// [`Self::from_level0`] where the count is known to fit.
    pub(crate) fn from_parts(level0: Vec<BlockHash>, len: u64) -> Self {
        let digest = file_digest(&root(&level0), len);
        Self {
            level0,
            len,
            digest,
        }
    }

    /// The file digest.
    #[must_use]
    pub const fn digest(&self) -> FileDigest {
        self.digest
    }

    /// Hashes of the data blocks, in file order.
    #[must_use]
    pub fn level0(&self) -> &[BlockHash] {
        &self.level0
    }

    /// Gives the level-0 hashes away.
    #[must_use]
    pub fn into_level0(self) -> Vec<BlockHash> {
        self.level0
    }

    /// Length of the data in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True for an empty file.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The hash of the data block with this index; `None` beyond the end.
    #[must_use]
    pub fn block(&self, index: u64) -> Option<&BlockHash> {
        self.level0.get(usize::try_from(index).ok()?)
    }
}
