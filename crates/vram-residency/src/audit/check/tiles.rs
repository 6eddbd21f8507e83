//! Every stored tile against the hashes of the tree.

use std::collections::HashSet;
use std::io;

use super::super::merkle::tile::{self, WIDTH};
use super::super::merkle::{self, Hash};
use super::files::{Files, read_bounded};
use super::report::{Fault, Finding};

pub(super) fn check(
    files: &dyn Files,
    names: &[String],
    leaves: &[Hash],
) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let rows = rows(leaves);
    for name in names {
        let Some((level, number, width)) = tile::parse_path(name) else {
            continue;
        };
        let bytes = read_bounded(files, name, WIDTH.saturating_mul(32))?;
        let row = rows.get(usize::from(level)).map_or(&[][..], Vec::as_slice);
        if let Some(text) = wrong(&bytes, width, row, number) {
            findings.push(Finding::of_file(Fault::Tile, name, &text));
        }
    }
    let stored: HashSet<&str> = names.iter().map(String::as_str).collect();
    for path in needed(&rows) {
        let full = path.split_once(".p/").map(|(full, _)| full);
        let there = |path: &str| stored.contains(path);
        if !there(&path) && !full.is_some_and(there) && !wider(&path, names) {
            findings.push(Finding::of_file(Fault::Tile, &path, "the tile is missing"));
        }
    }
    Ok(findings)
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
fn wider(path: &str, names: &[String]) -> bool {
    let Some((level, number, width)) = tile::parse_path(path).filter(|tile| tile.2 < WIDTH) else {
        return false;
    };
    names.iter().any(|name| {
        tile::parse_path(name).is_some_and(|(l, n, w)| l == level && n == number && w > width)
    })
}
