//! Groups: one shard a device, sealed together or not at all.

use vram_residency::{Mode, SealRequest};

use super::common::weights;
use super::plain::{Answer, Plain, answer};
use super::{Op, Owner, Pair, driver_fault};

impl Pair {
    pub(crate) fn group(&mut self, lens: [u64; 2], fault: bool) {
        let room = [0, 1].map(|device| self.model.room(device, lens[device]));
        let all = room.iter().all(|room| *room == Answer::Done);
        if fault && all {
            self.rig.devices[1].fail(Op::Finish, 1, driver_fault());
        }
        let ids = [self.model.next, self.model.next + 1];
        self.model.next += 2;
        let bytes = [0, 1].map(|device| weights(lens[device] as usize, ids[device]));
        let requests = (0..).zip(&bytes);
        let requests = requests.map(|(device, bytes)| SealRequest::bytes(bytes).device(device));
        let sealed = self.rig.manager.seal_group(requests.collect());
        let found = answer(&sealed);
        match (all, fault) {
            (true, false) => assert_eq!(found, Answer::Done),
            (true, true) => assert_eq!(found, Answer::Device),
            // Which of two refused members is told of depends on who was first.
            (false, _) => assert!(found != Answer::Done && room.contains(&found), "{found:?}"),
        }
        let Ok(group) = sealed else {
            return;
        };
        assert_eq!(group.shards().len(), 2);
        self.groups.insert(ids[0], group);
        self.model.groups.insert(ids[0], ids.to_vec());
        for (device, id) in ids.into_iter().enumerate() {
            self.keep(id, device, Owner::Group(ids[0], device));
            let plain = Plain {
                group: Some(ids[0]),
                ..Plain::new(device, lens[device], id)
            };
            self.model.shards.insert(id, plain);
        }
    }

    pub(crate) fn verify_group(&mut self, pick: usize) {
        let Some(id) = self.model.pick_group(pick) else {
            return;
        };
        let verified = self.rig.manager.verify_group(&self.groups[&id], Mode::Full);
        match self.model.verify_group(id, Mode::Full) {
            Some(expected) => assert_eq!(answer(&verified), expected),
            None => assert!(verified.is_err(), "a new failure is told"),
        }
        if let Ok(proofs) = verified {
            assert_eq!(proofs.len(), self.model.groups[&id].len());
        }
    }
}
