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
