//! Who signed a model, in one line of text.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SignedError;

/// Longest identity in bytes.
const MAX_BYTES: usize = 256;
const HEX_DIGITS: usize = 64;

/// Who signed a model: `key:sha256:HEX`, the SHA-256 of the public key, or
/// `cert:sha256:HEX:NAME`, a name that stands in a certificate and the SHA-256
/// of the root certificate under which it does. Printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignerId(String);

impl SignerId {
    pub(super) fn key(fingerprint: &str) -> Result<Self, SignedError> {
        Self::checked(format!("key:sha256:{fingerprint}"))
    }

    pub(super) fn certificate(root: &str, name: &str) -> Result<Self, SignedError> {
        Self::checked(format!("cert:sha256:{root}:{name}"))
    }

    fn checked(text: String) -> Result<Self, SignedError> {
        Self::try_from(text).map_err(|reason| SignedError::Certificate {
            reason: reason.to_owned(),
        })
    }

    /// The identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SignerId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const FORM: &str = "a signer is key:sha256:HEX or cert:sha256:HEX:NAME";
        if text.len() > MAX_BYTES {
            return Err("the name of the signer is too long");
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err("the name of the signer holds other characters than printable ASCII");
        }
        let (rest, is_key) = match text.strip_prefix("key:sha256:") {
            Some(rest) => (rest, true),
            None => (text.strip_prefix("cert:sha256:").ok_or(FORM)?, false),
        };
        let (digits, name) = rest.split_at_checked(HEX_DIGITS).ok_or(FORM)?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let named = name.strip_prefix(':').is_some_and(|name| !name.is_empty());
        if digits.bytes().all(is_hex) && (if is_key { name.is_empty() } else { named }) {
            return Ok(Self(text));
        }
        Err(FORM)
    }
}

impl From<SignerId> for String {
    fn from(id: SignerId) -> Self {
        id.0
    }
}

impl fmt::Display for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // requirement: PM-15
    #[test]
    fn identities_have_one_of_two_forms() {
        let hex = "0123456789abcdef".repeat(4);
        let key = SignerId::key(&hex).unwrap();
        assert_eq!(key.as_str(), format!("key:sha256:{hex}"));
        let named = SignerId::certificate(&hex, "a:b@example.com").unwrap();
        assert_eq!(
            named.to_string(),
            format!("cert:sha256:{hex}:a:b@example.com")
        );
        for bad in [
            String::new(),
            "key:sha256:00".to_owned(),
            format!("key:sha256:{hex}:name"),
            format!("key:sha256:{}", hex.to_uppercase()),
            format!("cert:sha256:{hex}"),
            format!("cert:sha256:{hex}:"),
            format!("cert:sha256:{hex}:a\nb"),
            format!("cert:sha256:{hex}:{}", "x".repeat(MAX_BYTES)),
        ] {
            assert!(SignerId::try_from(bad.clone()).is_err(), "{bad}");
        }
    }
}
