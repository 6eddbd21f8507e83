//! Several shards that are one model: sealed all or not at all.

use serde::{Deserialize, Serialize};

use super::SealedShard;
use crate::seal::{GroupId, Record};

/// Value of the `schema` field of a group record.
pub const GROUP_SCHEMA: &str = "vram-residency/group/v1";

/// The shards of one model, in order (requirement: PM-1).
#[must_use = "dropping a group frees its shards"]
#[derive(Debug)]
pub struct SealedGroup {
    id: GroupId,
    shards: Vec<SealedShard>,
}

/// The plain description of a group: its members' records in order. Each
/// record binds group id, index and total under its tag; whoever reads one back
/// has to check that every index is there once, as the command does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRecord {
    /// Always [`GROUP_SCHEMA`].
    pub schema: String,
    /// The group.
    pub group: GroupId,
    /// Records in order of their index.
    pub members: Vec<Record>,
}

impl SealedGroup {
    pub(crate) const fn new(id: GroupId, shards: Vec<SealedShard>) -> Self {
        Self { id, shards }
    }

    /// The group's id.
    #[must_use]
    pub const fn id(&self) -> GroupId {
        self.id
    }

    /// Members in order of their index.
    pub fn shards(&self) -> &[SealedShard] {
        &self.shards
    }

    /// The members, each with its own life from now on.
    #[must_use]
    pub fn into_shards(self) -> Vec<SealedShard> {
        self.shards
    }

    /// The plain description.
    #[must_use]
    pub fn record(&self) -> GroupRecord {
        GroupRecord {
            schema: GROUP_SCHEMA.to_owned(),
            group: self.id,
            members: self
                .shards
                .iter()
                .map(|shard| shard.record().clone())
                .collect(),
        }
    }
}
