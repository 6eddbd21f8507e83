//! The hashes that the signed root commits to, found again from tiles and lines.

use std::io;

use super::super::merkle::Hash;
use super::super::merkle::tile::{self, WIDTH};
use super::super::note::Checkpoint;
use super::files::{Files, read_if_there};
use super::rows::{Rows, UNKNOWN};
use super::scan::Scan;
use super::settle::Sources;

/// Leaves that are looked for beyond those that lines and tiles can tell: so
/// many lost ones are still named one by one.
const MOST_LOST: usize = 1 << 10;

/// The tree, as far as anything tells it.
pub(super) struct Leaves {
    pub(super) rows: Rows,
    /// What is known is what the signed root commits to.
    pub(super) signed: bool,
}

impl Leaves {
    /// The leaf hashes, those that are not known among them.
    pub(super) fn hashes(&self) -> &[Hash] {
        self.rows.leaves()
    }

    /// Whether all of them are known, and signed.
    pub(super) fn proved(&self) -> bool {
        self.signed && !self.hashes().contains(&UNKNOWN)
    }
}

/// The leaf hashes. Without a believed checkpoint, those of the tiles, which
/// still tell most changes of lines.
pub(super) fn load(
    files: &dyn Files,
    names: &[String],
    checkpoint: Option<&Checkpoint>,
    scan: &Scan,
) -> io::Result<Leaves> {
    let stored = names.iter().filter_map(|name| tile::parse_path(name));
    let stored: Vec<_> = stored.collect();
    let Some(checkpoint) = checkpoint else {
        let rows = Rows::of(tiles_only(files, &stored)?);
        return Ok(Leaves {
            rows,
            signed: false,
        });
    };
    // Who signs can claim any size; memory goes by what is there. What is cut
    // off can prove nothing.
    let size = usize::try_from(checkpoint.size).unwrap_or(usize::MAX);
    let told = stored.len().saturating_mul(WIDTH);
    let told = told.saturating_add(scan.lines.len());
    let size = size.min(told.saturating_add(MOST_LOST));
    let root = Some(checkpoint.root);
    let signed = |rows| Leaves { rows, signed: true };
    let tiles = row(files, &stored, 0, size)?;
    let from_tiles = Rows::of(tiles.clone());
    if from_tiles.root(size) == root {
        return Ok(signed(from_tiles));
    }
    let lines = claimed(size, scan);
    let from_lines = Rows::of(over(&lines, &tiles));
    if from_lines.root(size) == root {
        return Ok(signed(from_lines));
    }
    // What the tiles of each level say, what the tiles of leaves give, and the lines.
    let from_leaves = Rows::of(over(&tiles, &lines));
    let mut stored_rows = Rows::of(tiles);
    for level in 1..stored_rows.count() {
        let len = stored_rows.level(level).len();
        let level_of_tiles = u8::try_from(level).unwrap_or(u8::MAX);
        let row = row(files, &stored, level_of_tiles, len)?;
        stored_rows.put(level, 0, &row);
    }
    let sources = Sources {
        rows: vec![stored_rows, from_leaves, from_lines],
    };
    Ok(match sources.settle(size, &checkpoint.root) {
        Some(rows) => signed(rows),
        // Neither tiles nor lines are vouched for.
        None => Leaves {
            rows: Rows::unknown(size),
            signed: false,
        },
    })
}

/// The first `len` hashes of a level of tiles; unknown ones are zero.
fn row(
    files: &dyn Files,
    stored: &[(u8, u64, usize)],
    level: u8,
    len: usize,
) -> io::Result<Vec<Hash>> {
    let mut row = vec![UNKNOWN; len];
    // Partial tiles first: a full one then overwrites them.
    let mut ours: Vec<_> = stored.iter().filter(|tile| tile.0 == level).collect();
    ours.sort_by_key(|tile| tile.2);
    for tile in ours {
        if let Some((start, hashes)) = read_tile(files, *tile)? {
            let to = row.get_mut(start..).unwrap_or_default();
            to.iter_mut().zip(hashes).for_each(|(to, hash)| *to = hash);
        }
    }
    Ok(row)
}

/// The leaf hashes that tiles tell without a gap.
fn tiles_only(files: &dyn Files, stored: &[(u8, u64, usize)]) -> io::Result<Vec<Hash>> {
    let mut hashes: Vec<Hash> = Vec::new();
    let mut numbers: Vec<_> = stored.iter().filter(|tile| tile.0 == 0).collect();
    numbers.sort_by_key(|tile| (tile.1, tile.2));
    for tile in numbers {
        let Some((start, more)) = read_tile(files, *tile)? else {
            continue;
        };
        if start > hashes.len() {
            break;
        }
        hashes.truncate(start);
        hashes.extend(more);
    }
    Ok(hashes)
}

/// The hashes of a stored tile, and the place of the first of them in its row;
/// none of a tile that went since it was listed or holds no hashes.
fn read_tile(
    files: &dyn Files,
    (level, number, width): (u8, u64, usize),
) -> io::Result<Option<(usize, Vec<Hash>)>> {
    let path = tile::path(level, number, width);
    let bytes = read_if_there(files, &path, WIDTH.saturating_mul(32))?;
    let hashes = bytes.as_deref().and_then(tile::hashes);
    let number = usize::try_from(number).ok();
    let start = number.and_then(|number| number.checked_mul(WIDTH));
    Ok(start.zip(hashes))
}

/// What the first line of each number claims.
fn claimed(size: usize, scan: &Scan) -> Vec<Hash> {
    let mut hashes = vec![UNKNOWN; size];
    for line in &scan.lines {
        let seq = line.seq.and_then(|seq| usize::try_from(seq).ok());
        let hash = seq.and_then(|seq| hashes.get_mut(seq));
        if let Some(hash) = hash.filter(|hash| **hash == UNKNOWN) {
            *hash = line.hash;
        }
    }
    hashes
}

/// The one, and where it tells nothing the other.
fn over(one: &[Hash], other: &[Hash]) -> Vec<Hash> {
    let pairs = one.iter().zip(other);
    let pairs = pairs.map(|(one, other)| if *one == UNKNOWN { *other } else { *one });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn tiles_tell_leaves_up_to_the_first_that_is_gone() {
        let stored = [(0, 0, 3), (0, 0, WIDTH), (0, 1, 9), (0, 3, 5), (1, 0, 2)];
        let put = |&(level, number, width): &(u8, u64, usize)| {
            let path = tile::path(level, number, width);
            (path, vec![7; 32 * width])
        };
        let files: BTreeMap<String, Vec<u8>> = stored.iter().map(put).collect();
        let told = |stored: &[(u8, u64, usize)]| tiles_only(&files, stored).unwrap().len();
        assert_eq!(told(&stored), WIDTH + 9);
        assert_eq!(told(&stored[..1]), 3);
        assert_eq!(told(&stored[2..]), 0, "the first is gone");
    }
}
