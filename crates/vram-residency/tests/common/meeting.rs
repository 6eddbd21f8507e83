//! Threads that must be somewhere at the same time: a test in which they are not fails.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Far longer than any thread needs to get there.
const PATIENCE: Duration = Duration::from_secs(300);

/// As [`std::sync::Barrier`], but nobody waits there for ever.
pub(crate) struct Meeting {
    of: usize,
    /// Who has come to this meeting, and how many meetings there were.
    came: Mutex<(usize, u64)>,
    met: Condvar,
}

impl Meeting {
    /// Of so many threads, again and again.
    pub(crate) fn of(of: usize) -> Self {
        Self {
            of,
            came: Mutex::new((0, 0)),
            met: Condvar::new(),
        }
    }

    /// Waits for the others; true for the last one to come.
    pub(crate) fn wait(&self) -> bool {
        let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        came.0 = came.0.saturating_add(1);
        if came.0 == self.of {
            *came = (0, came.1.saturating_add(1));
            self.met.notify_all();
            return true;
        }
        let this = came.1;
        let still = |came: &mut (usize, u64)| came.1 == this;
        let end = self.met.wait_timeout_while(came, PATIENCE, still);
        let (came, end) = end.unwrap_or_else(PoisonError::into_inner);
        assert!(!end.timed_out(), "{} of {} came", came.0, self.of);
        false
    }
}
