//! The files of a directory against what was signed, in one reading of each:
//! the digest that the signature speaks of and the one that a device measures
//! are of the same bytes.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use vram_digest::{FileDigest, Hasher};

use super::manifest::{Expected, Manifest};
use super::{FileName, SignedError};
use crate::cache;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Most entries of a model's directories.
const MAX_ENTRIES: usize = 1_000_000;

/// One file whose bytes are the signed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    /// Where it lies in the model.
    pub name: FileName,
    /// Length in bytes.
    pub bytes: u64,
    /// fs-verity SHA-256 digest, as a seal has it.
    pub digest: FileDigest,
}

/// What lies in the model's directory.
struct Found {
    /// Each file and where its bytes lie.
    files: BTreeMap<FileName, PathBuf>,
    uncovered: Vec<FileName>,
}

/// Checks all files; `advance` is told of bytes as they are read.
pub(super) fn check(
    manifest: &Manifest,
    root: &Path,
    signature: Option<&Path>,
    advance: &dyn Fn(u64),
) -> Result<(Vec<CheckedFile>, Vec<FileName>), SignedError> {
    let found = look(manifest, root, signature)?;
    let place = |name: &FileName| {
        let missing = || SignedError::Missing { name: name.clone() };
        found.files.get(name).ok_or_else(missing)
    };
    // Before the first byte is read.
    manifest
        .files
        .keys()
        .try_for_each(|name| place(name).map(drop))?;
    let mut checked = Vec::with_capacity(manifest.files.len());
    for (name, expected) in &manifest.files {
        checked.push(measure(name, expected, place(name)?, advance)?);
    }
    Ok((checked, found.uncovered))
}

fn failed(path: &Path, error: &std::io::Error) -> SignedError {
    SignedError::Io {
        path: crate::text::shown_path(path),
        reason: error.to_string(),
    }
}

/// The folder that the links of a Hugging Face snapshot lead into, if there is one.
fn blobs_of(root: &Path) -> Option<PathBuf> {
    let blobs = cache::blobs_of(&root.canonicalize().ok()?)?;
    let is_folder = std::fs::symlink_metadata(&blobs).is_ok_and(|meta| meta.is_dir());
    is_folder.then_some(blobs)
}

/// The file behind a link, if it is one of `blobs`.
fn blob(link: &Path, blobs: Option<&Path>) -> Option<(PathBuf, Metadata)> {
    let real = link.canonicalize().ok()?;
    let meta = std::fs::symlink_metadata(&real).ok()?;
    (meta.is_file() && real.parent() == Some(blobs?)).then_some((real, meta))
}

/// Finds every file; one that is not listed, a link or a special file ends it.
/// Only the links of a cache are followed: what they lead to is a file that the
/// cache itself keeps, and its bytes are compared like all others.
fn look(manifest: &Manifest, root: &Path, signature: Option<&Path>) -> Result<Found, SignedError> {
    let mut found = Found {
        files: BTreeMap::new(),
        uncovered: Vec::new(),
    };
    let meta = std::fs::metadata(root).map_err(|error| failed(root, &error))?;
    if meta.is_file() {
        let name = FileName::new(FileName::SINGLE)?;
        found.files.insert(name, root.to_owned());
        return covered(manifest, found);
    }
    // Told by what it is, not by how its path is written.
    let signature = signature.and_then(|path| std::fs::metadata(path).ok());
    let is_signature = |meta: &Metadata| {
        let same = |one: &Metadata| one.dev() == meta.dev() && one.ino() == meta.ino();
        signature.as_ref().is_some_and(same)
    };
    let blobs = blobs_of(root);
    let mut seen = 0_usize;
    let mut folders: Vec<(PathBuf, String)> = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| failed(&folder, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed(&folder, &error))?;
            seen = seen.saturating_add(1);
            if seen > MAX_ENTRIES {
                return Err(SignedError::TooManyFiles { limit: MAX_ENTRIES });
            }
            let name = format!("{prefix}{}", utf8(&entry)?);
            let name = FileName::new(&name)?;
            if manifest.ignored.iter().any(|one| name.is_under(one)) {
                found.uncovered.push(name);
                continue;
            }
            let mut path = entry.path();
            let mut meta = entry.metadata().map_err(|error| failed(&path, &error))?;
            if let Some(kept) = blob(&path, blobs.as_deref()).filter(|_| meta.is_symlink()) {
                (path, meta) = kept;
            }
            if meta.is_dir() {
                folders.push((path, format!("{}/", name.as_str())));
            } else if !meta.is_file() {
                let is_link = meta.is_symlink();
                return Err(SignedError::NotAFile { name, is_link });
            } else if is_signature(&meta) && !manifest.files.contains_key(&name) {
                found.uncovered.push(name);
            } else {
                found.files.insert(name, path);
            }
        }
    }
    covered(manifest, found)
}

fn utf8(entry: &std::fs::DirEntry) -> Result<String, SignedError> {
    entry.file_name().into_string().map_err(|name| {
        let name = name.to_string_lossy().chars().take(256).collect::<String>();
        SignedError::Name {
            name: crate::text::Shown(&name).to_string(),
            reason: "it is not UTF-8 text",
        }
    })
}

/// Refuses a file that is there and not listed. Where files are cut into shards
/// the signing tool lists no empty ones; they hold nothing that could be loaded.
fn covered(manifest: &Manifest, mut found: Found) -> Result<Found, SignedError> {
    let listed = |(name, _): &(FileName, PathBuf)| manifest.files.contains_key(name);
    let (known, others) = found.files.into_iter().partition(listed);
    let others: BTreeMap<FileName, PathBuf> = others;
    found.files = known;
    for (name, path) in others {
        let meta = std::fs::symlink_metadata(&path);
        let is_empty = meta.is_ok_and(|meta| meta.is_file() && meta.len() == 0);
        let is_single = name.as_str() == FileName::SINGLE;
        if manifest.lists_empty_files || is_single || !is_empty {
            return Err(SignedError::Extra { name });
        }
        found.uncovered.push(name);
    }
    Ok(found)
}

fn measure(
    name: &FileName,
    expected: &Expected,
    path: &Path,
    advance: &dyn Fn(u64),
) -> Result<CheckedFile, SignedError> {
    let failed = |error: std::io::Error| failed(path, &error);
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if name.as_str() != FileName::SINGLE {
        flags |= OFlags::NOFOLLOW;
    }
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path);
    let mut file = file.map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        let (name, is_link) = (name.clone(), false);
        return Err(SignedError::NotAFile { name, is_link });
    }
    let (mut tree, mut parts) = (Hasher::new(), Parts::new(expected));
    let mut chunk = vec![0_u8; CHUNK];
    loop {
        let read = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        let data = chunk.get(..read).unwrap_or_default();
        tree.update(data);
        if !parts.update(data) {
            break;
        }
        advance(u64::try_from(read).unwrap_or(0));
    }
    if !parts.finish() {
        return Err(SignedError::Changed { name: name.clone() });
    }
    let bytes = tree.len();
    let digest = tree.finalize().digest();
    Ok(CheckedFile {
        name: name.clone(),
        bytes,
        digest,
    })
}

/// SHA-256 of a file or of its shards, compared as they end.
struct Parts<'e> {
    expected: &'e [[u8; 32]],
    /// Bytes of a shard, without end for a whole file.
    size: u64,
    /// Bytes of the file, if they are known.
    len: Option<u64>,
    done: u64,
    /// Bytes that the current shard still takes.
    room: u64,
    hash: Sha256,
    agrees: bool,
}

impl<'e> Parts<'e> {
    fn new(expected: &'e Expected) -> Self {
        let (expected, size, len) = match expected {
            Expected::Whole(digest) => (std::slice::from_ref(digest), u64::MAX, None),
            Expected::Shards { size, len, digests } => (digests.as_slice(), *size, Some(*len)),
        };
        Self {
            expected,
            size,
            len,
            done: 0,
            room: size,
            hash: Sha256::new(),
            agrees: true,
        }
    }

    /// Takes the next bytes; false as soon as they cannot be the signed ones.
    fn update(&mut self, mut data: &[u8]) -> bool {
        while self.agrees && !data.is_empty() {
            let take = usize::try_from(self.room)
                .unwrap_or(usize::MAX)
                .min(data.len());
            let (now, later) = data.split_at_checked(take).unwrap_or((data, &[]));
            self.hash.update(now);
            let taken = u64::try_from(now.len()).unwrap_or(u64::MAX);
            self.done = self.done.saturating_add(taken);
            self.room = self.room.saturating_sub(taken);
            if self.room == 0 {
                self.compare();
                self.room = self.size;
            }
            self.agrees &= self.len.is_none_or(|len| self.done <= len);
            data = later;
        }
        self.agrees
    }

    fn compare(&mut self) {
        let found = std::mem::take(&mut self.hash).finalize();
        let next = self.expected.split_first();
        self.agrees &= next.is_some_and(|(first, _)| first.as_slice() == found.as_slice());
        self.expected = next.map_or(&[], |(_, rest)| rest);
    }

    /// Whether everything that was signed came, and nothing else.
    fn finish(mut self) -> bool {
        if self.len.is_none() || self.room < self.size {
            self.compare();
        }
        self.agrees && self.expected.is_empty() && self.len.is_none_or(|len| len == self.done)
    }
}
