//! What the tests by danger share: a manager on simulated devices whose time,
//! randomness, keys and events are the test's own.
#![allow(
    dead_code,
    unused_imports,
    reason = "test code; each test file uses a part"
)]

mod cases;
pub(crate) mod days;
pub(crate) mod disguise;
pub(crate) mod errors;
pub(crate) mod forward;
pub(crate) mod known;
mod skipped;
pub(crate) mod source;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) use cases::cases;
pub(crate) use skipped::skipped;
pub(crate) use test_listener as listen;

use vram_residency::audit::{Body, MemorySink};
use vram_residency::capacity::{Capacity, Sharing};
use vram_residency::clock::{ManualClock, Timestamp};
use vram_residency::device::{BufferId, Device as _, Extent};
use vram_residency::key::RootKey;
use vram_residency::manager::VramManagerBuilder;
use vram_residency::random::{Random, RandomError};
use vram_residency::sim::{SimDevice, SimOptions};
use vram_residency::{Policy, SealedShard, VramManager};

/// 2023-11-14T22:13:20Z: when every test clock starts.
pub(crate) const START_NS: u64 = 1_700_000_000_000_000_000;

/// SplitMix64 behind the library's seam: equal seeds give equal runs.
pub(crate) struct Seeded(Mutex<u64>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Random for Seeded {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        for chunk in out.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

/// `len` bytes that look random, the same for the same seed, and unlike what a
/// [`Seeded`] of that seed gives: ids come from one, and those are told.
pub(crate) fn weights(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    Seeded::new(seed ^ 0x6279_7465).fill(&mut out).unwrap();
    listen::plant(&out);
    out
}

/// The secret of a seed, planted.
pub(crate) fn secret_of(seed: u64) -> [u8; 32] {
    let mut secret = [0; 32];
    Seeded::new(seed ^ 0x6b65_7973).fill(&mut secret).unwrap();
    listen::plant(&secret);
    secret
}

/// The root key of a seed.
pub(crate) fn root_key(seed: u64) -> RootKey {
    RootKey::from_token(&secret_of(seed)).unwrap()
}

/// A manager with everything around it in the test's hands.
pub(crate) struct Rig {
    pub(crate) manager: VramManager,
    pub(crate) devices: Vec<SimDevice>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) sink: Arc<MemorySink>,
}

/// One device of `capacity` bytes under the default policy.
pub(crate) fn rig(capacity: u64) -> Rig {
    Rig::build(&[SimOptions::new(capacity)], Policy::default(), |b| b)
}

/// `count` devices of `capacity` bytes each.
pub(crate) fn rig_of(count: u32, capacity: u64, policy: Policy) -> Rig {
    let options = (0..count).map(|i| SimOptions::new(capacity).ordinal(i));
    Rig::build(&options.collect::<Vec<_>>(), policy, |b| b)
}

impl Rig {
    /// `more` may add to the builder or override its parts.
    pub(crate) fn build(
        options: &[SimOptions],
        policy: Policy,
        more: impl FnOnce(VramManagerBuilder) -> VramManagerBuilder,
    ) -> Self {
        listen::listen();
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(START_NS)));
        let sink = Arc::new(MemorySink::new());
        let mut builder = VramManager::builder()
            .key(known::KnownKey::new(1))
            .policy(policy)
            .clock(clock.clone())
            .random(Arc::new(Seeded::new(2)))
            .sink(sink.clone());
        let make = |options: &SimOptions| SimDevice::with_options(options.clone());
        let devices: Vec<SimDevice> = options.iter().map(make).collect();
        for device in &devices {
            builder = builder.device(device.clone());
        }
        Self {
            manager: more(builder).build().unwrap(),
            devices,
            clock,
            sink,
        }
    }

    /// The first device.
    pub(crate) fn device(&self) -> &SimDevice {
        &self.devices[0]
    }

    /// The events so far, bodies only.
    pub(crate) fn bodies(&self) -> Vec<Body> {
        let events = self.sink.events();
        events.into_iter().map(|event| event.body).collect()
    }

    /// How many events of a type there are.
    pub(crate) fn count(&self, event_type: &str) -> usize {
        let types = self.sink.types();
        types.iter().filter(|found| *found == event_type).count()
    }

    /// Nothing is held, nothing is stranded, nothing is on any device.
    pub(crate) fn assert_empty(&self) {
        for device in &self.devices {
            assert!(device.buffers().is_empty(), "buffers are left");
        }
        for capacity in self.assert_balanced() {
            assert_eq!((capacity.used, capacity.stranded), (0, 0), "{capacity:?}");
            assert_eq!(
                (capacity.reserved, capacity.holders),
                (0, 0),
                "{capacity:?}"
            );
        }
        assert_eq!(self.manager.shards(), [], "ids are left");
    }

    /// CAP-1 on every device, when nobody is at work; returns what it saw. What
    /// the ledger counts as taken is missing on the device itself.
    pub(crate) fn assert_balanced(&self) -> Vec<Capacity> {
        let capacities = assert_balanced(&self.manager);
        for (c, device) in capacities.iter().zip(&self.devices) {
            let handed_out = c.used - c.reserved + c.stranded;
            assert_eq!(handed_out, device.used_bytes(), "{c:?}");
        }
        capacities
    }

    /// Flips one bit of the shard's bytes in device memory. The shard must be
    /// the newest allocation of its device and start at its first byte.
    pub(crate) fn flip_newest(&self, shard: &SealedShard, offset: u64, bit: u8) {
        let device = &self.devices[shard.record().gpu_device as usize];
        device.flip_bit(newest(device), offset, bit).unwrap();
    }
}

/// The newest allocation of a device.
pub(crate) fn newest(device: &SimDevice) -> BufferId {
    *device.buffers().last().expect("nothing is allocated")
}

/// The buffer that holds `bytes`: members of a group are loaded at the same time,
/// and lie in no order.
pub(crate) fn holding(device: &SimDevice, bytes: &[u8]) -> BufferId {
    let len = bytes.len() as u64;
    let holds = |buffer: &BufferId| {
        let (buffer, start) = (*buffer, 0);
        let mut held = vec![0; bytes.len()];
        let read = device.read(Extent { buffer, start, len }, 0, &mut held);
        read.is_ok() && held == bytes
    };
    let found = device.buffers().into_iter().find(holds);
    found.expect("the bytes are not on the device")
}

/// `used + free + stranded == total` on every device. The ledger computes one
/// from the others: who knows what is held says more ([`Rig::assert_balanced`],
/// [`assert_within`]).
pub(crate) fn assert_balanced(manager: &VramManager) -> Vec<Capacity> {
    let ordinals = manager.devices().into_iter().map(|info| info.ordinal);
    let capacities: Vec<Capacity> = ordinals.map(|o| manager.capacity(o).unwrap()).collect();
    for c in &capacities {
        assert_eq!(c.used + c.free + c.stranded, c.total, "{c:?}");
        assert!(c.available <= c.free, "{c:?}");
    }
    capacities
}

/// While at most `holders` models of at most `each` bytes come and go: as much is
/// used as those take that hold something at that moment, and no more.
pub(crate) fn assert_within(manager: &VramManager, holders: u64, each: u64) {
    for c in assert_balanced(manager) {
        assert!(c.holders <= holders, "{c:?}");
        assert!(c.reserved <= c.used && c.used <= c.holders * each, "{c:?}");
    }
}

/// A second manager on another handle of the same simulated device.
pub(crate) fn manager_on(device: &SimDevice, key: RootKey, random: u64) -> VramManager {
    VramManager::builder()
        .device_with(Arc::new(device.clone()), None, Sharing::Dedicated)
        .key(key)
        .random(Arc::new(Seeded::new(random)))
        .build()
        .unwrap()
}

/// Waits for another thread; a minute is far more than it takes.
pub(crate) fn wait_until(reached: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(Instant::now() < end, "nothing goes on");
        std::thread::yield_now();
    }
}
