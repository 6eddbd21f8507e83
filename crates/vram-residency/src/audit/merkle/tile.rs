//! Tiles of a tree as C2SP tlog-tiles lays them out: 256 hashes of one level in
//! a file.

use super::Hash;

/// Levels of the tree in one tile.
pub(crate) const HEIGHT: u32 = 8;
/// Hashes in a full tile.
pub(crate) const WIDTH: usize = 256;

/// Consecutive hashes of level `8 * level` of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) level: u8,
    pub(crate) number: u64,
    pub(crate) hashes: Vec<Hash>,
}

impl Tile {
    /// Where the tile stands under the log's directory.
    pub(crate) fn path(&self) -> String {
        path(self.level, self.number, self.hashes.len())
    }

    /// What the file holds.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.hashes.concat()
    }
}

/// `tile/<level>/<number>`, with `.p/<width>` for a tile that is not full. The
/// number is in groups of three digits, all but the last marked with an `x`.
pub(crate) fn path(level: u8, number: u64, width: usize) -> String {
    let mut groups = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        groups = format!("x{:03}/{groups}", rest % 1000);
        rest /= 1000;
    }
    if width < WIDTH {
        format!("tile/{level}/{groups}.p/{width}")
    } else {
        format!("tile/{level}/{groups}")
    }
}

/// Whether a tree of `size` leaves has every hash of a tile of this level, number and
/// width.
pub(crate) fn is_within((level, number, width): (u8, u64, usize), size: u64) -> bool {
    let row = size.checked_shr(HEIGHT.saturating_mul(u32::from(level)));
    let end = number
        .saturating_mul(WIDTH as u64)
        .saturating_add(width as u64);
    end <= row.unwrap_or(0)
}

/// The level, number and width that a path stands for; None for other paths.
pub(crate) fn parse_path(text: &str) -> Option<(u8, u64, usize)> {
    let (level, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let (groups, width) = match rest.split_once(".p/") {
        Some((groups, width)) => (groups, width.parse().ok()?),
        None => (rest, WIDTH),
    };
    let mut number = 0_u64;
    for group in groups.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        number = number
            .checked_mul(1000)?
            .checked_add(digits.parse().ok()?)?;
    }
    let level = level.parse().ok()?;
    (path(level, number, width) == text).then_some((level, number, width))
}

/// The hashes of a tile file; None when it is no whole number of hashes.
pub(crate) fn hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| hashes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        for (level, number, width, expected) in [
            (0, 0, WIDTH, "tile/0/000"),
            (0, 1_234_067, WIDTH, "tile/0/x001/x234/067"),
            (2, 5, 7, "tile/2/005.p/7"),
            (1, 1000, 255, "tile/1/x001/000.p/255"),
        ] {
            assert_eq!(path(level, number, width), expected);
            assert_eq!(parse_path(expected), Some((level, number, width)));
        }
        for bad in [
            "tile/0/1",
            "tile/0/000.p/256",
            "tile/0/",
            "tile/x/000",
            "events.jsonl",
        ] {
            assert_eq!(parse_path(bad), None, "{bad}");
        }
    }
}
