//! The turnstile: reader threads finish in any order, a plain SHA-256 chain
//! needs the bytes in file order.

use sha2::{Digest, Sha256};

use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Hashes chunks strictly in file order while other work goes on around it.
pub(crate) struct OrderedSha256 {
    state: Mutex<State>,
    turned: Condvar,
}

struct State {
    next: u64,
    hasher: Sha256,
    abandoned: bool,
}

impl OrderedSha256 {
    pub(crate) fn new() -> Self {
        let state = State {
            next: 0,
            hasher: Sha256::new(),
            abandoned: false,
        };
        Self {
            state: Mutex::new(state),
            turned: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all bytes before `offset` were hashed, then hashes `bytes`.
    pub(crate) fn update(&self, offset: u64, bytes: &[u8]) {
        let mut state = self.lock();
        while state.next != offset && !state.abandoned {
            state = self
                .turned
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.hasher.update(bytes);
        state.next = offset.saturating_add(bytes.len() as u64);
        self.turned.notify_all();
    }

    /// Lets every waiting thread go: the load failed elsewhere.
    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
        self.turned.notify_all();
    }

    pub(crate) fn finish(&self) -> [u8; 32] {
        std::mem::take(&mut self.lock().hasher).finalize().into()
    }
}
