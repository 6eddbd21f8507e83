//! Handles that share a shard: one that is given out owns memory, whoever drops
//! the last of the others meanwhile.
//!
//! requirement: API-F18, TY-7

use super::explore;
use super::rig::{LEN, Rig, WEIGHTS};
use crate::SealRequest;
use crate::policy::Policy;
use crate::sync::{Arc, thread};
use crate::verify::Mode;

#[test]
fn a_shared_handle_is_never_of_freed_memory() {
    explore(|| {
        let rig = Rig::new(1, Policy::default());
        let first = rig.seal();
        let digest = first.digest().to_string();
        let theirs = Arc::clone(&rig);
        let sharing = thread::spawn(move || {
            let request = SealRequest::bytes(&WEIGHTS).expect(&digest).dedupe();
            theirs.manager.seal(request).unwrap()
        });
        drop(first);
        let second = sharing.join().unwrap();
        assert!(second.is_sealed());
        assert!(rig.manager.lease(&second, Mode::Full).is_ok());
        assert_eq!(rig.used(), [LEN as u64]);
        drop(second);
        rig.assert_empty();
    });
}

/// Who cannot move a shard because another handle shares it keeps it, whatever becomes of
/// the other one meanwhile.
#[test]
fn a_move_that_is_refused_takes_no_handle_away() {
    explore(|| {
        let rig = Rig::new(2, Policy::default());
        let one = rig.seal();
        let other = rig.share(&one);
        let dropping = thread::spawn(move || drop(other));
        let moved = rig.manager.migrate_shard(&one, 1);
        dropping.join().unwrap();
        let owned = moved.as_ref().unwrap_or(&one);
        assert!(owned.is_sealed(), "freed under its owner");
        assert_eq!(rig.used().iter().sum::<u64>(), LEN as u64);
        drop((moved, one));
        rig.assert_empty();
    });
}

/// The last lease and the last handle go at once: one of them frees.
#[test]
fn whoever_goes_last_frees_the_memory() {
    explore(|| {
        let rig = Rig::new(1, Policy::default());
        let shard = rig.seal();
        let lease = rig.manager.lease(&shard, Mode::TagOnly).unwrap();
        let leasing = thread::spawn(move || drop(lease));
        let inert = rig.share(&shard);
        rig.manager.deallocate(&inert).unwrap();
        drop(shard);
        leasing.join().unwrap();
        assert_eq!(rig.used(), [0], "an inert handle kept it");
        drop(inert);
        rig.assert_empty();
    });
}

/// A lease through a handle that is given up, as the last other one is dropped: it is
/// refused or granted, and the memory is free in the end.
#[test]
fn a_lease_through_a_handle_that_goes_leaves_nothing() {
    explore(|| {
        let rig = Rig::new(1, Policy::default());
        let one = Arc::new(rig.seal());
        let other = rig.share(&one);
        let (theirs, shared) = (Arc::clone(&rig), Arc::clone(&one));
        let leasing = thread::spawn(move || drop(theirs.manager.lease(&shared, Mode::TagOnly)));
        // Refused where the lease has begun to count itself: tried again at the end.
        let _ = rig.manager.deallocate(&one);
        drop(other);
        leasing.join().unwrap();
        let _ = rig.manager.deallocate(&one);
        assert_eq!(rig.used(), [0]);
        drop(one);
        rig.assert_empty();
    });
}

/// Two owners of one id: the second may have it once the first is gone.
#[test]
fn an_id_has_one_owner() {
    explore(|| {
        let rig = Rig::new(1, Policy::default());
        let name = || SealRequest::bytes(&WEIGHTS).id("x");
        let first = rig.manager.seal(name()).unwrap();
        let theirs = Arc::clone(&rig);
        let again = thread::spawn(move || theirs.manager.seal(name()).ok());
        rig.manager.deallocate(&first).unwrap();
        let second = again.join().unwrap();
        let id = first.id();
        let record = rig.manager.get_shard(id);
        assert_eq!(record.as_ref(), second.as_ref().map(|s| s.record()));
        drop((first, second));
        rig.assert_empty();
    });
}

/// Two that want one id at once: one has it, and its shard is found under it.
#[test]
fn an_id_is_not_given_twice() {
    explore(|| {
        let rig = Rig::new(1, Policy::default());
        let name = || SealRequest::bytes(&WEIGHTS).id("x");
        let theirs = Arc::clone(&rig);
        let other = thread::spawn(move || theirs.manager.seal(name()).ok());
        let one = rig.manager.seal(name()).ok();
        let sealed: Vec<_> = [one, other.join().unwrap()].into_iter().flatten().collect();
        let [shard] = sealed.as_slice() else {
            panic!("{} shards of one id", sealed.len())
        };
        assert_eq!(
            rig.manager.get_shard(shard.id()).as_ref(),
            Some(shard.record())
        );
        drop(sealed);
        rig.assert_empty();
    });
}
