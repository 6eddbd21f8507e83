//! The bounded queue between `record` and the writer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::AuditError;
use super::super::line::MAX_LINE_BYTES;
use super::LogOptions;
use crate::clock::Timestamp;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Room in a line for what the log adds to an event's JSON.
const ENVELOPE_BYTES: usize = 128;

/// An event on its way.
pub(super) struct Entry {
    pub(super) time: Timestamp,
    pub(super) json: Vec<u8>,
}

/// What the writer gets at once.
pub(super) struct Work {
    pub(super) entries: Vec<Entry>,
    /// Somebody waits for a checkpoint.
    pub(super) urgent: bool,
    pub(super) stop: bool,
    /// Events and critical events that were refused since the last report.
    pub(super) lost: (u64, u64),
    /// Number of this attempt and the last ticket in it.
    pub(super) attempt: u64,
    pub(super) through: u64,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Somebody found no room.
    crowded: bool,
    /// Taken by the writer, not yet written because writing fails.
    stuck: (usize, usize),
    /// Tickets given out; each event has one.
    tickets: u64,
    /// Tickets on disk and under a checkpoint.
    covered: u64,
    urgent: bool,
    stop: bool,
    /// The writer waits for work; waking one that does not is a wasted system call.
    waits: bool,
    /// The writer has ended.
    ended: bool,
    attempt: u64,
    /// The last attempt that failed, the last ticket in it, and why.
    failed: (u64, u64, String),
    /// No attempt since then brought everything under a checkpoint.
    failing: bool,
    /// Not yet written into the log, and in total.
    unreported: (u64, u64),
    lost: (u64, u64),
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes those who wait for room or for a checkpoint.
    done: Condvar,
    max_events: usize,
    max_bytes: usize,
    batch: usize,
    full_wait: Duration,
}

impl Queue {
    pub(super) fn new(options: &LogOptions) -> Self {
        Self {
            // The opening is the first thing that was taken: a flush waits for it, too.
            state: Mutex::new(State {
                tickets: 1,
                ..State::default()
            }),
            work: Condvar::new(),
            done: Condvar::new(),
            max_events: options.queue_events.max(1),
            max_bytes: options.queue_bytes,
            batch: options.batch_events.clamp(1, options.queue_events.max(1)),
            full_wait: options.full_wait,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event; waits for a checkpoint over a critical one. While writing
    /// fails, an event that is taken may still be lost: that is an error, too.
    pub(super) fn put(
        &self,
        time: Timestamp,
        json: Vec<u8>,
        critical: bool,
    ) -> Result<(), AuditError> {
        let mut state = self.lock();
        if json.len() > MAX_LINE_BYTES.saturating_sub(ENVELOPE_BYTES) {
            state.lose(critical);
            return Err(refused("the event is longer than 256 KiB"));
        }
        if self.is_full(&state, json.len()) {
            state = self.wait_for_room(state, json.len());
        }
        if let Some(reason) = self.no_room(&state, json.len()) {
            state.lose(critical);
            return Err(reason);
        }
        let due = self.is_due(&state);
        state.tickets = state.tickets.saturating_add(1);
        state.bytes = state.bytes.saturating_add(json.len());
        state.entries.push_back(Entry { time, json });
        if critical {
            let answer = self.wait_for_cover(state);
            if answer.is_err() {
                self.lock().lost_critical();
            }
            return answer;
        }
        let now_due = !due && self.is_due(&state);
        if state.waits && (state.entries.len() == 1 || now_due) {
            self.work.notify_one();
        }
        state.trusted()
    }

    /// Waits until everything taken so far is under a checkpoint.
    pub(super) fn flush(&self) -> Result<(), AuditError> {
        self.wait_for_cover(self.lock())
    }

    /// Tells the writer to write what is left and end.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.work.notify_one();
    }

    pub(super) fn losses(&self) -> (u64, u64) {
        self.lock().lost
    }

    /// Whether the writer starts before the interval is over: a batch waits, half of
    /// the room is taken, or the rest is too little for somebody.
    fn is_due(&self, state: &State) -> bool {
        let half = self.max_bytes / 2;
        state.entries.len() >= self.batch || state.bytes > half || state.crowded
    }

    fn is_full(&self, state: &State, more: usize) -> bool {
        let (stuck_events, stuck_bytes) = state.stuck;
        let events = state.entries.len().saturating_add(stuck_events);
        let bytes = state.bytes.saturating_add(stuck_bytes);
        events >= self.max_events || bytes.saturating_add(more) > self.max_bytes
    }

    fn wait_for_room<'a>(
        &self,
        state: MutexGuard<'a, State>,
        more: usize,
    ) -> MutexGuard<'a, State> {
        // Waiting helps against a slow disk, not against one that fails.
        let full = |state: &mut State| {
            let full = self.is_full(state, more);
            state.crowded |= full && !state.entries.is_empty();
            if state.waits && state.crowded {
                self.work.notify_one();
            }
            full && state.stuck.0 == 0 && !state.stop && !state.ended
        };
        let waited = self.done.wait_timeout_while(state, self.full_wait, full);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn no_room(&self, state: &State, more: usize) -> Option<AuditError> {
        if state.stop || state.ended {
            return Some(refused("the log is closed"));
        }
        if !self.is_full(state, more) {
            return None;
        }
        let cause = &state.failed.2;
        Some(refused(if state.stuck.0 > 0 && !cause.is_empty() {
            cause
        } else {
            "the queue is full"
        }))
    }

    fn wait_for_cover(&self, mut state: MutexGuard<'_, State>) -> Result<(), AuditError> {
        let (ticket, since) = (state.tickets, state.attempt);
        state.urgent = true;
        self.work.notify_one();
        loop {
            if state.covered >= ticket {
                return Ok(());
            }
            let (attempt, through, reason) = &state.failed;
            if *attempt > since && *through >= ticket {
                return Err(refused(reason));
            }
            if state.ended {
                return Err(refused("the writer has ended"));
            }
            let waited = self.done.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the writer: waits for work until `deadline`, or for any work at all
    /// when nothing is `open` from before.
    pub(super) fn take(&self, deadline: Instant, open: bool) -> Work {
        let mut state = self.lock();
        loop {
            let idle = state.entries.is_empty() && state.stuck.0 == 0 && !open;
            let due = state.stuck.0 == 0 && self.is_due(&state);
            let left = deadline.saturating_duration_since(Instant::now());
            if state.stop || state.urgent || due || (!idle && left.is_zero()) {
                return state.take();
            }
            state.waits = true;
            state = if idle {
                let waited = self.work.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.work.wait_timeout(state, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            state.waits = false;
        }
    }

    /// For the writer: the attempt went well; `covered` if up to a checkpoint.
    pub(super) fn succeeded(&self, work: &Work, covered: bool) {
        let mut state = self.lock();
        state.stuck = (0, 0);
        if covered {
            state.covered = work.through;
            state.failing = false;
        }
        self.done.notify_all();
    }

    /// For the writer: the attempt failed and left `stuck` events and bytes.
    pub(super) fn failed(&self, work: &Work, stuck: (usize, usize), reason: String) {
        let mut state = self.lock();
        state.stuck = stuck;
        state.failed = (work.attempt, work.through, reason);
        state.failing = true;
        self.done.notify_all();
    }

    /// For the writer: nobody may wait for it any more.
    pub(super) fn ended(&self) {
        self.lock().ended = true;
        self.done.notify_all();
    }
}

impl State {
    fn take(&mut self) -> Work {
        self.attempt = self.attempt.saturating_add(1);
        (self.bytes, self.crowded) = (0, false);
        Work {
            entries: self.entries.drain(..).collect(),
            urgent: std::mem::take(&mut self.urgent),
            stop: self.stop,
            lost: std::mem::take(&mut self.unreported),
            attempt: self.attempt,
            through: self.tickets,
        }
    }

    /// Whether what is taken now will be written, as far as anybody knows.
    fn trusted(&self) -> Result<(), AuditError> {
        if self.failing {
            return Err(refused(&self.failed.2));
        }
        Ok(())
    }

    fn lose(&mut self, critical: bool) {
        let critical = u64::from(critical);
        for (events, criticals) in [&mut self.unreported, &mut self.lost] {
            *events = events.saturating_add(1);
            *criticals = criticals.saturating_add(critical);
        }
    }

    /// A critical event that is not durable in time; it may still be written.
    fn lost_critical(&mut self) {
        self.lost.1 = self.lost.1.saturating_add(1);
    }
}

fn refused(reason: &str) -> AuditError {
    AuditError {
        reason: reason.to_owned(),
    }
}
