//! What takes and gives back device memory, in any order: three bytes are a step.

use vram_residency::capacity::Reservation;
use vram_residency::device::DeviceError;
use vram_residency::error::{Error, Misuse};
use vram_residency::sim::{Op, SimDevice, SimOptions};
use vram_residency::{Lease, Mode, SealRequest, SealedShard, VramManager};

use crate::manager::manager;

/// Capacity and granularity of the devices.
const DEVICES: [(u64, u64); 2] = [(150_000, 1), (200_000, 4096)];
/// More steps than this show nothing new.
const MAX_STEPS: usize = 64;

/// A shard, how often it is leased, and where it is.
struct Held {
    shard: SealedShard,
    leases: Vec<Lease>,
    device: usize,
    len: u64,
}

struct World {
    manager: VramManager,
    devices: [SimDevice; 2],
    held: Vec<Held>,
    /// With its device and bytes.
    reserved: Vec<(Reservation, usize, u64)>,
    stranded: [u64; 2],
    sealed: bool,
}

/// After every step the books of each device are those of a plain count, nothing is
/// on a device that nobody holds, and at the end nothing is left.
pub(crate) fn run(data: &[u8]) -> bool {
    let devices = [0, 1].map(|at: usize| {
        let (capacity, granularity) = DEVICES[at];
        let options = SimOptions::new(capacity).granularity(granularity);
        SimDevice::with_options(options.ordinal(at as u32))
    });
    let mut world = World {
        manager: manager(&devices),
        devices,
        held: Vec::new(),
        reserved: Vec::new(),
        stranded: [0; 2],
        sealed: false,
    };
    for step in data.chunks_exact(3).take(MAX_STEPS) {
        world.step(step[0], step[1], step[2]);
        world.balances();
    }
    world.held.clear();
    world.reserved.clear();
    world.balances();
    world.sealed
}

fn granted(device: usize, len: u64) -> u64 {
    len.next_multiple_of(DEVICES[device].1)
}

fn fault() -> DeviceError {
    DeviceError::Driver {
        op: "cuTest",
        code: 12_345,
        name: "unknown".to_owned(),
        text: "a passing fault".to_owned(),
    }
}

impl World {
    /// The low bits of `kind` choose the step, the next the device, the highest
    /// whether it is struck by a fault of the driver.
    fn step(&mut self, kind: u8, a: u8, b: u8) {
        let (device, struck) = (usize::from((kind >> 3) & 1), kind >= 0xE0);
        let len = (u64::from(a) << 8) | u64::from(b);
        let pick = usize::from(a).checked_rem(self.held.len());
        match (kind & 7, pick) {
            (0 | 1, _) => self.seal(device, len, struck),
            (2, _) => self.reserve(device, len),
            (3, _) => drop(self.reserved.pop()),
            (4, Some(at)) => self.free(at, struck),
            (5, Some(at)) => {
                let leased = self.manager.lease(&self.held[at].shard, Mode::Full);
                self.held[at].leases.push(leased.expect("a healthy shard"));
            }
            (6, Some(at)) => drop(self.held[at].leases.pop()),
            (7, Some(at)) => self.migrate(at, device),
            _ => {}
        }
    }

    fn used(&self, device: usize) -> u64 {
        let held = self.held.iter().filter(|held| held.device == device);
        let held = held.map(|held| granted(device, held.len));
        let reserved = self.reserved.iter().filter(|(_, on, _)| *on == device);
        held.chain(reserved.map(|(_, _, len)| granted(device, *len)))
            .sum()
    }

    /// Whether this many bytes should fit.
    fn fits(&self, device: usize, len: u64) -> bool {
        let taken = self.used(device) + self.stranded[device];
        taken + granted(device, len) <= DEVICES[device].0
    }

    /// Holds an answer against what should fit; whether it was given.
    fn fitted<T>(&self, answer: Result<T, Error>, device: usize, len: u64) -> Option<T> {
        let fits = self.fits(device, len);
        match answer {
            Ok(given) => {
                assert!(fits && len > 0, "{len} bytes do not fit");
                Some(given)
            }
            Err(Error::InsufficientVram(_)) => {
                assert!(!fits, "{len} bytes would fit");
                None
            }
            Err(Error::Input(_)) => {
                assert_eq!(len, 0);
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn seal(&mut self, device: usize, len: u64, struck: bool) {
        let struck = struck && len > 0 && self.fits(device, len);
        if struck {
            self.devices[device].fail(Op::Finish, 1, fault());
        }
        let bytes = vec![0x5A; usize::try_from(len).expect("a length")];
        let request = SealRequest::bytes(&bytes).device(device as u32);
        let sealed = self.manager.seal(request);
        if struck {
            assert!(matches!(sealed, Err(Error::Device(_))));
        } else if let Some(shard) = self.fitted(sealed, device, len) {
            self.sealed = true;
            self.held.push(Held {
                shard,
                leases: Vec::new(),
                device,
                len,
            });
        }
    }

    fn reserve(&mut self, device: usize, len: u64) {
        let reserved = self.manager.reserve(device as u32, len);
        if let Some(reservation) = self.fitted(reserved, device, len) {
            self.reserved.push((reservation, device, len));
        }
    }

    fn free(&mut self, at: usize, struck: bool) {
        let Held {
            shard,
            leases,
            device,
            len,
        } = &self.held[at];
        let busy = !leases.is_empty();
        if struck && !busy {
            self.devices[*device].fail(Op::Free, 1, fault());
        }
        match self.manager.deallocate(shard) {
            Ok(()) => assert!(!busy && !struck),
            Err(Error::Misuse(Misuse::Busy { .. })) => {
                assert!(busy);
                return;
            }
            Err(Error::Free(_)) => {
                assert!(struck);
                self.stranded[*device] += granted(*device, *len);
            }
            Err(error) => panic!("{error}"),
        }
        assert!(!self.held[at].shard.is_sealed());
        self.held.swap_remove(at);
    }

    fn migrate(&mut self, at: usize, to: usize) {
        let held = &self.held[at];
        let moved = self.manager.migrate_shard(&held.shard, to as u32);
        if let Err(Error::Misuse(Misuse::Busy { .. })) = moved {
            assert!(!held.leases.is_empty());
            return;
        }
        if let Some(shard) = self.fitted(moved, to, held.len) {
            let held = &mut self.held[at];
            assert!(held.leases.is_empty() && !held.shard.is_sealed());
            (held.shard, held.device) = (shard, to);
        }
    }

    fn balances(&self) {
        for (device, sim) in self.devices.iter().enumerate() {
            let capacity = self.manager.capacity(device as u32).expect("a device");
            let (used, stranded) = (self.used(device), self.stranded[device]);
            assert_eq!((capacity.used, capacity.stranded), (used, stranded));
            assert_eq!(capacity.total, DEVICES[device].0);
            assert_eq!(capacity.free, capacity.total - used - stranded);
            let held = self.held.iter().filter(|held| held.device == device);
            assert_eq!(sim.buffers().len(), held.count(), "device {device}");
        }
        assert_eq!(self.manager.shards().len(), self.held.len());
    }
}
