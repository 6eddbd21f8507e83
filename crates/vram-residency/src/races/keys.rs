//! Keys that change on several devices at the same time.
//!
//! requirement: PM-10, TP-9

use super::explore;
use super::rig::Rig;
use crate::key::{KeyContext, KeyError, KeyId, KeyProvider, SealKey, SealTag};
use crate::policy::Policy;
use crate::sync::{Arc, thread};

/// A key that every device has under the same name.
struct Numbered(u8);

impl KeyProvider for Numbered {
    fn seal_key(&self, _: &KeyContext<'_>) -> Result<Arc<dyn SealKey>, KeyError> {
        Ok(Arc::new(Self(self.0)))
    }

    fn id(&self) -> Result<KeyId, KeyError> {
        Ok(KeyId::from_bytes([self.0; 8]))
    }
}

impl SealKey for Numbered {
    fn id(&self) -> KeyId {
        KeyId::from_bytes([self.0; 8])
    }

    fn tag(&self, _: &[u8]) -> Result<SealTag, KeyError> {
        Ok(SealTag::from_bytes([self.0; 32]))
    }
}

#[test]
fn two_rotations_leave_all_devices_under_the_key_of_one() {
    explore(|| {
        let rig = Rig::new(2, Policy::default());
        let theirs = Arc::clone(&rig);
        let other = thread::spawn(move || theirs.manager.rotate_key(&Numbered(1)).unwrap());
        rig.manager.rotate_key(&Numbered(2)).unwrap();
        other.join().unwrap();
        let current = [0, 1].map(|ordinal| rig.manager.key_id(ordinal).unwrap());
        assert_eq!(current[0], current[1]);
    });
}
