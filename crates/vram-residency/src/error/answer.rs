//! What the checkers of a shard said of its contents, one after the other.

use std::fmt;

use serde::{Deserialize, Serialize};
use vram_digest::FileDigest;

/// Who looks at the contents of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Checker {
    /// The root of the tree that the device hashed itself: any block may be bad.
    Tree,
    /// The hashes of all blocks, by the device.
    Blocks,
    /// Blocks that were read back and hashed by the CPU.
    Cpu,
    /// Keyed tags, by the device, against their references.
    Tags,
    /// New references for keyed tags: what the device left unwritten, or a segment
    /// of which the CPU has other tags.
    References,
    /// Blocks that were read back for an export.
    Export,
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tree => "tree",
            Self::Blocks => "block hashes",
            Self::Cpu => "CPU",
            Self::Tags => "keyed tags",
            Self::References => "new references",
            Self::Export => "export",
        })
    }
}

/// What one checker said (requirement: AU-3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who said it.
    pub checker: Checker,
    /// Blocks of 4 KiB that it looked at.
    pub looked_at: u64,
    /// Those of them that it found to be bad.
    pub bad: u64,
    /// The first runs of these as (first block, count); at most
    /// [`Answer::MAX_RUNS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<(u64, u64)>,
    /// Digest of what it measured, hex; none where it measured no digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Answer {
    /// Runs that an answer lists; `bad` counts all.
    pub const MAX_RUNS: usize = 16;

    /// Answers of checks that could not be finished that are kept for a later one.
    pub(crate) const MAX_KEPT: usize = 8;

    /// Runs that a text names.
    const MAX_SHOWN: usize = 4;

    /// Of so many blocks those in the runs, which come in ascending order, are bad.
    pub(crate) fn new(
        checker: Checker,
        looked_at: u64,
        bad: impl IntoIterator<Item = (u64, u64)>,
    ) -> Self {
        let mut answer = Self {
            checker,
            looked_at,
            bad: 0,
            runs: Vec::new(),
            digest: None,
        };
        for (first, count) in bad {
            answer.bad = answer.bad.saturating_add(count);
            let is_room = answer.runs.len() < Self::MAX_RUNS;
            match answer.runs.last_mut() {
                Some((start, len)) if start.saturating_add(*len) == first => {
                    *len = len.saturating_add(count);
                }
                _ if count > 0 && is_room => {
                    answer.runs.push((first, count));
                }
                _ => {}
            }
        }
        answer
    }

    /// The same of these blocks, in ascending order.
    pub(crate) fn of_blocks(checker: Checker, looked_at: u64, bad: &[u64]) -> Self {
        Self::new(checker, looked_at, bad.iter().map(|block| (*block, 1)))
    }

    /// The same with what it measured.
    pub(crate) fn with_digest(self, digest: FileDigest) -> Self {
        Self {
            digest: Some(digest.to_string()),
            ..self
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bad, looked_at) = (self.bad, self.looked_at);
        write!(f, "{}: {bad} of {looked_at} blocks bad", self.checker)?;
        let mut left = bad;
        for (place, (first, count)) in self.runs.iter().take(Self::MAX_SHOWN).enumerate() {
            let before = if place == 0 { ": " } else { ", " };
            let last = first.saturating_add(count.saturating_sub(1));
            match *count {
                1 => write!(f, "{before}{first}")?,
                _ => write!(f, "{before}{first} to {last}")?,
            }
            left = left.saturating_sub(*count);
        }
        match left {
            0 => Ok(()),
            more if more == bad => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// All of them in a line, in the order in which they were given.
pub(crate) struct Said<'a>(pub(crate) &'a [Answer]);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, answer) in self.0.iter().enumerate() {
            let before = if place == 0 { "" } else { "; " };
            write!(f, "{before}{answer}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // requirement: AU-3, AU-11
    #[test]
    fn an_answer_counts_every_block_and_lists_the_first_runs() {
        let blocks: Vec<u64> = (0..100).map(|i| 2 * i).collect();
        let answer = Answer::of_blocks(Checker::Blocks, 1000, &blocks);
        assert_eq!((answer.bad, answer.runs.len()), (100, Answer::MAX_RUNS));
        assert_eq!(answer.runs[15], (30, 1));
        let text = "block hashes: 100 of 1000 blocks bad: 0, 2, 4, 6 and 96 more";
        assert_eq!(answer.to_string(), text);
    }

    #[test]
    fn runs_that_touch_are_one() {
        let touching = [(1, 2), (3, 1), (9, 1), (0, 0)];
        let answer = Answer::new(Checker::Tags, 10, touching);
        assert_eq!((answer.bad, &answer.runs[..]), (4, &[(1, 3), (9, 1)][..]));
        let whole = Answer::new(Checker::Cpu, 1, [(0, 0)]);
        assert!(whole.runs.is_empty());
        let said = Said(&[answer, whole]).to_string();
        let expected = "keyed tags: 4 of 10 blocks bad: 1 to 3, 9; CPU: 0 of 1 blocks bad";
        assert_eq!(said, expected);
    }

    /// What is not said takes no room in a line of the log.
    #[test]
    fn an_answer_reads_back_as_it_was_written() {
        let good = r#"{"checker":"cpu","looked_at":3,"bad":0}"#;
        let bad =
            r#"{"checker":"references","looked_at":3,"bad":1,"runs":[[2,1]],"digest":"00ff"}"#;
        for line in [good, bad] {
            let answer: Answer = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&answer).unwrap(), line);
        }
    }
}
