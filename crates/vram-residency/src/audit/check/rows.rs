//! The levels of the tree that tiles hold, as far as their hashes are known.

use std::ops::Range;

use super::super::merkle::tile::{HEIGHT, WIDTH};
use super::super::merkle::{self, Hash};

/// Stands for a hash that nothing tells.
pub(super) const UNKNOWN: Hash = [0; 32];

/// Levels 0, 8, 16, ... of a tree; the last is shorter than a tile.
#[derive(Default)]
pub(super) struct Rows(Vec<Vec<Hash>>);

impl Rows {
    /// What the leaves give.
    pub(super) fn of(leaves: Vec<Hash>) -> Self {
        let mut rows = vec![leaves];
        while let Some(row) = rows.last().filter(|row| row.len() >= WIDTH) {
            let up = row.chunks_exact(WIDTH).map(parent).collect();
            rows.push(up);
        }
        Self(rows)
    }

    /// Nothing of a tree of this size.
    pub(super) fn unknown(size: usize) -> Self {
        let mut rows = vec![vec![UNKNOWN; size]];
        while let Some(row) = rows.last().filter(|row| row.len() >= WIDTH) {
            let up = vec![UNKNOWN; row.len() / WIDTH];
            rows.push(up);
        }
        Self(rows)
    }

    /// The leaves.
    pub(super) fn leaves(&self) -> &[Hash] {
        self.level(0)
    }

    pub(super) fn into_leaves(self) -> Vec<Hash> {
        self.0.into_iter().next().unwrap_or_default()
    }

    /// Number of levels.
    pub(super) const fn count(&self) -> usize {
        self.0.len()
    }

    /// One of them; empty beyond the last.
    pub(super) fn level(&self, level: usize) -> &[Hash] {
        self.0.get(level).map_or(&[], Vec::as_slice)
    }

    /// Takes hashes of one level, from `start` on.
    pub(super) fn put(&mut self, level: usize, start: usize, hashes: &[Hash]) {
        let row = self.0.get_mut(level);
        let to = row.and_then(|row| row.get_mut(start..)).unwrap_or_default();
        to.iter_mut().zip(hashes).for_each(|(to, hash)| *to = *hash);
    }

    /// The root of the first `size` leaves, where enough is known for it.
    pub(super) fn root(&self, size: usize) -> Option<Hash> {
        let mut edges = Vec::new();
        for (level, edge) in edges_of(size, self.count()) {
            edges.push(self.level(level).get(edge)?);
        }
        let known = edges.iter().all(|edge| !edge.contains(&UNKNOWN));
        known.then(|| root_of(&edges))
    }
}

/// The hash over a full tile; unknown when one of its hashes is.
fn parent(tile: &[Hash]) -> Hash {
    if tile.contains(&UNKNOWN) {
        return UNKNOWN;
    }
    merkle::root(tile)
}

/// What the root of a tree is made of, the highest first: at each level, what stands
/// after the last full tile.
pub(super) fn edges_of(size: usize, levels: usize) -> Vec<(usize, Range<usize>)> {
    let row = |level: usize| {
        let height = u32::try_from(level).unwrap_or(u32::MAX);
        size.checked_shr(height.saturating_mul(HEIGHT)).unwrap_or(0)
    };
    let edge = |level: usize| {
        let full = row(level.saturating_add(1));
        (level, full.saturating_mul(WIDTH)..row(level))
    };
    (0..levels).rev().map(edge).collect()
}

/// The root over these edges: the perfect trees in them, the largest first.
pub(super) fn root_of(edges: &[&[Hash]]) -> Hash {
    let mut peaks = Vec::new();
    for mut edge in edges.iter().copied() {
        while let Some(height) = edge.len().checked_ilog2() {
            let (peak, rest) = edge.split_at(1 << height);
            peaks.push(merkle::root(peak));
            edge = rest;
        }
    }
    let up = |right: Hash, left: &Hash| merkle::node_hash(left, &right);
    match peaks.split_last() {
        Some((last, larger)) => larger.iter().rfold(*last, up),
        None => merkle::root(&[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(size: usize) -> Vec<Hash> {
        let leaf = |at: usize| merkle::leaf_hash(&at.to_le_bytes());
        (0..size).map(leaf).collect()
    }

    #[test]
    fn the_root_of_every_beginning_is_that_of_its_leaves() {
        let leaves = leaves(66_100);
        let rows = Rows::of(leaves.clone());
        assert_eq!(rows.count(), 3);
        let sizes = (0..1030).chain([65_535, 65_536, 65_537, 65_792, 66_047, 66_100]);
        for size in sizes {
            let expected = Some(merkle::root(&leaves[..size]));
            assert_eq!(rows.root(size), expected, "{size}");
        }
        assert_eq!(rows.root(66_101), None);
    }

    #[test]
    fn a_root_is_unknown_only_where_a_hash_that_it_needs_is() {
        let right = leaves(600);
        let mut gap = right.clone();
        gap[300] = UNKNOWN;
        let mut rows = Rows::of(gap);
        assert_eq!(rows.root(256), Some(merkle::root(&right[..256])));
        assert_eq!(rows.root(300), Some(merkle::root(&right[..300])));
        assert_eq!(rows.root(301), None);
        assert_eq!(rows.root(600), None);
        // The hash over the tile says as much as its leaves.
        rows.put(1, 1, &[merkle::root(&right[256..512])]);
        assert_eq!(rows.root(301), None);
        assert_eq!(rows.root(600), Some(merkle::root(&right)));
        let blank = Rows::unknown(600);
        assert_eq!([blank.leaves().len(), blank.level(1).len()], [600, 2]);
        assert_eq!((blank.count(), blank.root(1)), (2, None));
        assert_eq!(blank.root(0), Some(merkle::root(&[])));
    }
}
