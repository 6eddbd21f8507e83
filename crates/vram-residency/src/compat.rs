//! The sources' own names, and their shapes of `seal_model`, which cannot live on
//! one type: import the one you need.

/// The serialisable description of a shard under the name that the sources give
/// it (requirement: TY-3, WORKER-4110).
pub type ModelShardHandle = crate::seal::Record;

/// `seal_model(bytes, gpu)` (requirement: API-F12).
pub mod s1 {
    use crate::error::Result;
    use crate::load::SealRequest;
    use crate::manager::VramManager;
    use crate::shard::SealedShard;

    /// Sealing in the two-argument shape.
    pub trait SealModel {
        /// Seals `bytes` on device `gpu` under a generated id.
        ///
        /// # Errors
        /// As [`VramManager::seal`].
        fn seal_model(&self, bytes: &[u8], gpu: u32) -> Result<SealedShard>;

        /// Seals one part of a tensor-parallel model (requirement: API-F17).
        ///
        /// # Errors
        /// As [`VramManager::seal`]; `shard_index` must be below `total_shards`.
        fn seal_model_shard(
            &self,
            bytes: &[u8],
            gpu: u32,
            shard_index: u32,
            total_shards: u32,
        ) -> Result<SealedShard>;
    }

    impl SealModel for VramManager {
        fn seal_model(&self, bytes: &[u8], gpu: u32) -> Result<SealedShard> {
            self.seal(SealRequest::bytes(bytes).device(gpu))
        }

        fn seal_model_shard(
            &self,
            bytes: &[u8],
            gpu: u32,
            shard_index: u32,
            total_shards: u32,
        ) -> Result<SealedShard> {
            let request = SealRequest::bytes(bytes).device(gpu);
            self.seal(request.position(shard_index, total_shards))
        }
    }
}

/// `seal_model(label, gpu, bytes)` (requirement: API-F13).
pub mod s4 {
    use crate::capacity::Capacity;
    use crate::error::Result;
    use crate::load::SealRequest;
    use crate::manager::VramManager;
    use crate::shard::SealedShard;

    /// Sealing in the three-argument shape; the label is the model's name, and
    /// may be used for many shards.
    pub trait SealModel {
        /// Seals `bytes` on device `gpu` with `label` as its model reference.
        ///
        /// # Errors
        /// As [`VramManager::seal`].
        fn seal_model(&self, label: &str, gpu: u32, bytes: &[u8]) -> Result<SealedShard>;

        /// Bytes of the budget in use on one device (requirement: API-F33).
        ///
        /// # Errors
        /// [`crate::error::InputError::NoSuchDevice`].
        fn get_used_vram(&self, gpu: u32) -> Result<u64>;

        /// Bytes of the budget that are free on one device (requirement: API-F33).
        ///
        /// # Errors
        /// [`crate::error::InputError::NoSuchDevice`].
        fn get_free_vram(&self, gpu: u32) -> Result<u64>;
    }

    impl SealModel for VramManager {
        fn seal_model(&self, label: &str, gpu: u32, bytes: &[u8]) -> Result<SealedShard> {
            self.seal(SealRequest::bytes(bytes).device(gpu).model_ref(label))
        }

        fn get_used_vram(&self, gpu: u32) -> Result<u64> {
            self.capacity(gpu).map(|Capacity { used, .. }| used)
        }

        fn get_free_vram(&self, gpu: u32) -> Result<u64> {
            self.capacity(gpu).map(|Capacity { free, .. }| free)
        }
    }
}
