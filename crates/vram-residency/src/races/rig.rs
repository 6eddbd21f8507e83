//! A small world for models: a manager on simulated devices, nothing random.

use crate::audit::MemorySink;
use crate::clock::{ManualClock, Timestamp};
use crate::key::RootKey;
use crate::manager::VramManager;
use crate::policy::{OnFailure, Policy};
use crate::random::{Random, RandomError};
use crate::sim::{SimDevice, SimOptions};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::{SealRequest, SealedShard};

/// Bytes of a shard in the models.
pub(super) const LEN: usize = 100;
pub(super) const WEIGHTS: [u8; LEN] = [7; LEN];

/// The same bytes in every run, and no byte twice in a row.
struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        for chunk in out.chunks_mut(8) {
            let word = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

pub(super) struct Rig {
    pub(super) manager: VramManager,
    pub(super) sims: Vec<SimDevice>,
}

impl Rig {
    /// A manager on `devices` devices; a failure isolates its shard.
    pub(super) fn new(devices: u32, policy: Policy) -> Arc<Self> {
        Self::with_memory(devices, 1 << 20, policy)
    }

    /// The same with so many bytes on each device.
    pub(super) fn with_memory(devices: u32, bytes: u64, policy: Policy) -> Arc<Self> {
        let sims: Vec<SimDevice> = (0..devices)
            .map(|i| SimDevice::with_options(SimOptions::new(bytes).ordinal(i)))
            .collect();
        let token = b"0123456789abcdef0123456789abcdef";
        let mut builder = VramManager::builder()
            .key(RootKey::from_token(token).unwrap())
            .policy(Policy {
                on_failure: OnFailure::Isolate,
                ..policy
            })
            .clock(Arc::new(ManualClock::new(Timestamp::from_nanos(1))))
            .random(Arc::new(Counting(AtomicU64::new(1))))
            .sink(Arc::new(MemorySink::new()));
        for sim in &sims {
            builder = builder.device(sim.clone());
        }
        let manager = builder.build().unwrap();
        Arc::new(Self { manager, sims })
    }

    pub(super) fn seal(&self) -> SealedShard {
        self.manager.seal(SealRequest::bytes(&WEIGHTS)).unwrap()
    }

    /// One more handle to a shard.
    pub(super) fn share(&self, shard: &SealedShard) -> SealedShard {
        let digest = shard.digest().to_string();
        let request = SealRequest::bytes(&WEIGHTS).expect(&digest);
        self.manager.seal(request.dedupe()).unwrap()
    }

    /// Damages the newest shard of a device.
    pub(super) fn damage(&self, device: usize) {
        let sim = &self.sims[device];
        let buffer = *sim.buffers().last().unwrap();
        sim.flip_bit(buffer, 5, 1).unwrap();
    }

    /// Bytes in use per device.
    pub(super) fn used(&self) -> Vec<u64> {
        let ordinals = (0..).take(self.sims.len());
        ordinals
            .map(|ordinal| self.manager.capacity(ordinal).unwrap().used)
            .collect()
    }

    /// Nothing is held and nothing is on any device.
    pub(super) fn assert_empty(&self) {
        for (ordinal, sim) in (0..).zip(&self.sims) {
            let capacity = self.manager.capacity(ordinal).unwrap();
            let held = (capacity.used, capacity.reserved, capacity.stranded);
            assert_eq!((held, capacity.holders), ((0, 0, 0), 0));
            assert_eq!(sim.buffers(), []);
        }
        assert_eq!(self.manager.shards(), []);
    }
}
