//! What a killed writer left after its last checkpoint. Nothing proves these
//! lines: whoever can write to the directory can write them.

use std::io;

use super::super::Event;
use super::super::check::{Examined, Files, next_line};
use super::super::line::{self, CURRENT};
use crate::shard::WorkerId;

/// How much of the end of `events.jsonl` the log goes on from.
#[derive(Default)]
pub(super) struct Adopted {
    pub(super) lines: usize,
    /// Bytes of the file that are kept.
    pub(super) len: u64,
    /// Lines after them that are cut off.
    pub(super) refused: usize,
}

/// Adopts what the managers of this worker record, up to the first line that none
/// of them could have: a line of the log's own (`audit.*`) could unsay what was
/// signed before it, and one that is written otherwise is somebody else's.
pub(super) fn adopt(files: &dyn Files, found: &Examined, worker: &WorkerId) -> io::Result<Adopted> {
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
                let seq = (found.leaves.len() as u64).saturating_add(adopted.lines as u64);
                if !is_of_a_manager(&bytes, seq, worker) {
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

/// Whether the log would have written this line, byte for byte, for an event that
/// a manager of `worker` recorded.
fn is_of_a_manager(line: &[u8], seq: u64, worker: &WorkerId) -> bool {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    line::event(text).is_some_and(|event| {
        let theirs = event.audit_id > 0
            && !event.body.is_of_the_log()
            && event.severity == event.body.severity()
            && event.worker_id == *worker;
        theirs && as_written(&event, seq).is_some_and(|written| written == line)
    })
}

fn as_written(event: &Event, seq: u64) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(event).ok()?;
    let mut written = Vec::with_capacity(json.len());
    line::write(&mut written, seq, &event.timestamp.to_string(), &json);
    Some(written)
}
