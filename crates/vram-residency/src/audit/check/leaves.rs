//! The hashes that the signed root commits to, found again from tiles and lines.

use std::io;

use super::super::merkle::tile::{self, WIDTH};
use super::super::merkle::{self, Hash};
use super::super::note::Checkpoint;
use super::files::{Files, read_if_there};
use super::scan::Scan;

/// Leaves that are looked for beyond those that lines and tiles can tell: so
/// many lost ones are still named one by one.
const MOST_LOST: usize = 1 << 10;

/// Stands for a leaf that neither a tile nor a line tells.
const UNKNOWN: Hash = [0; 32];

pub(super) struct Leaves {
    pub(super) hashes: Vec<Hash>,
    /// Their root is the signed one.
    pub(super) proved: bool,
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
        let hashes = tiles_only(files, &stored)?;
        return Ok(Leaves {
            hashes,
            proved: false,
        });
    };
    // Who signs can claim any size; memory goes by what is there. What is cut
    // off can prove nothing.
    let size = usize::try_from(checkpoint.size).unwrap_or(usize::MAX);
    let told = stored.len().saturating_mul(WIDTH);
    let told = told.saturating_add(scan.lines.len());
    let size = size.min(told.saturating_add(MOST_LOST));
    let from_tiles = row(files, &stored, 0, size)?;
    if merkle::root(&from_tiles) == checkpoint.root {
        return Ok(Leaves {
            hashes: from_tiles,
            proved: true,
        });
    }
    let from_lines = lines_over(&from_tiles, scan);
    if merkle::root(&from_lines) == checkpoint.root {
        return Ok(Leaves {
            hashes: from_lines,
            proved: true,
        });
    }
    let parents = row(files, &stored, 1, size / WIDTH)?;
    let hashes = mixed(&from_tiles, &from_lines, &parents);
    let proved = merkle::root(&hashes) == checkpoint.root;
    Ok(Leaves { hashes, proved })
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

/// What the lines claim, over what the tiles say where no line claims.
fn lines_over(from_tiles: &[Hash], scan: &Scan) -> Vec<Hash> {
    let mut hashes = from_tiles.to_vec();
    let mut claimed = vec![false; hashes.len()];
    for line in &scan.lines {
        let Some(seq) = line.seq.and_then(|seq| usize::try_from(seq).ok()) else {
            continue;
        };
        let (Some(hash), Some(claimed)) = (hashes.get_mut(seq), claimed.get_mut(seq)) else {
            continue;
        };
        if !*claimed {
            (*hash, *claimed) = (line.hash, true);
        }
    }
    hashes
}

/// For each tile the source that its parent hash confirms.
fn mixed(from_tiles: &[Hash], from_lines: &[Hash], parents: &[Hash]) -> Vec<Hash> {
    let pairs = from_tiles.chunks(WIDTH).zip(from_lines.chunks(WIDTH));
    let mut hashes = Vec::with_capacity(from_tiles.len());
    for (at, (tile, lines)) in pairs.enumerate() {
        let by_lines = parents
            .get(at)
            .is_some_and(|parent| merkle::root(tile) != *parent && merkle::root(lines) == *parent);
        hashes.extend_from_slice(if by_lines { lines } else { tile });
    }
    hashes
}
