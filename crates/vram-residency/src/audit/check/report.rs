//! What a check found.

use std::fmt;

use serde::Serialize;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// A line is not what was written.
    Edited,
    /// Whether a line is what was written cannot be told: the hashes that would tell
    /// are gone or wrong.
    Doubtful,
    /// Lines are missing.
    Dropped,
    /// A line stands that was never written.
    Inserted,
    /// A line stands after one that was written later.
    Reordered,
    /// A line stands twice.
    Duplicated,
    /// A line is no event.
    Unreadable,
    /// A file cannot be read, or something else stands in its place.
    UnreadableFile,
    /// The newest lines are missing.
    Truncated,
    /// There is no checkpoint.
    MissingCheckpoint,
    /// The checkpoint is of a key that is not trusted.
    ForeignCheckpoint,
    /// The log has another name than it should.
    OtherLog,
    /// The checkpoint is of a key that is revoked, or was replaced before it.
    RevokedKey,
    /// The checkpoint is malformed, or its signature is wrong.
    BadCheckpoint,
    /// A finished segment does not begin with the event of its name.
    Misnamed,
    /// The log is said to be closed and its last event does not say so.
    NotClosed,
    /// An earlier checkpoint does not belong to this log's past.
    RolledBack,
    /// A paper beside the log is no change of its key.
    Handover,
    /// A tile does not hold the hashes of the tree, or is missing where lines do not
    /// give them.
    Tile,
    /// Lines and tiles contradict the signed root and nothing tells which.
    Root,
}

impl Fault {
    /// The fault's name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Doubtful => "doubtful",
            Self::Dropped => "dropped",
            Self::Inserted => "inserted",
            Self::Reordered => "reordered",
            Self::Duplicated => "duplicated",
            Self::Unreadable => "unreadable",
            Self::UnreadableFile => "unreadable_file",
            Self::Truncated => "truncated",
            Self::MissingCheckpoint => "missing_checkpoint",
            Self::ForeignCheckpoint => "foreign_checkpoint",
            Self::OtherLog => "other_log",
            Self::RevokedKey => "revoked_key",
            Self::BadCheckpoint => "bad_checkpoint",
            Self::Misnamed => "misnamed",
            Self::NotClosed => "not_closed",
            Self::RolledBack => "rolled_back",
            Self::Handover => "handover",
            Self::Tile => "tile",
            Self::Root => "root",
        }
    }
}

/// One fault and where it is. Equal faults of neighbouring lines are one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// The file, relative to the log's directory.
    pub file: String,
    /// Line from 1, where one can be named; of dropped lines, the line before
    /// which they are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Number of the first event concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Lines, events or hashes concerned.
    pub count: u64,
    /// In words.
    pub text: String,
}

impl Finding {
    pub(super) fn of_file(fault: Fault, file: &str, text: &str) -> Self {
        Self {
            fault,
            file: file.to_owned(),
            line: None,
            seq: None,
            count: 1,
            text: text.to_owned(),
        }
    }

    /// Takes `next` in when it continues this finding.
    pub(super) fn absorb(&mut self, next: &Self) -> bool {
        let follows = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => a.checked_add(self.count) == Some(b),
            (None, None) => true,
            _ => false,
        };
        let same = self.fault == next.fault && self.file == next.file && self.text == next.text;
        let joined = same && follows(self.line, next.line) && follows(self.seq, next.seq);
        if joined {
            self.count = self.count.saturating_add(next.count);
        }
        joined
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}: {}", self.fault.name(), self.text)?;
        if let Some(seq) = self.seq {
            let last = seq.saturating_add(self.count.saturating_sub(1));
            if last == seq {
                write!(f, " (event {seq})")?;
            } else {
                write!(f, " (events {seq} to {last})")?;
            }
        }
        Ok(())
    }
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The log's name, when its checkpoint could be believed.
    pub origin: Option<String>,
    /// Events under the checkpoint.
    pub size: u64,
    /// The signed root, hex.
    pub root: Option<String>,
    /// Lines that were read.
    pub lines: u64,
    /// Number of the first event whose line is kept; earlier ones were retired.
    pub first_kept: u64,
    /// Lines after the checkpoint: counted, not proved.
    pub uncovered: u64,
    /// Events under the checkpoint that none covered when their writer was
    /// killed: what they say is not proved. Retired ones are not counted.
    pub adopted: u64,
    /// Whether the last event under the checkpoint closed the log and nobody
    /// has opened it since.
    pub closed: bool,
    /// Bytes of an unfinished last line after the checkpoint.
    pub torn_bytes: u64,
    /// How often an event's time is before that of the event before it: the system's
    /// clock was set back, which is no fault of the log.
    pub clock_steps_back: u64,
    /// Tiles that are missing or cut short while the lines give what they held, as a
    /// power failure leaves a log: its next writer makes them again.
    pub tiles_lost: u64,
    /// Why the earlier checkpoint was not compared, when it was asked for; only a log
    /// with findings is told without that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
    /// What is wrong; empty for a good log.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(line: Option<u64>, seq: Option<u64>, count: u64) -> Finding {
        Finding {
            line,
            seq,
            count,
            ..Finding::of_file(Fault::Dropped, "events.jsonl", "gone")
        }
    }

    /// Thousands of lines that were cut out are one finding, and two cuts are two.
    #[test]
    fn a_finding_takes_in_what_continues_it_and_nothing_else() {
        let of = |line, seq| finding(line, seq, 2);
        let other = |fault, file: &str, text: &str| Finding {
            fault,
            file: file.to_owned(),
            text: text.to_owned(),
            ..of(Some(6), Some(5))
        };
        for (next, joins) in [
            (of(Some(6), Some(5)), true),
            (of(Some(7), Some(5)), false),
            (of(Some(6), Some(6)), false),
            (of(None, Some(5)), false),
            (of(Some(6), None), false),
            (other(Fault::Dropped, "events.jsonl", "gone"), true),
            (other(Fault::Inserted, "events.jsonl", "gone"), false),
            (other(Fault::Dropped, "other.jsonl", "gone"), false),
            (other(Fault::Dropped, "events.jsonl", "else"), false),
        ] {
            let mut first = finding(Some(3), Some(2), 3);
            assert_eq!(first.absorb(&next), joins, "{next:?}");
            assert_eq!(first.count, if joins { 5 } else { 3 });
        }
        let mut whole = finding(None, None, 1);
        assert!(whole.absorb(&finding(None, None, 1)), "of the file itself");
    }

    #[test]
    fn a_finding_names_the_event_or_the_first_and_the_last() {
        for (seq, count, expected) in [
            (Some(4), 1, "events.jsonl:3: dropped: gone (event 4)"),
            (Some(4), 2, "events.jsonl:3: dropped: gone (events 4 to 5)"),
            (None, 2, "events.jsonl:3: dropped: gone"),
        ] {
            assert_eq!(finding(Some(3), seq, count).to_string(), expected);
        }
    }
}
