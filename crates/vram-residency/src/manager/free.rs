//! Giving memory back.

use tracing::info_span;

use super::VramManager;
use crate::error::{Error, Misuse, Result};
use crate::shard::SealedShard;
use crate::trace;
use crate::verify::Mode;

impl VramManager {
    /// Scrubs and frees a shard now; the handle is inert afterwards
    /// (requirement: API-F26). A shard that other handles share stays until the
    /// last of them.
    ///
    /// # Errors
    /// [`Misuse::Busy`] while leases are out: nothing changes. [`Error::Free`]
    /// when bytes had to be stranded, [`Error::Audit`] when the free could not be
    /// recorded: the memory is gone and the handle is inert all the same.
    pub fn deallocate(&self, shard: &SealedShard) -> Result<()> {
        let span = info_span!(
            "free",
            shard_id = %shard.id(),
            gpu_device = shard.record().gpu_device,
            correlation_id = self.request_id()
        );
        trace::operation(&span, || self.free(shard))
    }

    fn free(&self, shard: &SealedShard) -> Result<()> {
        let resident = self.own(shard)?;
        if !shard.retire()? {
            return Ok(());
        }
        let freed = resident.free(self.request.as_ref());
        match &freed {
            Err(Error::Misuse(Misuse::Busy { .. })) => shard.reinstate(),
            _ => self.inner.counters.freed(),
        }
        self.lost_is_recorded(freed)
    }

    /// Verifies, then frees (requirement: API-F25). A shard that fails stays,
    /// quarantined, for its owner to repair or free.
    ///
    /// # Errors
    /// As [`VramManager::verify_sealed`] and [`VramManager::deallocate`].
    pub fn unseal_and_free(&self, shard: &SealedShard) -> Result<()> {
        let _ = self.verify_sealed(shard, Mode::Full)?;
        self.deallocate(shard)
    }
}
