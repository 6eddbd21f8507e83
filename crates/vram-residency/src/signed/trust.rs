//! Which signers of models are believed.

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::bundle::{Bundle, Claim};
use super::curve::PublicKey;
use super::manifest::Manifest;
use super::{SignedError, SignedModel, SignerId, certificate};

/// Keys and roots of those whose signature under a model is believed.
#[derive(Debug, Clone, Default)]
pub struct ModelTrust {
    keys: Vec<PublicKey>,
    roots: Vec<CertificateDer<'static>>,
    identity: Option<String>,
}

impl ModelTrust {
    /// Nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            keys: Vec::new(),
            roots: Vec::new(),
            identity: None,
        }
    }

    /// Believes an EC public key on P-256, P-384 or P-521, in PEM form.
    ///
    /// # Errors
    /// [`SignedError::Trust`] or [`SignedError::Unsupported`].
    pub fn key(mut self, pem: &[u8]) -> Result<Self, SignedError> {
        self.keys.push(PublicKey::from_pem(pem)?);
        Ok(self)
    }

    /// Believes certificates that lead to one of these roots, in PEM form.
    ///
    /// # Errors
    /// [`SignedError::Trust`].
    pub fn roots(mut self, pem: &[u8]) -> Result<Self, SignedError> {
        self.roots.extend(certificate::roots(pem)?);
        Ok(self)
    }

    /// Believes only certificates that have this name: a mail address, URI, DNS
    /// name or common name, compared as it is written. The common name counts only
    /// where there is no other and no issuer's names are limited. No bare key has one.
    #[must_use]
    pub fn identity(mut self, name: &str) -> Self {
        self.identity = Some(name.to_owned());
        self
    }

    /// Checks the signature of a bundle, then reads what was signed.
    ///
    /// # Errors
    /// [`SignedError::Bundle`] or [`SignedError::Unsupported`] for what cannot
    /// be read, [`SignedError::Untrusted`], [`SignedError::Certificate`],
    /// [`SignedError::Identity`], [`SignedError::Signature`],
    /// [`SignedError::Statement`] or [`SignedError::Name`] for what is not
    /// believed.
    pub fn verify(&self, bundle: &[u8]) -> Result<SignedModel, SignedError> {
        let read = Bundle::read(bundle)?;
        let signer = match &read.claim {
            Claim::Key { hint } => self.by_key(&read, hint.as_deref())?,
            Claim::Chain(chain) => self.by_certificate(&read, chain)?,
        };
        Ok(SignedModel {
            manifest: Manifest::read(&read.payload)?,
            signer,
            bundle: Sha256::digest(bundle).into(),
        })
    }

    fn by_key(&self, bundle: &Bundle, hint: Option<&str>) -> Result<SignerId, SignedError> {
        if self.identity.is_some() {
            let found = "a key without a name".to_owned();
            return Err(SignedError::Identity { found });
        }
        // The hint is not signed: it chooses among our keys and proves nothing.
        let hinted = |key: &&PublicKey| hint.is_none_or(|hint| key.hint() == hint);
        let mut candidates = self.keys.iter().filter(hinted).peekable();
        if candidates.peek().is_none() {
            return Err(SignedError::Untrusted { by: "a key" });
        }
        let message = bundle.message();
        let signer = candidates.find(|key| key.verifies(&message, &bundle.signature));
        let signer = signer.ok_or(SignedError::Signature)?;
        SignerId::key(&signer.fingerprint())
    }

    fn by_certificate(&self, bundle: &Bundle, chain: &[Vec<u8>]) -> Result<SignerId, SignedError> {
        if self.roots.is_empty() {
            let by = "a certificate";
            return Err(SignedError::Untrusted { by });
        }
        let signer = certificate::follow(chain, &self.roots, self.identity.as_deref())?;
        if !signer.key.verifies(&bundle.message(), &bundle.signature) {
            return Err(SignedError::Signature);
        }
        Ok(signer.id)
    }
}
