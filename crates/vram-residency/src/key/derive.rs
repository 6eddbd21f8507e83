//! HKDF-SHA256 from the worker's secret to one HMAC key per manager and device.

use std::sync::Arc;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::secret::Secret;
use super::{KeyContext, KeyError, KeyId, KeyProvider, SealKey, SealTag};

const SEAL_KEY_LABEL: &[u8] = b"vram-residency/seal-key/v1";
const KEY_ID_LABEL: &[u8] = b"vram-residency/key-id/v1";
const SECRET_ID_LABEL: &[u8] = b"vram-residency/secret-id/v1";

/// The worker's secret: input of the key derivation (requirement: CI-005, KD-1).
pub struct RootKey {
    secret: Secret,
}

impl RootKey {
    pub(super) const fn from_secret(secret: Secret) -> Self {
        Self { secret }
    }

    pub(super) fn lend<R>(&self, work: impl FnOnce(&[u8]) -> R) -> R {
        self.secret.lend(work)
    }

    /// Names the secret itself, whatever is derived from it: 8 bytes of
    /// HKDF-SHA256 without salt under a label of their own. By this id a lost
    /// sealing key is revoked (requirement: KD-10).
    ///
    /// # Errors
    /// None in practice: [`KeyError::Format`] should the derivation refuse.
    pub fn id(&self) -> Result<KeyId, KeyError> {
        self.lend(|secret| {
            let mut id = [0; 8];
            expand(&extract(None, secret), SECRET_ID_LABEL, &mut id)?;
            Ok(KeyId::from_bytes(id))
        })
    }

    /// The HMAC key of a context: a function of its inputs (requirement: API-F38).
    ///
    /// # Errors
    /// [`KeyError::Memory`] when locked memory cannot be had.
    pub fn derive(&self, context: &KeyContext<'_>) -> Result<HmacSealKey, KeyError> {
        self.lend(|secret| {
            let hkdf = extract(Some(context.salt), secret);
            let mut key = Zeroizing::new([0_u8; 32]);
            expand(&hkdf, &info(SEAL_KEY_LABEL, context), key.as_mut())?;
            let mut id = [0; 8];
            expand(&hkdf, &info(KEY_ID_LABEL, context), &mut id)?;
            Ok(HmacSealKey {
                id: KeyId::from_bytes(id),
                secret: Secret::new(key.as_mut())?,
            })
        })
    }
}

/// HKDF-Extract; the pseudorandom key that it returns besides is wiped.
pub(super) fn extract(salt: Option<&[u8]>, secret: &[u8]) -> Hkdf<Sha256> {
    let (mut key, hkdf) = Hkdf::<Sha256>::extract(salt, secret);
    key.as_mut_slice().zeroize();
    hkdf
}

/// HKDF-Expand into `out`.
pub(super) fn expand(hkdf: &Hkdf<Sha256>, info: &[u8], out: &mut [u8]) -> Result<(), KeyError> {
    // RFC 5869 limits the output to 255 hashes; ours are far shorter.
    hkdf.expand(info, out).map_err(|_| KeyError::Format {
        reason: "the key derivation refused its output length",
    })
}

impl KeyProvider for RootKey {
    fn seal_key(&self, context: &KeyContext<'_>) -> Result<Arc<dyn SealKey>, KeyError> {
        Ok(Arc::new(self.derive(context)?))
    }

    fn id(&self) -> Result<KeyId, KeyError> {
        self.id()
    }
}

/// Label, worker id and device UUID, each behind its 32-bit length, so that no
/// two contexts share an `info`.
fn info(label: &[u8], context: &KeyContext<'_>) -> Vec<u8> {
    let parts = [
        label,
        context.worker.as_str().as_bytes(),
        context.device.as_bytes(),
    ];
    let framed = parts.into_iter().flat_map(|part| {
        let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
        len.to_le_bytes().into_iter().chain(part.iter().copied())
    });
    framed.collect()
}

/// An HMAC-SHA256 sealing key in protected memory (requirement: CI-001, WORKER-4120).
pub struct HmacSealKey {
    id: KeyId,
    secret: Secret,
}

impl SealKey for HmacSealKey {
    fn id(&self) -> KeyId {
        self.id
    }

    fn tag(&self, statement: &[u8]) -> Result<SealTag, KeyError> {
        self.secret.lend(|key| {
            let mac = Hmac::<Sha256>::new_from_slice(key);
            let mut mac = mac.map_err(|_| KeyError::Format {
                reason: "not a key for HMAC",
            })?;
            mac.update(statement);
            Ok(SealTag::from_bytes(mac.finalize().into_bytes().into()))
        })
    }
}
