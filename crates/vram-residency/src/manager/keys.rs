//! The sealing keys of one device: the current one first, then those still
//! accepted while a rotation overlaps (requirement: PM-10, design 4.4).

use super::VramManager;
use super::failure::About;
use crate::audit::Body;
use crate::error::{Error, Result};
use crate::key::{KeyContext, KeyId, KeyProvider, SealKey};
use crate::sync::{Arc, MutexGuard, PoisonError, RwLock};

pub(super) struct KeyRing {
    accepted: RwLock<Arc<[Arc<dyn SealKey>]>>,
}

impl KeyRing {
    pub(super) fn new(key: Arc<dyn SealKey>) -> Self {
        Self {
            accepted: RwLock::new(Arc::from([key])),
        }
    }

    /// Every accepted key, the current one first. Never empty.
    pub(super) fn accepted(&self) -> Arc<[Arc<dyn SealKey>]> {
        Arc::clone(&self.accepted.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn current(&self) -> Option<Arc<dyn SealKey>> {
        self.accepted().first().map(Arc::clone)
    }

    fn rotate(&self, key: Arc<dyn SealKey>) {
        let mut accepted = self
            .accepted
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let older = accepted
            .iter()
            .filter(|old| old.id() != key.id())
            .map(Arc::clone);
        let ring: Vec<_> = std::iter::once(Arc::clone(&key)).chain(older).collect();
        *accepted = ring.into();
    }

    /// Ids of all keys but the current one.
    fn older(&self) -> Vec<KeyId> {
        let accepted = self.accepted();
        accepted.iter().skip(1).map(|key| key.id()).collect()
    }

    /// Drops these keys, but for one that is current again.
    fn retire(&self, ids: &[KeyId]) {
        let mut accepted = self
            .accepted
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let current = accepted.iter().take(1);
        let others = accepted.iter().skip(1);
        let kept = current.chain(others.filter(|key| !ids.contains(&key.id())));
        let kept: Vec<_> = kept.map(Arc::clone).collect();
        *accepted = kept.into();
    }
}

impl VramManager {
    /// Uses another key for new seals from now on; earlier seals still verify. Of two
    /// rotations at the same time the later holds on every device.
    ///
    /// # Errors
    /// [`crate::key::KeyError`]; then no device has changed its key.
    pub fn rotate_key(&self, provider: &dyn KeyProvider) -> Result<()> {
        let derive = |slot: &super::DeviceSlot| {
            provider.seal_key(&KeyContext {
                salt: &self.inner.salt,
                worker: &self.inner.worker_id,
                device: slot.info().uuid,
            })
        };
        let keys = self
            .inner
            .slots
            .iter()
            .map(derive)
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::from);
        let keys = self.recorded("rotate_key", About::default(), keys)?;
        let devices = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let now = self
            .inner
            .slots
            .iter()
            .filter_map(|slot| slot.keys.current());
        let body = Body::KeyRotated {
            devices,
            from: now.map(|key| key.id()).collect(),
            to: keys.iter().map(|key| key.id()).collect(),
        };
        self.emit(None, body)?;
        let _together = self.changing_keys();
        for (slot, key) in self.inner.slots.iter().zip(keys) {
            slot.keys.rotate(key);
        }
        Ok(())
    }

    /// Ends the overlap: seals under earlier keys no longer verify.
    ///
    /// # Errors
    /// [`crate::audit::AuditError`] in `required` mode; then no key was retired.
    pub fn retire_old_keys(&self) -> Result<()> {
        let slots = || self.inner.slots.iter();
        let older: Vec<_> = slots().map(|slot| slot.keys.older()).collect();
        let key_ids = older.concat();
        let keys = u32::try_from(key_ids.len()).unwrap_or(u32::MAX);
        self.emit(None, Body::KeyRetired { keys, key_ids })?;
        let _together = self.changing_keys();
        for (slot, older) in slots().zip(older) {
            slot.keys.retire(&older);
        }
        Ok(())
    }

    /// Nobody else changes keys meanwhile. Nothing is recorded under it, for a sink may
    /// change keys itself.
    fn changing_keys(&self) -> MutexGuard<'_, ()> {
        let lock = self.inner.changing_keys.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// Id of the key that new seals on a device use.
    ///
    /// # Errors
    /// [`crate::error::InputError::NoSuchDevice`].
    pub fn key_id(&self, ordinal: u32) -> Result<Option<KeyId>> {
        Ok(self.slot(ordinal)?.keys.current().map(|key| key.id()))
    }
}
