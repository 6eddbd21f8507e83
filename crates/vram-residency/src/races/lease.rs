//! Leases against free, migration and verification: memory under a lease stays
//! where it is, and every count comes back to zero.
//!
//! requirement: WORKER-4121, MS-004, TP-9

use std::time::Duration;

use super::explore;
use super::rig::{LEN, Rig};
use crate::error::Misuse;
use crate::policy::Policy;
use crate::sync::{Arc, thread};
use crate::verify::Mode;
use crate::{Error, SealedShard};

/// A lease may rest on an earlier verification: the shorter the way to it, the more
/// of the schedules differ where it is granted.
fn reusing() -> Policy {
    Policy {
        max_lease_age: Some(Duration::from_secs(60)),
        ..Policy::default()
    }
}

/// Leases once and looks whether the memory is there while the lease is.
fn lease(rig: &Rig, shard: &SealedShard) -> bool {
    match rig.manager.lease(shard, Mode::TagOnly) {
        Ok(lease) => {
            assert!(shard.leases() >= 1, "a lease that is not counted");
            assert_eq!(rig.sims[0].buffers().len(), 1, "memory left a lease");
            drop(lease);
            true
        }
        Err(Error::Misuse(Misuse::NotSealed)) => false,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn memory_is_not_freed_under_a_lease() {
    explore(|| {
        let rig = Rig::new(1, reusing());
        let shard = Arc::new(rig.seal());
        let (theirs, there) = (Arc::clone(&rig), Arc::clone(&shard));
        let leasing = thread::spawn(move || lease(&theirs, &there));
        let (theirs, there) = (Arc::clone(&rig), Arc::clone(&shard));
        let verifying = thread::spawn(move || theirs.manager.verify_sealed(&there, Mode::TagOnly));
        let freed = rig.manager.deallocate(&shard);
        let leased = leasing.join().unwrap();
        let verified = verifying.join().unwrap();
        match &freed {
            Ok(()) => assert!(!shard.is_sealed()),
            // The two may also refuse each other: a lease that is counted while the
            // handle is being given up is taken back.
            Err(Error::Misuse(Misuse::Busy { leases, .. })) => {
                assert_eq!(*leases, 1);
                assert!(leased || shard.is_sealed());
            }
            Err(other) => panic!("{other}"),
        }
        assert!(
            matches!(&verified, Ok(_) | Err(Error::Misuse(Misuse::NotSealed))),
            "{verified:?}"
        );
        assert_eq!(shard.leases(), 0);
        drop(shard);
        rig.assert_empty();
    });
}

#[test]
fn memory_does_not_move_under_a_lease() {
    explore(|| {
        let rig = Rig::new(2, reusing());
        let shard = Arc::new(rig.seal());
        let (theirs, there) = (Arc::clone(&rig), Arc::clone(&shard));
        let leasing = thread::spawn(move || lease(&theirs, &there));
        let moved = rig.manager.migrate_shard(&shard, 1);
        let _ = leasing.join().unwrap();
        let len = LEN as u64;
        match &moved {
            Ok(moved) => {
                assert_eq!(rig.used(), [0, len]);
                assert!(rig.manager.lease(moved, Mode::Full).is_ok());
            }
            Err(Error::Misuse(Misuse::Busy { .. })) => {
                assert_eq!(rig.used(), [len, 0]);
                assert!(rig.manager.lease(&shard, Mode::Full).is_ok());
            }
            Err(other) => panic!("{other}"),
        }
        drop((moved, shard));
        rig.assert_empty();
    });
}
