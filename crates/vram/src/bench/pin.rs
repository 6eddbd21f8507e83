//! One core means one core: threads that others start are held there too.

use std::num::NonZeroUsize;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::failure::Failure;

/// Holds this thread, and those it starts, on one CPU until dropped.
pub(super) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Pins for a team of one; a larger team may use what it may use.
    pub(super) fn to(team: NonZeroUsize) -> Result<Option<Self>, Failure> {
        if team > NonZeroUsize::MIN {
            return Ok(None);
        }
        let failed = |error| Failure::new(format!("cannot keep to one CPU: {error}"));
        let before = sched_getaffinity(None).map_err(failed)?;
        let first = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu));
        let mut one = CpuSet::new();
        one.set(first.unwrap_or(0));
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
        let before = sched_getaffinity(None).unwrap().count();
        let pinned = Pinned::to(NonZeroUsize::MIN).unwrap();
        assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        drop(pinned);
        assert_eq!(sched_getaffinity(None).unwrap().count(), before);
        assert!(Pinned::to(NonZeroUsize::new(2).unwrap()).unwrap().is_none());
    }
}
