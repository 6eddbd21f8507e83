//! Which of the hashes that tiles and lines tell are those that the root commits to.

use super::super::merkle::tile::WIDTH;
use super::super::merkle::{self, Hash};
use super::rows::{Rows, UNKNOWN, edges_of, root_of};

/// Mixtures of what several sources say that are tried in a whole log: eight hashes
/// of one tile that two sources differ over are still told, and a log that is wrong
/// all over costs no more than this.
const MOST_MIXTURES: usize = 1 << 12;

/// Every level as each source has it.
pub(super) struct Sources {
    pub(super) rows: Vec<Rows>,
}

impl Sources {
    /// The hashes that the root commits to, unknown ones where nothing gives what
    /// stands above them; none when nothing gives the root.
    pub(super) fn settle(&self, size: usize, root: &Hash) -> Option<Rows> {
        let mut settled = Rows::unknown(size);
        let mut left = MOST_MIXTURES;
        let edges = edges_of(size, settled.count());
        let said = self.rows.iter().map(|rows| {
            let edge = |(level, range): &(usize, _)| part(rows, *level, range).to_vec();
            edges.iter().flat_map(edge).collect()
        });
        let said: Vec<Vec<Hash>> = said.collect();
        let said: Vec<&[Hash]> = said.iter().map(Vec::as_slice).collect();
        let fits = |hashes: &[Hash]| {
            let mut rest = hashes;
            let parts = edges.iter().map(|(_, range)| {
                let (part, more) = rest.split_at_checked(range.len()).unwrap_or_default();
                rest = more;
                part
            });
            root_of(&parts.collect::<Vec<_>>()) == *root
        };
        let hashes = choose(&said, &mut left, fits)?;
        let mut start = 0_usize;
        for (level, range) in edges {
            let end = start.saturating_add(range.len());
            settled.put(level, range.start, hashes.get(start..end)?);
            start = end;
        }
        for level in (1..settled.count()).rev() {
            self.settle_below(&mut settled, level, &mut left);
        }
        Some(settled)
    }

    /// Settles the full tiles under the known hashes of a level.
    fn settle_below(&self, settled: &mut Rows, level: usize, left: &mut usize) {
        let below = level.saturating_sub(1);
        for (number, over) in settled.level(level).to_vec().into_iter().enumerate() {
            if over == UNKNOWN {
                continue;
            }
            let start = number.saturating_mul(WIDTH);
            let tile = start..start.saturating_add(WIDTH);
            let said = self.rows.iter().map(|rows| part(rows, below, &tile));
            let said: Vec<&[Hash]> = said.collect();
            if let Some(hashes) = choose(&said, left, |hashes| merkle::root(hashes) == over) {
                settled.put(below, start, &hashes);
            }
        }
    }
}

fn part<'r>(rows: &'r Rows, level: usize, range: &std::ops::Range<usize>) -> &'r [Hash] {
    rows.level(level).get(range.clone()).unwrap_or_default()
}

/// The hashes that fit, each as one of the sources says: one source alone, of which the
/// others fill the gaps, or a mixture.
fn choose(said: &[&[Hash]], left: &mut usize, fits: impl Fn(&[Hash]) -> bool) -> Option<Vec<Hash>> {
    let choices = choices(said)?;
    let one = |source: &&[Hash]| -> Vec<Hash> {
        let own = source.iter().zip(&choices);
        let own = own.map(|(hash, choices)| match (*hash, choices.first()) {
            (UNKNOWN, Some(other)) => *other,
            (hash, _) => hash,
        });
        own.collect()
    };
    if let Some(hashes) = said.iter().map(one).find(|hashes| fits(hashes)) {
        return Some(hashes);
    }
    let mixtures = choices.iter().map(Vec::len);
    let mixtures = mixtures.fold(1, usize::saturating_mul);
    *left = left.checked_sub(mixtures)?;
    let mixture = |number: usize| -> Vec<Hash> {
        let mut rest = number;
        let pick = |choices: &Vec<Hash>| {
            let at = rest.checked_rem(choices.len()).unwrap_or(0);
            rest = rest.checked_div(choices.len()).unwrap_or(0);
            choices.get(at).copied().unwrap_or(UNKNOWN)
        };
        choices.iter().map(pick).collect()
    };
    (0..mixtures).map(mixture).find(|hashes| fits(hashes))
}

/// What is said of each hash; none when nobody says anything of one.
fn choices(said: &[&[Hash]]) -> Option<Vec<Vec<Hash>>> {
    let len = said.iter().map(|source| source.len()).max()?;
    let of = |at: usize| {
        let mut choices: Vec<Hash> = Vec::new();
        for hash in said.iter().filter_map(|source| source.get(at)) {
            if *hash != UNKNOWN && !choices.contains(hash) {
                choices.push(*hash);
            }
        }
        (!choices.is_empty()).then_some(choices)
    };
    (0..len).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 700;

    fn leaves() -> Vec<Hash> {
        let leaf = |at: usize| merkle::leaf_hash(&at.to_le_bytes());
        (0..SIZE).map(leaf).collect()
    }

    /// The leaves with these ones changed.
    fn with(changed: &[usize], hash: Hash) -> Vec<Hash> {
        let mut leaves = leaves();
        changed.iter().for_each(|at| leaves[*at] = hash);
        leaves
    }

    fn settled(sources: Vec<Rows>) -> Option<Rows> {
        Sources { rows: sources }.settle(SIZE, &merkle::root(&leaves()))
    }

    #[test]
    fn sources_that_are_wrong_in_different_places_give_all_hashes() {
        // A wrong hash of each in one tile, in two tiles, at the edge; a gap.
        for (one, other) in [
            (&[5][..], &[9][..]),
            (&[5, 300], &[9, 301]),
            (&[600], &[620]),
            (&[5, 600], &[9, 620, 699]),
        ] {
            for wrong in [[7; 32], UNKNOWN] {
                let sources = [with(one, wrong), with(other, [8; 32])];
                let mut sources = sources.map(Rows::of);
                // The hashes over the tiles, as a tile of their level has them.
                let over = Rows::of(leaves()).level(1).to_vec();
                sources[0].put(1, 0, &over);
                let settled = settled(sources.into()).unwrap();
                assert_eq!(settled.leaves(), leaves(), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn what_nothing_tells_stays_unknown_and_nothing_else_does() {
        let mut rows = Rows::of(with(&[300], [7; 32]));
        rows.put(1, 0, Rows::of(leaves()).level(1));
        let settled = settled(vec![rows]).unwrap();
        let unknown: Vec<usize> = (0..SIZE)
            .filter(|at| settled.leaves()[*at] == UNKNOWN)
            .collect();
        assert_eq!(unknown, (256..512).collect::<Vec<_>>());
        assert_eq!(settled.root(SIZE), Some(merkle::root(&leaves())));
        let known = |at: &usize| settled.leaves()[*at] == leaves()[*at];
        assert!((0..256).chain(512..SIZE).all(|at| known(&at)));
    }

    #[test]
    fn a_wrong_edge_settles_nothing() {
        assert!(settled(vec![Rows::of(with(&[650], [7; 32]))]).is_none());
        assert!(settled(vec![Rows::of(with(&[650], UNKNOWN))]).is_none());
        assert!(settled(vec![]).is_none());
    }

    #[test]
    fn mixtures_are_bounded() {
        let apart = |from: usize| (from..from + 7).collect::<Vec<_>>();
        let (one, other) = (with(&apart(520), [7; 32]), with(&apart(527), [8; 32]));
        assert!(settled([one, other].map(Rows::of).into()).is_none());
    }
}
