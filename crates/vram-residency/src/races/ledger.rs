//! The capacity ledger: never over budget, nothing lost, no refusal that no order
//! of the operations explains.
//!
//! requirement: CAP-1, CAP-9, GC-6, TP-2

use super::explore;
use super::rig::Rig;
use crate::Error;
use crate::audit::{AuditMode, Recorder};
use crate::capacity::{Allocation, Ledger, Sharing};
use crate::clock::{ManualClock, Timestamp};
use crate::device::{Checked, Device};
use crate::manager::VramManager;
use crate::policy::Policy;
use crate::sim::SimDevice;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, thread};

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
        let device = Arc::new(Checked::new(Arc::new(SimDevice::new(MIB))));
        let ledger = Arc::new(Ledger::new(device, None, Sharing::Dedicated));
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1)));
        let worker = "w".parse().unwrap();
        let recorder = Recorder::new(Vec::new(), AuditMode::Required, worker, clock);
        let recorder = Arc::new(recorder);
        let half = |ledger: &Arc<Ledger>| {
            let policy = Policy::default();
            let admitted = policy.admit_device(ledger.device().info()).unwrap();
            let size = policy.admit_size(MIB / 2).unwrap();
            let reservation = ledger.reserve(admitted, size).expect("it fits");
            let about = ("x".parse().unwrap(), None);
            Allocation::take(reservation, Arc::clone(&recorder), about, 0, MIB / 2).unwrap()
        };
        let allocations: Vec<_> = thread::scope(|scope| {
            let other = scope.spawn(|| half(&ledger));
            vec![half(&ledger), other.join().unwrap()]
        });
        assert_eq!(
            (ledger.capacity().used, ledger.capacity().reserved),
            (MIB, 0)
        );
        for allocation in allocations {
            allocation.free(None).unwrap();
        }
        assert_eq!((ledger.capacity().used, ledger.capacity().holders), (0, 0));
    });
}
