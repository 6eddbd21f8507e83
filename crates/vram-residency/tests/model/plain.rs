//! The plain model: what happens to a shard, without any device.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use vram_residency::Mode;
use vram_residency::error::{Error, Misuse};
use vram_residency::sim::Op;

/// Capacity and granularity of the devices.
pub(crate) const DEVICES: [(u64, u64); 2] = [(150_000, 1), (200_000, 4096)];

/// What may happen. Shards are picked by a number modulo how many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Seal {
        device: usize,
        len: u64,
        fault: bool,
    },
    /// One shard a device, all or none.
    Group {
        lens: [u64; 2],
        fault: bool,
    },
    Verify {
        pick: usize,
        mode: Mode,
        fault: bool,
    },
    VerifyGroup(usize),
    Lease {
        pick: usize,
        mode: Mode,
    },
    Finish(usize),
    Free {
        pick: usize,
        fault: bool,
    },
    Migrate {
        pick: usize,
        to: usize,
    },
    Corrupt {
        pick: usize,
        at: u64,
        bit: u8,
    },
    Repair(usize),
    Stop,
    Resume,
    Lose(usize),
}

/// Every mode. Shards are smaller than a segment, so each mode but `TagOnly`
/// reads all of them.
fn mode() -> impl Strategy<Value = Mode> + Clone {
    let budget = Duration::from_millis(1);
    prop_oneof![
        3 => Just(Mode::Full),
        3 => Just(Mode::Keyed),
        3 => Just(Mode::Sweep { budget }),
        1 => Just(Mode::TagOnly),
    ]
}

/// A device call that a verification of this mode makes first.
pub(crate) const fn first_call(mode: Mode) -> Op {
    match mode {
        Mode::Keyed | Mode::Sweep { .. } => Op::KeyedTags,
        Mode::TagOnly => Op::Witness,
        _ => Op::BlockDigests,
    }
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let pick = 0..64_usize;
    let device = 0..DEVICES.len();
    // One in eight of the faulty kinds is struck by a driver fault.
    let fault = || (0..8_u8).prop_map(|dice| dice == 0);
    prop_oneof![
        6 => (device.clone(), 1..60_000_u64, fault())
            .prop_map(|(device, len, fault)| Step::Seal { device, len, fault }),
        2 => ([1..40_000_u64, 1..40_000_u64], fault())
            .prop_map(|(lens, fault)| Step::Group { lens, fault }),
        5 => (pick.clone(), mode(), fault())
            .prop_map(|(pick, mode, fault)| Step::Verify { pick, mode, fault }),
        2 => pick.clone().prop_map(Step::VerifyGroup),
        4 => (pick.clone(), mode()).prop_map(|(pick, mode)| Step::Lease { pick, mode }),
        4 => pick.clone().prop_map(Step::Finish),
        3 => (pick.clone(), fault()).prop_map(|(pick, fault)| Step::Free { pick, fault }),
        4 => (pick.clone(), device.clone()).prop_map(|(pick, to)| Step::Migrate { pick, to }),
        2 => (pick.clone(), any::<u64>(), 0..8_u8)
            .prop_map(|(pick, at, bit)| Step::Corrupt { pick, at, bit }),
        3 => pick.prop_map(Step::Repair),
        1 => Just(Step::Stop),
        3 => Just(Step::Resume),
        1 => (device, 0..20_u8).prop_filter_map("rare", |(device, dice)| {
            (dice == 0).then_some(Step::Lose(device))
        }),
    ]
}

/// How an operation ends, coarse enough for the model to foretell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Device,
    NoRoom,
    Failed,
    Busy,
    Stopped,
    /// The handle's shard was freed.
    Gone,
}

pub(crate) fn answer<T>(result: &Result<T, Error>) -> Answer {
    match result {
        Ok(_) => Answer::Done,
        Err(Error::Device(_) | Error::Free(_)) => Answer::Device,
        Err(Error::InsufficientVram(_)) => Answer::NoRoom,
        Err(Error::Verify(_)) => Answer::Failed,
        Err(Error::Misuse(Misuse::Busy { .. })) => Answer::Busy,
        Err(Error::Misuse(Misuse::Stopped { .. })) => Answer::Stopped,
        Err(Error::Misuse(Misuse::NotSealed)) => Answer::Gone,
        Err(error) => panic!("no model for: {error}"),
    }
}

/// What the model knows of a shard.
pub(crate) struct Plain {
    pub(crate) device: usize,
    pub(crate) len: u64,
    pub(crate) seed: u64,
    /// Bits that differ from what was sealed.
    pub(crate) damage: BTreeSet<(u64, u8)>,
    pub(crate) quarantined: bool,
    pub(crate) leases: u64,
    /// The group it was sealed in.
    pub(crate) group: Option<u64>,
    /// A verification has passed and counts.
    pub(crate) verified: bool,
}

impl Plain {
    pub(crate) fn new(device: usize, len: u64, seed: u64) -> Self {
        Self {
            device,
            len,
            seed,
            damage: BTreeSet::new(),
            quarantined: false,
            leases: 0,
            group: None,
            verified: false,
        }
    }

    pub(crate) fn granted(&self) -> u64 {
        self.len.next_multiple_of(DEVICES[self.device].1)
    }
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) shards: BTreeMap<u64, Plain>,
    /// Members of each group in order, freed ones included.
    pub(crate) groups: BTreeMap<u64, Vec<u64>>,
    pub(crate) stranded: [u64; 2],
    pub(crate) lost: [bool; 2],
    pub(crate) stopped: bool,
    pub(crate) next: u64,
}

impl Model {
    pub(crate) fn used(&self, device: usize) -> u64 {
        let here = self.shards.values().filter(|shard| shard.device == device);
        here.map(Plain::granted).sum()
    }

    pub(crate) fn room(&self, device: usize, len: u64) -> Answer {
        let (total, granularity) = DEVICES[device];
        let taken = self.used(device) + self.stranded[device];
        match self.lost[device] {
            true => Answer::Device,
            false if taken + len.next_multiple_of(granularity) > total => Answer::NoRoom,
            false => Answer::Done,
        }
    }

    pub(crate) fn pick(&self, pick: usize) -> Option<u64> {
        nth(&self.shards, pick)
    }

    pub(crate) fn pick_group(&self, pick: usize) -> Option<u64> {
        nth(&self.groups, pick)
    }

    /// What a verification would answer, without what follows from it.
    fn foresee(&self, id: u64, mode: Mode) -> Answer {
        let Some(shard) = self.shards.get(&id) else {
            return Answer::Gone;
        };
        let seen = mode != Mode::TagOnly && !shard.damage.is_empty();
        match (shard.quarantined, self.lost[shard.device], seen) {
            (true, _, _) => Answer::Failed,
            (false, true, _) => Answer::Device,
            (false, false, true) => Answer::Failed,
            (false, false, false) => Answer::Done,
        }
    }

    /// A verification: what it answers and what follows.
    pub(crate) fn verify(&mut self, id: u64, mode: Mode, fault: bool) -> Answer {
        let expected = self.foresee(id, mode);
        let shard = self.shards.get_mut(&id).unwrap();
        if shard.quarantined {
            return Answer::Failed;
        }
        if fault {
            return Answer::Device;
        }
        match expected {
            // Of shards as short as these a sweep reads every byte, too.
            Answer::Done => shard.verified |= mode != Mode::TagOnly,
            Answer::Failed => self.condemn(id),
            _ => {}
        }
        expected
    }

    /// A failure takes the whole group with it and stops the manager.
    fn condemn(&mut self, id: u64) {
        let group = self.shards[&id].group;
        for (other, shard) in &mut self.shards {
            if *other == id || (group.is_some() && shard.group == group) {
                shard.quarantined = true;
                shard.verified = false;
            }
        }
        self.stopped = true;
    }

    /// A verification of a group. Its members are verified at the same time, so a
    /// new failure may or may not reach the others before they answer: then any
    /// failure is right, and all that are left are quarantined.
    pub(crate) fn verify_group(&mut self, group: u64, mode: Mode) -> Option<Answer> {
        let members = self.groups[&group].clone();
        let answers: Vec<Answer> = members.iter().map(|id| self.foresee(*id, mode)).collect();
        let fresh = |id: &&u64| {
            let healthy = self.shards.get(id).is_some_and(|shard| !shard.quarantined);
            healthy && self.foresee(**id, mode) == Answer::Failed
        };
        if let Some(id) = members.iter().find(fresh) {
            self.condemn(*id);
            return None;
        }
        for (id, answer) in members.iter().zip(&answers) {
            if *answer == Answer::Done {
                self.shards.get_mut(id).unwrap().verified |= mode != Mode::TagOnly;
            }
        }
        // What says more about the bytes is told, and then the first.
        if answers.contains(&Answer::Failed) {
            return Some(Answer::Failed);
        }
        let first = answers.into_iter().find(|answer| *answer != Answer::Done);
        Some(first.unwrap_or(Answer::Done))
    }

    /// Whether every member is there, verified and good.
    pub(crate) fn ready(&self, group: u64) -> bool {
        let good = |id: &u64| {
            let shard = self.shards.get(id);
            shard.is_some_and(|shard| shard.verified && !shard.quarantined)
        };
        self.groups[&group].iter().all(good)
    }

    pub(crate) fn remove(&mut self, id: u64, strand: bool) {
        let shard = self.shards.remove(&id).unwrap();
        if strand {
            self.stranded[shard.device] += shard.granted();
        }
    }
}

/// The key at `pick`, modulo how many there are.
fn nth<V>(map: &BTreeMap<u64, V>, pick: usize) -> Option<u64> {
    let count = map.len();
    (count > 0).then(|| *map.keys().nth(pick % count).unwrap())
}
