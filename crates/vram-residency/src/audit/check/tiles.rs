//! Every stored tile against the hashes of the tree.

use std::collections::HashSet;
use std::io;

use super::super::merkle::tile::{self, WIDTH};
use super::super::merkle::{self, Hash};
use super::files::{Files, listed, read_if_there};
use super::report::{Fault, Finding};

/// How often the tiles are listed again while a writer replaces them.
const MOST_LISTS: usize = 5;

/// Checks the tiles among `names`, and those that a writer put in the place of
/// one that went since.
pub(super) fn check(
    files: &dyn Files,
    mut names: Vec<String>,
    leaves: &[Hash],
) -> io::Result<Vec<Finding>> {
    let rows = rows(leaves);
    let (mut there, mut findings) = (HashSet::new(), Vec::new());
    for _ in 0..MOST_LISTS {
        read_new(files, &names, &rows, &mut there, &mut findings)?;
        if missing(&rows, &there).next().is_none() {
            break;
        }
        let again = listed(files)?;
        if again == names {
            break;
        }
        names = again;
    }
    findings.extend(missing(&rows, &there));
    Ok(findings)
}

/// Reads the tiles among `names` that are not `there` yet.
fn read_new(
    files: &dyn Files,
    names: &[String],
    rows: &[Vec<Hash>],
    there: &mut HashSet<String>,
    findings: &mut Vec<Finding>,
) -> io::Result<()> {
    for name in names {
        let Some((level, number, width)) = tile::parse_path(name) else {
            continue;
        };
        if there.contains(name) {
            continue;
        }
        let Some(bytes) = read_if_there(files, name, WIDTH.saturating_mul(32))? else {
            continue;
        };
        let row = rows.get(usize::from(level)).map_or(&[][..], Vec::as_slice);
        if let Some(text) = wrong(&bytes, width, row, number) {
            findings.push(Finding::of_file(Fault::Tile, name, &text));
        }
        there.insert(name.clone());
    }
    Ok(())
}

/// The tiles that the tree needs and nothing stands for.
fn missing<'a>(
    rows: &'a [Vec<Hash>],
    there: &'a HashSet<String>,
) -> impl Iterator<Item = Finding> + 'a {
    needed(rows).filter_map(|path| {
        let full = path.split_once(".p/").map(|(full, _)| full);
        let stored = there.contains(&path) || full.is_some_and(|full| there.contains(full));
        let stands = stored || wider(&path, there);
        (!stands).then(|| Finding::of_file(Fault::Tile, &path, "the tile is missing"))
    })
}

/// The tree's levels 0, 8, 16, ...
fn rows(leaves: &[Hash]) -> Vec<Vec<Hash>> {
    let mut rows = vec![leaves.to_vec()];
    while let Some(row) = rows.last().filter(|row| row.len() >= WIDTH) {
        let up = row.chunks_exact(WIDTH).map(merkle::root).collect();
        rows.push(up);
    }
    rows
}

/// What is wrong with a tile's bytes. Hashes after the checkpoint are no fault:
/// tiles are written before it.
fn wrong(bytes: &[u8], width: usize, row: &[Hash], number: u64) -> Option<String> {
    let hashes = tile::hashes(bytes).filter(|hashes| hashes.len() == width);
    let Some(hashes) = hashes else {
        return Some(format!("it does not hold {width} hashes"));
    };
    let start = usize::try_from(number).ok()?.checked_mul(WIDTH)?;
    let mut pairs = hashes.iter().zip(row.get(start..).unwrap_or_default());
    let at = pairs.position(|(stored, right)| stored != right)?;
    Some(format!("hash {at} is not that of the tree"))
}

/// Paths of the tiles that a tree needs.
fn needed(rows: &[Vec<Hash>]) -> impl Iterator<Item = String> + '_ {
    (0_u8..).zip(rows).flat_map(|(level, row)| {
        let tiles = (0_u64..).zip(row.chunks(WIDTH));
        tiles.map(move |(number, hashes)| tile::path(level, number, hashes.len()))
    })
}

/// Whether a partial tile with more hashes than `path` is there.
fn wider(path: &str, names: &HashSet<String>) -> bool {
    let Some((level, number, width)) = tile::parse_path(path).filter(|tile| tile.2 < WIDTH) else {
        return false;
    };
    names.iter().any(|name| {
        tile::parse_path(name).is_some_and(|(l, n, w)| l == level && n == number && w > width)
    })
}
