//! Who is believed, and the checks that receipts and attestations share.

use serde::{Deserialize, Serialize};

use super::wire::{PublicKey, Signature};
use super::{Certificate, ReceiptError, Revocations};
use crate::clock::Timestamp;
use crate::device::DeviceKind;
use crate::key::{KeyId, Scope, SigningKey, VerifyingKey};
use crate::seal::Record;
use crate::shard::WorkerId;

/// What a receipt or an attestation is checked against.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust<'a> {
    /// Keys of workers, or of operators who certify workers. Several keys are
    /// how a rotation overlaps.
    pub keys: &'a [VerifyingKey],
    /// Accept simulated devices: for tests, never in production.
    pub simulated: bool,
    /// Keys that are no longer believed, whoever certified them.
    pub revoked: Option<&'a Revocations>,
    /// The verifier's own time, against which attestations are checked: an answer to
    /// a nonce that is known to be new is believed under no certificate that has ended,
    /// whatever time the worker says it measured at. Without it certificates count that
    /// covered that time.
    pub now: Option<Timestamp>,
}

impl Trust<'_> {
    /// Whether this certificate is the word of somebody who is trusted, and not
    /// revoked. Whoever hands a paper on can add one of his own.
    #[must_use]
    pub fn vouches(&self, certificate: &Certificate) -> bool {
        let operator = certificate.operator();
        let revoked = self
            .revoked
            .is_some_and(|list| list.contains(operator.id()));
        self.keys.contains(operator) && !revoked
    }
}

/// Who signs: a worker's key and, if there is one, an operator's word for it.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The worker's key.
    pub key: &'a SigningKey,
    /// The operator's certificate of that key.
    pub certificate: Option<&'a Certificate>,
}

/// Who signed, who vouches, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    pub(super) key_id: KeyId,
    pub(super) public_key: PublicKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<Certificate>,
    pub(super) signature: Signature,
}

/// What a signature speaks of, as far as trust depends on it.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) record: &'a Record,
    pub(super) at: Timestamp,
    /// When it is known not to have been signed long before.
    pub(super) now: Option<Timestamp>,
    pub(super) kinds: &'a [DeviceKind],
}

impl Subject<'_> {
    fn is_simulated(&self) -> bool {
        self.kinds.contains(&DeviceKind::Simulated)
    }
}

impl Signer<'_> {
    /// Whether what `worker` signs at this time is covered by the certificate, if
    /// there is one, and the certificate is its operator's.
    ///
    /// # Errors
    /// [`ReceiptError::Certificate`] and [`ReceiptError::Scope`].
    pub fn check(&self, worker: &WorkerId, at: Timestamp) -> Result<(), ReceiptError> {
        let Some(certificate) = self.certificate else {
            return Ok(());
        };
        certificate.check()?;
        certificate.covers(self.key.public(), worker, at)
    }

    /// Signs what `message` makes for our public key.
    pub(super) fn sign(
        &self,
        subject: &Subject<'_>,
        message: impl FnOnce(&VerifyingKey) -> Vec<u8>,
    ) -> Result<Signed, ReceiptError> {
        let public = self.key.public();
        if self.key.scope() == Scope::Production && subject.is_simulated() {
            return Err(ReceiptError::Production);
        }
        self.check(&subject.record.worker_id, subject.at)?;
        Ok(Signed {
            key_id: public.id(),
            public_key: PublicKey(public.clone()),
            certificate: self.certificate.cloned(),
            signature: Signature(self.key.sign(&message(public))?),
        })
    }
}

impl Signed {
    /// Signer, revocations, certificate, signature, device kind: in this order.
    pub(super) fn check(
        &self,
        trust: &Trust<'_>,
        subject: &Subject<'_>,
        message: impl FnOnce(&VerifyingKey) -> Vec<u8>,
    ) -> Result<(), ReceiptError> {
        let key = &self.public_key.0;
        let direct = trust.keys.contains(key);
        let certified = self.certificate.as_ref();
        let certified = certified.is_some_and(|one| trust.keys.contains(one.operator()));
        if self.key_id != key.id() || !(direct || certified) {
            return Err(ReceiptError::Untrusted {
                key_id: self.key_id,
            });
        }
        self.not_revoked(trust, subject.record, direct)?;
        // Whoever hands the paper on can lay one beside it: where the worker itself is
        // trusted, one of somebody who is not counts for nothing.
        let certificate = self.certificate.as_ref();
        if let Some(certificate) = certificate.filter(|one| !direct || trust.vouches(one)) {
            certificate.check()?;
            certificate.covers(key, &subject.record.worker_id, subject.at)?;
            if let Some(now) = subject.now.filter(|_| !direct) {
                certificate.lasts(now)?;
            }
        }
        if !key.verifies(&message(key), &self.signature.0) {
            return Err(ReceiptError::Signature);
        }
        if subject.is_simulated() && !trust.simulated {
            return Err(ReceiptError::Simulated);
        }
        Ok(())
    }

    /// An operator's key counts only where it is his word that is believed.
    fn not_revoked(
        &self,
        trust: &Trust<'_>,
        record: &Record,
        direct: bool,
    ) -> Result<(), ReceiptError> {
        let Some(revoked) = trust.revoked else {
            return Ok(());
        };
        let operator = self.certificate.as_ref().filter(|_| !direct);
        let operator = operator.map(|certificate| certificate.operator().id());
        let hit = [Some(self.key_id), operator, Some(record.key_id)]
            .into_iter()
            .flatten()
            .find(|id| revoked.contains(*id));
        hit.map_or(Ok(()), |key_id| Err(ReceiptError::Revoked { key_id }))
    }
}
