//! Public keys, signing keys and trust: options that several commands share.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use vram_residency::clock::{Clock as _, SystemClock};
use vram_residency::device::DeviceKind;
use vram_residency::key::{RootKey, Scope, SigningKey, VerifyingKey};
use vram_residency::receipt::{
    Certificate, MAX_RECEIPT_BYTES, MAX_REVOCATIONS_BYTES, ReceiptError, Revocations, Signer, Trust,
};
use vram_residency::shard::WorkerId;
use vram_residency::{Error, Record};

use crate::failure::Failure;
use crate::keys::in_file;
use crate::regular;

/// Longest file that can hold a public key, in bytes.
const MAX_PUBLIC_BYTES: usize = 1024;

/// Who signs a receipt or an attestation.
#[derive(clap::Args)]
pub(crate) struct SignArgs {
    /// Signing key of this worker ('vram key new --signing' makes one)
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: Option<PathBuf>,
    /// An operator's certificate of that key ('vram key certify' makes one)
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    certificate: Option<PathBuf>,
}

/// A signing key and its certificate, loaded.
pub(crate) struct Hand {
    key: SigningKey,
    certificate: Option<Certificate>,
}

impl SignArgs {
    /// The signer, or `None` when no key was named.
    pub(crate) fn load(&self) -> Result<Option<Hand>, Failure> {
        let Some(path) = &self.sign_key else {
            return Ok(None);
        };
        let certificate = self.certificate.as_deref().map(|path| {
            let text = read(path, MAX_RECEIPT_BYTES)?;
            let read = Certificate::from_json(&text);
            read.map_err(|error| believed(&path.to_string_lossy(), error))
        });
        Ok(Some(Hand {
            key: SigningKey::from_file(path).map_err(|e| in_file(e, path))?,
            certificate: certificate.transpose()?,
        }))
    }
}

impl Hand {
    /// Whether it may sign for this worker and devices of these kinds: better known
    /// before minutes of loading.
    pub(crate) fn check(
        &self,
        worker: &WorkerId,
        mut kinds: impl Iterator<Item = DeviceKind>,
    ) -> Result<(), Failure> {
        let simulated = kinds.any(|kind| kind == DeviceKind::Simulated);
        if simulated && self.key.scope() == Scope::Production {
            return Err(believed("--sign-key", ReceiptError::Production));
        }
        let covered = self.signer().check(worker, SystemClock::new().now());
        covered.map_err(|error| uncovered(&error))
    }

    pub(crate) const fn signer(&self) -> Signer<'_> {
        Signer {
            key: &self.key,
            certificate: self.certificate.as_ref(),
        }
    }
}

/// Whose signatures are believed no longer.
#[derive(clap::Args)]
pub(crate) struct RevokedArgs {
    /// List of revoked keys, signed by a trusted key ('vram key revoke' makes one)
    #[arg(long, value_name = "FILE", requires = "keys")]
    revoked: Option<PathBuf>,
    /// The list that was believed last: --revoked must be no older, revoke every key on it,
    /// and not be signed by one of them
    #[arg(long, value_name = "FILE", requires = "revoked")]
    revoked_seen: Option<PathBuf>,
    /// Public key of an operator who signs these lists; without one every key of --trust
    /// may, a worker's included
    #[arg(long, value_name = "KEY", requires = "revoked")]
    revoked_by: Vec<String>,
}

impl RevokedArgs {
    /// Whether a list was named.
    pub(crate) const fn is_named(&self) -> bool {
        self.revoked.is_some()
    }

    /// The list, under one of `keys`, or of those that sign lists, and no older than the one of before.
    pub(crate) fn load(&self, keys: &[VerifyingKey]) -> Result<Option<Revocations>, Failure> {
        let by = public_keys(&self.revoked_by)?;
        let by = if by.is_empty() { keys } else { &by };
        let Some(path) = &self.revoked else {
            return Ok(None);
        };
        let list = revocations(path, by)?;
        if let Some(seen) = &self.revoked_seen {
            let before = Revocations::believed_before(&read(seen, MAX_REVOCATIONS_BYTES)?);
            let before = before.map_err(|error| believed(&seen.to_string_lossy(), error))?;
            let follows = list.follows(&before);
            follows.map_err(|error| believed(&path.to_string_lossy(), error))?;
        }
        Ok(Some(list))
    }
}

/// Whose signatures are believed.
#[derive(clap::Args)]
pub(crate) struct TrustArgs {
    /// Public key of a worker or an operator: 64 hex digits or a file with them
    #[arg(long = "trust", value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    #[command(flatten)]
    pub(crate) revoked: RevokedArgs,
    /// Believe what is said of simulated devices: for tests
    #[arg(long)]
    pub(crate) simulated: bool,
}

/// Keys and list, loaded.
pub(crate) struct Trusted {
    keys: Vec<VerifyingKey>,
    revoked: Option<Revocations>,
    simulated: bool,
}

impl TrustArgs {
    pub(crate) fn load(&self) -> Result<Trusted, Failure> {
        let keys = public_keys(&self.keys)?;
        Ok(Trusted {
            revoked: self.revoked.load(&keys)?,
            keys,
            simulated: self.simulated,
        })
    }
}

impl Trusted {
    pub(crate) fn trust(&self) -> Trust<'_> {
        Trust {
            keys: &self.keys,
            simulated: self.simulated,
            revoked: self.revoked.as_ref(),
            now: Some(SystemClock::new().now()),
        }
    }

    /// Whether a sealing key and its record may still be believed.
    pub(crate) fn check_sealed(&self, key: &RootKey, record: &Record) -> Result<(), ReceiptError> {
        let list = self.revoked.as_ref();
        list.map_or(Ok(()), |list| list.check_sealed(key, record))
    }
}

/// A list of revoked keys under one of `trusted`.
pub(crate) fn revocations(path: &Path, trusted: &[VerifyingKey]) -> Result<Revocations, Failure> {
    let text = read(path, MAX_REVOCATIONS_BYTES)?;
    let read = Revocations::from_json(&text, trusted, SystemClock::new().now());
    read.map_err(|error| believed(&path.to_string_lossy(), error))
}

/// Public keys, each given as digits or as a file with them.
pub(crate) fn public_keys(texts: &[String]) -> Result<Vec<VerifyingKey>, Failure> {
    texts.iter().map(|text| public_key(text)).collect()
}

/// A public key, given as digits or as a file with them.
pub(crate) fn public_key(text: &str) -> Result<VerifyingKey, Failure> {
    if let Ok(key) = VerifyingKey::from_hex(text) {
        return Ok(key);
    }
    let bytes = read(Path::new(text), MAX_PUBLIC_BYTES)?;
    let key = VerifyingKey::from_hex(&bytes);
    key.map_err(|error| Failure::new(format!("{text} is no public key: {error}")))
}

/// A text file of at most `limit` bytes; more is refused.
pub(crate) fn read(path: &Path, limit: usize) -> Result<String, Failure> {
    let name = path.display();
    let refused =
        |error: &dyn std::fmt::Display| Failure::new(format!("cannot read {name}: {error}"));
    let (file, _) = regular::open(path).map_err(|error| refused(&error))?;
    let mut text = String::new();
    let mut limited = file.take((limit as u64).saturating_add(1));
    limited
        .read_to_string(&mut text)
        .map_err(|error| refused(&error))?;
    if text.len() > limit {
        return Err(refused(&format!("it is longer than {limit} bytes")));
    }
    Ok(text)
}

/// A paper that could not be signed, or what it is about not proved.
pub(crate) fn not_signed(name: &str, error: Error) -> Failure {
    match error {
        Error::Receipt(error @ (ReceiptError::Certificate | ReceiptError::Scope { .. })) => {
            uncovered(&error)
        }
        Error::Receipt(error) => believed(name, error),
        error => Failure::about(name, error),
    }
}

/// Our own certificate is of no use: nothing that was measured is in doubt.
fn uncovered(error: &ReceiptError) -> Failure {
    Failure::new(format!("--certificate: {error}")).hint(
        "have an operator certify this key for this --worker-id and for now ('vram key certify')",
    )
}

/// A paper that is not believed, and what can be done.
pub(crate) fn believed(name: &str, error: ReceiptError) -> Failure {
    let failure = match &error {
        ReceiptError::Format { .. } | ReceiptError::Production => Failure::new(error.to_string()),
        ReceiptError::Key(key) => Failure::from(key.clone()),
        _ => Failure::verification(error.to_string()),
    };
    let failure = failure.naming(name);
    match error {
        ReceiptError::Untrusted { .. } => {
            failure.hint("name the key with --trust only if you know whose it is")
        }
        ReceiptError::Simulated => failure.hint("--simulated believes it, for tests"),
        ReceiptError::Production => {
            failure.hint("make a key for tests with: vram key new --signing --test FILE")
        }
        ReceiptError::Stale { .. } => failure.hint("fetch the newest list from its operator"),
        ReceiptError::Early { .. } => failure.hint(
            "one of the two clocks is wrong: set it, and have a list that was dated by a wrong one made anew",
        ),
        ReceiptError::Unrevoked { .. } => failure.hint(
            "no key comes back: have the operator revoke it on this list, too ('vram key revoke')",
        ),
        _ => failure,
    }
}
