//! The writer thread.

use std::time::{Duration, Instant};

use super::committer::Committer;
use super::queue::{Queue, Work};

/// Tells the waiting when the writer ends, also by a panic.
struct Ended<'a>(&'a Queue);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

pub(super) fn run(queue: &Queue, mut committer: Committer, interval: Duration) {
    let ended = Ended(queue);
    // The opening itself is an event that waits to be written.
    let mut deadline = Instant::now();
    loop {
        let mut work = queue.take(deadline, committer.has_open_work());
        let due = Instant::now() >= deadline;
        let cover = work.urgent || work.stop || due;
        committer.accept(std::mem::take(&mut work.entries), work.lost);
        match attempt(&mut committer, cover) {
            Ok(covered) => {
                queue.succeeded(&work, covered);
                if work.stop {
                    // A log that cannot say so is as after a kill.
                    let _ = committer.close();
                } else if covered {
                    deadline = next(interval);
                }
            }
            Err(error) => {
                report(queue, &work, &committer, &error);
                deadline = next(interval);
            }
        }
        if work.stop {
            break;
        }
    }
    // The lock is free before anybody who waits for the end goes on.
    drop(committer);
    drop(ended);
}

/// Whether everything accepted is now under a checkpoint.
pub(super) fn attempt(committer: &mut Committer, cover: bool) -> std::io::Result<bool> {
    committer.write()?;
    if cover {
        committer.cover()?;
        committer.retire()?;
    }
    Ok(!committer.has_open_work())
}

fn report(queue: &Queue, work: &Work, committer: &Committer, error: &std::io::Error) {
    queue.failed(work, committer.waiting(), error.to_string());
}

fn next(interval: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(interval).unwrap_or(now)
}
