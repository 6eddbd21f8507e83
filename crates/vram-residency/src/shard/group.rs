//! Several shards that are one model: sealed all or not at all.

use serde::{Deserialize, Serialize};

use super::SealedShard;
use crate::audit::Text;
use crate::error::{Error, InputError, VerifyError};
use crate::seal::{GroupId, Record, ShardPosition, refuse_lists};

/// Value of the `schema` field of a group record.
pub const GROUP_SCHEMA: &str = "vram-residency/group/v1";
/// Longest group record that is read, in bytes: more than 10,000 members.
pub const MAX_GROUP_RECORD_BYTES: usize = 16 << 20;

/// The shards of one model, in order (requirement: PM-1).
#[must_use = "dropping a group frees its shards"]
#[derive(Debug)]
pub struct SealedGroup {
    id: GroupId,
    shards: Vec<SealedShard>,
}

/// The plain description of a group: its members' records in order. The list is
/// not signed; each record binds group id, index and total under its tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRecord {
    /// Always [`GROUP_SCHEMA`]; anything else is refused.
    #[serde(deserialize_with = "schema")]
    pub schema: String,
    /// The group.
    pub group: GroupId,
    /// Records in order of their index.
    pub members: Vec<Record>,
}

fn schema<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let schema = String::deserialize(deserializer)?;
    if schema == GROUP_SCHEMA {
        return Ok(schema);
    }
    let known = format!("unknown schema; this version reads {GROUP_SCHEMA}");
    Err(serde::de::Error::custom(known))
}

impl GroupRecord {
    /// Reads a group record and checks that it is whole: every member says that
    /// it is that member of that group, in order, and none is missing. What they
    /// say is trusted only once the tag of each was checked, as by
    /// [`crate::verify::check_record`].
    ///
    /// # Errors
    /// [`InputError::Record`] for a text that is no group record,
    /// [`VerifyError::GroupMember`] for members that do not belong together.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_GROUP_RECORD_BYTES {
            let (len, max) = (text.len(), MAX_GROUP_RECORD_BYTES);
            return Err(InputError::Record(format!("{len} bytes, the limit is {max}")).into());
        }
        // The parser quotes names and values of the text, which is not ours.
        let refused = |error: serde_json::Error| {
            InputError::Record(Text::new(&error.to_string()).to_string())
        };
        let group: Self = serde_json::from_str(text).map_err(refused)?;
        refuse_lists(text, &group)?;
        group.check()?;
        Ok(group)
    }

    fn check(&self) -> Result<(), Error> {
        let total = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        if total == 0 {
            return Err(InputError::Record("the group has no members".to_owned()).into());
        }
        for (index, record) in (0_u32..).zip(&self.members) {
            let place = Some(ShardPosition { index, total });
            if record.group != Some(self.group) || record.position != place {
                return Err(VerifyError::GroupMember { index, total }.into());
            }
        }
        Ok(())
    }
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

    /// Puts a member in the place of its own handle that is inert.
    pub(crate) fn put(&mut self, index: usize, shard: SealedShard) {
        if let Some(place) = self.shards.get_mut(index) {
            *place = shard;
        }
    }

    /// The members, each with its own life from now on. One that is moved alone
    /// cannot come back; [`crate::VramManager::migrate_member`] moves it within
    /// its group.
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
