//! Staging memory of loads at the same time, and how many there may be.

use crate::device::{DeviceKind, StagingRoom};
use crate::sync::{Arc, AtOnce};

/// Loads that run at the same time and share the staging memory; more devices
/// wait their turn.
pub const MAX_AT_ONCE: usize = 8;
/// Files that one device is loaded with at the same time: while one is opened,
/// measured or sealed, others are read.
const PER_DEVICE: usize = 4;

/// Memory beyond the models of all loads to CUDA devices together.
const CUDA_LOADS: usize = 256 << 20;
/// What of it is for the tables of the models ([`crate::format::Limits`]) and the
/// rest of a load that is not staging.
const TABLES: usize = 32 << 20;
/// What a CUDA device may keep pinned for itself, whether it loads or not: loads on
/// several devices leave room for it.
pub const KEPT_BY_CUDA: usize = 17 << 20;
/// What it adds to each slot, for the list of what is copied.
const CUDA_ADDS: usize = 128 << 10;

/// The staging memory of several loads, as much as of one: 32 MiB on the simulator,
/// where tables and headers have the rest of 64 MiB, and on CUDA 256 MiB with the
/// tables and with what the devices keep for themselves. Each load has one slot
/// whatever the others have; the rest is theirs who can use it.
#[derive(Debug, Clone)]
pub struct Staging {
    loads: usize,
    devices: usize,
    simulated: Arc<StagingRoom>,
    cuda: Arc<StagingRoom>,
}

impl Default for Staging {
    /// That of one load.
    fn default() -> Self {
        Self::of([0])
    }
}

impl Staging {
    /// For files that go to these devices, one ordinal a file.
    pub fn of(places: impl IntoIterator<Item = u32>) -> Self {
        let mut ordinals: Vec<u32> = places.into_iter().collect();
        let files = ordinals.len();
        ordinals.sort_unstable();
        ordinals.dedup();
        let devices = ordinals.len().clamp(1, MAX_AT_ONCE);
        let loads = files.clamp(1, devices.max(PER_DEVICE));
        let room = |kind| {
            let Slots { cost, all, .. } = slots(kind, loads, devices);
            let shared = all.saturating_sub(loads);
            Arc::new(StagingRoom::new(shared.saturating_mul(cost)))
        };
        Self {
            loads,
            devices,
            simulated: room(DeviceKind::Simulated),
            cuda: room(DeviceKind::Cuda),
        }
    }

    /// How many of the files are loaded at the same time.
    #[must_use]
    pub const fn at_once(&self) -> AtOnce {
        AtOnce {
            all: self.loads,
            of_device: PER_DEVICE,
        }
    }

    pub(super) const fn devices(&self) -> usize {
        self.devices
    }

    pub(super) fn room(&self, kind: DeviceKind) -> Arc<StagingRoom> {
        Arc::clone(match kind {
            DeviceKind::Simulated => &self.simulated,
            DeviceKind::Cuda => &self.cuda,
        })
    }

    /// Bytes of a slot, and the most slots of one load: no device takes what the
    /// others need.
    pub(super) fn shape(&self, kind: DeviceKind) -> (usize, usize) {
        let most = match kind {
            DeviceKind::Simulated => 16,
            DeviceKind::Cuda => 24,
        };
        let Slots { bytes, all, .. } = slots(kind, self.loads, self.devices);
        let each = all.checked_div(self.devices).unwrap_or(all);
        (bytes, each.clamp(1, most))
    }
}

/// The slots of all loads together.
struct Slots {
    bytes: usize,
    /// Memory that one takes.
    cost: usize,
    all: usize,
}

fn slots(kind: DeviceKind, loads: usize, devices: usize) -> Slots {
    // A slot is large enough that what is copied beside it (a table, a key)
    // costs the copy engine little.
    match kind {
        DeviceKind::Simulated => Slots {
            bytes: 2 << 20,
            cost: 2 << 20,
            all: 16,
        },
        DeviceKind::Cuda => {
            // Many loads have more of smaller slots: each wants one to read into
            // while others are with its device.
            let bytes = if loads > PER_DEVICE { 4 << 20 } else { 8 << 20 };
            let room = CUDA_LOADS.saturating_sub(TABLES);
            let room = room.saturating_sub(KEPT_BY_CUDA.saturating_mul(devices));
            let cost = CUDA_ADDS.saturating_add(bytes);
            let all = room.checked_div(cost).unwrap_or(1);
            Slots { bytes, cost, all }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::StagingShare;
    use crate::format::Limits;

    #[test]
    fn staging_memory_is_bounded_however_many_loads_share_it() {
        // What tables may take, and what a device and a slot have beside the bytes
        // of slots.
        let tables = usize::try_from(Limits::default().table_bytes).unwrap();
        for (kind, bound, device, beside) in [
            (DeviceKind::Simulated, 64 << 20, 0, 0),
            (DeviceKind::Cuda, 256 << 20, KEPT_BY_CUDA, 80 << 10),
        ] {
            for files in 1..=20 {
                for devices in 1..=files.min(12) {
                    let staging = Staging::of((0..files).map(|file| file % devices));
                    let (bytes, most) = staging.shape(kind);
                    // One to read into while another is with the device.
                    assert!(most >= 2, "{kind:?} {files} {devices}");
                    // Every load takes what it can.
                    let loads = staging.at_once().all;
                    let room = staging.room(kind);
                    let shares: Vec<_> = (0..loads).map(|_| StagingShare::of(&room)).collect();
                    let more = |share: &StagingShare| {
                        (1..most).filter(|_| share.take(bytes + beside)).count()
                    };
                    let taken: usize = shares.iter().map(more).sum();
                    let all = tables + staging.devices() * device;
                    let all = all + (loads + taken) * (bytes + beside);
                    assert!(all <= bound, "{kind:?} {files} {devices}: {all}");
                    // What the loads took is there for those after them.
                    drop(shares);
                    assert_eq!(more(&StagingShare::of(&room)), most.min(taken + 1) - 1);
                }
            }
        }
    }

    #[test]
    fn several_files_of_a_device_are_loaded_at_the_same_time() {
        let at_once = |places: &[u32]| Staging::of(places.iter().copied()).at_once().all;
        assert_eq!(at_once(&[]), 1);
        assert_eq!(at_once(&[0]), 1);
        assert_eq!(at_once(&[3, 3]), 2);
        assert_eq!(at_once(&[3; 90]), PER_DEVICE);
        assert_eq!(at_once(&[0, 1, 0, 1, 0, 1]), PER_DEVICE);
        let nine: Vec<u32> = (0..9).collect();
        assert_eq!(at_once(&nine), MAX_AT_ONCE);
    }
}
