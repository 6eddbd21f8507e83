//! The audit log in a directory (requirement: AU-10, AU-12, AU-13, AU-15, AU-16).
//!
//! ```text
//! DIR/lock                    held while a writer lives, as DIR itself is
//! DIR/checkpoint              size and root, a C2SP signed note
//! DIR/events.jsonl            the newest events, one JSON object a line
//! DIR/events.<first>.jsonl    finished segments, by number of their first event
//! DIR/tile/...                the tree's hashes, as C2SP tlog-tiles
//! DIR/handover.<event>.json   a proof of the event in which the key was changed
//! ```
//!
//! Each line, without its newline, is a leaf of an RFC 6962 Merkle tree. Events
//! wait in a bounded queue for one writer thread, which writes and syncs them
//! in groups and signs a checkpoint at least every interval. A critical event
//! is on disk and under a checkpoint before `record` returns.
//!
//! Retention deletes whole old segments and nothing else: hashes and
//! checkpoints stay, so that the rest still verifies, and the log says itself
//! (`audit.retired`) up to where lines are gone. What the clock says makes nothing
//! old alone: the log must have seen the days go by.
//!
//! A log that is closed ends with `audit.closed`; lines after that are nobody's,
//! until the next writer has signed that it goes on.
//! Opening reads and checks every line that is kept. A log that does not
//! verify is not written to. A killed writer may leave lines after its last
//! checkpoint, and nothing proves that they are its own: what managers of this
//! worker could have recorded is adopted, from the first other line on they are cut
//! off, as is an unfinished last line, and the log's next event (`audit.opened`)
//! says how many of each; until then the checkpoint does.

mod adopt;
mod committer;
#[cfg(test)]
mod disk;
mod handover;
mod open;
mod private;
mod queue;
#[cfg(all(test, shuttle))]
mod races;
mod retention;
mod storage;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use handover::change_key;

use super::note::Origin;
use super::{AuditError, Event, Severity, Sink};
use crate::clock::Clock;
use crate::key::SigningKey;
use crate::shard::WorkerId;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Mutex, PoisonError};
use queue::Queue;

/// Room for an event's JSON before it has to grow.
const USUAL_EVENT_BYTES: usize = 512;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The log's name in its checkpoints.
    pub origin: Origin,
    /// Who writes. After a kill, events of other workers are not adopted.
    pub worker_id: WorkerId,
    /// Events that may wait for the writer.
    pub queue_events: usize,
    /// Bytes that may wait for the writer; half of them make it start.
    pub queue_bytes: usize,
    /// Events that make the writer start before the interval is over.
    pub batch_events: usize,
    /// Longest time until a plain event is durable and under a checkpoint.
    pub interval: Duration,
    /// How long `record` waits for room in a full queue before it refuses.
    pub full_wait: Duration,
    /// A segment of this many bytes is finished; so is one of an earlier day.
    pub segment_bytes: u64,
    /// Finished segments to keep at most; none for no limit.
    pub keep_segments: Option<usize>,
    /// Days to keep segments after they were finished (requirement: AU-10). Between
    /// two segments no more than an eighth of them counts, or one day: a clock that
    /// jumps makes nothing old, and a log that is seldom written is kept longer.
    pub keep_days: Option<u64>,
}

impl LogOptions {
    /// The values of the sources: 1000 events or 10 MB wait, 100 events or one
    /// second are a group, 2555 days are kept; segments of 64 MiB.
    #[must_use]
    pub const fn new(origin: Origin, worker_id: WorkerId) -> Self {
        Self {
            origin,
            worker_id,
            queue_events: 1000,
            queue_bytes: 10_000_000,
            batch_events: 100,
            interval: Duration::from_secs(1),
            full_wait: Duration::from_secs(1),
            segment_bytes: 64 << 20,
            keep_segments: None,
            keep_days: Some(2555),
        }
    }
}

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory or a file in it cannot be used.
    #[error("cannot open the audit log {}: {reason}", path.display())]
    Io {
        /// The log's directory.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Others could read or change it.
    #[error("the audit log {} has mode {mode:04o}; only its owner may reach it (chmod go-rwx)", path.display())]
    PermissionsTooOpen {
        /// The log's directory, or a file in it.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("the audit log {} belongs to user {owner}, not to the user who runs this", path.display())]
    Owner {
        /// The log's directory, or a file in it.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
    },
    /// Another writer holds it.
    #[error("the audit log {} has a writer already, which holds the directory (deleting its file 'lock' does not help); each worker needs one of its own", path.display())]
    Locked {
        /// The log's directory.
        path: PathBuf,
    },
    /// It does not verify, and going on would cover that up.
    #[error("the audit log {} does not verify: {finding}; keep it as evidence and start another directory", path.display())]
    Damaged {
        /// The log's directory.
        path: PathBuf,
        /// The first fault.
        finding: String,
    },
    /// Another key signs it.
    #[error("the audit log {} is signed by another key than the one given: name the key that signs it (if this one does, its checkpoint was replaced: keep it as evidence)", path.display())]
    OtherKey {
        /// The log's directory.
        path: PathBuf,
    },
    /// The log went over to another key.
    #[error("the key of the audit log {} was replaced; open it with the new one", path.display())]
    Replaced {
        /// The log's directory.
        path: PathBuf,
    },
    /// The log has another name.
    #[error("the audit log {} is '{found}'; '{expected}' was asked for", path.display())]
    Origin {
        /// The log's directory.
        path: PathBuf,
        /// The name in its checkpoint.
        found: String,
        /// The name that was asked for.
        expected: String,
    },
}

/// A sink that writes a tamper-evident log. Dropping it writes, signs and syncs
/// everything that was taken, and that nothing comes after it.
pub struct LogSink {
    queue: Arc<Queue>,
    newest: Arc<Mutex<Option<String>>>,
    writer: Option<JoinHandle<()>>,
}

impl LogSink {
    /// Opens the log in `dir`, which is made if it is not there, and goes on
    /// where the last writer ended.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        dir: &Path,
        options: LogOptions,
        key: SigningKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let writer = open::Writer {
            options: &options,
            key,
            clock,
        };
        let committer = open::in_dir(dir, |place| open::open(place, writer))?;
        let newest = committer.newest();
        let queue = Arc::new(Queue::new(&options));
        let shared = Arc::clone(&queue);
        let interval = options.interval;
        let run = move || writer::run(&shared, committer, interval);
        let spawned = thread::Builder::new().name("audit".to_owned()).spawn(run);
        let writer = spawned.map_err(|error| OpenError::Io {
            path: dir.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            queue,
            newest,
            writer: Some(writer),
        })
    }

    /// Events that were refused since the log was opened, and critical events
    /// that could not be made durable in time among them.
    #[must_use]
    pub fn losses(&self) -> (u64, u64) {
        self.queue.losses()
    }
}

impl Sink for LogSink {
    fn record(&self, event: &Event) -> Result<(), AuditError> {
        let mut json = Vec::with_capacity(USUAL_EVENT_BYTES);
        serde_json::to_writer(&mut json, event).map_err(|error| AuditError {
            reason: error.to_string(),
        })?;
        let critical = event.severity == Severity::Critical;
        self.queue.put(event.timestamp, json, critical)
    }

    fn flush(&self) -> Result<(), AuditError> {
        self.queue.flush()
    }

    fn checkpoint(&self) -> Result<Option<String>, AuditError> {
        self.queue.flush()?;
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(newest.clone())
    }
}

impl Drop for LogSink {
    fn drop(&mut self) {
        self.queue.stop();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so already; the log is as after a kill.
            let _ = writer.join();
        }
    }
}
