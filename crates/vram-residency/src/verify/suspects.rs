//! Blocks that look bad: which they are, where they lie, and which of very many are
//! looked at again.

use vram_digest::{BLOCK_BYTES, BlockHash};

use crate::error::Damage;
use crate::format::TensorTable;

/// Blocks that do not have the expected hash.
#[derive(Clone, Default)]
pub(super) struct Suspects {
    /// Those that have another, in ascending order.
    differ: Vec<u64>,
    /// Those whose hash the device did not write: nothing is known of them.
    unwritten: Vec<u64>,
}

impl Suspects {
    /// Those among all blocks of a shard.
    pub(super) fn of(measured: &[BlockHash], expected: &[BlockHash]) -> Self {
        let mut suspects = Self::default();
        suspects.add(0, measured, expected);
        suspects
    }

    /// Every block of so many: one of them is bad, and nothing says which.
    pub(super) fn any(of: u64) -> Self {
        Self {
            differ: (0..of).collect(),
            unwritten: Vec::new(),
        }
    }

    /// Adds those among the blocks from `first` on.
    pub(super) fn add(&mut self, first: u64, measured: &[BlockHash], expected: &[BlockHash]) {
        let pairs = (first..).zip(measured.iter().zip(expected));
        for (block, (now, _)) in pairs.filter(|(_, (now, then))| now != then) {
            match *now == BlockHash::default() {
                true => self.unwritten.push(block),
                false => self.differ.push(block),
            }
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.differ.is_empty() && self.unwritten.is_empty()
    }

    /// Whether they are suspect only for what the device left undone.
    pub(super) const fn are_unwritten(&self) -> bool {
        self.differ.is_empty() && !self.unwritten.is_empty()
    }

    pub(super) const fn len(&self) -> u64 {
        (self.differ.len() as u64).saturating_add(self.unwritten.len() as u64)
    }

    /// All of them, in ascending order.
    pub(super) fn blocks(&self) -> Vec<u64> {
        let mut blocks = [&self.differ[..], &self.unwritten[..]].concat();
        blocks.sort_unstable();
        blocks
    }

    /// So many at most, taken all over the shard; a hash that differs says more than
    /// one that is missing, and comes first.
    pub(super) fn some(&self, most: usize) -> Vec<u64> {
        let spread = |blocks: &[u64], most: usize| -> Vec<u64> {
            let step = blocks.len().div_ceil(most.max(1)).max(1);
            blocks.iter().step_by(step).take(most).copied().collect()
        };
        let mut some = spread(&self.differ, most);
        some.extend(spread(&self.unwritten, most.saturating_sub(some.len())));
        some.sort_unstable();
        some
    }
}

/// How many blocks stand in the first of two sorted lists only.
pub(super) fn in_first_only(one: &[u64], other: &[u64]) -> u64 {
    let missing = one
        .iter()
        .filter(|block| other.binary_search(block).is_err());
    missing.count() as u64
}

/// What the CPU found in suspect blocks.
#[derive(Default)]
pub(super) struct Look {
    /// Blocks that were read back.
    pub(super) read: u64,
    /// Those of them that do not have the expected hash.
    pub(super) differ: Vec<u64>,
}

/// Blocks in ascending order as runs of (first block, count).
pub(crate) fn runs_of(blocks: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some((first, count)) if first.saturating_add(*count) == block => {
                *count = count.saturating_add(1);
            }
            _ => runs.push((block, 1)),
        }
    }
    runs
}

/// Blocks as runs, the tensors they belong to, and what the CPU said.
///
/// Where the CPU looked at all of them, those that it found good are not named.
pub(super) fn describe(suspects: &[u64], tensors: &TensorTable, look: &Look) -> Damage {
    let looked_at_all = look.read == suspects.len() as u64 && !look.differ.is_empty();
    let bad = if looked_at_all {
        &look.differ
    } else {
        suspects
    };
    let mut runs = runs_of(bad.iter().copied());
    let blocks = runs.iter().map(|(_, count)| *count).sum();
    runs.truncate(Damage::MAX_RUNS);
    let block_bytes = BLOCK_BYTES as u64;
    let mut names: Vec<String> = Vec::new();
    for (first, count) in &runs {
        let start = first.saturating_mul(block_bytes);
        let end = start.saturating_add(count.saturating_mul(block_bytes));
        for tensor in tensors.which_tensors(start..end) {
            if names.len() < Damage::MAX_TENSORS
                && names.last().map(String::as_str) != Some(&*tensor.name)
            {
                names.push(tensor.name.to_string());
            }
        }
    }
    Damage {
        blocks: Some(blocks),
        runs,
        tensors: names,
        read_back: look.read,
        confirmed: look.differ.len() as u64,
        withdrawn: in_first_only(suspects, bad),
        answers: Vec::new(),
    }
}
