//! Which shards would have to go to give a number of bytes back.

use std::cmp::Reverse;

use super::plan::PlanResident;

/// Steps after which the best set so far is taken: some milliseconds.
const STEPS: u32 = 50_000;
/// Most shards of a set that is looked for: the search goes one call deeper for each.
const MAX_SHARDS: usize = 256;

/// The fewest shards that hold `missing` bytes together, and of all sets of so
/// few the one with the fewest bytes; of shards of one size the oldest. All of
/// them where even they are not enough.
///
/// The number is the least there is. The bytes are, too, unless the search ends
/// first, as it may among hundreds of shards of different sizes.
pub(super) fn victims(resident: &[PlanResident], missing: u64) -> Vec<PlanResident> {
    let mut sorted: Vec<&PlanResident> = resident.iter().collect();
    sorted.sort_by_key(|shard| (Reverse(shard.bytes), shard.sealed_at));
    let bytes: Vec<u64> = sorted.iter().map(|shard| shard.bytes).collect();
    let chosen = fewest(&bytes, missing);
    let shard = |index: &usize| sorted.get(*index).copied().cloned();
    chosen.iter().filter_map(shard).collect()
}

/// Positions of the set, in `sizes` from the largest to the smallest.
fn fewest(sizes: &[u64], missing: u64) -> Vec<usize> {
    // No fewer than so many of the largest are enough.
    let (mut count, mut held) = (0_usize, 0_u64);
    for size in sizes {
        if held >= missing {
            break;
        }
        held = held.saturating_add(*size);
        count = count.saturating_add(1);
    }
    let mut search = Search {
        sizes,
        chosen: Vec::with_capacity(count),
        best: (held, (0..count).collect()),
        steps: STEPS,
    };
    if held >= missing && count <= MAX_SHARDS {
        search.choose(0, count, missing, 0);
    }
    search.best.1
}

struct Search<'s> {
    sizes: &'s [u64],
    chosen: Vec<usize>,
    /// The best set so far and its bytes.
    best: (u64, Vec<usize>),
    steps: u32,
}

impl Search<'_> {
    /// Chooses `count` more from position `from` on that hold `missing` bytes;
    /// those that were chosen hold `held`.
    fn choose(&mut self, from: usize, count: usize, missing: u64, held: u64) {
        let Some(rest) = count.checked_sub(1) else {
            return;
        };
        if rest == 0 {
            return self.choose_last(from, missing, held);
        }
        let sizes = self.sizes;
        let mut before = None;
        for (index, size) in sizes.iter().enumerate().skip(from) {
            self.steps = self.steps.saturating_sub(1);
            let window = sizes.get(index..index.saturating_add(count));
            let most = window.unwrap_or_default().iter().copied();
            if self.steps == 0 || most.fold(0, u64::saturating_add) < missing {
                // From here on even the largest are not enough.
                return;
            }
            // One of the same size was tried in its place.
            if before.replace(*size) == Some(*size) {
                continue;
            }
            self.chosen.push(index);
            let missing = missing.saturating_sub(*size);
            let held = held.saturating_add(*size);
            self.choose(index.saturating_add(1), rest, missing, held);
            let _ = self.chosen.pop();
        }
    }

    /// The smallest that is enough, of equal ones the first.
    fn choose_last(&mut self, from: usize, missing: u64, held: u64) {
        let rest = self.sizes.get(from..).unwrap_or_default();
        let enough = rest.partition_point(|size| *size >= missing);
        let Some(size) = enough.checked_sub(1).and_then(|last| rest.get(last)) else {
            return;
        };
        let held = held.saturating_add(*size);
        if held < self.best.0 {
            let first = rest.partition_point(|other| other > size);
            let mut set = self.chosen.clone();
            set.push(from.saturating_add(first));
            self.best = (held, set);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The set that trying every set gives: fewest, then fewest bytes.
    fn every(sizes: &[u64], missing: u64) -> Option<(usize, u64)> {
        let sets = 0_u32..1 << sizes.len();
        let measured = sets.map(|set| {
            let held = sizes.iter().zip(0..).filter(|(_, bit)| set >> bit & 1 == 1);
            let bytes: u64 = held.map(|(size, _)| *size).sum();
            (set.count_ones() as usize, bytes)
        });
        measured.filter(|(_, bytes)| *bytes >= missing).min()
    }

    #[test]
    fn no_smaller_set_does() {
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for round in 0..2000 {
            let mut sizes: Vec<u64> = (0..random(9)).map(|_| random(30)).collect();
            sizes.sort_unstable_by_key(|size| Reverse(*size));
            let missing = random(120);
            let found = fewest(&sizes, missing);
            let bytes: u64 = found.iter().map(|index| sizes[*index]).sum();
            let case = format!("round {round}: {sizes:?}, {missing} missing, {found:?}");
            match every(&sizes, missing) {
                Some(least) => assert_eq!((found.len(), bytes), least, "{case}"),
                None => assert_eq!(found.len(), sizes.len(), "{case}"),
            }
            assert!(found.is_sorted_by(|a, b| a < b), "each once: {case}");
        }
    }

    #[test]
    fn fewer_bytes_go_where_as_few_shards_hold_them() {
        // The largest first would take 50 and 20.
        assert_eq!(fewest(&[50, 40, 30, 20], 60), [1, 3]);
        assert_eq!(fewest(&[50, 40, 40, 20, 20], 60), [1, 3], "the older ones");
        assert_eq!(
            fewest(&[50, 40, 30, 20], 70),
            [0, 3],
            "of equal ones the first"
        );
        assert_eq!(fewest(&[50, 20, 20], 40), [0], "one rather than two");
        assert_eq!(fewest(&[50, 20], 0), [0; 0]);
        assert_eq!(fewest(&[u64::MAX, u64::MAX], u64::MAX), [0]);
    }

    #[test]
    fn a_search_that_takes_too_long_ends_with_a_set_that_does() {
        let sizes: Vec<u64> = (0..2000).map(|i| 4_000_000 - i * 997).collect();
        for missing in [100_000_001, 900_000_001, 4_000_000_001] {
            let found = fewest(&sizes, missing);
            let bytes: u64 = found.iter().map(|index| sizes[*index]).sum();
            let largest: u64 = sizes[..found.len()].iter().sum();
            assert!((missing..=largest).contains(&bytes));
            assert!(sizes[..found.len() - 1].iter().sum::<u64>() < missing);
        }
    }

    /// Looking for fewer bytes among so many would go a call deeper for each.
    #[test]
    fn very_many_shards_are_taken_as_they_are() {
        let sizes = vec![1; 20_000];
        assert!(fewest(&sizes, 20_000).into_iter().eq(0..20_000));
    }
}
