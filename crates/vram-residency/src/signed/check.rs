//! The files of a directory against what was signed, in one reading of each:
//! the digest that the signature speaks of and the one that a device measures
//! are of the same bytes.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use vram_digest::{FileDigest, Hasher};

use super::manifest::{Expected, Manifest};
use super::{FileName, SignedError};

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
    files: BTreeSet<FileName>,
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
    if let Some(missing) = manifest
        .files
        .keys()
        .find(|name| !found.files.contains(*name))
    {
        return Err(SignedError::Missing {
            name: missing.clone(),
        });
    }
    let mut checked = Vec::with_capacity(manifest.files.len());
    for (name, expected) in &manifest.files {
        checked.push(measure(name, expected, &name.below(root), advance)?);
    }
    Ok((checked, found.uncovered))
}

fn failed(path: &Path, error: &std::io::Error) -> SignedError {
    SignedError::Io {
        path: crate::text::shown_path(path),
        reason: error.to_string(),
    }
}

/// Finds every file; one that is not listed, a link or a special file ends it.
fn look(manifest: &Manifest, root: &Path, signature: Option<&Path>) -> Result<Found, SignedError> {
    let mut found = Found {
        files: BTreeSet::new(),
        uncovered: Vec::new(),
    };
    let meta = std::fs::metadata(root).map_err(|error| failed(root, &error))?;
    if meta.is_file() {
        found.files.insert(FileName::new(FileName::SINGLE)?);
        return covered(manifest, found, &|_| false);
    }
    // Told by what it is, not by how its path is written.
    let signature = signature.and_then(|path| std::fs::metadata(path).ok());
    let is_signature = |meta: &Metadata| {
        let same = |one: &Metadata| one.dev() == meta.dev() && one.ino() == meta.ino();
        signature.as_ref().is_some_and(same)
    };
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
            let meta = entry
                .metadata()
                .map_err(|error| failed(&entry.path(), &error))?;
            if meta.is_dir() {
                folders.push((entry.path(), format!("{}/", name.as_str())));
            } else if !meta.is_file() {
                let is_link = meta.is_symlink();
                return Err(SignedError::NotAFile { name, is_link });
            } else if is_signature(&meta) && !manifest.files.contains_key(&name) {
                found.uncovered.push(name);
            } else {
                found.files.insert(name);
            }
        }
    }
    let empty = |name: &FileName| {
        let meta = std::fs::symlink_metadata(name.below(root));
        meta.is_ok_and(|meta| meta.is_file() && meta.len() == 0)
    };
    covered(manifest, found, &empty)
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
fn covered(
    manifest: &Manifest,
    mut found: Found,
    is_empty: &dyn Fn(&FileName) -> bool,
) -> Result<Found, SignedError> {
    let listed = |name: &FileName| manifest.files.contains_key(name);
    let (known, others) = found.files.into_iter().partition(listed);
    let others: BTreeSet<FileName> = others;
    found.files = known;
    for name in others {
        if manifest.lists_empty_files || !is_empty(&name) {
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
