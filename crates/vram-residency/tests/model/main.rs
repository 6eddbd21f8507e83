//! Random operations on a manager and on a plain model of it: after every step
//! both must agree about each answer, each byte of the budget and each shard.

#[path = "../common/mod.rs"]
mod common;
mod groups;
mod plain;

use std::collections::{BTreeMap, BTreeSet};

use common::{Rig, cases, newest, weights};
use plain::{Answer, DEVICES, Model, Plain, Step, answer, first_call, step};
use proptest::prelude::*;
use vram_residency::device::{BufferId, DeviceError};
use vram_residency::manager::RunState;
use vram_residency::sim::{Op, SimOptions};
use vram_residency::{Lease, Mode, Policy, SealRequest, SealedGroup, SealedShard};

/// The real thing behind a shard of the model.
struct Real {
    owner: Owner,
    buffer: BufferId,
    leases: Vec<Lease>,
}

/// Who holds the handle.
enum Owner {
    Us(SealedShard),
    /// A group, under this index.
    Group(u64, usize),
}

struct Pair {
    rig: Rig,
    model: Model,
    real: BTreeMap<u64, Real>,
    groups: BTreeMap<u64, SealedGroup>,
}

fn driver_fault() -> DeviceError {
    DeviceError::Driver {
        op: "cuTest",
        code: 12_345,
        name: "unknown".to_owned(),
        text: "a passing fault".to_owned(),
    }
}

impl Pair {
    fn new() -> Self {
        let options = (0_u32..).zip(DEVICES);
        let options = options.map(|(ordinal, (capacity, granularity))| {
            SimOptions::new(capacity)
                .granularity(granularity)
                .ordinal(ordinal)
        });
        let policy = Policy {
            allow_repair: true,
            ..Policy::default()
        };
        Self {
            rig: Rig::build(&options.collect::<Vec<_>>(), policy, |b| b),
            model: Model::default(),
            real: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    /// The handle of a shard of the model.
    fn shard(&self, id: u64) -> &SealedShard {
        match &self.real[&id].owner {
            Owner::Us(shard) => shard,
            Owner::Group(group, index) => &self.groups[group].shards()[*index],
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Seal { device, len, fault } => self.seal(device, len, fault),
            Step::Group { lens, fault } => self.group(lens, fault),
            Step::Verify { pick, mode, fault } => {
                self.with(pick, |pair, id| pair.verify(id, mode, fault));
            }
            Step::VerifyGroup(pick) => self.verify_group(pick),
            Step::Lease { pick, mode } => self.with(pick, |pair, id| pair.lease(id, mode)),
            Step::Finish(pick) => self.with(pick, |pair, id| {
                let lease = pair.real.get_mut(&id).unwrap().leases.pop();
                pair.model.shards.get_mut(&id).unwrap().leases -= u64::from(lease.is_some());
            }),
            Step::Free { pick, fault } => self.with(pick, |pair, id| pair.free(id, fault)),
            Step::Migrate { pick, to } => self.with(pick, |pair, id| pair.migrate(id, to)),
            Step::Corrupt { pick, at, bit } => {
                self.with(pick, |pair, id| pair.corrupt(id, at, bit));
            }
            Step::Repair(pick) => self.with(pick, Self::repair),
            Step::Stop => {
                self.rig.manager.stop("by the test").unwrap();
                self.model.stopped = true;
            }
            Step::Resume => {
                self.rig.manager.resume("by the test").unwrap();
                self.model.stopped = false;
            }
            Step::Lose(device) => self.lose(device),
        }
    }

    fn with(&mut self, pick: usize, work: impl FnOnce(&mut Self, u64)) {
        if let Some(id) = self.model.pick(pick) {
            work(self, id);
        }
    }

    fn seal(&mut self, device: usize, len: u64, fault: bool) {
        let mut expected = self.model.room(device, len);
        if fault && expected == Answer::Done {
            self.rig.devices[device].fail(Op::Finish, 1, driver_fault());
            expected = Answer::Device;
        }
        let seed = self.model.next;
        self.model.next += 1;
        let bytes = weights(len as usize, seed);
        let sealed = self
            .rig
            .manager
            .seal(SealRequest::bytes(&bytes).device(device as u32));
        assert_eq!(answer(&sealed), expected);
        if let Ok(shard) = sealed {
            self.keep(seed, device, Owner::Us(shard));
            let plain = Plain::new(device, len, seed);
            self.model.shards.insert(seed, plain);
        }
    }

    /// Takes note of the newest allocation of a device.
    fn keep(&mut self, id: u64, device: usize, owner: Owner) {
        let real = Real {
            owner,
            buffer: newest(&self.rig.devices[device]),
            leases: Vec::new(),
        };
        self.real.insert(id, real);
    }

    fn verify(&mut self, id: u64, mode: Mode, fault: bool) {
        let shard = &self.model.shards[&id];
        let fault = fault && !shard.quarantined && !self.model.lost[shard.device];
        if fault {
            self.rig.devices[shard.device].fail(first_call(mode), 1, driver_fault());
        }
        let verified = self.rig.manager.verify_sealed(self.shard(id), mode);
        let expected = self.model.verify(id, mode, fault);
        assert_eq!(answer(&verified), expected, "{mode}");
        if let Ok(verified) = verified {
            let verification = verified.verification();
            let all = match mode {
                Mode::TagOnly => 0,
                _ => self.model.shards[&id].len,
            };
            assert_eq!((verification.mode, verification.bytes_checked), (mode, all));
        }
    }

    fn lease(&mut self, id: u64, mode: Mode) {
        let leased = self.rig.manager.lease(self.shard(id), mode);
        let expected = match self.model.stopped {
            true => Answer::Stopped,
            false => self.model.verify(id, mode, false),
        };
        assert_eq!(answer(&leased), expected);
        if let Ok(lease) = leased {
            self.real.get_mut(&id).unwrap().leases.push(lease);
            self.model.shards.get_mut(&id).unwrap().leases += 1;
        }
    }

    fn free(&mut self, id: u64, fault: bool) {
        let shard = &self.model.shards[&id];
        let (busy, lost) = (shard.leases > 0, self.model.lost[shard.device]);
        let strand = lost || fault;
        if strand && !lost && !busy {
            self.rig.devices[shard.device].fail(Op::Free, 1, driver_fault());
        }
        let expected = match (busy, strand) {
            (true, _) => Answer::Busy,
            (false, true) => Answer::Device,
            (false, false) => Answer::Done,
        };
        let freed = self.rig.manager.deallocate(self.shard(id));
        assert_eq!(answer(&freed), expected);
        if !busy {
            assert!(!self.shard(id).is_sealed());
            self.model.remove(id, strand);
            self.real.remove(&id);
        }
    }

    fn migrate(&mut self, id: u64, to: usize) {
        let shard = &self.model.shards[&id];
        let room = self.model.room(to, shard.len);
        let expected = if shard.quarantined {
            Answer::Failed
        } else if shard.leases > 0 {
            Answer::Busy
        } else if room != Answer::Done {
            room
        } else {
            // The copy needs the source; damage is seen on arrival and blamed
            // on the source by a verification of it.
            self.model.verify(id, Mode::Full, false)
        };
        let manager = &self.rig.manager;
        let moved = match &self.real[&id].owner {
            Owner::Us(shard) => manager.migrate_shard(shard, to as u32).map(Owner::Us),
            Owner::Group(group, index) => {
                let (group, index) = (*group, *index);
                let whole = self.groups.get_mut(&group).unwrap();
                let moved = manager.migrate_member(whole, index as u32, to as u32);
                moved.map(|()| Owner::Group(group, index))
            }
        };
        assert_eq!(answer(&moved), expected);
        if let Ok(owner) = moved {
            self.keep(id, to, owner);
            let shard = self.model.shards.get_mut(&id).unwrap();
            shard.device = to;
            // A new seal that nobody has verified yet.
            shard.verified = false;
        }
    }

    fn corrupt(&mut self, id: u64, at: u64, bit: u8) {
        let shard = self.model.shards.get_mut(&id).unwrap();
        let at = at % shard.len;
        let device = &self.rig.devices[shard.device];
        device.flip_bit(self.real[&id].buffer, at, bit).unwrap();
        if !shard.damage.remove(&(at, bit)) {
            shard.damage.insert((at, bit));
        }
    }

    fn repair(&mut self, id: u64) {
        let shard = &self.model.shards[&id];
        let source = weights(shard.len as usize, shard.seed);
        let expected = match (shard.leases > 0, self.model.lost[shard.device]) {
            (true, _) => Answer::Busy,
            (false, true) => Answer::Device,
            (false, false) => Answer::Done,
        };
        let handle = match &self.real[&id].owner {
            Owner::Us(shard) => shard,
            Owner::Group(group, index) => &self.groups[group].shards()[*index],
        };
        let repaired = self.rig.manager.repair(handle, &source.as_slice());
        assert_eq!(answer(&repaired), expected);
        if expected == Answer::Done {
            // Damage that the repair finds is a failed verification.
            self.model.verify(id, Mode::Full, false);
        }
        if let Ok(repaired) = repaired {
            let shard = self.model.shards.get_mut(&id).unwrap();
            let blocks: BTreeSet<_> = shard.damage.iter().map(|(at, _)| at / 4096).collect();
            assert_eq!(repaired.blocks, blocks.len() as u64);
            shard.damage.clear();
            shard.quarantined = false;
            shard.verified = true;
        }
    }

    fn lose(&mut self, device: usize) {
        if self.model.lost[device] {
            return;
        }
        let (op, text) = ("cuTest", "an illegal memory access".to_owned());
        let fault = DeviceError::Lost {
            op,
            code: 700,
            text,
        };
        self.rig.devices[device].fail(Op::Memory, 1, fault);
        assert!(self.rig.manager.driver_memory(device as u32).is_err());
        self.model.lost[device] = true;
        self.model.stopped = true;
    }

    /// Everything that can be asked, asked.
    fn agree(&self) {
        for (capacity, device) in self.rig.assert_balanced().iter().zip(0..) {
            let model = (self.model.used(device), self.model.stranded[device]);
            assert_eq!((capacity.used, capacity.stranded), model, "device {device}");
            let here = self
                .model
                .shards
                .values()
                .filter(|shard| shard.device == device);
            assert_eq!(self.rig.devices[device].buffers().len(), here.count());
        }
        assert_eq!(self.rig.manager.shards().len(), self.model.shards.len());
        let stopped = self.rig.manager.state() != RunState::Running;
        assert_eq!(stopped, self.model.stopped);
        for (id, group) in &self.groups {
            let ready = self.rig.manager.group_ready(group);
            assert_eq!(ready, self.model.ready(*id), "group {id}");
        }
        for (id, plain) in &self.model.shards {
            let shard = self.shard(*id);
            assert!(shard.is_sealed());
            assert_eq!(shard.is_quarantined(), plain.quarantined);
            assert_eq!(shard.leases(), plain.leases);
            let record = shard.record();
            let facts = (record.gpu_device as usize, record.vram_bytes);
            assert_eq!(facts, (plain.device, plain.len));
            assert_eq!(
                self.rig.manager.get_shard(&record.shard_id).as_ref(),
                Some(record)
            );
        }
    }
}

// requirement: TP-4, CAP-1, CAP-2, MS-005, WORKER-4122, PM-1, PM-3, PM-4
#[test]
fn random_lives_agree_with_a_plain_model() {
    proptest!(cases(400), |(steps in prop::collection::vec(step(), 1..60))| {
        let mut pair = Pair::new();
        for step in steps {
            pair.run(step);
            pair.agree();
        }
        // The end: leases and handles go, in any order, and nothing is left.
        let model = &pair.model;
        let end = [0, 1].map(|device| {
            let stays = if model.lost[device] { model.used(device) } else { 0 };
            model.stranded[device] + stays
        });
        pair.real.clear();
        pair.groups.clear();
        for (capacity, stranded) in pair.rig.assert_balanced().iter().zip(end) {
            prop_assert_eq!((capacity.used, capacity.stranded), (0, stranded));
        }
        prop_assert!(pair.rig.devices.iter().all(|device| device.buffers().is_empty()));
        prop_assert!(pair.rig.manager.shards().is_empty());
    });
}
