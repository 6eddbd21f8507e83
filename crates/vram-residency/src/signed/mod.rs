//! Signed models: OpenSSF model-signing bundles (`model.sig`), checked offline
//! (requirement: PM-15).
//!
//! A bundle is a sigstore bundle v0.3 with a DSSE envelope over an in-toto
//! statement that lists the files of a model and their SHA-256 digests. Two of
//! the signing tool's methods are read: *key*, an EC key on P-256, P-384 or P-521,
//! and *certificate*, an X.509 chain of such keys to a given root. Keyless
//! signatures, other keys, other hashes and signatures of the tool's versions before
//! 1.0 are refused by name. Where the tool is lax we are not: no link is followed but
//! those of a Hugging Face snapshot into its cache's own blobs, nothing may stand
//! twice, and a file that is not listed ends the check.
//!
//! That is done once, on the CPU. An [`AllowList`] keeps the result: the digests
//! that a device measures, signed by who checked. A [`ModelPolicy`] in
//! [`crate::Policy::models`] lets only those be sealed, and the signer's
//! identity stands in the seal.
//!
//! ```no_run
//! use vram_residency::signed::ModelTrust;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let trust = ModelTrust::new().key(&std::fs::read("publisher.pub")?)?;
//! let signature = std::fs::read("model/model.sig")?;
//! let signed = trust.verify(&signature)?;
//! let model = signed.check("model".as_ref(), Some("model/model.sig".as_ref()), &|_| {})?;
//! println!("{} files, signed by {}", model.files().len(), model.signer());
//! # Ok(())
//! # }
//! ```

mod allow;
mod bundle;
mod certificate;
mod check;
mod curve;
pub(crate) mod json;
mod manifest;
mod name;
mod policy;
mod signer;
mod trust;

use std::path::Path;

pub use allow::{ALLOW_SCHEMA, AllowError, AllowList, MAX_ALLOW_BYTES};
pub use check::CheckedFile;
pub use name::FileName;
pub use policy::{Approved, MAX_POLICY_BYTES, ModelPolicy};
pub use signer::SignerId;
pub use trust::ModelTrust;

use manifest::Manifest;

/// Longest bundle that is read, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 64 << 20;

/// A signed model that cannot be checked or is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedError {
    /// The text is no bundle.
    #[error("not a model signature: {reason}")]
    Bundle {
        /// What is wrong.
        reason: String,
    },
    /// The bundle is of a kind that is not read.
    #[error("{what} is not supported; {instead}")]
    Unsupported {
        /// What it has.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// What is to be trusted cannot be read.
    #[error("cannot trust this: {reason}")]
    Trust {
        /// What is wrong.
        reason: String,
    },
    /// Another key signed, or a certificate where keys are trusted.
    #[error("it is signed by {by}, which is not trusted")]
    Untrusted {
        /// Who claims to have signed.
        by: &'static str,
    },
    /// The signature is not the signer's over this statement.
    #[error("the model's signature is wrong: it was changed after it was signed")]
    Signature,
    /// The signer's certificate is not believed.
    #[error("the signer's certificate is not believed: {reason}")]
    Certificate {
        /// Why not.
        reason: String,
    },
    /// The certificate is for somebody else.
    #[error("the signer is not the required one but {found}")]
    Identity {
        /// Names in the certificate.
        found: String,
    },
    /// The signed statement is not one about a model.
    #[error("the signed statement cannot be used: {reason}")]
    Statement {
        /// What is wrong.
        reason: String,
    },
    /// A file's name is not one of a file in the model.
    #[error("the name '{name}' cannot be used: {reason}")]
    Name {
        /// The name, cut and escaped.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A signed file is not there.
    #[error("{name} was signed and is missing")]
    Missing {
        /// The file.
        name: FileName,
    },
    /// A file is there that was not signed.
    #[error("{name} was not signed")]
    Extra {
        /// The file.
        name: FileName,
    },
    /// A file's bytes are not the signed ones.
    #[error("{name} is not as it was signed")]
    Changed {
        /// The file.
        name: FileName,
    },
    /// A link, FIFO, socket or device stands in the model.
    #[error("{name} is {}; a signed model is of regular files", if *is_link { "a symbolic link" } else { "a special file" })]
    NotAFile {
        /// Where.
        name: FileName,
        /// Whether it is a symbolic link.
        is_link: bool,
    },
    /// More files than are looked at.
    #[error("the model has more than {limit} files")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
}

impl SignedError {
    /// Whether the model was judged and not believed, as opposed to a text that
    /// cannot be read or a file that cannot be opened.
    #[must_use]
    pub const fn is_verdict(&self) -> bool {
        match self {
            Self::Untrusted { .. }
            | Self::Signature
            | Self::Certificate { .. }
            | Self::Identity { .. }
            | Self::Statement { .. }
            | Self::Name { .. }
            | Self::Missing { .. }
            | Self::Extra { .. }
            | Self::Changed { .. }
            | Self::NotAFile { .. } => true,
            Self::Bundle { .. }
            | Self::Unsupported { .. }
            | Self::Trust { .. }
            | Self::TooManyFiles { .. }
            | Self::Io { .. } => false,
        }
    }
}

/// Proof that a bundle's signature was checked; only [`ModelTrust::verify`]
/// makes it.
#[derive(Debug)]
pub struct SignedModel {
    manifest: Manifest,
    signer: SignerId,
    bundle: [u8; 32],
}

impl SignedModel {
    /// Who signed.
    #[must_use]
    pub const fn signer(&self) -> &SignerId {
        &self.signer
    }

    /// Number of files that were signed.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.manifest.files.len()
    }

    /// Reads every file below `root` once and compares it with what was signed.
    /// `root` may be the one file of a model of one file. `signature` is the
    /// bundle, which may lie among the files. `advance` is told of bytes as they
    /// are read.
    ///
    /// # Errors
    /// [`SignedError::Missing`], [`SignedError::Extra`],
    /// [`SignedError::Changed`], [`SignedError::NotAFile`] or
    /// [`SignedError::Name`] for a model that is not the signed one;
    /// [`SignedError::Io`], [`SignedError::TooManyFiles`].
    pub fn check(
        self,
        root: &Path,
        signature: Option<&Path>,
        advance: &dyn Fn(u64),
    ) -> Result<CheckedModel, SignedError> {
        let (files, uncovered) = check::check(&self.manifest, root, signature, advance)?;
        Ok(CheckedModel {
            signed: self,
            files,
            uncovered,
        })
    }
}

/// Proof that the files of a model are the signed ones; only
/// [`SignedModel::check`] makes it.
#[derive(Debug)]
pub struct CheckedModel {
    signed: SignedModel,
    files: Vec<CheckedFile>,
    uncovered: Vec<FileName>,
}

impl CheckedModel {
    /// Who signed.
    #[must_use]
    pub const fn signer(&self) -> &SignerId {
        &self.signed.signer
    }

    /// What the signer called the model.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.signed.manifest.model
    }

    /// SHA-256 of the bundle.
    #[must_use]
    pub const fn bundle_sha256(&self) -> &[u8; 32] {
        &self.signed.bundle
    }

    /// The files, in the order of their names.
    #[must_use]
    pub fn files(&self) -> &[CheckedFile] {
        &self.files
    }

    /// What lies there and is not covered by the signature: paths that the
    /// signer left out, and the signature itself.
    #[must_use]
    pub fn uncovered(&self) -> &[FileName] {
        &self.uncovered
    }
}
