//! Which models may be sealed at all: the rule, and the proof that it was asked.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use serde::Deserialize;
use vram_digest::FileDigest;

use super::allow::{self, AllowError, MAX_ALLOW_BYTES};
use super::{AllowList, SignerId};
use crate::clock::Timestamp;
use crate::policy::PolicyError;
use crate::receipt::wire::PublicKey;
use crate::receipt::{MAX_REVOCATIONS_BYTES, ReceiptError, Revocations};
use crate::text::shown_path;

/// Longest policy that is read, in bytes.
pub const MAX_POLICY_BYTES: usize = 64 << 10;

/// Which models may be sealed. The default asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelPolicy(Option<Arc<Rules>>);

#[derive(Debug, PartialEq, Eq)]
struct Rules {
    signed_only: bool,
    /// Signers by digest and length.
    approved: HashMap<(FileDigest, u64), SignerId>,
}

/// Proof that the policy was asked about these very bytes and has nothing
/// against them; only [`ModelPolicy::admit`] makes it, and sealing takes it.
#[derive(Debug)]
pub struct Approved {
    signer: Option<SignerId>,
}

impl Approved {
    /// Who signed the model, if it is on an allow-list.
    pub(crate) fn into_signer(self) -> Option<SignerId> {
        self.signer
    }
}

/// What a policy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Requirement {
    /// Only what an allow-list names.
    Signed,
    /// Nothing; signers are recorded where there are any.
    Nothing,
}

/// A policy as text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    require: Requirement,
    #[serde(default)]
    allow: Vec<PathBuf>,
    #[serde(default)]
    trust: Vec<PublicKey>,
    revoked: Option<PathBuf>,
    revoked_seen: Option<PathBuf>,
    #[serde(default)]
    revoked_by: Vec<PublicKey>,
}

impl ModelPolicy {
    /// Only files that one of these lists names may be sealed
    /// (requirement: PM-15).
    #[must_use]
    pub fn signed_only(lists: &[AllowList]) -> Self {
        Self::new(true, lists)
    }

    fn new(signed_only: bool, lists: &[AllowList]) -> Self {
        let mut approved = HashMap::new();
        for list in lists {
            for file in list.files() {
                // Of several signers the first named list's is recorded.
                approved
                    .entry((file.digest, file.bytes))
                    .or_insert_with(|| list.signer().clone());
            }
        }
        Self(Some(Arc::new(Rules {
            signed_only,
            approved,
        })))
    }

    /// Reads a policy file:
    ///
    /// ```toml
    /// require = "signed"        # or "nothing"
    /// allow = ["allow.toml"]    # allow-lists, from where this file lies
    /// trust = ["HEX"]           # public keys of those who may sign them
    /// revoked = "revoked.json"  # optional: keys that are believed no longer
    /// revoked_seen = "r1.json"  # optional: the list that was believed last
    /// revoked_by = ["HEX"]      # optional: keys that sign it, instead of those of trust
    /// ```
    ///
    /// Keep a copy of the list of revoked keys where only you can write, and name it
    /// as `revoked_seen`: a list that may not take its place
    /// ([`Revocations::follows`]) is refused then.
    ///
    /// Unknown fields, oversized files and lists that are not believed are
    /// refused. `now` is the time against which the list of revoked keys is held.
    ///
    /// # Errors
    /// [`AllowError::File`] naming the file and what is wrong with it.
    pub fn from_file(path: &Path, now: Timestamp) -> Result<Self, AllowError> {
        let text = text_of(path, MAX_POLICY_BYTES)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::from_toml(&text, folder, now, &text_of).map_err(|error| match error {
            AllowError::File { .. } => error,
            error => in_file(path, error),
        })
    }

    /// Reads a policy that is not a file itself. `read` gets the lists that it
    /// names, with `folder` before their names, and at most so many bytes.
    ///
    /// # Errors
    /// [`AllowError::Policy`], or [`AllowError::File`] about a list.
    pub fn from_toml(
        text: &str,
        folder: &Path,
        now: Timestamp,
        read: &dyn Fn(&Path, usize) -> Result<String, AllowError>,
    ) -> Result<Self, AllowError> {
        let policy = allow::read::<Text>(text, MAX_POLICY_BYTES);
        let policy = policy.map_err(|reason| AllowError::Policy { reason })?;
        policy.check()?;
        let keys: Vec<_> = policy.trust.iter().map(|key| key.0.clone()).collect();
        let by: Vec<_> = policy.revoked_by.iter().map(|key| key.0.clone()).collect();
        let by = if by.is_empty() { &keys } else { &by };
        let revoked =
            policy.revocations(folder, read, &|text| Revocations::from_json(text, by, now))?;
        let lists = policy.allow.iter().map(|name| {
            let path = folder.join(name);
            let text = read(&path, MAX_ALLOW_BYTES)?;
            let list = AllowList::from_toml(&text, &keys, revoked.as_ref());
            list.map_err(|error| in_file(&path, error))
        });
        let lists = lists.collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(policy.require == Requirement::Signed, &lists))
    }

    /// Whether bytes with this digest and length, as a device measured them, may
    /// be sealed.
    ///
    /// # Errors
    /// [`PolicyError::NotSigned`].
    pub fn admit(&self, digest: &FileDigest, len: u64) -> Result<Approved, PolicyError> {
        let Some(rules) = &self.0 else {
            return Ok(Approved { signer: None });
        };
        let signer = rules.approved.get(&(*digest, len)).cloned();
        if signer.is_none() && rules.signed_only {
            let digest = digest.to_string();
            return Err(PolicyError::NotSigned { digest, len });
        }
        Ok(Approved { signer })
    }
}

impl Text {
    fn check(&self) -> Result<(), AllowError> {
        let refused = |reason: &str| {
            let reason = reason.to_owned();
            Err(AllowError::Policy { reason })
        };
        if self.require == Requirement::Signed && self.allow.is_empty() {
            return refused("it requires signed models and names no allow-list");
        }
        let needs_keys =
            !self.allow.is_empty() || self.revoked.is_some() && self.revoked_by.is_empty();
        if needs_keys && self.trust.is_empty() {
            return refused("it names lists and no key to trust");
        }
        let about_it = self.revoked_seen.is_some() || !self.revoked_by.is_empty();
        if about_it && self.revoked.is_none() {
            return refused("it names revoked_seen or revoked_by, and no list in revoked");
        }
        Ok(())
    }

    /// The list of revoked keys, when it may take the place of the one seen last.
    fn revocations(
        &self,
        folder: &Path,
        read: &dyn Fn(&Path, usize) -> Result<String, AllowError>,
        believe: &dyn Fn(&str) -> Result<Revocations, ReceiptError>,
    ) -> Result<Option<Revocations>, AllowError> {
        let of = |path: &Path, error| in_file(path, AllowError::Revocations(error));
        let Some(path) = self.revoked.as_ref().map(|name| folder.join(name)) else {
            return Ok(None);
        };
        let list = believe(&read(&path, MAX_REVOCATIONS_BYTES)?);
        let list = list.map_err(|error| of(&path, error))?;
        if let Some(name) = &self.revoked_seen {
            let name = folder.join(name);
            let seen = Revocations::believed_before(&read(&name, MAX_REVOCATIONS_BYTES)?);
            let seen = seen.map_err(|error| of(&name, error))?;
            list.follows(&seen).map_err(|error| of(&path, error))?;
        }
        Ok(Some(list))
    }
}

fn in_file(path: &Path, source: AllowError) -> AllowError {
    AllowError::File {
        path: shown_path(path),
        source: Box::new(source),
    }
}

/// A regular file of at most `limit` bytes; nothing is waited for.
fn text_of(path: &Path, limit: usize) -> Result<String, AllowError> {
    let said = |reason: String| in_file(path, AllowError::Read { reason });
    let refused = |error: std::io::Error| said(error.to_string());
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = file.map_err(refused)?;
    if !file.metadata().map_err(refused)?.is_file() {
        return Err(said("it is not a regular file".to_owned()));
    }
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    file.take(most).read_to_string(&mut text).map_err(refused)?;
    if text.len() > limit {
        return Err(said(format!("it is longer than {limit} bytes")));
    }
    Ok(text)
}
