//! Models of what threads do to each other: the shipped code under a scheduler
//! that picks, at every lock and atomic, which thread goes on. A model states
//! what must hold in every order; `cargo xtask races` runs them.
//!
//! Time does not pass here: a wait with a limit ends when it is notified.
//! requirement: TP-6, TP-9

mod explore;
mod export;
mod handles;
mod keys;
mod lease;
mod ledger;
mod loads;
mod quarantine;
mod rig;

pub(crate) use explore::explore;

/// The models can fail: a check and an act under two locks is found.
#[test]
#[should_panic(expected = "over the budget")]
fn a_check_apart_from_its_act_is_found() {
    use crate::sync::{Arc, Mutex, thread};
    explore(|| {
        let used = Arc::new(Mutex::new(0_u64));
        let take = |used: &Mutex<u64>| {
            if *used.lock().unwrap() + 60 <= 100 {
                *used.lock().unwrap() += 60;
            }
        };
        let theirs = Arc::clone(&used);
        let other = thread::spawn(move || take(&theirs));
        take(&used);
        other.join().unwrap();
        assert!(*used.lock().unwrap() <= 100, "over the budget");
    });
}
