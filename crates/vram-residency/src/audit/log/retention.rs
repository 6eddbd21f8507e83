//! Which finished segments need not be kept (requirement: AU-10).

use super::LogOptions;
use super::committer::{NANOS_PER_DAY, Position, Segment, day};
use crate::clock::Clock;

/// How old a log believes its segments to be. Who sets the clock, or a clock that
/// comes up wrong, must not have the log delete what is minutes old.
pub(super) struct Retention {
    /// The newest day that the log held when it was opened; of a new log, that of the
    /// clock.
    opened: u64,
    /// The clock that nobody sets, at that time.
    since: u64,
    /// The first event to keep, of segments that could not all be deleted.
    stuck: Option<u64>,
}

impl Retention {
    pub(super) fn new(at: &Position, clock: &dyn Clock) -> Self {
        let finished = at.finished.iter().map(|segment| segment.day);
        let newest = finished.chain(at.day).max();
        Self {
            opened: newest.unwrap_or_else(|| day(clock.now())),
            since: clock.monotonic(),
            stuck: None,
        }
    }

    /// How many of these segments need not be kept, oldest first.
    pub(super) fn gone(
        &self,
        options: &LogOptions,
        finished: &[Segment],
        clock: &dyn Clock,
    ) -> usize {
        let today = self.today(clock);
        let is_old = |segment: &&Segment| {
            let last = options
                .keep_days
                .map(|keep| segment.day.saturating_add(keep));
            last.is_some_and(|last| last < today)
        };
        let by_age = finished.iter().take_while(is_old).count();
        let by_count = options
            .keep_segments
            .map_or(0, |keep| finished.len().saturating_sub(keep));
        by_age.max(by_count)
    }

    /// The day that the clock says, as far as it has gone by since the log was opened, or
    /// the day after that.
    fn today(&self, clock: &dyn Clock) -> u64 {
        let spent = clock.monotonic().saturating_sub(self.since);
        let spent = spent.div_ceil(NANOS_PER_DAY).saturating_add(1);
        day(clock.now()).min(self.opened.saturating_add(spent))
    }

    /// Whether segments before this event could not be deleted.
    pub(super) fn is_stuck(&self, first_kept: u64) -> bool {
        self.stuck == Some(first_kept)
    }

    pub(super) const fn stick(&mut self, first_kept: u64) {
        self.stuck = Some(first_kept);
    }
}
