//! Reading sealed bytes back: each 4 KiB block is checked as it leaves.

use std::io::Write;
use std::sync::Arc;

use tracing::info_span;
use vram_digest::{BLOCK_BYTES, hash_blocks};
use zeroize::Zeroizing;

use super::VramManager;
use super::failure::About;
use crate::audit::Body;
use crate::device::{Device, DeviceError};
use crate::error::{Error, InputError, Result, VerifyError};
use crate::load::LoadError;
use crate::policy::{ExportAllowed, PolicyError};
use crate::shard::{Resident, SealedShard};
use crate::trace;
use crate::verify::Mode;

/// Bytes read back at a time: a multiple of the block size.
const RUN_BYTES: u64 = 1 << 20;
/// One digest block.
const BLOCK: u64 = BLOCK_BYTES as u64;

impl VramManager {
    /// Writes the shard's bytes to `out`, the exact inverse of sealing
    /// (requirement: API-F24). Allowed on simulated devices and where the
    /// policy says so. Every block is checked against the seal before it is
    /// written, so what comes out is what was sealed.
    ///
    /// # Errors
    /// [`crate::policy::PolicyError::ExportOff`], [`VerifyError`], or a failure
    /// to write.
    pub fn unseal_to(&self, shard: &SealedShard, out: &mut dyn Write) -> Result<u64> {
        let len = shard.record().vram_bytes;
        self.export(shard, 0, len, &mut |bytes| {
            Ok(out
                .write_all(bytes)
                .map_err(|source| LoadError::Write { source })?)
        })?;
        Ok(len)
    }

    /// The shard's bytes in memory. For big models use [`VramManager::unseal_to`].
    ///
    /// # Errors
    /// As [`VramManager::unseal_to`].
    pub fn unseal_model(&self, shard: &SealedShard) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.unseal_to(shard, &mut out)?;
        Ok(out)
    }

    /// `len` bytes from `offset`, checked like an export (requirement: API-F28, VA-8).
    ///
    /// # Errors
    /// [`InputError::Range`], else as [`VramManager::unseal_to`].
    pub fn read_shard_at_offset(
        &self,
        shard: &SealedShard,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.export(shard, offset, len, &mut |bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(out)
    }

    /// Whether bytes of a leased shard may go to the host, as was decided when
    /// the lease was granted; a refusal is recorded.
    pub(crate) fn may_read(
        &self,
        resident: &Resident,
        allowed: Option<ExportAllowed>,
    ) -> Result<ExportAllowed> {
        let slot = self.slot_of(resident)?;
        self.permitted(slot, allowed.ok_or(PolicyError::ExportOff))
    }

    /// Records that bytes of a leased shard go to the host and lets `read` fetch
    /// them.
    pub(crate) fn read_leased(
        &self,
        resident: &Resident,
        _allowed: ExportAllowed,
        offset: u64,
        out: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> Result<(), DeviceError>,
    ) -> Result<()> {
        let record = resident.record();
        let body = Body::ShardExported {
            shard_id: record.shard_id.clone(),
            offset,
            len: out.len() as u64,
        };
        self.emit(None, body)?;
        let answer = read(out).map_err(Error::from);
        self.recorded("read_tensor", About::shard(record), answer)
    }

    fn export(
        &self,
        shard: &SealedShard,
        offset: u64,
        len: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let span = info_span!("export", shard_id = %shard.id(), offset, len);
        trace::operation(&span, || self.export_range(shard, offset, len, sink))
    }

    fn export_range(
        &self,
        shard: &SealedShard,
        offset: u64,
        len: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let resident = self.own(shard)?;
        let size = resident.record().vram_bytes;
        let end = offset.checked_add(len).filter(|end| *end <= size);
        let end = end.ok_or(InputError::Range { offset, len, size })?;
        let slot = self.slot_of(resident)?;
        let allowed = self.inner.policy.admit_export(slot.info());
        let _allowed = self.permitted(slot, allowed)?;
        self.usable(slot, resident)?;
        let shard_id = resident.record().shard_id.clone();
        self.emit(
            None,
            Body::ShardExported {
                shard_id,
                offset,
                len,
            },
        )?;
        let copied = self.copy_out(slot, resident, offset, end, sink);
        let about = About::shard(resident.record());
        match self.recorded("export", about, copied)? {
            None => Ok(()),
            Some(block) => self.export_failed(resident, block),
        }
    }

    /// Reads whole blocks, checks them, and hands on the bytes in the range;
    /// stops at the first bad block and names it.
    fn copy_out(
        &self,
        slot: &super::DeviceSlot,
        resident: &Resident,
        offset: u64,
        end: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<u64>> {
        let level0 = self.sealed_hashes(slot, resident)?;
        let record = resident.record();
        let mut bytes = Zeroizing::new(Vec::new());
        let mut hashes = Vec::new();
        let mut at = (offset / BLOCK).saturating_mul(BLOCK);
        while at < end {
            let run = RUN_BYTES.min(record.vram_bytes.saturating_sub(at));
            bytes.resize(usize::try_from(run).unwrap_or(usize::MAX), 0);
            // Held for the copy only: the caller's writer may take its time, or
            // free the shard.
            let held = resident.hold()?;
            let extent = held.allocation()?.extent();
            let read = slot.ledger.device().read(extent, at, &mut bytes);
            drop(held);
            read?;
            hashes.resize(bytes.len().div_ceil(BLOCK_BYTES), [0; 32]);
            hash_blocks(&bytes, &mut hashes)
                .map_err(|_| Error::Internal("a run and its hashes differ in number"))?;
            let first = usize::try_from(at / BLOCK).unwrap_or(usize::MAX);
            let sealed = level0.iter().skip(first);
            if let Some(bad) = hashes.iter().zip(sealed).position(|(a, b)| a != b) {
                return Ok(Some((at / BLOCK).saturating_add(bad as u64)));
            }
            let from = usize::try_from(offset.saturating_sub(at)).unwrap_or(0);
            let to = usize::try_from(end.saturating_sub(at))
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            sink(bytes.get(from..to).unwrap_or_default())?;
            at = at.saturating_add(run);
        }
        Ok(None)
    }

    /// A block that does not match: verify the shard, which condemns it if the
    /// memory is bad. If it is not, the way back to the host is.
    fn export_failed(&self, resident: &Arc<Resident>, block: u64) -> Result<()> {
        let _one_at_a_time = resident.verifying();
        resident.doubt(1);
        let _ = self.verify_resident(resident, Mode::Full)?;
        let shard_id = resident.record().shard_id.clone();
        let error = VerifyError::ReadBack { shard_id, block };
        let about = About::shard(resident.record());
        self.recorded("export", about, Err(error.into()))
    }
}
