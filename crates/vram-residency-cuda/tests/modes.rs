//! The modes of verification give the same answers on CUDA as on the simulated device.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Machine, sample};
use vram_residency::audit::MemorySink;
use vram_residency::device::Device;
use vram_residency::error::{Error, VerifyError};
use vram_residency::key::RootKey;
use vram_residency::sim::SimDevice;
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};

/// Nine whole segments and a part of one.
const LEN: usize = (9 << 20) + 4097;

/// The sweep has time for everything: which part a shorter one reads is secret
/// and differs.
const MODES: [Mode; 4] = [
    Mode::Full,
    Mode::Keyed,
    Mode::Sweep {
        budget: Duration::from_secs(3600),
    },
    Mode::TagOnly,
];

/// What lies under the manager.
enum Backing {
    Simulated(SimDevice),
    /// The driver, and the number by which it knows the shard's memory.
    Cuda(Machine, u64),
}

/// One sealed shard on one device.
struct World {
    manager: VramManager,
    sink: Arc<MemorySink>,
    shard: SealedShard,
    backing: Backing,
}

fn seal(device: Arc<dyn Device>) -> (VramManager, Arc<MemorySink>, SealedShard) {
    let sink = Arc::new(MemorySink::new());
    let policy = Policy {
        allow_repair: true,
        ..Policy::default()
    };
    let manager = VramManager::builder()
        .device_with(device, None, vram_residency::capacity::Sharing::Dedicated)
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .policy(policy)
        .sink(sink.clone())
        .build()
        .unwrap();
    let bytes = sample(LEN, 7);
    let shard = manager
        .seal(SealRequest::bytes(&bytes).id("shard"))
        .unwrap();
    (manager, sink, shard)
}

/// The largest piece of device memory is the shard.
fn serial_of_shard(machine: &Machine) -> u64 {
    let report = machine.fake_ctl().report();
    let rows = report["physical"].as_array().unwrap().iter();
    let mapped = rows.filter(|row| row["places"][0]["kind"] == "mapped");
    let shard = mapped.max_by_key(|row| row["bytes"].as_u64().unwrap());
    shard.unwrap()["serial"].as_u64().unwrap()
}

impl World {
    fn simulated() -> Self {
        let device = SimDevice::new(64 << 20);
        let (manager, sink, shard) = seal(Arc::new(device.clone()));
        Self {
            manager,
            sink,
            shard,
            backing: Backing::Simulated(device),
        }
    }

    fn cuda() -> Self {
        let machine = Machine::fake("vram=1100M");
        let (manager, sink, shard) = seal(Arc::new(machine.open()));
        let serial = serial_of_shard(&machine);
        Self {
            manager,
            sink,
            shard,
            backing: Backing::Cuda(machine, serial),
        }
    }

    /// Flips one bit of the shard behind the device's back.
    fn flip(&self, offset: u64, bit: u8) {
        match &self.backing {
            Backing::Simulated(device) => {
                device.flip_bit(device.buffers()[0], offset, bit).unwrap();
            }
            Backing::Cuda(machine, serial) => {
                let command = format!("flip {serial} {offset} {bit}");
                machine.fake_ctl().tell(&command);
            }
        }
    }

    /// What one verification says, without what differs between devices.
    fn verify(&self, mode: Mode) -> String {
        match self.manager.verify_sealed(&self.shard, mode) {
            Ok(verified) => {
                let v = verified.verification();
                format!(
                    "{}: {} of {} bytes, {} passes, reused {}",
                    v.mode, v.bytes_checked, v.bytes_total, v.passes_to_cover, v.reused
                )
            }
            Err(Error::Verify(VerifyError::Contents { actual, damage, .. })) => {
                format!("{mode}: {actual} {:?} {:?}", damage.runs, damage.tensors)
            }
            Err(error) => format!("{mode}: {error}"),
        }
    }
}

/// Tells what happens on each device, and that it is the same.
fn alike(act: impl Fn(&World, &mut Vec<String>)) -> Vec<String> {
    let [simulated, cuda] = [World::simulated(), World::cuda()].map(|world| {
        let mut lines = Vec::new();
        act(&world, &mut lines);
        lines.extend(world.sink.types());
        lines
    });
    assert_eq!(simulated, cuda);
    simulated
}

#[test]
fn every_mode_says_the_same_of_an_intact_shard() {
    let story = alike(|world, lines| {
        // Keyed passes roll their keys, so it takes several to try that.
        for _ in 0..4 {
            lines.extend(MODES.map(|mode| world.verify(mode)));
        }
    });
    let full = format!("full: {LEN} of {LEN} bytes, 1 passes, reused false");
    assert_eq!(story[0], full);
    assert_eq!(story[1], full.replace("full", "keyed"));
    assert!(story[3].starts_with("tag-only: 0 of"), "{}", story[3]);
}

#[test]
fn every_mode_that_reads_bytes_pinpoints_the_same_block() {
    for (mode, block) in [(Mode::Full, 0), (Mode::Keyed, 1300), (Mode::Full, 2304)] {
        let story = alike(|world, lines| {
            lines.push(world.verify(mode));
            world.flip(block * 4096, 6);
            lines.push(world.verify(mode));
            lines.push(world.verify(mode));
        });
        assert!(story[1].contains(&format!("[({block}, 1)]")), "{story:?}");
        assert!(story.contains(&"manager.stopped".to_owned()), "{story:?}");
    }
}

#[test]
fn sweeps_find_a_flip_within_the_stated_passes() {
    let mode = Mode::Sweep {
        budget: Duration::ZERO,
    };
    for world in [World::simulated(), World::cuda()] {
        let first = world.manager.verify_sealed(&world.shard, mode).unwrap();
        let stated = first.verification().passes_to_cover;
        world.flip(LEN as u64 - 1, 0);
        let lines: Vec<String> = (0..stated).map(|_| world.verify(mode)).collect();
        assert!(
            lines.iter().any(|line| line.contains("[(2305, 1)]")),
            "a flip survived the stated number of passes: {lines:?}"
        );
    }
}

#[test]
fn tag_only_reads_nothing_and_says_so() {
    let story = alike(|world, lines| {
        world.flip(5, 5);
        lines.push(world.verify(Mode::TagOnly));
    });
    assert!(story[0].starts_with("tag-only: 0 of"), "{}", story[0]);
}

#[test]
fn repair_heals_both_and_leases_come_back() {
    let story = alike(|world, lines| {
        world.flip(3 << 20, 1);
        lines.push(world.verify(Mode::Keyed));
        let source = sample(LEN, 7);
        let repaired = world.manager.repair(&world.shard, &source.as_slice());
        lines.push(format!("repaired {}", repaired.is_ok()));
        world.manager.resume("repaired").unwrap();
        lines.extend(MODES.map(|mode| world.verify(mode)));
        let lease = world.manager.lease(&world.shard, Mode::Keyed).unwrap();
        lines.push(format!("leased {} bytes", lease.bytes()));
        lease.finish();
    });
    assert!(story[0].contains("[(768, 1)]"), "{story:?}");
    assert_eq!(story[1], "repaired true");
    assert!(story.contains(&format!("leased {LEN} bytes")), "{story:?}");
}

/// A launch that is skipped once is a fault of the checker, and hides no damage.
// requirement: DG-2
#[test]
fn a_launch_that_does_nothing_gets_a_second_opinion() {
    for (mode, kernel) in [
        (Mode::Keyed, "vram_nh_tags_2"),
        (MODES[2], "vram_nh_tags_2"),
        (Mode::Full, "vram_sha256_blocks"),
    ] {
        for damaged in [false, true] {
            let world = World::cuda();
            let Backing::Cuda(machine, _) = &world.backing else {
                unreachable!("it is a CUDA world")
            };
            // The references are there: this pass compares with them.
            let intact = world.verify(mode);
            if damaged {
                world.flip(5 << 20, 2);
            }
            let skip = format!("skip exec.launch.{kernel} 1");
            machine.fake_ctl().tell(&skip);
            let said = world.verify(mode);
            let told = world.sink.types();
            if damaged {
                assert!(said.contains("[(1280, 1)]"), "{mode}: {said}");
                assert!(world.shard.is_quarantined(), "{mode}");
            } else {
                assert_eq!(said, intact);
                let fault = told.contains(&"seal.checker_fault".to_owned());
                assert!(fault, "{mode}: {told:?}");
                assert_eq!(world.verify(mode), intact);
            }
        }
    }
}
