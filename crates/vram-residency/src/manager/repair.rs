//! Healing damaged blocks from a source: each checked before it is written,
//! and a full verification before the shard counts again (design 7).

use std::sync::Arc;

use tracing::info_span;
use vram_digest::{BLOCK_BYTES, FileDigest, file_digest, hash_block, root};
use zeroize::Zeroizing;

use super::{DeviceSlot, VramManager};
use crate::audit::{Body, Text};
use crate::capacity::Allocation;
use crate::device::{Device, Protection};
use crate::error::{Damage, Error, InputError, Result, VerifyError};
use crate::load::{LoadError, Source};
use crate::shard::{Resident, SealedShard};
use crate::trace;
use crate::verify::{Mode, measure, runs_of};

/// What a repair did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Repaired {
    /// Blocks of 4 KiB that were rewritten.
    pub blocks: u64,
}

impl VramManager {
    /// Rewrites the damaged 4 KiB blocks of a shard from `source` and verifies
    /// it in full. A shard that nobody has condemned yet is verified before a
    /// byte of it is rewritten: damage that a repair finds is a failed
    /// verification like any other, and stops the manager where the policy says
    /// so. Only after the last verification, and once that is recorded, is the
    /// quarantine lifted; a stopped manager stays stopped until it is resumed. A repair
    /// that was begun leaves a `shard.repaired` or a `shard.repair_failed`.
    ///
    /// # Errors
    /// [`crate::policy::PolicyError::RepairOff`] unless the policy allows it,
    /// [`crate::error::Misuse::Busy`] while leases are out, [`VerifyError`] when
    /// the source's blocks are not the sealed ones: nothing bad is written.
    pub fn repair(&self, shard: &SealedShard, source: &dyn Source) -> Result<Repaired> {
        let span = info_span!(
            "repair",
            shard_id = %shard.id(),
            gpu_device = shard.record().gpu_device,
            correlation_id = self.request_id()
        );
        trace::operation(&span, || self.repair_from(shard, source))
    }

    fn repair_from(&self, shard: &SealedShard, source: &dyn Source) -> Result<Repaired> {
        let resident = Arc::clone(self.own(shard)?);
        let slot = self.slot_of(&resident)?;
        let _allowed = self.permitted(slot, resident.record(), self.inner.policy.admit_repair())?;
        self.authentic(slot, &resident)?;
        let (len, size) = (source.len(), resident.record().vram_bytes);
        if len != size {
            return Err(InputError::Range {
                offset: 0,
                len,
                size,
            }
            .into());
        }
        let _one_at_a_time = resident.verifying();
        // Refused before anything is read.
        resident.exclusively(|_| Ok(()))?;
        let repaired = self.healed_and_proved(slot, &resident, source);
        let repaired = self.lost_is_recorded(repaired);
        if let Err(error) = &repaired
            && !error.is_refusal()
        {
            let record = resident.record();
            let body = Body::ShardRepairFailed {
                shard_id: record.shard_id.clone(),
                gpu_device: record.gpu_device,
                source: Text::new(&source.name()),
                code: error.code(),
                reason: Text::new(&error.to_string()),
            };
            self.tell(None, body);
        }
        repaired
    }

    fn healed_and_proved(
        &self,
        slot: &DeviceSlot,
        resident: &Arc<Resident>,
        source: &dyn Source,
    ) -> Result<Repaired> {
        let record = resident.record();
        let healed = match self.found_damaged(resident)? {
            true => {
                let level0 = self.sealed_hashes(slot, resident)?;
                resident.exclusively(|allocation| heal(resident, allocation, &level0, source))?
            }
            false => Healed::nothing(record.digest),
        };
        // Whoever condemns it from here on has the last word.
        let condemned = resident.condemned();
        if resident.is_quarantined() {
            let _ = self.verify_even_quarantined(resident, Mode::Full)?;
        }
        let blocks = healed.blocks;
        let body = Body::ShardRepaired {
            shard_id: record.shard_id.clone(),
            gpu_device: record.gpu_device,
            source: Text::new(&source.name()),
            blocks,
            runs: healed.runs,
            digest_before: healed.before.to_string(),
            digest_after: record.digest.to_string(),
        };
        self.emit(None, body)?;
        if resident.acquit(condemned) {
            return Ok(Repaired { blocks });
        }
        let shard_id = record.shard_id.clone();
        Err(VerifyError::Quarantined { shard_id }.into())
    }

    /// Whether the shard stands condemned, now that it was looked at.
    fn found_damaged(&self, resident: &Arc<Resident>) -> Result<bool> {
        if resident.is_quarantined() {
            return Ok(true);
        }
        match self.verify_even_quarantined(resident, Mode::Full) {
            Ok(_) => Ok(false),
            Err(Error::Verify(_)) if resident.is_quarantined() => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// What was rewritten.
struct Healed {
    blocks: u64,
    /// The first runs of them.
    runs: Vec<(u64, u64)>,
    /// Digest of what the memory held before.
    before: FileDigest,
}

impl Healed {
    const fn nothing(before: FileDigest) -> Self {
        Self {
            blocks: 0,
            runs: Vec::new(),
            before,
        }
    }
}

/// Finds the bad blocks and rewrites each from the source, checked first. The
/// shard is quarantined, so whatever fails half way, nobody leases it.
fn heal(
    resident: &Resident,
    allocation: &Allocation,
    level0: &[vram_digest::BlockHash],
    source: &dyn Source,
) -> Result<Healed> {
    let device = allocation.device().as_ref();
    let extent = allocation.extent();
    let measured = measure(device, extent)?;
    resident.count_read(extent.len);
    let before = file_digest(&root(&measured), extent.len);
    let pairs = (0_u64..).zip(measured.iter().zip(level0));
    let bad: Vec<_> = pairs.filter(|(_, (now, sealed))| now != sealed).collect();
    if bad.is_empty() {
        // An earlier repair may have failed before it could protect again.
        device.protect(extent.buffer, Protection::ReadOnly)?;
        return Ok(Healed::nothing(before));
    }
    device.protect(extent.buffer, Protection::ReadWrite)?;
    let written = bad.iter().try_for_each(|(block, (_, sealed))| {
        let offset = block.saturating_mul(BLOCK_BYTES as u64);
        let len = extent.len.saturating_sub(offset).min(BLOCK_BYTES as u64);
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(len).unwrap_or(BLOCK_BYTES)]);
        let read = source.read_exact_at(offset, &mut bytes);
        read.map_err(|error| LoadError::Read {
            name: source.name(),
            offset,
            source: error,
        })?;
        let hash = hash_block(&bytes).map_err(|_| Error::Internal("an oversized block"))?;
        if hash != **sealed {
            let shard_id = resident.record().shard_id.clone();
            return Err(VerifyError::RepairSource {
                shard_id,
                block: *block,
            }
            .into());
        }
        Ok::<(), Error>(device.write(extent, offset, &bytes)?)
    });
    // Read-only again whatever happened in between.
    let protected = device.protect(extent.buffer, Protection::ReadOnly);
    match (written, protected.map_err(Error::from)) {
        (Err(written), Err(protected)) => return Err(written.graver(protected)),
        (written, protected) => written.and(protected)?,
    }
    let mut runs = runs_of(bad.iter().map(|(block, _)| *block));
    runs.truncate(Damage::MAX_RUNS);
    Ok(Healed {
        blocks: bad.len() as u64,
        runs,
        before,
    })
}
