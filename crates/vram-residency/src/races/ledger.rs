//! The capacity ledger: never over budget, nothing lost, no refusal that no order
//! of the operations explains.
//!
//! requirement: CAP-1, CAP-9, GC-6, TP-2

use super::explore;
use super::rig::{LEN, Rig};
use crate::manager::VramManager;
use crate::policy::Policy;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, thread};
use crate::{Error, SealRequest};

const MIB: u64 = 1 << 20;

/// What every look at the ledger must show.
fn look(manager: &VramManager) {
    let now = manager.capacity(0).unwrap();
    assert_eq!(now.used + now.free + now.stranded, now.total, "{now:?}");
    assert!(now.reserved <= now.used && now.used <= now.total, "{now:?}");
}

#[test]
fn reservations_never_pass_the_budget_and_all_come_back() {
    explore(|| {
        let rig = Rig::new(1, Policy::default());
        // Two of these fit, three do not.
        let part = MIB * 2 / 5;
        let held = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (rig, held) = (Arc::clone(&rig), Arc::clone(&held));
                thread::spawn(move || {
                    let reserved = rig.manager.reserve(0, part);
                    look(&rig.manager);
                    let Ok(reservation) = reserved else {
                        assert!(matches!(reserved, Err(Error::InsufficientVram(_))));
                        return false;
                    };
                    assert!(held.fetch_add(part, Ordering::SeqCst) + part <= MIB);
                    held.fetch_sub(part, Ordering::SeqCst);
                    drop(reservation);
                    true
                })
            })
            .collect();
        let granted = threads
            .into_iter()
            .filter_map(|t| t.join().unwrap().then_some(()));
        // Only two others can be in the way of the third.
        assert!(granted.count() >= 2);
        rig.assert_empty();
        drop(rig.manager.reserve(0, MIB).unwrap());
    });
}

/// While room turns into memory it is missing from the driver's figure or
/// counted as reserved, never both: what fits is admitted.
#[test]
fn room_that_becomes_memory_is_counted_once() {
    explore(|| {
        let rig = Rig::new(1, Policy::default());
        let theirs = Arc::clone(&rig);
        let other = thread::spawn(move || {
            let shard = theirs.seal();
            look(&theirs.manager);
            shard
        });
        let rest = rig.manager.reserve(0, MIB - LEN as u64).unwrap();
        look(&rig.manager);
        let shard = other.join().unwrap();
        assert_eq!(rig.used(), [MIB]);
        assert!(rig.manager.seal(SealRequest::bytes(&[1])).is_err());
        drop((rest, shard));
        rig.assert_empty();
    });
}
