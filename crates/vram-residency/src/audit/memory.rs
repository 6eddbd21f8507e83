//! A sink that keeps events in memory, for tests and short-lived tools
//! (requirement: API-F9).

use super::{AuditError, Event, Sink};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps every event, or refuses them all when told to.
#[derive(Default)]
pub struct MemorySink {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    broken: bool,
    flushes: u64,
}

impl MemorySink {
    /// An empty sink.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The events so far, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// The `event_type` of each event so far.
    #[must_use]
    pub fn types(&self) -> Vec<String> {
        self.lock()
            .events
            .iter()
            .map(|event| event.body.event_type())
            .collect()
    }

    /// How often a flush was asked for.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.lock().flushes
    }

    /// Refuses every event from now on, or takes them again.
    pub fn set_broken(&self, broken: bool) {
        self.lock().broken = broken;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for MemorySink {
    fn record(&self, event: &Event) -> Result<(), AuditError> {
        let mut state = self.lock();
        if state.broken {
            return Err(AuditError {
                reason: "the memory sink was told to refuse".to_owned(),
            });
        }
        state.events.push(event.clone());
        Ok(())
    }

    fn flush(&self) -> Result<(), AuditError> {
        let mut state = self.lock();
        state.flushes = state.flushes.saturating_add(1);
        Ok(())
    }
}
