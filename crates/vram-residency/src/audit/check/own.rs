//! What the log says of itself, in lines that the tree holds.

use super::super::Body;
use super::super::merkle::Hash;
use super::adopted::Adopted;
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
        adopted: adopted.count(),
        ..Own::default()
    };
    for (seq, body) in genuine(scan, leaves) {
        match body {
            // An adopted line is nobody's word.
            Body::AuditRetired { first_kept } if !adopted.contains(seq) => {
                own.first_kept = own.first_kept.max(*first_kept);
            }
            Body::AuditClosed => own.closed = seq.saturating_add(1) == leaves.len() as u64,
            _ => {}
        }
    }
    own
}

/// The events that the log holds and that nothing proves: they were adopted when it
/// was opened.
pub(crate) fn adopted(scan: &Scan, leaves: &[Hash]) -> Adopted {
    Adopted::said(genuine(scan, leaves))
}

fn genuine<'s>(scan: &'s Scan, leaves: &'s [Hash]) -> impl Iterator<Item = (u64, &'s Body)> + 's {
    scan.own.iter().filter_map(|(at, body)| {
        let line = scan.lines.get(*at)?;
        let seq = line.seq?;
        let leaf = leaves.get(usize::try_from(seq).ok()?)?;
        (*leaf == line.hash).then_some((seq, body))
    })
}
