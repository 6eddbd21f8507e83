//! Time, passed in: the library never asks the system by itself.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, PoisonError};

/// Nanoseconds since 1970-01-01 00:00:00 UTC. Good until the year 2554.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Timestamp {
    /// ISO 8601 in UTC with nanoseconds (requirement: AU-9).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z"
        )
    }
}

/// Days since the epoch to a Gregorian date, for the range of [`Timestamp`].
fn civil(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut left, mut year) = (days, 1970_u64);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        let Some(rest) = left.checked_sub(length) else {
            break;
        };
        left = rest;
        year = year.saturating_add(1);
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1_u64;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        let Some(rest) = left.checked_sub(length) else {
            break;
        };
        left = rest;
        month = month.saturating_add(1);
    }
    (year, month, left.saturating_add(1))
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Wall-clock time, for statements and events. May go backwards.
    fn now(&self) -> Timestamp;

    /// Nanoseconds of a clock that never goes backwards, for ages and rates.
    fn monotonic(&self) -> u64;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Monotonic time counts from this call.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock that moves only when told: for repeatable tests and statements.
#[derive(Debug)]
pub struct ManualClock {
    wall: Mutex<Timestamp>,
    monotonic: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            wall: Mutex::new(now),
            monotonic: AtomicU64::new(0),
        }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, nanos: u64) {
        self.monotonic.fetch_add(nanos, Ordering::SeqCst);
        self.set_wall(Timestamp(self.now().0.saturating_add(nanos)));
    }

    /// Sets wall-clock time alone, also backwards.
    pub fn set_wall(&self, now: Timestamp) {
        *self.wall.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.wall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn monotonic(&self) -> u64 {
        self.monotonic.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_8601_at_known_instants() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000000000Z"),
        ] {
            assert_eq!(Timestamp(seconds * 1_000_000_000).to_string(), expected);
        }
        assert!(
            Timestamp(u64::MAX)
                .to_string()
                .starts_with("2554-07-21T23:34:33.709551615")
        );
    }
}
