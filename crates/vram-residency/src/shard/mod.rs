//! The life of a shard, in types: `Reservation -> Filling -> SealedShard ->
//! Lease`. Each step takes the proof that the step before made.

mod filling;
mod group;
mod id;
mod lease;
mod registry;
mod resident;
mod sealed;

pub(crate) use filling::{Filled, Filling};
pub use group::{GROUP_SCHEMA, GroupRecord, MAX_GROUP_RECORD_BYTES, SealedGroup};
pub use id::{MAX_ID_BYTES, MAX_MODEL_REF_BYTES, ModelRef, ShardId, WorkerId};
pub(crate) use lease::LeasedMemory;
pub use lease::{Lease, TensorView};
pub(crate) use registry::{Claim, Condemned, Registry};
pub(crate) use resident::{Resident, Stamp};
pub use sealed::SealedShard;
