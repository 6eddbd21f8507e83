//! What a killed writer left after its last checkpoint. Nothing proves these
//! lines: whoever can write to the directory can write them.

use std::io;

use super::super::check::{Examined, Files, next_line};
use super::super::line::{self, CURRENT};

/// How much of the end of `events.jsonl` the log goes on from.
#[derive(Default)]
pub(super) struct Adopted {
    pub(super) lines: usize,
    /// Bytes of the file that are kept.
    pub(super) len: u64,
    /// Lines after them that are cut off.
    pub(super) refused: usize,
}

/// Adopts what managers record, up to the first line that is something else: a
/// line of the log's own (`audit.*`) could unsay what was signed before it.
pub(super) fn adopt(files: &dyn Files, found: &Examined) -> io::Result<Adopted> {
    let lines = found.scan.lines.iter();
    let lines = lines.filter(|line| found.scan.file_of(line) == CURRENT);
    let (lines, tail) = (lines.count(), found.tail.len());
    let covered = lines.saturating_sub(tail);
    let mut adopted = Adopted::default();
    if lines > 0 {
        let (mut reader, mut bytes) = (files.open(CURRENT)?, Vec::new());
        for at in 0..lines {
            next_line(reader.as_mut(), &mut bytes)?;
            if at >= covered {
                if !is_of_a_manager(&bytes) {
                    break;
                }
                adopted.lines = adopted.lines.saturating_add(1);
            }
            adopted.len = adopted.len.saturating_add(bytes.len() as u64);
        }
    }
    adopted.refused = tail.saturating_sub(adopted.lines);
    Ok(adopted)
}

fn is_of_a_manager(line: &[u8]) -> bool {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    line::event(text).is_some_and(|event| !event.body.is_of_the_log())
}
