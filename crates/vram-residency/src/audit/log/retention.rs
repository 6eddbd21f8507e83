//! Which finished segments need not be kept (requirement: AU-10).

use super::LogOptions;
use super::committer::{Position, day};
use crate::clock::Timestamp;

/// This part of the days to keep, and at least one day, is what may count between the
/// beginnings of two segments. The clock alone says how long that was, and one that was
/// wrong, is put right or is set would have the log delete what is minutes old.
const PART: u64 = 8;

/// How many of the finished segments need not be kept, oldest first.
pub(super) fn gone(options: &LogOptions, at: &Position, now: Timestamp) -> usize {
    let by_age = options.keep_days.map_or(0, |keep| old(at, day(now), keep));
    let by_count = options
        .keep_segments
        .map_or(0, |keep| at.finished.len().saturating_sub(keep));
    by_age.max(by_count)
}

/// How many were finished more than `keep` days ago, as far as the segments after them
/// show it; one whose day cannot be told shows nothing.
fn old(at: &Position, mut later: u64, keep: u64) -> usize {
    let most = (keep / PART).max(1);
    let (mut age, mut left) = (0_u64, at.finished.len());
    let begun = at.finished.iter().rev().map(|segment| segment.day);
    for ended in std::iter::once(at.day).chain(begun).take(left) {
        if let Some(ended) = ended {
            age = age.saturating_add(later.saturating_sub(ended).min(most));
            later = ended;
        }
        if age > keep {
            return left;
        }
        left = left.saturating_sub(1);
    }
    0
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::committer::Committer;
    use super::super::disk::{Disk, Image};
    use super::super::open::{self, Place, Writer};
    use super::super::queue::Entry;
    use super::super::tests::{beginning, critical, key, options};
    use super::super::writer;
    use super::*;
    use crate::audit::Event;
    use crate::audit::line::{event, segment_name};
    use crate::clock::ManualClock;
    use crate::sync::Arc;

    const DAY: u64 = 86_400_000_000_000;

    /// The JSON of an event on a day.
    type Write = fn(u64) -> String;

    fn time(day: u64) -> Timestamp {
        Timestamp::from_nanos(20_000_u64.saturating_add(day).saturating_mul(DAY))
    }

    fn known(day: u64) -> String {
        let event = Event {
            timestamp: time(day),
            ..critical(1)
        };
        serde_json::to_string(&event).unwrap()
    }

    fn unknown(day: u64) -> String {
        let json = known(day).replace("manager.stopped", "manager.of_next_year");
        assert_eq!(event(json.as_bytes()), None);
        json
    }

    fn timeless(_: u64) -> String {
        "{\"x\":1}".to_owned()
    }

    fn write(log: &mut Committer, day: u64, json: String) {
        let (time, json) = (time(day), json.into_bytes());
        log.accept(vec![Entry { time, json }], (0, 0));
        assert!(writer::attempt(log, true).unwrap());
    }

    /// What another version wrote begins on the days that it says; where it does not say
    /// any, the segments after it tell its age. It is never taken for one of 1970.
    // requirement: AU-10
    #[test]
    fn a_segment_that_begins_with_an_unknown_event_is_not_old_at_once() {
        for (of_another_version, last) in [(unknown as Write, 11), (timeless, 13)] {
            let disk = Disk::new(Image::new());
            let options = LogOptions {
                keep_days: Some(10),
                keep_segments: None,
                segment_bytes: u64::MAX,
                ..options()
            };
            let clock = Arc::new(ManualClock::new(time(0)));
            let storage = disk.storage();
            let begun = beginning();
            let mut log = Committer::new(storage, options.clone(), key(), clock.clone(), begun);
            log.sign().unwrap();
            (0..3).for_each(|day| write(&mut log, day, of_another_version(day)));
            drop(log);
            clock.set_wall(time(3));
            let place = Place {
                dir: Path::new("log"),
                files: &disk,
                storage: Box::new(|| Ok(disk.storage())),
            };
            let writer = Writer {
                options: &options,
                key: key(),
                clock: clock.clone(),
            };
            let mut log = open::open(place, writer).unwrap();
            for day in 3..=20 {
                clock.set_wall(time(day));
                write(&mut log, day, known(day));
                let kept = disk.image().contains_key(&segment_name(0));
                assert_eq!(kept, day <= last, "on day {day}");
            }
        }
    }
}
