//! A manager on simulated devices whose time, randomness and key are the target's.

use std::sync::{Arc, Mutex};

use vram_residency::VramManager;
use vram_residency::clock::{ManualClock, Timestamp};
use vram_residency::random::{Random, RandomError};
use vram_residency::sim::SimDevice;

use crate::vectors::token;

/// `SplitMix64`: equal inputs meet equal salts and names.
struct Seeded(Mutex<u64>);

impl Random for Seeded {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        let mut state = self.0.lock().expect("the state");
        for chunk in out.chunks_mut(8) {
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

pub(crate) fn manager(devices: &[SimDevice]) -> VramManager {
    let start = Timestamp::from_nanos(1_700_000_000_000_000_000);
    let mut builder = VramManager::builder()
        .key(token())
        .clock(Arc::new(ManualClock::new(start)))
        .random(Arc::new(Seeded(Mutex::new(7))));
    for device in devices {
        builder = builder.device(device.clone());
    }
    builder.build().expect("a manager")
}
