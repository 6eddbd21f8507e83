//! Attestations under the sealing key: what [`super::Attested`] says to everybody,
//! said to who has that key (requirement: VP-006, API-F22). Who can check one can
//! make one.

use serde::{Deserialize, Serialize};

use super::wire::Encoder;
use super::{Answered, Facts, MAX_RECEIPT_BYTES, Nonce, ReceiptError, Trust};
use super::{check_schema, read, write};
use crate::device::DeviceKind;
use crate::error::Error;
use crate::key::{KeyError, KeyProvider, SealKey, SealTag};
use crate::seal::authenticate;

/// Value of the `schema` field.
pub const TAGGED_SCHEMA: &str = "vram-residency/tagged/v1";

/// Never the beginning of a seal's statement, which is tagged under the same key.
const MAGIC: &[u8; 8] = b"VRAMATAG";
const VERSION: u16 = 1;

/// A tagged attestation. Untrusted until [`Tagged::check`] said yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tagged {
    schema: String,
    facts: Facts,
    tag: SealTag,
}

impl Tagged {
    pub(crate) fn new(facts: Facts, key: &dyn SealKey) -> Result<Self, KeyError> {
        let tag = key.tag(&message(&facts))?;
        Ok(Self {
            schema: TAGGED_SCHEMA.to_owned(),
            facts,
            tag,
        })
    }

    /// Reads an attestation; unknown fields and other schemas are refused.
    ///
    /// # Errors
    /// [`ReceiptError::Format`].
    pub fn from_json(text: &str) -> Result<Self, ReceiptError> {
        let read: Self = read(text, MAX_RECEIPT_BYTES)?;
        check_schema(&read.schema, TAGGED_SCHEMA)?;
        Ok(read)
    }

    /// The attestation as one line of JSON.
    ///
    /// # Errors
    /// [`ReceiptError::Format`], which no field of an attestation can cause.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        write(self)
    }

    /// What it says, as it stands: [`Tagged::check`] tells whether to believe it.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Checks nonce (without one, that it answers none), tag and device kind under
    /// the key that `provider` derives for its record, and that the facts say that
    /// the sealed bytes are resident. Of `trust` the public keys are not asked.
    ///
    /// # Errors
    /// [`Error::Receipt`] saying what is not believed, a [`KeyError`], or as
    /// [`authenticate`].
    pub fn check(
        &self,
        provider: &dyn KeyProvider,
        trust: &Trust<'_>,
        nonce: Option<&Nonce>,
    ) -> Result<Answered<'_>, Error> {
        let facts = &self.facts;
        facts.answers(nonce)?;
        if let Some(revoked) = trust.revoked {
            revoked.check_sealed(provider, &facts.record)?;
        }
        let key = facts.record.key(provider)?;
        let _ = authenticate(&facts.record, std::slice::from_ref(&key))?;
        if !key.check(&message(facts), &self.tag)? {
            return Err(ReceiptError::Tag.into());
        }
        if facts.kinds().contains(&DeviceKind::Simulated) && !trust.simulated {
            return Err(ReceiptError::Simulated.into());
        }
        Ok(facts.believed()?)
    }
}

/// The bytes that the tag covers.
fn message(facts: &Facts) -> Vec<u8> {
    let mut out = Encoder::new(MAGIC, VERSION);
    facts.encode(&mut out);
    out.finish()
}
