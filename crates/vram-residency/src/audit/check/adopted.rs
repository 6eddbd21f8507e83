//! Which events were adopted when a log was opened, as its `audit.opened` say.

use std::borrow::Borrow;
use std::ops::Range;

use super::super::Body;

/// Numbers of events, as ranges in order that neither touch nor overlap: a log has
/// as many starts as it likes, and every line is looked up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Adopted(Vec<Range<u64>>);

impl Adopted {
    /// What the log's own events say, each with its number.
    pub(crate) fn said<B: Borrow<Body>>(own: impl IntoIterator<Item = (u64, B)>) -> Self {
        let said = own.into_iter();
        let said = said.filter_map(|(seq, body)| before(seq, body.borrow()));
        let mut ranges: Vec<_> = said.filter(|range| !range.is_empty()).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, range| {
            let joined = next.start <= range.end;
            if joined {
                range.end = range.end.max(next.end);
            }
            joined
        });
        Self(ranges)
    }

    /// Whether event `seq` is one of them.
    pub(crate) fn contains(&self, seq: u64) -> bool {
        let at = self.0.partition_point(|range| range.end <= seq);
        self.0.get(at).is_some_and(|range| range.start <= seq)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        let lens = self.0.iter();
        let lens = lens.map(|range| range.end.saturating_sub(range.start));
        lens.fold(0, u64::saturating_add)
    }
}

/// The events that were adopted when the log was opened, as event `seq` says.
fn before(seq: u64, body: &Body) -> Option<Range<u64>> {
    let Body::AuditOpened { adopted_events, .. } = body else {
        return None;
    };
    Some(seq.saturating_sub(*adopted_events)..seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_adopted_is_found_whatever_order_it_is_said_in() {
        // Numbers of starts and how many lines each adopted: in turn, at the border,
        // one within another, more than there are before it, none.
        for said in [
            &[(9, 3), (20, 5), (40, 1)][..],
            &[(20, 5), (9, 3), (15, 2)],
            &[(9, 3), (12, 3), (13, 0)],
            &[(30, 20), (15, 2), (31, 4)],
            &[(3, 7), (u64::MAX, 2)],
            &[],
        ] {
            let own = |(seq, adopted): &(u64, u64)| (*seq, Body::audit_opened(*adopted, 0, 0));
            let adopted = Adopted::said(said.iter().map(own));
            let plainly = |seq: u64| {
                let mut said = said.iter();
                said.any(|(at, adopted)| (at.saturating_sub(*adopted)..*at).contains(&seq))
            };
            let numbers = (0..60).chain(u64::MAX - 5..=u64::MAX);
            let found: Vec<u64> = numbers
                .clone()
                .filter(|seq| adopted.contains(*seq))
                .collect();
            let right: Vec<u64> = numbers.filter(|seq| plainly(*seq)).collect();
            assert_eq!(found, right, "{said:?}");
            assert_eq!(adopted.count(), right.len() as u64, "{said:?}");
        }
    }
}
