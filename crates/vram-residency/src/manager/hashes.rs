//! The block hashes in host memory, for those who check or heal block by block.

use std::sync::Arc;

use vram_digest::{BlockHash, file_digest, root};

use super::{DeviceSlot, VramManager};
use crate::error::{Error, Result};
use crate::seal::Record;
use crate::shard::Resident;
use crate::verify::measure;

impl VramManager {
    /// Block hashes that the sealed digest vouches for. Where the ones that were
    /// kept went bad, the device measures them again; a full verification does
    /// not look at them where the device hashes the whole tree
    /// ([`crate::device::Device::tree_root`]).
    pub(super) fn sealed_hashes(
        &self,
        slot: &DeviceSlot,
        resident: &Resident,
    ) -> Result<Arc<Vec<BlockHash>>> {
        let record = resident.record();
        let kept = resident.level0();
        if vouched(record, &kept) {
            return Ok(kept);
        }
        let device = slot.ledger.device().as_ref();
        let held = resident.hold()?;
        let measured = self.watched(measure(device, held.allocation()?.extent()))?;
        if !vouched(record, &measured) {
            resident.doubt(measured.len() as u64);
            return Err(Error::Internal(
                "neither the kept block hashes nor the contents match the seal; verify the shard in full",
            ));
        }
        let pairs = kept.iter().zip(&measured);
        let stale = pairs.filter(|(kept, now)| kept != now).count();
        resident.set_level0(measured);
        self.checker_fault(record, stale as u64)?;
        Ok(resident.level0())
    }
}

fn vouched(record: &Record, level0: &[BlockHash]) -> bool {
    file_digest(&root(level0), record.vram_bytes).ct_eq(&record.digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Body, MemorySink};
    use crate::key::RootKey;
    use crate::policy::Policy;
    use crate::random::OsRandom;
    use crate::sim::{SimDevice, SimOptions};
    use crate::verify::Mode;
    use crate::{SealRequest, SealedShard};

    const WEIGHTS: [u8; 9000] = [7; 9000];

    /// A shard on a device that hashes whole trees, and what was recorded.
    fn sealed() -> (SimDevice, Arc<MemorySink>, VramManager, SealedShard) {
        let device = SimDevice::with_options(SimOptions::new(1 << 20).hash_trees());
        let sink = Arc::new(MemorySink::new());
        let manager = VramManager::builder()
            .device(device.clone())
            .key(RootKey::generate(&OsRandom).unwrap())
            .policy(Policy {
                allow_repair: true,
                ..Policy::default()
            })
            .sink(sink.clone());
        let manager = manager.build().unwrap();
        let shard = manager.seal(SealRequest::bytes(&WEIGHTS)).unwrap();
        (device, sink, manager, shard)
    }

    fn spoil(shard: &SealedShard) {
        let resident = shard.resident().unwrap();
        let mut bad = resident.level0().as_ref().clone();
        bad[1][3] ^= 1;
        bad[2][0] ^= 0x80;
        resident.set_level0(bad);
    }

    /// Blocks of the checker faults on record.
    fn faults(sink: &MemorySink) -> Vec<u64> {
        let blocks = sink.events().into_iter().map(|event| match event.body {
            Body::CheckerFault { suspect_blocks, .. } => Some(suspect_blocks),
            _ => None,
        });
        blocks.flatten().collect()
    }

    // requirement: API-F24, DG-2
    #[test]
    fn kept_hashes_that_went_bad_are_measured_again() {
        let (_device, sink, manager, shard) = sealed();
        spoil(&shard);
        let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
        assert!(faults(&sink).is_empty(), "the root was enough");
        for _ in 0..2 {
            assert_eq!(manager.unseal_model(&shard).unwrap(), WEIGHTS);
        }
        assert_eq!(faults(&sink), [2], "once");
    }

    // requirement: DG-2
    #[test]
    fn a_repair_needs_no_kept_hashes_where_the_memory_is_whole() {
        let (device, sink, manager, shard) = sealed();
        let flip = || device.flip_bit(device.buffers()[0], 5, 1).unwrap();
        flip();
        assert!(manager.verify_sealed(&shard, Mode::Full).is_err());
        spoil(&shard);
        // Nothing is left to check the source's blocks against.
        let error = manager.repair(&shard, &WEIGHTS.as_slice()).unwrap_err();
        assert!(matches!(error, Error::Internal(_)), "{error}");
        assert!(shard.is_quarantined());
        flip();
        let repaired = manager.repair(&shard, &WEIGHTS.as_slice()).unwrap();
        assert_eq!((repaired.blocks, shard.is_quarantined()), (0, false));
        assert_eq!(faults(&sink), [2]);
    }
}
