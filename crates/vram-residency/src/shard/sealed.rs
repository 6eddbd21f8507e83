//! The owning handle.

use std::fmt;
use std::sync::Arc;

use vram_digest::FileDigest;

use super::{Resident, ShardId};
use crate::error::Misuse;
use crate::format::TensorTable;
use crate::seal::Record;
use crate::sync::atomic::{AtomicBool, Ordering};

/// A shard that lies sealed in device memory. It owns that memory: dropping the
/// handle scrubs and frees it (requirement: API-F27, WORKER-4001), after the last
/// lease.
///
/// The [`Record`] is the plain description; cloning it clones no ownership.
#[must_use = "dropping a sealed shard frees its memory"]
pub struct SealedShard {
    resident: Arc<Resident>,
    inert: AtomicBool,
}

impl SealedShard {
    pub(crate) fn new(resident: Arc<Resident>) -> Self {
        resident.add_handle();
        Self {
            resident,
            inert: AtomicBool::new(false),
        }
    }

    /// Another handle of a shard, unless its last one is just being dropped.
    pub(crate) fn share(resident: Arc<Resident>) -> Option<Self> {
        resident.share().then(|| Self {
            resident,
            inert: AtomicBool::new(false),
        })
    }

    /// The shard behind the handle, while it owns one.
    pub(crate) fn resident(&self) -> Result<&Arc<Resident>, Misuse> {
        if self.inert.load(Ordering::SeqCst) {
            return Err(Misuse::NotSealed);
        }
        Ok(&self.resident)
    }

    /// Gives up ownership; true when this was the last handle.
    pub(crate) fn retire(&self) -> Result<bool, Misuse> {
        if self.inert.swap(true, Ordering::SeqCst) {
            return Err(Misuse::NotSealed);
        }
        Ok(self.resident.drop_handle())
    }

    /// Gives up ownership if no other handle shares the shard; else false, and nothing
    /// has changed for whoever drops the others meanwhile.
    pub(crate) fn retire_alone(&self) -> Result<bool, Misuse> {
        if self.inert.swap(true, Ordering::SeqCst) {
            return Err(Misuse::NotSealed);
        }
        let alone = self.resident.drop_only_handle();
        if !alone {
            self.inert.store(false, Ordering::SeqCst);
        }
        Ok(alone)
    }

    /// Takes back a `retire` whose free was refused.
    pub(crate) fn reinstate(&self) {
        self.resident.add_handle();
        self.inert.store(false, Ordering::SeqCst);
    }

    /// Every public fact about the shard. Still there when the memory is freed.
    #[must_use]
    pub fn record(&self) -> &Record {
        self.resident.record()
    }

    /// The shard's name.
    #[must_use]
    pub fn id(&self) -> &ShardId {
        &self.record().shard_id
    }

    /// fs-verity digest measured in VRAM.
    #[must_use]
    pub fn digest(&self) -> FileDigest {
        self.record().digest
    }

    /// The model's tensors; empty for raw bytes.
    #[must_use]
    pub fn tensors(&self) -> &TensorTable {
        self.resident.tensors()
    }

    /// True while the memory is held (requirement: WORKER-4112).
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        !self.inert.load(Ordering::SeqCst) && self.resident.is_held()
    }

    /// True after a failed verification that was not repaired.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.resident.is_quarantined()
    }

    /// Leases that are out.
    #[must_use]
    pub fn leases(&self) -> u64 {
        self.resident.leases()
    }
}

impl Drop for SealedShard {
    fn drop(&mut self) {
        // With leases out the last lease frees the memory instead.
        if self.retire().unwrap_or(false) {
            let _ = self.resident.abandon(None);
        }
    }
}

impl fmt::Debug for SealedShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record();
        let digest: String = record.digest.to_string().chars().take(8).collect();
        f.debug_struct("SealedShard")
            .field("shard_id", &record.shard_id.as_str())
            .field("gpu_device", &record.gpu_device)
            .field("vram_bytes", &record.vram_bytes)
            .field("digest", &digest)
            .field("sealed", &self.is_sealed())
            .finish_non_exhaustive()
    }
}
