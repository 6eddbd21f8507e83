//! The block hashes in host memory, for those who check or heal block by block.

use std::sync::Arc;

use vram_digest::{BlockHash, file_digest, root};

use super::failure::About;
use super::{DeviceSlot, VramManager};
use crate::audit::Body;
use crate::error::{Answer, Checker, Error, Result};
use crate::seal::Record;
use crate::shard::Resident;
use crate::verify::{Mode, measure};

impl VramManager {
    /// Block hashes that the sealed digest vouches for. Where the ones that were
    /// kept went bad, the device measures them again; a full verification does
    /// not look at them where the device hashes the whole tree
    /// ([`crate::device::Device::tree_root`]). The caller holds
    /// `resident.verifying()`, for it may raise a doubt.
    pub(super) fn sealed_hashes(
        &self,
        slot: &DeviceSlot,
        resident: &Resident,
    ) -> Result<Arc<Vec<BlockHash>>> {
        let record = resident.record();
        let kept = match kept(resident) {
            Ok(kept) => return Ok(kept),
            Err(kept) => kept,
        };
        let device = slot.ledger.device().as_ref();
        let held = resident.hold()?;
        let measured = measure(device, held.allocation()?.extent());
        // Before anything is recorded: a sink may free the shard.
        drop(held);
        let measured = self.watched(measured)?;
        resident.count_read(record.vram_bytes);
        if !vouched(record, &measured) {
            let blocks = measured.len() as u64;
            let digest = file_digest(&root(&measured), record.vram_bytes);
            let answer = Answer::new(Checker::Blocks, blocks, [(0, blocks)]).with_digest(digest);
            resident.doubt(blocks, [answer]);
            return Err(Error::Internal(
                "neither the kept block hashes nor the contents match the seal; verify the shard in full",
            ));
        }
        let pairs = kept.iter().zip(&measured);
        let wrong = pairs.filter(|(kept, now)| kept != now).count();
        self.replace_hashes(resident, measured, wrong as u64)?;
        Ok(resident.level0())
    }

    /// The same for an export, which waits for checks of the shard only where it
    /// needs one. Where the contents do not match the seal either, the tree
    /// condemns or acquits.
    pub(super) fn hashes_to_export(
        &self,
        slot: &DeviceSlot,
        resident: &Arc<Resident>,
    ) -> Result<Arc<Vec<BlockHash>>> {
        if let Ok(kept) = kept(resident) {
            return Ok(kept);
        }
        let _one_at_a_time = resident.verifying();
        let mut hashes = self.sealed_hashes(slot, resident);
        if resident.doubts() > 0 {
            let _ = self.verify_resident(resident, Mode::Full)?;
            hashes = self.sealed_hashes(slot, resident);
        }
        self.recorded("export", About::shard(resident.record()), hashes)
    }

    /// Keeps hashes that are as sealed from now on, and records that so many of
    /// those before were not: a fault of the host's memory, and of nothing else.
    pub(super) fn replace_hashes(
        &self,
        resident: &Resident,
        measured: Vec<BlockHash>,
        wrong: u64,
    ) -> Result<()> {
        resident.set_level0(measured);
        let record = resident.record();
        let body = Body::HashesReplaced {
            shard_id: record.shard_id.clone(),
            gpu_device: record.gpu_device,
            hashes: wrong,
        };
        Ok(self.emit(None, body)?)
    }
}

/// The hashes that are kept; an error where the seal does not vouch for them.
fn kept(resident: &Resident) -> Result<Arc<Vec<BlockHash>>, Arc<Vec<BlockHash>>> {
    let kept = resident.level0();
    match vouched(resident.record(), &kept) {
        true => Ok(kept),
        false => Err(kept),
    }
}

fn vouched(record: &Record, level0: &[BlockHash]) -> bool {
    file_digest(&root(level0), record.vram_bytes).ct_eq(&record.digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{MemorySink, Severity};
    use crate::error::VerifyError;
    use crate::key::RootKey;
    use crate::policy::Policy;
    use crate::sim::{Flip, Moment, SimDevice, SimOptions};
    use crate::{SealRequest, SealedShard};

    const WEIGHTS: [u8; 9000] = [7; 9000];

    /// A shard on a device that hashes whole trees, and what was recorded.
    fn sealed() -> (SimDevice, Arc<MemorySink>, VramManager, SealedShard) {
        sealed_on(SimOptions::new(1 << 20).hash_trees())
    }

    fn sealed_on(options: SimOptions) -> (SimDevice, Arc<MemorySink>, VramManager, SealedShard) {
        let device = SimDevice::with_options(options);
        let sink = Arc::new(MemorySink::new());
        let manager = VramManager::builder()
            .device(device.clone())
            .key(RootKey::from_token(&test_listener::secret()).unwrap())
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

    /// Has the next check of the first block see a bit that is not there.
    fn err_once(device: &SimDevice) {
        for moment in [Moment::BeforeCheck, Moment::AfterCheck] {
            device.flip_at(Flip {
                moment,
                offset: 5,
                bit: 1,
            });
        }
    }

    /// Faults on record: of the host's memory, as hashes, and of the checker.
    fn faults(sink: &MemorySink) -> Vec<(&'static str, u64)> {
        let faults = sink.events().into_iter().map(|event| match event.body {
            Body::HashesReplaced { hashes, .. } => Some(("memory", hashes)),
            Body::CheckerFault { suspect_blocks, .. } => Some(("checker", suspect_blocks)),
            _ => None,
        });
        faults.flatten().collect()
    }

    /// Bytes that `work` had the device read for checks.
    fn read(shard: &SealedShard, work: impl FnOnce()) -> u64 {
        let resident = shard.resident().unwrap();
        let before = resident.bytes_read();
        work();
        resident.bytes_read().saturating_sub(before)
    }

    // requirement: API-F24, DG-2
    #[test]
    fn kept_hashes_that_went_bad_are_measured_again() {
        let (_device, sink, manager, shard) = sealed();
        spoil(&shard);
        let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
        assert!(faults(&sink).is_empty(), "the root was enough");
        for bytes in [9000, 0] {
            let unseal = || assert_eq!(manager.unseal_model(&shard).unwrap(), WEIGHTS);
            assert_eq!(read(&shard, unseal), bytes, "measured once");
        }
        assert_eq!(faults(&sink), [("memory", 2)], "once");
        let events = sink.events();
        let told = events
            .iter()
            .find(|event| event.body.event_type() == "seal.hashes_replaced");
        assert_eq!(told.unwrap().body.severity(), Severity::Warning);
    }

    /// Without a tree of the device a verification meets them, and tells who erred.
    // requirement: AU-3, DG-2
    #[test]
    fn a_verification_does_not_call_the_hosts_memory_its_checker() {
        let (device, sink, manager, shard) = sealed_on(SimOptions::new(1 << 20));
        spoil(&shard);
        let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
        assert_eq!(faults(&sink), [("memory", 2)]);
        let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
        assert_eq!(faults(&sink).len(), 1, "they are good again");
        // Both at once: the checker errs about the first block.
        spoil(&shard);
        err_once(&device);
        let _ = manager.verify_sealed(&shard, Mode::Full).unwrap();
        assert_eq!(faults(&sink)[1..], [("memory", 2), ("checker", 1)]);
    }

    /// Hashes and contents changed: the event has the failure, and no block.
    // requirement: AU-3, DG-2
    #[test]
    fn damage_that_cannot_be_located_is_said_to_be_so() {
        let (device, sink, manager, shard) = sealed_on(SimOptions::new(1 << 20));
        spoil(&shard);
        device.flip_bit(device.buffers()[0], 5, 1).unwrap();
        let error = manager.verify_sealed(&shard, Mode::Full).unwrap_err();
        let said = "where it is damaged cannot be told: the block hashes kept in host memory are not the sealed ones either; of 3 blocks that the CPU read back 3 are as the device said";
        assert!(error.to_string().ends_with(said), "{error}");
        let events = sink.events().into_iter();
        let failed = events.filter_map(|event| match event.body {
            Body::SealVerificationFailed { damage, .. } => damage,
            _ => None,
        });
        let failed: Vec<_> = failed.collect();
        let event = serde_json::to_value(&failed).unwrap();
        let damage = serde_json::json!({
            "blocks": null, "runs": [], "tensors": [], "read_back": 3, "confirmed": 3,
        });
        assert_eq!(event, serde_json::json!([damage]));
        assert!(shard.is_quarantined());
    }

    /// An export that finds neither as sealed leaves it at no doubt: the tree tells.
    // requirement: API-F24, DG-2, AU-3
    #[test]
    fn an_export_without_hashes_condemns_what_is_damaged_at_once() {
        let (device, sink, manager, shard) = sealed();
        spoil(&shard);
        device.flip_bit(device.buffers()[0], 5, 1).unwrap();
        let error = manager.unseal_model(&shard).unwrap_err();
        let condemned = matches!(error, Error::Verify(VerifyError::Contents { .. }));
        assert!(condemned && shard.is_quarantined(), "{error}");
        let types = sink.types();
        let count = |name: &str| types.iter().filter(|one| *one == name).count();
        let recorded = ["seal.verification_failed", "operation.failed"].map(count);
        assert_eq!(recorded, [1, 0], "once");
    }

    /// The device was wrong once, about all: nobody is condemned, and the bytes come.
    // requirement: API-F24, DG-2
    #[test]
    fn an_export_without_hashes_survives_a_checker_that_errs_once() {
        let (device, sink, manager, shard) = sealed();
        spoil(&shard);
        err_once(&device);
        assert_eq!(manager.unseal_model(&shard).unwrap(), WEIGHTS);
        assert_eq!(faults(&sink), [("checker", 3), ("memory", 2)]);
        assert_eq!(manager.metrics().checker_faults_total, 1);
        let resident = shard.resident().unwrap();
        assert!(resident.doubts() == 0 && !shard.is_quarantined());
    }

    /// What looked bad and was freed before the tree could tell is on record.
    // requirement: AU-3, DG-2
    #[test]
    fn a_doubt_about_a_shard_that_is_freed_meanwhile_is_told() {
        for looked_bad in [false, true] {
            let (_device, sink, manager, shard) = sealed();
            let resident = Arc::clone(shard.resident().unwrap());
            manager.deallocate(&shard).unwrap();
            if looked_bad {
                resident.doubt(2, []);
            }
            let error = manager.verify_resident(&resident, Mode::Keyed).unwrap_err();
            assert!(matches!(error, Error::Misuse(_)), "{error}");
            let unsettled = sink.events().into_iter().filter(|event| {
                matches!(&event.body, Body::SealVerificationFailed { reason, details, .. }
                    if reason.as_str() == "unsettled" && !details.as_str().ends_with(')'))
            });
            assert_eq!(unsettled.count(), usize::from(looked_bad));
        }
    }

    /// A doubt is settled by the tree, whatever keyed references there still are.
    // requirement: DG-2
    #[test]
    fn a_shard_in_doubt_is_checked_by_the_tree_in_every_mode() {
        let budget = std::time::Duration::from_secs(1);
        for mode in [
            Mode::Full,
            Mode::Keyed,
            Mode::Sweep { budget },
            Mode::TagOnly,
        ] {
            let (_device, _sink, manager, shard) = sealed();
            let resident = shard.resident().unwrap();
            let _ = manager.verify_sealed(&shard, Mode::Keyed).unwrap();
            let rolling = resident.take_rolling();
            resident.doubt(1, []);
            resident.set_rolling(rolling);
            let _ = manager.verify_sealed(&shard, mode).unwrap();
            assert_eq!(resident.doubts(), 0, "{mode}");
        }
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
        let repair = || {
            let repaired = manager.repair(&shard, &WEIGHTS.as_slice()).unwrap();
            assert_eq!((repaired.blocks, shard.is_quarantined()), (0, false));
        };
        // For the hashes, for the bad blocks, and for the verification.
        assert_eq!(read(&shard, repair), 3 * 9000);
        assert_eq!(faults(&sink), [("memory", 2)]);
    }
}
