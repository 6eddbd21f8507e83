//! Every stored tile against the hashes of the tree.

use std::collections::HashSet;
use std::io;

use super::super::merkle::Hash;
use super::super::merkle::tile::{self, WIDTH};
use super::files::{Files, listed, read_if_there};
use super::leaves::Leaves;
use super::report::{Fault, Finding};
use super::rows::{Rows, UNKNOWN};

/// How often the tiles are listed again while a writer replaces them.
const MOST_LISTS: usize = 5;

/// What is wrong with the tiles.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) findings: Vec<Finding>,
    /// Those that are missing or cut short, and can be made again.
    pub(super) lost: u64,
    /// Every hash of the tree is known without them.
    proved: bool,
}

/// Checks the tiles among `names`, and those that a writer put in the place of
/// one that went since. Tiles are no evidence of their own: where every hash of the tree
/// is known without them, one that is lost is no fault.
pub(super) fn check(
    files: &dyn Files,
    mut names: Vec<String>,
    leaves: &Leaves,
) -> io::Result<Checked> {
    let mut there = HashSet::new();
    let mut checked = Checked {
        proved: leaves.proved(),
        ..Checked::default()
    };
    for _ in 0..MOST_LISTS {
        read_new(files, &names, leaves, &mut there, &mut checked)?;
        if missing(&leaves.rows, &there).next().is_none() {
            break;
        }
        let again = listed(files)?;
        if again == names {
            break;
        }
        names = again;
    }
    for path in missing(&leaves.rows, &there) {
        checked.lose(&path, "the tile is missing");
    }
    Ok(checked)
}

impl Checked {
    fn lose(&mut self, path: &str, text: &str) {
        if self.proved {
            self.lost = self.lost.saturating_add(1);
        } else {
            self.findings
                .push(Finding::of_file(Fault::Tile, path, text));
        }
    }
}

/// Reads the tiles among `names` that are not `there` yet.
fn read_new(
    files: &dyn Files,
    names: &[String],
    leaves: &Leaves,
    there: &mut HashSet<String>,
    checked: &mut Checked,
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
        let row = leaves.rows.level(usize::from(level));
        if let Some(text) = wrong(&bytes, width, row, number) {
            checked
                .findings
                .push(Finding::of_file(Fault::Tile, name, &text));
        } else if bytes.len() < width.saturating_mul(32) {
            let text = format!("it does not hold {width} hashes");
            checked.lose(name, &text);
        }
        there.insert(name.clone());
    }
    Ok(())
}

/// The tiles that the tree needs and nothing stands for.
fn missing<'a>(rows: &'a Rows, there: &'a HashSet<String>) -> impl Iterator<Item = String> + 'a {
    needed(rows).filter(|path| {
        let full = path.split_once(".p/").map(|(full, _)| full);
        let stored = there.contains(path) || full.is_some_and(|full| there.contains(full));
        !stored && !wider(path, there)
    })
}

/// What is wrong with a tile's bytes, as far as they go. Hashes after the checkpoint are
/// no fault: tiles are written before it.
fn wrong(bytes: &[u8], width: usize, row: &[Hash], number: u64) -> Option<String> {
    if bytes.len() > width.saturating_mul(32) {
        return Some(format!("it does not hold {width} hashes"));
    }
    let start = usize::try_from(number).ok()?.checked_mul(WIDTH)?;
    let mut pairs = bytes.chunks(32).zip(row.get(start..).unwrap_or_default());
    let at = pairs.position(|(stored, right)| *right != UNKNOWN && !right.starts_with(stored))?;
    Some(format!("hash {at} is not that of the tree"))
}

/// Paths of the tiles that a tree needs.
fn needed(rows: &Rows) -> impl Iterator<Item = String> + '_ {
    let rows = (0..rows.count()).map(|level| rows.level(level));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_tile_holds_no_more_than_it_is_named_for_and_nothing_else() {
        let row = [[1; 32], [2; 32], [3; 32]];
        let two = row[..2].concat();
        assert_eq!(wrong(&two, 2, &row, 0), None);
        assert_eq!(wrong(&two[..40], 2, &row, 0), None, "as far as it goes");
        let more = wrong(&row.concat(), 2, &row, 0).unwrap();
        assert_eq!(more, "it does not hold 2 hashes");
        let other = wrong(&[[1; 32], [9; 32]].concat(), 2, &row, 0).unwrap();
        assert_eq!(other, "hash 1 is not that of the tree");
    }

    /// A tile that a writer put there since the names were listed is not missed.
    #[test]
    fn a_tile_that_came_meanwhile_is_found() {
        let hashes = vec![[7; 32]; 3];
        let path = tile::path(0, 0, hashes.len());
        let files = BTreeMap::from([(path, hashes.concat())]);
        let leaves = Leaves {
            rows: Rows::of(hashes),
            signed: true,
        };
        let checked = check(&files, Vec::new(), &leaves).unwrap();
        assert_eq!((checked.lost, checked.findings.len()), (0, 0));
        let none: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        assert_eq!(check(&none, Vec::new(), &leaves).unwrap().lost, 1);
    }

    #[test]
    fn only_a_wider_tile_of_its_place_stands_for_one() {
        let there = HashSet::from(["tile/0/001.p/7".to_owned()]);
        for (path, stands) in [
            ("tile/0/001.p/6", true),
            ("tile/0/001.p/7", false),
            ("tile/0/001.p/8", false),
            ("tile/0/002.p/6", false),
            ("tile/1/001.p/6", false),
            ("tile/0/001", false),
        ] {
            assert_eq!(wider(path, &there), stands, "{path}");
        }
    }
}
