//! What was signed: an in-toto statement that lists files and their SHA-256
//! digests, in the form of the predicate `https://model_signing/signature/v1.0`.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::json::{self, Object};
use super::{FileName, SignedError};
use crate::hex;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
const OLD_PREDICATE: &str = "https://model_signing/Digests/v0.1";
/// Most entries of a list that are read.
const MAX_ENTRIES: usize = 200_000;
/// Largest shard: the numbers in a statement are doubles.
const MAX_SHARD: f64 = 9_007_199_254_740_992.0;

/// The files of a signed model.
#[derive(Debug)]
pub(super) struct Manifest {
    /// What the signer called the model; says nothing about its files.
    pub(super) model: String,
    /// Every file that must be there, and no other.
    pub(super) files: BTreeMap<FileName, Expected>,
    /// What the signer left out.
    pub(super) ignored: Vec<FileName>,
    /// Empty files are not listed where files are cut into shards.
    pub(super) lists_empty_files: bool,
}

/// SHA-256 digests that a file must have.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Of all of it.
    Whole([u8; 32]),
    /// Of every `size` bytes, the last of them shorter.
    Shards {
        /// Bytes of a shard.
        size: u64,
        /// Bytes of the file.
        len: u64,
        /// In the order of the file.
        digests: Vec<[u8; 32]>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Object<Subject>>,
    predicate_type: String,
    predicate: Object<Predicate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: BTreeMap<String, String>,
}

/// Other fields may stand here and mean nothing, by the predicate's own rules.
#[derive(Deserialize)]
struct Predicate {
    serialization: Object<Serialization>,
    resources: Vec<Object<Resource>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    shard_size: Option<f64>,
    // Links are never followed here, whatever the signer did.
    #[serde(rename = "allow_symlinks")]
    _allow_symlinks: Option<bool>,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

/// How the files were cut.
#[derive(Clone, Copy)]
enum Method {
    Files,
    Shards(u64),
}

fn refused(reason: impl Into<String>) -> SignedError {
    SignedError::Statement {
        reason: reason.into(),
    }
}

impl Manifest {
    /// Reads a statement whose signature was checked.
    pub(super) fn read(payload: &[u8]) -> Result<Self, SignedError> {
        let statement: Statement = json::read(payload).map_err(|reason| {
            // The old form has no predicate of ours, so it is told by its name.
            let old = payload.windows(OLD_PREDICATE.len());
            let is_old = old.into_iter().any(|part| part == OLD_PREDICATE.as_bytes());
            if is_old { outdated() } else { refused(reason) }
        })?;
        if statement.kind != STATEMENT {
            return Err(refused(format!("its _type is not {STATEMENT}")));
        }
        if statement.predicate_type == OLD_PREDICATE {
            return Err(outdated());
        }
        if statement.predicate_type != PREDICATE {
            return Err(refused(format!("its predicateType is not {PREDICATE}")));
        }
        let [Object(subject)] = statement.subject.as_slice() else {
            return Err(refused("it has not one subject"));
        };
        let predicate = statement.predicate.0;
        let method = predicate.serialization.0.method()?;
        let resources = predicate.resources;
        if resources.is_empty() || resources.len() > MAX_ENTRIES {
            let count = resources.len();
            return Err(refused(format!(
                "{count} resources, 1 to {MAX_ENTRIES} are meant"
            )));
        }
        let mut root = Sha256::new();
        let mut listed = Vec::with_capacity(resources.len());
        for Object(resource) in &resources {
            let digest = resource.digest(method)?;
            root.update(digest);
            listed.push((resource.name.as_str(), digest));
        }
        let found = hex::encode(&root.finalize());
        if subject.digest.get("sha256") != Some(&found) {
            return Err(refused("the subject's digest is not that of the resources"));
        }
        Ok(Self {
            model: subject.name.clone(),
            files: method.files(&listed)?,
            ignored: ignored(&predicate.serialization.0.ignore_paths)?,
            lists_empty_files: matches!(method, Method::Files),
        })
    }
}

fn outdated() -> SignedError {
    SignedError::Unsupported {
        what: "a signature of model-signing 0.x",
        instead: "sign again with version 1.0 or newer",
    }
}

impl Serialization {
    fn method(&self) -> Result<Method, SignedError> {
        if self.hash_type != "sha256" {
            return Err(SignedError::Unsupported {
                what: "a hash other than SHA-256",
                instead: "sign with SHA-256, the tool's default",
            });
        }
        match (self.method.as_str(), self.shard_size) {
            ("files", None) => Ok(Method::Files),
            ("shards", Some(size)) => whole_number(size).map(Method::Shards),
            _ => Err(refused("its serialization is neither files nor shards")),
        }
    }
}

/// The sizes of a statement are written as doubles.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number from 1 to 2^53 was just checked"
)]
fn whole_number(value: f64) -> Result<u64, SignedError> {
    if value.fract() == 0.0 && (1.0..=MAX_SHARD).contains(&value) {
        return Ok(value as u64);
    }
    Err(refused("its shard_size is not a size"))
}

impl Resource {
    fn digest(&self, method: Method) -> Result<[u8; 32], SignedError> {
        let meant = match method {
            Method::Files => "sha256".to_owned(),
            Method::Shards(size) => format!("sha256-sharded-{size}"),
        };
        if self.algorithm != meant {
            return Err(refused(format!("a resource's algorithm is not {meant}")));
        }
        let digest = hex::decode(&self.digest);
        digest.ok_or_else(|| refused("a resource's digest is not 64 lower-case hex digits"))
    }
}

impl Method {
    fn files(
        self,
        listed: &[(&str, [u8; 32])],
    ) -> Result<BTreeMap<FileName, Expected>, SignedError> {
        let files = match self {
            Self::Files => whole_files(listed),
            Self::Shards(size) => sharded_files(size, listed),
        }?;
        let single = files.keys().any(|name| name.as_str() == FileName::SINGLE);
        if single && files.len() > 1 {
            return Err(refused("'.' stands beside other names"));
        }
        Ok(files)
    }
}

fn twice(name: &FileName) -> SignedError {
    refused(format!("{name} stands twice"))
}

fn whole_files(listed: &[(&str, [u8; 32])]) -> Result<BTreeMap<FileName, Expected>, SignedError> {
    let mut files = BTreeMap::new();
    for (name, digest) in listed {
        let name = FileName::new(name)?;
        if files
            .insert(name.clone(), Expected::Whole(*digest))
            .is_some()
        {
            return Err(twice(&name));
        }
    }
    Ok(files)
}

/// Names are `PATH:START:END`. Together the shards of a file must be all of it:
/// from 0, without gaps, each as long as the size says but the last.
fn sharded_files(
    size: u64,
    listed: &[(&str, [u8; 32])],
) -> Result<BTreeMap<FileName, Expected>, SignedError> {
    let mut parts: BTreeMap<FileName, BTreeMap<u64, (u64, [u8; 32])>> = BTreeMap::new();
    for (name, digest) in listed {
        let (name, start, end) = shard_name(name)?;
        let file = parts.entry(name.clone()).or_default();
        if file.insert(start, (end, *digest)).is_some() {
            return Err(twice(&name));
        }
    }
    let join = |(name, parts)| {
        let expected = joined(size, parts)
            .ok_or_else(|| refused(format!("the shards of {name} are not all of it")))?;
        Ok((name, expected))
    };
    parts.into_iter().map(join).collect()
}

fn joined(size: u64, parts: BTreeMap<u64, (u64, [u8; 32])>) -> Option<Expected> {
    let (mut len, mut digests) = (0_u64, Vec::with_capacity(parts.len()));
    for (start, (end, digest)) in parts {
        let shard = end.checked_sub(start)?;
        // Only the last one may be shorter, and no other follows a shorter one.
        if start != len || shard == 0 || shard > size || !start.is_multiple_of(size) {
            return None;
        }
        len = end;
        digests.push(digest);
    }
    Some(Expected::Shards { size, len, digests })
}

fn shard_name(text: &str) -> Result<(FileName, u64, u64), SignedError> {
    let parts: Vec<&str> = text.split(':').collect();
    let [name, start, end] = parts.as_slice() else {
        return Err(refused("a shard's name is not PATH:START:END"));
    };
    Ok((FileName::new(name)?, offset(start)?, offset(end)?))
}

/// Digits only: no sign, space or leading zero, so that nothing stands twice in
/// two spellings.
fn offset(text: &str) -> Result<u64, SignedError> {
    let number = text.parse::<u64>().ok();
    let number = number.filter(|number| number.to_string() == text);
    number.ok_or_else(|| refused("a shard's offset is not a number"))
}

/// Paths that the signer left out. Those outside of the model match nothing.
fn ignored(paths: &[String]) -> Result<Vec<FileName>, SignedError> {
    if paths.len() > MAX_ENTRIES {
        return Err(refused("too many ignored paths"));
    }
    let inside = |path: &&String| !path.starts_with('/') && !path.starts_with("../");
    let inside = paths.iter().filter(inside);
    let names: Vec<_> = inside
        .map(|path| FileName::new(path))
        .collect::<Result<_, _>>()?;
    if names.iter().any(|name| name.as_str() == FileName::SINGLE) {
        return Err(refused("it leaves out the whole model"));
    }
    Ok(names)
}
