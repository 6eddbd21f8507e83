//! Ed25519 keys (RFC 8032) for what others must be able to check: checkpoints
//! of the audit log and receipts.

use std::fmt;

use ed25519_dalek::Signer;
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::derive::{expand, extract};
use super::secret::Secret;
use super::{KeyError, KeyId, RootKey};
use crate::hex;

const PRODUCTION_LABEL: &[u8] = b"vram-residency/ed25519-key/v1";
const TEST_LABEL: &[u8] = b"vram-residency/ed25519-test-key/v1";
const KEY_ID_LABEL: &[u8] = b"vram-residency/ed25519-key-id/v1";

/// What a signing key may speak for. The two halves of one secret share nothing,
/// so who trusts a production key never believes a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Real devices only: it refuses to sign for a simulated one.
    Production,
    /// Also simulated devices. Never to be trusted in production.
    Test,
}

impl Scope {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Production => PRODUCTION_LABEL,
            Self::Test => TEST_LABEL,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Test => "test",
        })
    }
}

/// A key that signs. Its seed stands in protected memory; no `Debug`, `Clone`
/// or `Serialize` (requirement: TY-6).
pub struct SigningKey {
    seed: Secret,
    public: VerifyingKey,
    scope: Scope,
}

impl SigningKey {
    /// The signing key of a secret, which may come from every source of a
    /// [`RootKey`] and under the same rules. The seed is HKDF-SHA256 of the
    /// secret under a label of its own, so that a secret which also seals
    /// shares nothing with it.
    ///
    /// # Errors
    /// [`KeyError::Memory`] when locked memory cannot be had.
    pub fn new(secret: &RootKey) -> Result<Self, KeyError> {
        Self::scoped(secret, Scope::Production)
    }

    /// The signing key of a secret for one scope.
    ///
    /// # Errors
    /// As [`SigningKey::new`].
    pub fn scoped(secret: &RootKey, scope: Scope) -> Result<Self, KeyError> {
        secret.lend(|secret| {
            let mut seed = Zeroizing::new([0_u8; 32]);
            expand(&extract(None, secret), scope.label(), seed.as_mut())?;
            let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
            Ok(Self {
                seed: Secret::new(seed.as_mut())?,
                public: VerifyingKey(public),
                scope,
            })
        })
    }

    /// What it may speak for.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// The key that checks what this one signs.
    #[must_use]
    pub const fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// [`KeyError::Memory`] when the seed is not what was stored.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        self.seed.lend(|seed| {
            let seed = seed.try_into().map_err(|_| KeyError::Memory {
                reason: "the signing key lost its length".to_owned(),
            })?;
            let key = ed25519_dalek::SigningKey::from_bytes(seed);
            Ok(key.sign(message).to_bytes())
        })
    }
}

/// The public half of a [`SigningKey`]; 64 hex digits in text.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// From its 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::Format`] for bytes that are no point of the curve, or a weak
    /// one, under which anybody could sign.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let refused = |reason| KeyError::Format { reason };
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes);
        let key = key.map_err(|_| refused("not an Ed25519 public key"))?;
        if key.is_weak() {
            return Err(refused("a weak Ed25519 public key"));
        }
        Ok(Self(key))
    }

    /// From 64 lower-case hex digits.
    ///
    /// # Errors
    /// [`KeyError::Format`] as [`VerifyingKey::from_bytes`].
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let bytes = hex::decode::<32>(text.trim_end()).ok_or(KeyError::Format {
            reason: "wrong length or other characters",
        })?;
        Self::from_bytes(&bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The first 8 bytes of SHA-256 over a label and the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let hash = Sha256::new()
            .chain_update(KEY_ID_LABEL)
            .chain_update(self.as_bytes())
            .finalize();
        let mut id = [0; 8];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        KeyId::from_bytes(id)
    }

    /// Whether `signature` is this key's over `message`. Signatures that a
    /// third party could have altered into another valid one are refused.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SigningKey {
        SigningKey::new(&RootKey::from_token(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn signs_what_only_its_public_half_accepts() {
        let (ours, other) = (
            key("0123456789abcdef0123456789abcdef"),
            key("fedcba9876543210fedcba9876543210"),
        );
        let mut signature = ours.sign(b"words").unwrap();
        assert!(ours.public().verifies(b"words", &signature));
        assert!(!ours.public().verifies(b"word", &signature));
        assert!(!other.public().verifies(b"words", &signature));
        signature[63] ^= 1;
        assert!(!ours.public().verifies(b"words", &signature));
        assert_ne!(ours.public().id(), other.public().id());
        let text = ours.public().to_string();
        assert_eq!(&VerifyingKey::from_hex(&text).unwrap(), ours.public());
    }

    #[test]
    fn weak_and_malformed_public_keys_are_refused() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(VerifyingKey::from_bytes(&neutral).is_err());
        assert!(VerifyingKey::from_bytes(&[0; 32]).is_err());
        assert!(VerifyingKey::from_hex("00").is_err());
    }

    /// It is public: who reads a log can tell which one it was.
    #[test]
    fn a_verifying_key_shows_itself() {
        let key = key("0123456789abcdef0123456789abcdef");
        let public = key.public();
        let text = hex::encode(public.as_bytes());
        assert_eq!(public.to_string(), text);
        assert_eq!(format!("{public:?}"), format!("VerifyingKey({text})"));
    }
}
