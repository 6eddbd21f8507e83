//! Encodings: signed bytes, and keys, hashes and signatures in JSON.

use serde::{Deserialize, Serialize};

use crate::hex;
use crate::key::VerifyingKey;

/// Builds what is signed.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn new(magic: &[u8; 8], version: u16) -> Self {
        let mut out = Self(Vec::with_capacity(1024));
        out.raw(magic).raw(&version.to_le_bytes());
        out
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn byte(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    pub(crate) fn int32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn int64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Everything that is framed is bounded far below 4 GiB.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.int32(len).raw(bytes)
    }

    /// A byte 0, or 1 and the value.
    pub(crate) fn option<T>(
        &mut self,
        value: Option<T>,
        encode: impl FnOnce(&mut Self, T),
    ) -> &mut Self {
        match value {
            None => self.byte(0),
            Some(value) => {
                encode(self.byte(1), value);
                self
            }
        }
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// A public key as 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PublicKey(pub(crate) VerifyingKey);

impl TryFrom<String> for PublicKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = hex::decode(&text).ok_or("a public key is 64 lower-case hex digits")?;
        let key = VerifyingKey::from_bytes(&bytes);
        key.map(Self).map_err(|_| "not an Ed25519 public key")
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.0.to_string()
    }
}

/// A signature as 128 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Signature(pub(crate) [u8; 64]);

impl TryFrom<String> for Signature {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = hex::decode(&text).ok_or("a signature is 128 lower-case hex digits")?;
        Ok(Self(bytes))
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        hex::encode(&signature.0)
    }
}
