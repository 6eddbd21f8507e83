//! Events: every state change and every failure, refused input excepted
//! (requirement: AU-1..AU-17, RP-005).

mod body;
pub mod check;
mod event;
mod line;
pub mod log;
mod memory;
pub mod merkle;
pub mod note;
pub mod proof;
mod recorder;

pub use event::{Body, Event, MAX_TEXT_CHARS, Severity, Text};
pub use memory::MemorySink;
pub use recorder::AuditMode;
pub(crate) use recorder::Recorder;

/// Where events go. A sink must make critical events durable before
/// [`Sink::record`] returns.
///
/// It is called by the operation that it hears of, which holds the shard for the
/// time of a check: free or stop from here, but leave what checks, repairs, moves
/// or leases that shard to another thread, or it waits for itself.
pub trait Sink: Send + Sync {
    /// Takes one event.
    ///
    /// # Errors
    /// [`AuditError`] when the event may be lost.
    fn record(&self, event: &Event) -> Result<(), AuditError>;

    /// Makes everything taken so far durable.
    ///
    /// # Errors
    /// [`AuditError`] when events may be lost.
    fn flush(&self) -> Result<(), AuditError>;

    /// Makes everything taken so far durable and returns a signed checkpoint
    /// over it, where the sink is a log that has any.
    ///
    /// # Errors
    /// As [`Sink::flush`].
    fn checkpoint(&self) -> Result<Option<String>, AuditError> {
        self.flush().map(|()| None)
    }
}

/// Evidence could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot write the audit log: {reason}")]
pub struct AuditError {
    /// The sink's words.
    pub reason: String,
}
