//! The right edge of a growing tree, kept as the partial tiles of each level.

use super::tile::{HEIGHT, Tile, WIDTH};
use super::{Hash, node_hash, root};

/// A tree that grows leaf by leaf and remembers only its unfinished tiles, and
/// the finished ones until they are taken away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    size: u64,
    /// Per level of tiles, the hashes of the unfinished tile; fewer than 256.
    edge: Vec<Vec<Hash>>,
    finished: Vec<Tile>,
}

impl Tree {
    /// Number of leaves.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut number = self.size >> HEIGHT;
        self.size = self.size.saturating_add(1);
        let mut hash = leaf;
        for level in 0_u8..=u8::MAX {
            let at = usize::from(level);
            if self.edge.len() <= at {
                self.edge.push(Vec::with_capacity(WIDTH));
            }
            let Some(row) = self.edge.get_mut(at) else {
                return;
            };
            row.push(hash);
            if row.len() < WIDTH {
                return;
            }
            let hashes = std::mem::take(row);
            hash = root(&hashes);
            self.finished.push(Tile {
                level,
                number,
                hashes,
            });
            number >>= HEIGHT;
        }
    }

    /// The tree's root.
    pub(crate) fn root(&self) -> Hash {
        let mut right: Option<Hash> = None;
        for row in &self.edge {
            // Perfect subtrees of this level from right to left, smallest first.
            let mut rest = row.as_slice();
            while !rest.is_empty() {
                let width = 1_usize << rest.len().trailing_zeros();
                let Some((left, block)) = rest.split_at_checked(rest.len().saturating_sub(width))
                else {
                    break;
                };
                let block = root(block);
                right = Some(right.map_or(block, |right| node_hash(&block, &right)));
                rest = left;
            }
        }
        right.unwrap_or_else(|| root(&[]))
    }

    /// The tiles finished since the last call of [`Tree::forget_finished`].
    pub(crate) fn finished(&self) -> &[Tile] {
        &self.finished
    }

    /// Lets the finished tiles go: they are stored.
    pub(crate) fn forget_finished(&mut self) {
        self.finished.clear();
    }

    /// The unfinished tiles as they are now.
    pub(crate) fn partial(&self) -> impl Iterator<Item = Tile> + '_ {
        (0_u8..).zip(&self.edge).filter_map(|(level, row)| {
            let shift = HEIGHT.checked_mul(u32::from(level).checked_add(1)?)?;
            let number = self.size.checked_shr(shift).unwrap_or(0);
            (!row.is_empty()).then(|| Tile {
                level,
                number,
                hashes: row.clone(),
            })
        })
    }
}
