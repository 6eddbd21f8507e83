//! Names what happened to the lines, given the hashes that should be there.

use super::super::line::{CURRENT, segment_first};
use super::super::merkle::Hash;
use super::leaves::Leaves;
use super::order::rising;
use super::own::Own;
use super::report::{Fault, Finding};
use super::rows::UNKNOWN;
use super::scan::{Line, Scan, Torn};

/// Findings that are named one by one; whoever writes a log can make as many as it has
/// lines.
const MOST_FINDINGS: usize = 1 << 16;

pub(super) struct Judged {
    pub(super) findings: Vec<Finding>,
    /// Hashes of the lines after the checkpoint.
    pub(super) tail: Vec<Hash>,
    pub(super) first_kept: u64,
    /// Bytes of an unfinished line after the checkpoint.
    pub(super) torn_bytes: u64,
}

struct Judge<'a> {
    scan: &'a Scan,
    leaves: &'a [Hash],
    /// The leaves that are known are signed.
    signed: bool,
    /// Where each event's line was found.
    found: Vec<Option<usize>>,
    /// Lines that are none of the tree's, and the event expected in their place.
    strange: Vec<(usize, usize)>,
    findings: Vec<Finding>,
}

pub(super) fn judge(scan: &Scan, leaves: &Leaves, own: &Own) -> Judged {
    let mut judge = Judge {
        scan,
        leaves: leaves.hashes(),
        signed: leaves.signed,
        found: vec![None; leaves.hashes().len()],
        strange: Vec::new(),
        findings: Vec::new(),
    };
    let covered = judge.covered_lines();
    judge.known_lines(covered);
    judge.strange_lines();
    judge.newlines();
    let torn = if judge.last_newline() {
        None
    } else {
        scan.torn.as_ref()
    };
    let first_kept = judge.retired(own.first_kept);
    judge.missing(first_kept);
    judge.names();
    let tail = if own.closed {
        judge.after_the_end(covered);
        Vec::new()
    } else {
        judge.tail(covered)
    };
    if let Some(torn) = torn {
        judge.torn(torn);
    }
    Judged {
        findings: judge.findings,
        tail,
        first_kept: first_kept as u64,
        torn_bytes: torn.map_or(0, |torn| torn.len),
    }
}

impl Judge<'_> {
    /// The event that a line is, or claims to be where nothing tells.
    fn event(&self, line: &Line) -> Option<usize> {
        let seq = usize::try_from(line.seq?).ok()?;
        let leaf = self.leaves.get(seq)?;
        [line.hash, UNKNOWN].contains(leaf).then_some(seq)
    }

    fn is_unknown(&self, seq: usize) -> bool {
        self.leaves.get(seq) == Some(&UNKNOWN)
    }

    /// How many lines stand up to the last one of the tree, or to the last
    /// that claims to be.
    fn covered_lines(&self) -> usize {
        let size = self.leaves.len() as u64;
        let inside = |line: &Line| line.seq.is_none_or(|seq| seq < size);
        let last = self.scan.lines.iter().rposition(inside);
        last.map_or(0, |last| last.saturating_add(1))
    }

    fn known_lines(&mut self, covered: usize) {
        let lines = self.scan.lines.iter().take(covered).enumerate();
        let events = lines.filter_map(|(at, line)| Some((at, self.event(line)?)));
        let (places, numbers): (Vec<_>, Vec<_>) = events.unzip();
        let in_order = rising(&numbers);
        let standing = || places.iter().zip(&numbers).zip(&in_order);
        for ((at, seq), _) in standing().filter(|(_, in_order)| **in_order) {
            if let Some(slot) = self.found.get_mut(*seq) {
                *slot = Some(*at);
            }
        }
        let mut standing = standing().peekable();
        let mut next = 0_usize;
        for at in 0..covered {
            let Some(((_, seq), in_order)) = standing.next_if(|((place, _), _)| **place == at)
            else {
                self.strange.push((at, next));
                continue;
            };
            if *in_order {
                next = seq.saturating_add(1);
                if self.is_unknown(*seq) {
                    let text = "nothing tells whether the line is what was written";
                    self.name(Fault::Doubtful, at, *seq, text);
                }
            } else {
                self.out_of_order(at, *seq);
            }
        }
    }

    /// Names a line that does not stand where its number belongs.
    fn out_of_order(&mut self, at: usize, seq: usize) {
        let Some(slot) = self.found.get_mut(seq) else {
            return;
        };
        let Some(other) = *slot else {
            *slot = Some(at);
            let text = "the line does not stand in its place";
            return self.name(Fault::Reordered, at, seq, text);
        };
        let hash = |at: usize| self.scan.lines.get(at).map(|line| line.hash);
        if hash(at) == hash(other) {
            self.name(Fault::Duplicated, at, seq, "the line stands a second time");
        } else {
            let text = "another line has its number, and nothing tells which was written";
            self.name(Fault::Doubtful, at, seq, text);
        }
    }

    /// A strange line in place of a missing one was edited; any other, inserted.
    fn strange_lines(&mut self) {
        for (at, expected) in std::mem::take(&mut self.strange) {
            let claimed = self.scan.lines.get(at).and_then(|line| line.seq);
            let claimed = claimed.and_then(|seq| usize::try_from(seq).ok());
            let free = |seq: &usize| matches!(self.found.get(*seq), Some(None));
            let seq = claimed.filter(free).or(Some(expected).filter(free));
            match seq {
                Some(seq) => {
                    if let Some(slot) = self.found.get_mut(seq) {
                        *slot = Some(at);
                    }
                    if self.signed {
                        self.name(Fault::Edited, at, seq, "the line is not what was written");
                    } else {
                        let text = "line and tile differ, and nothing tells which of them is wrong";
                        self.name(Fault::Doubtful, at, seq, text);
                    }
                    self.inserted(at, 1);
                }
                None => self.inserted(at, 0),
            }
        }
    }

    /// Names the lines at this place, but for some that are named already.
    fn inserted(&mut self, at: usize, named: u64) {
        let mut finding = self.at_line(Fault::Inserted, at, "the line was never written");
        let count = self.scan.lines.get(at).map_or(0, |line| line.count);
        finding.count = count.saturating_sub(named);
        finding.line = finding.line.map(|line| line.saturating_add(named));
        if finding.count > 0 {
            self.push(finding);
        }
    }

    /// Events whose lines were deleted as the log says: whole segments only, so
    /// the first line that is left is the first of its file.
    fn retired(&self, first_kept: u64) -> usize {
        let gone = self.found.iter().take_while(|at| at.is_none()).count();
        let first = self.scan.files.first().and_then(|name| segment_first(name));
        let kept = first.map_or(first_kept, |first| first.min(first_kept));
        usize::try_from(kept).unwrap_or(usize::MAX).min(gone)
    }

    /// A finished segment bears the number of its first event.
    fn names(&mut self) {
        for (file, name) in self.scan.files.iter().enumerate() {
            let of_file = |line: &Line| line.file == file;
            let at = self.scan.lines.partition_point(|line| line.file < file);
            let first = self.scan.lines.get(at).filter(|line| of_file(line));
            let named = segment_first(name);
            if named.is_some() && first.and_then(|line| line.seq) != named {
                let text = "its first line is not the event of its name";
                self.push(Finding::of_file(Fault::Misnamed, name, text));
            }
        }
    }

    fn missing(&mut self, first_kept: usize) {
        let mut start = first_kept;
        let found = std::mem::take(&mut self.found);
        for run in found
            .get(first_kept..)
            .unwrap_or_default()
            .chunk_by(|a, b| a.is_none() == b.is_none())
        {
            let end = start.saturating_add(run.len());
            if run.first().is_some_and(Option::is_none) {
                let mut finding = match found.get(end).copied().flatten() {
                    Some(at) => self.at_line(Fault::Dropped, at, "lines are missing before it"),
                    None => self.at_end("the newest lines are missing"),
                };
                finding.seq = Some(start as u64);
                finding.count = run.len() as u64;
                self.push(finding);
            }
            start = end;
        }
    }

    /// Lines after the checkpoint: numbered on without a gap, and readable.
    fn tail(&mut self, covered: usize) -> Vec<Hash> {
        let mut tail: Vec<Hash> = Vec::new();
        let size = self.leaves.len() as u64;
        let mut next = size;
        for (at, line) in self.scan.lines.iter().enumerate().skip(covered) {
            let seq = line.seq.unwrap_or(0);
            if self.scan.file_of(line) != CURRENT {
                let text = "no checkpoint covers this line of a finished segment";
                self.push(self.at_line(Fault::Inserted, at, text));
            }
            if seq == next {
                tail.push(line.hash);
                next = next.saturating_add(1);
                continue;
            }
            let of_tail = seq
                .checked_sub(size)
                .and_then(|at| usize::try_from(at).ok());
            let same = of_tail.and_then(|at| tail.get(at)) == Some(&line.hash);
            let (fault, text) = if same {
                (Fault::Duplicated, "the line stands a second time")
            } else if seq < next {
                (Fault::Inserted, "another line has its number")
            } else {
                (Fault::Dropped, "lines are missing before it")
            };
            let mut finding = self.at_line(fault, at, text);
            finding.seq = Some(next.min(seq));
            finding.count = seq.saturating_sub(next).max(1);
            self.push(finding);
            next = next.max(seq.saturating_add(1));
        }
        tail
    }

    /// Names the lines of finished segments that are whole but for their newline.
    fn newlines(&mut self) {
        for at in &self.scan.no_newline {
            let line = self.scan.lines.get(*at);
            if let Some(seq) = line.and_then(|line| self.event(line)) {
                self.name(Fault::Edited, *at, seq, "its newline is missing");
            }
        }
    }

    /// Whether the last line is whole but for its newline, which the checkpoint says
    /// that it had.
    fn last_newline(&mut self) -> bool {
        let Some(torn) = &self.scan.torn else {
            return false;
        };
        let seq = torn.line.seq.and_then(|seq| usize::try_from(seq).ok());
        let seq = seq.filter(|seq| self.leaves.get(*seq) == Some(&torn.line.hash));
        let slot = seq.and_then(|seq| self.found.get_mut(seq));
        let Some(slot) = slot.filter(|slot| slot.is_none()) else {
            return false;
        };
        *slot = Some(self.scan.lines.len());
        let mut finding = self.at_end("its last newline is missing");
        finding.line = Some(torn.line.number);
        self.push(finding);
        true
    }

    /// A last line without its newline is what a killed writer leaves, but only there.
    fn torn(&mut self, torn: &Torn) {
        if self.scan.file_of(&torn.line) != CURRENT {
            let text = "a finished segment ends in the middle of a line";
            let mut finding = Finding::of_file(Fault::Inserted, self.scan.last_file(), text);
            finding.line = Some(torn.line.number);
            self.push(finding);
        }
    }

    /// A log that was closed has nothing after its last event, covered or torn.
    fn after_the_end(&mut self, covered: usize) {
        let text = "it stands after the event that closed the log";
        let more = self.scan.lines.len().saturating_sub(covered);
        if more > 0 {
            let mut finding = self.at_line(Fault::Inserted, covered, text);
            finding.count = more as u64;
            self.push(finding);
        } else if let Some(torn) = &self.scan.torn {
            let mut finding = Finding::of_file(Fault::Inserted, self.scan.last_file(), text);
            finding.line = Some(torn.line.number);
            self.push(finding);
        }
    }

    fn at_line(&self, fault: Fault, at: usize, text: &str) -> Finding {
        let line = self.scan.lines.get(at);
        let file = line.map_or(self.scan.last_file(), |line| self.scan.file_of(line));
        let mut finding = Finding::of_file(fault, file, text);
        finding.line = line.map(|line| line.number);
        finding
    }

    fn at_end(&self, text: &str) -> Finding {
        let last = self.scan.lines.last();
        let last = last.filter(|line| self.scan.file_of(line) == self.scan.last_file());
        let mut finding = Finding::of_file(Fault::Truncated, self.scan.last_file(), text);
        finding.line = Some(last.map_or(1, Line::next_number));
        finding
    }

    fn name(&mut self, fault: Fault, at: usize, seq: usize, text: &str) {
        let mut finding = self.at_line(fault, at, text);
        finding.seq = Some(seq as u64);
        self.push(finding);
    }

    /// Joins findings of neighbouring lines, and those that are too many to be named.
    fn push(&mut self, mut finding: Finding) {
        let named = self.findings.len();
        if let Some(last) = self.findings.last_mut() {
            if named > MOST_FINDINGS {
                last.count = last.count.saturating_add(finding.count);
                return;
            }
            if last.absorb(&finding) {
                return;
            }
        }
        if named == MOST_FINDINGS {
            finding.text = "more is wrong from here on than is named".to_owned();
            finding.seq = None;
        }
        self.findings.push(finding);
    }
}
