//! Keys that the listener knows, also those that are derived from them.

use std::sync::Arc;

use hkdf::Hkdf;
use sha2::Sha256;
use vram_residency::key::{KeyContext, KeyError, KeyId, KeyProvider, RootKey, SealKey};

use super::{listen, root_key, secret_of};

/// The root key of a seed; each key that is derived from it is planted first.
pub(crate) struct KnownKey {
    secret: [u8; 32],
    root: RootKey,
}

impl KnownKey {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            secret: secret_of(seed),
            root: root_key(seed),
        }
    }
}

impl KeyProvider for KnownKey {
    fn seal_key(&self, context: &KeyContext<'_>) -> Result<Arc<dyn SealKey>, KeyError> {
        listen::plant(&derived_key(&self.secret, context));
        self.root.seal_key(context)
    }

    fn id(&self) -> Result<KeyId, KeyError> {
        self.root.id()
    }
}

/// HKDF by hand: the bytes of the key that a secret gives in a context.
pub(crate) fn derived_key(secret: &[u8; 32], context: &KeyContext<'_>) -> [u8; 32] {
    let parts: [&[u8]; 3] = [
        b"vram-residency/seal-key/v1",
        context.worker.as_str().as_bytes(),
        context.device.as_bytes(),
    ];
    let framed = |part: &&[u8]| [&(part.len() as u32).to_le_bytes()[..], part].concat();
    let info: Vec<u8> = parts.iter().flat_map(framed).collect();
    let mut key = [0; 32];
    let hkdf = Hkdf::<Sha256>::new(Some(context.salt), secret);
    hkdf.expand(&info, &mut key).unwrap();
    key
}
