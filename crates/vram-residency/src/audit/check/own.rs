//! What the log says of itself, in lines that the tree holds.

use std::ops::Range;

use super::super::Body;
use super::super::merkle::Hash;
use super::scan::Scan;

/// The log's own events, as far as they can be believed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// Number of the first event that retention keeps.
    pub(super) first_kept: u64,
    /// The last event under the checkpoint closed the log.
    pub(super) closed: bool,
    /// Events that no checkpoint covered when their writer was killed.
    pub(super) adopted: u64,
}

/// Reads them where the line is the leaf of the event that it claims to be.
pub(super) fn read(scan: &Scan, leaves: &[Hash]) -> Own {
    let adopted = adopted(scan, leaves);
    let mut own = Own {
        adopted: adopted
            .iter()
            .map(|range| range.end.saturating_sub(range.start))
            .sum(),
        ..Own::default()
    };
    for (seq, body) in genuine(scan, leaves) {
        // An adopted line is nobody's word.
        let proved = !adopted.iter().any(|range| range.contains(&seq));
        match body {
            Body::AuditRetired { first_kept } if proved => {
                own.first_kept = own.first_kept.max(*first_kept);
            }
            Body::AuditClosed => own.closed = seq.saturating_add(1) == leaves.len() as u64,
            _ => {}
        }
    }
    own
}

/// Numbers of the events that the log holds and that nothing proves: they were
/// adopted when it was opened.
pub(crate) fn adopted(scan: &Scan, leaves: &[Hash]) -> Vec<Range<u64>> {
    let genuine = genuine(scan, leaves);
    genuine
        .filter_map(|(seq, body)| adopted_before(seq, body))
        .collect()
}

fn genuine<'s>(scan: &'s Scan, leaves: &'s [Hash]) -> impl Iterator<Item = (u64, &'s Body)> + 's {
    scan.own.iter().filter_map(|(at, body)| {
        let line = scan.lines.get(*at)?;
        let seq = line.seq?;
        let leaf = leaves.get(usize::try_from(seq).ok()?)?;
        (*leaf == line.hash).then_some((seq, body))
    })
}

/// The events that were adopted when the log was opened, as event `seq` says.
pub(super) fn adopted_before(seq: u64, body: &Body) -> Option<Range<u64>> {
    let Body::AuditOpened { adopted_events, .. } = body else {
        return None;
    };
    Some(seq.saturating_sub(*adopted_events)..seq)
}
