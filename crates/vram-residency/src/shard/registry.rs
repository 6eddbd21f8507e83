//! Which ids are in use, and by what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Resident, ShardId};
use crate::error::InputError;

/// Ids of one manager. An id is taken by a [`Claim`] before any byte is loaded
/// and free again when the shard's last trace is gone.
#[derive(Default)]
pub(crate) struct Registry {
    claimed: Mutex<HashMap<ShardId, Weak<Resident>>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<ShardId, Weak<Resident>>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an id.
    pub(crate) fn claim(self: &Arc<Self>, id: ShardId) -> Result<Arc<Claim>, InputError> {
        let mut claimed = self.lock();
        if claimed.contains_key(&id) {
            return Err(InputError::DuplicateId { shard_id: id });
        }
        claimed.insert(id.clone(), Weak::new());
        Ok(Arc::new(Claim {
            registry: Arc::clone(self),
            id,
        }))
    }

    /// The shard of an id, if it is sealed.
    pub(crate) fn get(&self, id: &ShardId) -> Option<Arc<Resident>> {
        self.lock().get(id).and_then(Weak::upgrade)
    }

    /// Every sealed shard. Collected first: dropping one may need the lock.
    pub(crate) fn all(&self) -> Vec<Arc<Resident>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }
}

/// An id in use. The registry forgets it when the last owner drops it.
pub(crate) struct Claim {
    registry: Arc<Registry>,
    id: ShardId,
}

impl Claim {
    pub(crate) const fn id(&self) -> &ShardId {
        &self.id
    }

    /// Points the id at a sealed shard.
    pub(crate) fn set(&self, resident: &Arc<Resident>) {
        self.registry
            .lock()
            .insert(self.id.clone(), Arc::downgrade(resident));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.id);
    }
}
