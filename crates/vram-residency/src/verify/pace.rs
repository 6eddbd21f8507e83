//! How fast sweeps are: what a budget is enough for.

use std::time::Duration;

/// How many segments a timed pass visited, and how long that took. Nothing is known
/// before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) segments: u64,
    pub(crate) nanos: u64,
    /// Nanoseconds that its check had spent before.
    pub(crate) before: u64,
    /// Some pass kept within its time.
    pub(crate) kept: bool,
}

impl Pace {
    /// Segments that so much time is enough for. More than before take no longer than
    /// so many times as long, for a call takes some time whatever it reads; fewer can.
    pub(crate) fn fits(self, nanos: u64) -> Option<u64> {
        let fits = u128::from(self.segments).saturating_mul(u128::from(nanos));
        let fits = fits.checked_div(u128::from(self.nanos))?;
        Some(u64::try_from(fits).unwrap_or(u64::MAX))
    }

    /// Segments that a timed pass visits at once: three quarters of what fits, for the
    /// rest is for what is slower now, and no fewer than the last one visited if those
    /// fit. `None` before the first.
    pub(crate) fn affordable(self, nanos: u64) -> Option<u64> {
        let fits = self.fits(nanos)?;
        let most = fits.saturating_sub(fits / 4);
        Some(if fits < self.segments {
            most
        } else {
            most.max(self.segments)
        })
    }

    /// Segments that every pass of that budget visits, if it takes as long as this one.
    /// One before any kept within its time: nobody knows how much of it a call takes.
    pub(super) fn sustained(self, budget: Duration) -> Option<u64> {
        let budget = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        let affordable = self.affordable(budget.saturating_sub(self.before))?;
        Some(if self.kept { affordable } else { 1 })
    }

    /// Takes what a timed pass told. One that the end of an epoch cut short to fewer
    /// segments than usual tells nothing, unless even they took longer.
    pub(crate) fn learn(&mut self, told: Self, cut_short: bool) {
        if cut_short && told.segments < self.segments && told.nanos <= self.nanos {
            return;
        }
        let kept = told.kept || self.kept;
        *self = Self { kept, ..told };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn pace(segments: u64, nanos: u64, before: u64) -> Pace {
        Pace {
            segments,
            nanos,
            before,
            kept: true,
        }
    }

    // requirement: PM-8
    #[test]
    fn a_pass_visits_three_quarters_of_what_fits_or_as_many_as_the_last() {
        for (segments, taken, nanos, expected) in [
            (0, 0, 9, None),
            (8, 80, 80, Some(8)),
            (8, 80, 79, Some(6)),
            (8, 80, 90, Some(8)),
            (8, 80, 160, Some(12)),
            // One that takes most of the time is all there is time for.
            (1, 70, 100, Some(1)),
            (1, 50, 100, Some(2)),
            (1, 101, 100, Some(0)),
            (u64::MAX, 1, u64::MAX, Some(u64::MAX)),
        ] {
            let affordable = pace(segments, taken, 0).affordable(nanos);
            assert_eq!(affordable, expected, "{segments} in {taken} of {nanos} ns");
        }
    }

    // requirement: PM-8, VA-5
    #[test]
    fn what_is_left_of_an_epoch_tells_a_pace_only_if_it_took_longer() {
        for (told, cut_short, learnt) in [
            (pace(1, 3, 0), true, false),
            (pace(1, 5, 0), true, false),
            (pace(1, 6, 0), true, true),
            (pace(4, 5, 0), true, true),
            (pace(1, 3, 0), false, true),
        ] {
            let usual = pace(4, 5, 1);
            let mut now = usual;
            now.learn(told, cut_short);
            assert_eq!(now, if learnt { told } else { usual });
        }
    }

    /// Until a pass has kept within its time one segment is all that is sure.
    // requirement: PM-8, VA-5
    #[test]
    fn a_pace_that_no_pass_kept_promises_one_segment() {
        let budget = Duration::from_nanos(5);
        let mut now = Pace::default();
        assert_eq!(now.sustained(budget), None);
        for (kept, expected) in [(false, 1), (true, 4), (false, 4)] {
            let told = pace(4, 5, 0);
            now.learn(Pace { kept, ..told }, false);
            assert_eq!(now.sustained(budget), Some(expected));
        }
    }
}
