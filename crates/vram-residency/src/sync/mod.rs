//! Locks, atomics and threads: those of `std`, or under `--cfg shuttle` those of
//! a scheduler that decides at each of them which thread goes on, so that
//! `cargo xtask races` runs the shipped code in thousands of interleavings
//! (requirement: TP-6, TP-9).
//!
//! Everything that a decision hangs on comes from here. Counters that are only
//! shown, and statics, which outlive a scheduled run, stay with `std`.
//!
//! The models are made with shuttle, which samples schedules, and not with
//! loom, which visits all of them: one seal takes some thousand steps, and what
//! is worth checking is how whole operations meet.

mod each;
#[cfg(all(test, not(shuttle)))]
#[path = "../../tests/common/meeting.rs"]
mod meeting;

pub use std::sync::{Arc, OnceLock, PoisonError, TryLockError, Weak};

pub use each::{AtOnce, each};

#[cfg(not(shuttle))]
pub use std::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic},
    thread,
};

#[cfg(shuttle)]
pub use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic},
    thread,
};

/// Runs `work` on one more thread of `scope`; false when none can be had.
#[cfg(not(shuttle))]
pub fn one_more<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) -> bool {
    thread::Builder::new().spawn_scoped(scope, work).is_ok()
}

/// Runs `work` on one more thread of `scope`.
#[cfg(shuttle)]
pub fn one_more<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) -> bool {
    drop(scope.spawn(work));
    true
}
