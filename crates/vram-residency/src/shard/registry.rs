//! Which ids are in use, and by what.

use std::collections::HashMap;

use super::{Resident, ShardId};
use crate::error::InputError;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Ids of one manager. An id is taken by a [`Claim`] before any byte is loaded
/// and free again when the shard's memory is: inert handles keep no id.
#[derive(Default)]
pub(crate) struct Registry {
    claimed: Mutex<HashMap<ShardId, Entry>>,
    next: AtomicU64,
}

struct Entry {
    /// The claim that made the entry; others leave it alone.
    claim: u64,
    resident: Weak<Resident>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<ShardId, Entry>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an id.
    pub(crate) fn claim(self: &Arc<Self>, id: ShardId) -> Result<Arc<Claim>, InputError> {
        // Declared first, so dropped after the lock is: the last reference to a
        // shard needs the lock to end.
        let before;
        let mut claimed = self.lock();
        if let Some(entry) = claimed.get(&id) {
            before = entry.resident.upgrade();
            if before.as_ref().is_none_or(|resident| resident.is_held()) {
                return Err(InputError::DuplicateId { shard_id: id });
            }
        }
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            claim: serial,
            resident: Weak::new(),
        };
        claimed.insert(id.clone(), entry);
        Ok(Arc::new(Claim {
            registry: Arc::clone(self),
            serial,
            id,
            quarantine: AtomicU64::new(0),
        }))
    }

    /// The shard of an id, if it is sealed.
    pub(crate) fn get(&self, id: &ShardId) -> Option<Arc<Resident>> {
        self.lock().get(id)?.resident.upgrade()
    }

    /// Every sealed shard. Collected first: dropping one may need the lock.
    pub(crate) fn all(&self) -> Vec<Arc<Resident>> {
        let claimed = self.lock();
        let residents = claimed.values().map(|entry| &entry.resident);
        residents.filter_map(Weak::upgrade).collect()
    }
}

/// An id in use. The registry forgets it when the last owner drops it.
pub(crate) struct Claim {
    registry: Arc<Registry>,
    serial: u64,
    id: ShardId,
    /// Of the shard, wherever it moves: twice the number of condemnations, and
    /// one more while it is quarantined.
    quarantine: AtomicU64,
}

/// Which condemnation a shard stands under, if any.
#[derive(Clone, Copy)]
pub(crate) struct Condemned(u64);

impl Claim {
    pub(crate) fn is_quarantined(&self) -> bool {
        self.quarantine.load(Ordering::SeqCst) & 1 == 1
    }

    /// Condemns the shard, once more if it was condemned before.
    pub(crate) fn quarantine(&self) {
        let condemn = |state: u64| Some((state | 1).saturating_add(2));
        let _ = self
            .quarantine
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, condemn);
    }

    pub(crate) fn condemned(&self) -> Condemned {
        Condemned(self.quarantine.load(Ordering::SeqCst))
    }

    /// Ends the quarantine, unless the shard was condemned again since; true
    /// when it has ended.
    pub(crate) fn acquit(&self, of: Condemned) -> bool {
        let Condemned(state) = of;
        self.quarantine
            .compare_exchange(state, state & !1, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    pub(crate) const fn id(&self) -> &ShardId {
        &self.id
    }

    /// Points the id at a sealed shard.
    pub(crate) fn set(&self, resident: &Arc<Resident>) {
        let mut claimed = self.registry.lock();
        let entry = claimed.get_mut(&self.id);
        if let Some(entry) = entry.filter(|entry| entry.claim == self.serial) {
            entry.resident = Arc::downgrade(resident);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.registry.lock();
        if claimed
            .get(&self.id)
            .is_some_and(|entry| entry.claim == self.serial)
        {
            claimed.remove(&self.id);
        }
    }
}
