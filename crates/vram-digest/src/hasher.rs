//! Hashing a file that arrives in pieces.

use crate::block::{bytes, hash_blocks};
use crate::tree::Tree;
use crate::{BLOCK_BYTES, BlockHash};

/// Short pieces are gathered into this many bytes, enough blocks for every lane of every path.
const BATCH: usize = 16 * BLOCK_BYTES;

/// Streaming form of the digest: any chunking gives the same [`Tree`].
///
/// Memory beyond the block hashes is 64 KiB.
///
/// # Examples
///
/// ```
/// let mut hasher = vram_digest::Hasher::new();
/// hasher.update(b"first bytes, ");
/// hasher.update(b"last bytes");
/// let tree = hasher.finalize();
/// assert_eq!(tree.len(), 23);
/// assert_eq!(tree.digest(), vram_digest::digest(b"first bytes, last bytes"));
/// ```
#[derive(Clone, Default)]
pub struct Hasher {
    level0: Vec<BlockHash>,
    /// Bytes not hashed yet; always less than a batch.
    pending: Vec<u8>,
    len: u64,
}

impl Hasher {
    /// A hasher of nothing so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, data: &[u8]) {
        self.len = self.len.saturating_add(bytes(data));
        let mut rest = data;
        if !self.pending.is_empty() {
            let room = BATCH.saturating_sub(self.pending.len());
            let (head, tail) = rest.split_at(room.min(rest.len()));
            self.pending.extend_from_slice(head);
            rest = tail;
            if self.pending.len() < BATCH {
                return;
            }
            append(&mut self.level0, &self.pending);
            self.pending.clear();
        }
        let whole = rest.len().saturating_sub(rest.len() % BATCH);
        let (batches, tail) = rest.split_at(whole);
        append(&mut self.level0, batches);
        self.pending.extend_from_slice(tail);
    }

    /// Bytes taken so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True before the first byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Ends the file: hashes what is pending and builds the tree.
    #[must_use]
    pub fn finalize(mut self) -> Tree {
        append(&mut self.level0, &self.pending);
        Tree::from_parts(self.level0, self.len)
    }
}

impl std::fmt::Debug for Hasher {
    /// Lengths only: pending bytes are somebody's weights.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Hashes `data` onto the end of `level0`.
fn append(level0: &mut Vec<BlockHash>, data: &[u8]) {
    let old = level0.len();
    level0.resize(
        old.saturating_add(data.len().div_ceil(BLOCK_BYTES)),
        BlockHash::default(),
    );
    let hashed = hash_blocks(data, level0.get_mut(old..).unwrap_or_default());
    debug_assert!(
        hashed.is_ok(),
        "level 0 was just grown by the data's block count"
    );
}
