//! Simulated addresses: the lowest gap that fits, so addresses are reused at
//! once and code that trusts a stale address is caught.

use std::collections::BTreeMap;

/// Alignment of every allocation, as CUDA gives it (requirement: FF-2).
const ALIGN: u64 = 256;
/// First simulated address; far from zero so that offsets cannot pass for one.
const BASE: u64 = 0x0007_0000_0000_0000;

#[derive(Default)]
pub(super) struct Space {
    /// Address to length of the live allocations.
    live: BTreeMap<u64, u64>,
}

impl Space {
    /// The lowest free aligned address for `len` bytes.
    pub(super) fn take(&mut self, len: u64) -> Option<u64> {
        let mut candidate = BASE;
        for (start, live_len) in &self.live {
            if candidate.checked_add(len)? <= *start {
                break;
            }
            candidate = start
                .checked_add(*live_len)?
                .checked_next_multiple_of(ALIGN)?;
        }
        candidate.checked_add(len)?;
        self.live.insert(candidate, len);
        Some(candidate)
    }

    pub(super) fn give_back(&mut self, address: u64) {
        self.live.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_aligned_disjoint_and_reused() {
        let mut space = Space::default();
        let a = space.take(1).unwrap();
        let b = space.take(1000).unwrap();
        let c = space.take(5).unwrap();
        assert!([a, b, c].iter().all(|x| x % ALIGN == 0));
        assert!(a < b && b + 1000 <= c);
        space.give_back(b);
        assert_eq!(space.take(300), Some(b), "the gap is reused");
        assert_ne!(space.take(1000), Some(b));
        assert_eq!(space.take(u64::MAX), None);
    }
}
