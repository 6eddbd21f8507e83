//! One trial's surroundings: a manager on a simulated device, one sealed shard
//! of seeded contents, and seeded choices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vram_residency::clock::SystemClock;
use vram_residency::device::{BufferId, DeviceError};
use vram_residency::error::VerifyError;
use vram_residency::key::RootKey;
use vram_residency::random::{Random, RandomError};
use vram_residency::sim::{LostCopy, SimDevice, SimOptions};
use vram_residency::{Error, Mode, SealRequest, SealedShard, VramManager};

/// Seeded numbers: SplitMix64. A clone goes on as the original does.
#[derive(Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64, name: &str, trial: u64) -> Self {
        let mix = name.bytes().fold(seed, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mix ^ trial.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes())
            .flatten()
            .take(len)
            .collect()
    }
}

/// The manager's randomness, seeded as well.
struct Seeded(std::sync::Mutex<Rng>);

impl Random for Seeded {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        let bytes = self.0.lock().unwrap().bytes(out.len());
        out.copy_from_slice(&bytes);
        Ok(())
    }
}

/// Token of every manager of a trial, so that only instance and device differ.
pub(crate) const TOKEN: &[u8] = b"fault campaign token 0123456789 abcdef";

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) sim: SimDevice,
    pub(crate) manager: VramManager,
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: Mode,
    /// When the fault was in place; detection is counted from there.
    pub(crate) struck: Instant,
}

/// The device of a seed; the seed is in its UUID.
pub(crate) fn device(seed: u64) -> SimDevice {
    let threads = std::num::NonZeroUsize::MIN;
    SimDevice::with_options(SimOptions::new(64 << 20).seed(seed).threads(threads))
}

/// Of equal numbers it makes equal salts, instances and ids.
pub(crate) fn manager(sim: &SimDevice, rng: &mut Rng, token: &[u8]) -> VramManager {
    VramManager::builder()
        .device(sim.clone())
        .key(RootKey::from_token(token).unwrap())
        .clock(Arc::new(SystemClock::new()))
        .random(Arc::new(Seeded(std::sync::Mutex::new(Rng(rng.next())))))
        .build()
        .unwrap()
}

impl World {
    /// Sizes from one byte to a little over three segments, and some sweeps of
    /// more segments than one pass takes; modes in turn.
    pub(crate) fn new(mut rng: Rng, trial: u64) -> Self {
        let sim = device(0);
        let manager = manager(&sim, &mut rng, TOKEN);
        let len = match trial % 8 {
            0 => 1 + rng.below(64),
            1 => 4096 * (1 + rng.below(8)),
            2 if trial % 24 == 2 => (11 << 20) + rng.below(5000),
            2 => (3 << 20) + rng.below(5000),
            _ => 8192 + rng.below(300_000),
        };
        let bytes = rng.bytes(usize::try_from(len).unwrap());
        let mode = match trial % 3 {
            0 => Mode::Full,
            1 => Mode::Keyed,
            _ => Mode::Sweep {
                budget: Duration::ZERO,
            },
        };
        Self {
            rng,
            sim,
            manager,
            bytes,
            mode,
            struck: Instant::now(),
        }
    }

    /// The fault is in place now.
    pub(crate) fn strike(&mut self) {
        self.struck = Instant::now();
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A shard; a long one has been swept a while, so that faults strike in the
    /// middle of a round of the secret order.
    pub(crate) fn seal(&self) -> SealedShard {
        let shard = self
            .manager
            .seal(SealRequest::bytes(&self.bytes).id("shard"))
            .unwrap();
        if matches!(self.mode, Mode::Sweep { .. }) && self.len() > (8 << 20) {
            for _ in 0..self.len() % 14 {
                let _ = self.manager.verify_sealed(&shard, self.mode).unwrap();
            }
        }
        shard
    }

    pub(crate) fn buffer(&self) -> BufferId {
        self.sim.buffers()[0]
    }

    /// Overwrites memory behind every protection; false when the bytes were
    /// the same already, so that nothing was changed at all.
    pub(crate) fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let at = usize::try_from(offset).unwrap();
        let before = &self.bytes[at..at + bytes.len()];
        let changes = before != bytes;
        self.sim.overwrite(self.buffer(), offset, bytes).unwrap();
        self.strike();
        changes
    }

    pub(crate) fn flip(&mut self, offset: u64, bit: u8) {
        self.sim.flip_bit(self.buffer(), offset, bit).unwrap();
        self.strike();
    }

    /// A load of which `held` never arrives at `offset`: whether it is refused,
    /// with nothing left.
    pub(crate) fn load_refused(&mut self, offset: usize, held: Vec<u8>) -> bool {
        assert_ne!(held, self.bytes[offset..offset + held.len()]);
        let offset = offset as u64;
        self.sim.lose_copy(LostCopy { offset, held });
        self.strike();
        let refused = self.manager.seal(SealRequest::bytes(&self.bytes));
        matches!(refused, Err(Error::Verify(VerifyError::Copy { .. })))
            && self.manager.used_vram() == 0
    }

    /// Whether a verification notices, within the passes that the mode says
    /// cover everything.
    pub(crate) fn noticed(&self, shard: &SealedShard) -> bool {
        let mut stated = 1;
        let mut done = 0;
        while done < stated {
            done += 1;
            match self.manager.verify_sealed(shard, self.mode) {
                // What the first pass says holds from then on.
                Ok(verified) if done == 1 => {
                    stated += verified.verification().passes_to_cover;
                    if self.mode == Mode::Full || self.mode == Mode::Keyed {
                        return false;
                    }
                }
                Ok(_) => {}
                Err(Error::Verify(_)) => return shard.is_quarantined(),
                // A checker that did not run: nothing was proved, so no lease.
                Err(Error::Device(DeviceError::NoResult { .. })) => {
                    return self.manager.lease(shard, self.mode).is_err();
                }
                Err(other) => panic!("{other}"),
            }
        }
        false
    }

    /// A second manager on the same device: another start of the same worker.
    pub(crate) fn reboot(&mut self) -> VramManager {
        manager(&self.sim, &mut self.rng, TOKEN)
    }
}
