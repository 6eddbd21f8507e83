//! One core means one core: threads that others start are held there too.

use std::num::NonZeroUsize;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::failure::Failure;

/// Holds this thread, and those it starts, on one CPU until dropped.
pub(super) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Pins for a team of one, in each round to the next CPU: they are not all
    /// equally fast. A larger team may use what it may use.
    pub(super) fn to(team: NonZeroUsize, round: usize) -> Result<Option<Self>, Failure> {
        if team > NonZeroUsize::MIN {
            return Ok(None);
        }
        let failed = |error| Failure::new(format!("cannot keep to one CPU: {error}"));
        let before = sched_getaffinity(None).map_err(failed)?;
        let allowed = (0..CpuSet::MAX_CPU).filter(|cpu| before.is_set(*cpu));
        let mut one = CpuSet::new();
        one.set(allowed.cycle().nth(round % CpuSet::MAX_CPU).unwrap_or(0));
        sched_setaffinity(None, &one).map_err(failed)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed before, so it is allowed again.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_is_one_until_the_end() {
        let before = sched_getaffinity(None).unwrap();
        let mut used = CpuSet::new();
        for round in 0..before.count() as usize {
            let pinned = Pinned::to(NonZeroUsize::MIN, round).unwrap();
            let now = sched_getaffinity(None).unwrap();
            assert_eq!(now.count(), 1);
            (0..CpuSet::MAX_CPU)
                .filter(|cpu| now.is_set(*cpu))
                .for_each(|cpu| used.set(cpu));
            drop(pinned);
            assert_eq!(sched_getaffinity(None).unwrap(), before);
        }
        assert_eq!(used, before, "each CPU had its round");
        let two = NonZeroUsize::new(2).unwrap();
        assert!(Pinned::to(two, 0).unwrap().is_none());
    }
}
