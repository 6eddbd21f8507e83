//! Reading sealed bytes back: each 4 KiB block is checked as it leaves.

use std::io::Write;
use std::sync::Arc;

use tracing::info_span;

use super::VramManager;
use super::failure::About;
use super::read_back::ReadBack;
use crate::audit::Body;
use crate::device::DeviceError;
use crate::error::{Answer, Checker, Error, InputError, Result, VerifyError};
use crate::load::{LoadError, cores};
use crate::policy::{ExportAllowed, PolicyError};
use crate::shard::{Resident, SealedShard};
use crate::trace;
use crate::verify::Mode;

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
        self.permitted(
            slot,
            resident.record(),
            allowed.ok_or(PolicyError::ExportOff),
        )
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
        let span = info_span!(
            "export",
            shard_id = %shard.id(),
            gpu_device = shard.record().gpu_device,
            offset,
            len,
            correlation_id = self.request_id()
        );
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
        let _allowed = self.permitted(slot, resident.record(), allowed)?;
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
        let level0 = self.hashes_to_export(slot, resident)?;
        let read_back = ReadBack {
            device: slot.ledger.device().as_ref(),
            resident,
            level0: &level0,
        };
        let copied = read_back.copy_out(&(offset..end), cores(), sink);
        let about = About::shard(resident.record());
        match self.recorded("export", about, copied)? {
            None => Ok(()),
            Some(block) => self.export_failed(resident, block),
        }
    }

    /// A block that does not match: verify the shard, which condemns it if the
    /// memory is bad. If it is not, the way back to the host is.
    fn export_failed(&self, resident: &Arc<Resident>, block: u64) -> Result<()> {
        let _one_at_a_time = resident.verifying();
        let answer = Answer::of_blocks(Checker::Export, 1, &[block]);
        resident.doubt(1, [answer]);
        let _ = self.verify_resident(resident, Mode::Full)?;
        let shard_id = resident.record().shard_id.clone();
        let error = VerifyError::ReadBack { shard_id, block };
        let about = About::shard(resident.record());
        self.recorded("export", about, Err(error.into()))
    }
}
