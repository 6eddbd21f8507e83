//! The plain model: what happens to a shard, without any device.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vram_residency::error::{Error, Misuse};

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
    Verify {
        pick: usize,
        fault: bool,
    },
    Lease(usize),
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

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let pick = 0..64_usize;
    let device = 0..DEVICES.len();
    // One in eight of the faulty kinds is struck by a driver fault.
    let fault = || (0..8_u8).prop_map(|dice| dice == 0);
    prop_oneof![
        6 => (device.clone(), 1..60_000_u64, fault())
            .prop_map(|(device, len, fault)| Step::Seal { device, len, fault }),
        4 => (pick.clone(), fault()).prop_map(|(pick, fault)| Step::Verify { pick, fault }),
        4 => pick.clone().prop_map(Step::Lease),
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
}

pub(crate) fn answer<T>(result: &Result<T, Error>) -> Answer {
    match result {
        Ok(_) => Answer::Done,
        Err(Error::Device(_) | Error::Free(_)) => Answer::Device,
        Err(Error::InsufficientVram(_)) => Answer::NoRoom,
        Err(Error::Verify(_)) => Answer::Failed,
        Err(Error::Misuse(Misuse::Busy { .. })) => Answer::Busy,
        Err(Error::Misuse(Misuse::Stopped { .. })) => Answer::Stopped,
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
}

impl Plain {
    pub(crate) fn granted(&self) -> u64 {
        self.len.next_multiple_of(DEVICES[self.device].1)
    }
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) shards: BTreeMap<u64, Plain>,
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
        let count = self.shards.len();
        (count > 0).then(|| *self.shards.keys().nth(pick % count).unwrap())
    }

    /// A full verification: what it answers and what follows.
    pub(crate) fn verify(&mut self, id: u64, fault: bool) -> Answer {
        let shard = self.shards.get_mut(&id).unwrap();
        if shard.quarantined {
            return Answer::Failed;
        }
        if self.lost[shard.device] || fault {
            return Answer::Device;
        }
        if shard.damage.is_empty() {
            return Answer::Done;
        }
        shard.quarantined = true;
        self.stopped = true;
        Answer::Failed
    }

    pub(crate) fn remove(&mut self, id: u64, strand: bool) {
        let shard = self.shards.remove(&id).unwrap();
        if strand {
            self.stranded[shard.device] += shard.granted();
        }
    }
}
