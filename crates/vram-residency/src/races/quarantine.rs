//! The quarantine latch: what a failed verification condemned is leased to
//! nobody, wherever it went meanwhile.
//!
//! requirement: WORKER-4122, PM-3, TP-9

use std::time::Duration;

use super::explore;
use super::rig::{Rig, WEIGHTS};
use crate::SealRequest;
use crate::error::{Error, VerifyError};
use crate::policy::Policy;
use crate::sync::{Arc, thread};
use crate::verify::Mode;

/// Policy under which a lease may rest on an earlier verification.
fn reusing() -> Policy {
    Policy {
        max_lease_age: Some(Duration::from_secs(60)),
        ..Policy::default()
    }
}

/// A lease that a condemning verification did not see counted is not granted.
#[test]
fn a_condemned_shard_is_leased_to_nobody() {
    explore(|| {
        let rig = Rig::new(1, reusing());
        let shard = Arc::new(rig.seal());
        // Something to reuse.
        drop(rig.manager.lease(&shard, Mode::Full).unwrap());
        let leasing = (0..2).map(|_| {
            let (rig, shard) = (Arc::clone(&rig), Arc::clone(&shard));
            thread::spawn(move || rig.manager.lease(&shard, Mode::Full).ok())
        });
        let leasing: Vec<_> = leasing.collect();
        rig.damage(0);
        assert!(rig.manager.verify_sealed(&shard, Mode::Full).is_err());
        let counted = shard.leases();
        let leases: Vec<_> = leasing
            .into_iter()
            .filter_map(|t| t.join().unwrap())
            .collect();
        assert!(
            leases.len() as u64 <= counted,
            "leased after it was condemned"
        );
        assert!(shard.is_quarantined());
        assert!(rig.manager.lease(&shard, Mode::Full).is_err());
        drop((leases, shard));
        rig.assert_empty();
    });
}

/// A member on its way to another device is condemned with its group.
#[test]
fn a_quarantine_reaches_a_shard_that_moves() {
    explore(|| {
        let rig = Rig::new(3, reusing());
        let requests = (0..2).map(|i| SealRequest::bytes(&WEIGHTS).device(i));
        let group = Arc::new(rig.manager.seal_group(requests.collect()).unwrap());
        rig.damage(1);
        let (theirs, members) = (Arc::clone(&rig), Arc::clone(&group));
        let moving = thread::spawn(move || theirs.manager.migrate_shard(&members.shards()[0], 2));
        let failed = rig.manager.verify_sealed(&group.shards()[1], Mode::Full);
        assert!(failed.is_err());
        let moved = moving.join().unwrap();
        let now = moved.as_ref().unwrap_or(&group.shards()[0]);
        assert!(now.is_quarantined(), "a quarantine was left behind");
        assert!(rig.manager.lease(now, Mode::Full).is_err());
        drop((moved, group));
        rig.assert_empty();
    });
}

/// A scrubber that comes while another check condemns its shard does not check it again.
#[test]
fn a_condemned_shard_is_not_scrubbed() {
    explore(|| {
        let rig = Rig::new(1, reusing());
        let shard = Arc::new(rig.seal());
        rig.damage(0);
        let theirs = Arc::clone(&rig);
        let scrubbing = thread::spawn(move || theirs.manager.scrub_step(1));
        let verified = rig.manager.verify_sealed(&shard, Mode::Full).err().unwrap();
        let scrubbed = scrubbing.join().unwrap();
        let refused = matches!(verified, Error::Verify(VerifyError::Quarantined { .. }));
        assert_eq!(
            scrubbed.is_err(),
            refused,
            "condemned once, by whoever was first"
        );
        drop(shard);
        rig.assert_empty();
    });
}
