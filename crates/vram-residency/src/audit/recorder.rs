//! Stamps events and hands them to the sinks.

use super::{AuditError, Body, Event, Sink, Text};
use crate::clock::Clock;
use crate::shard::WorkerId;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};

/// What a failing sink means (requirement: AU-13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AuditMode {
    /// Losses are counted and work goes on.
    #[default]
    BestEffort,
    /// An operation that cannot be recorded fails (requirement: EXP-AUDIT-6001).
    Required,
}

pub(crate) struct Recorder {
    sinks: Vec<Arc<dyn Sink>>,
    mode: AuditMode,
    worker_id: WorkerId,
    clock: Arc<dyn Clock>,
    next: AtomicU64,
    failures: AtomicU64,
    critical_failures: AtomicU64,
}

impl Recorder {
    pub(crate) fn new(
        sinks: Vec<Arc<dyn Sink>>,
        mode: AuditMode,
        worker_id: WorkerId,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            sinks,
            mode,
            worker_id,
            clock,
            next: AtomicU64::new(1),
            failures: AtomicU64::new(0),
            critical_failures: AtomicU64::new(0),
        }
    }

    /// Records one event, of a request or of none. An error only when the mode is `Required`.
    pub(crate) fn emit_for(
        &self,
        correlation_id: Option<&Text>,
        body: Body,
    ) -> Result<(), AuditError> {
        crate::trace::told(&body, correlation_id);
        let audit_id = self.next.fetch_add(1, Ordering::Relaxed);
        if self.sinks.is_empty() {
            return Ok(());
        }
        let severity = body.severity();
        let event = Event {
            audit_id,
            timestamp: self.clock.now(),
            worker_id: self.worker_id.clone(),
            severity,
            correlation_id: correlation_id.cloned(),
            body,
        };
        let mut answer = Ok(());
        for sink in &self.sinks {
            if let Err(error) = sink.record(&event) {
                crate::trace::lost(&event.body, &error);
                self.failures.fetch_add(1, Ordering::Relaxed);
                if severity == super::Severity::Critical {
                    self.critical_failures.fetch_add(1, Ordering::Relaxed);
                }
                answer = Err(error);
            }
        }
        match self.mode {
            AuditMode::BestEffort => Ok(()),
            AuditMode::Required => answer,
        }
    }

    /// Asks every sink to make what it took durable.
    pub(crate) fn flush(&self) -> Result<(), AuditError> {
        self.sinks.iter().try_for_each(|sink| sink.flush())
    }

    /// The first checkpoint that a sink gives over everything recorded so far.
    /// An error only when the mode is `Required`.
    pub(crate) fn checkpoint(&self) -> Result<Option<String>, AuditError> {
        for sink in &self.sinks {
            match (sink.checkpoint(), self.mode) {
                (Ok(None), _) | (Err(_), AuditMode::BestEffort) => {}
                (answer, _) => return answer,
            }
        }
        Ok(None)
    }

    /// Lost events, and lost critical events among them.
    pub(crate) fn losses(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.failures), load(&self.critical_failures))
    }
}

impl Drop for Recorder {
    /// Buffered events become durable when the manager ends (requirement: AU-15).
    fn drop(&mut self) {
        let _ = self.flush();
    }
}
