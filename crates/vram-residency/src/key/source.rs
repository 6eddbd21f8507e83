//! Key sources: token, file, systemd credential, open file. Environment
//! variables are refused as a source (requirement: KD-6, EV-9, OP-2): a process's
//! environment is readable by others and inherited by children.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::secret::Secret;
use super::{KeyError, RootKey, Scope, SigningKey};
use crate::hex;
use crate::random::{Random, RandomError};

/// Shortest accepted token in bytes.
pub const MIN_TOKEN_BYTES: usize = 32;
/// Longest accepted token in bytes.
pub const MAX_TOKEN_BYTES: usize = 1024;
/// Bytes of a key file that we write: 64 digits and a newline.
const KEY_TEXT_BYTES: usize = 65;
/// Longest accepted key file in bytes.
pub const MAX_KEY_FILE_BYTES: u64 = 1024;
/// Refuses repeated characters while a token of hex digits still passes.
const MIN_DISTINCT_BYTES: usize = 8;

impl RootKey {
    /// From a worker token of 32 to 1024 bytes.
    ///
    /// # Errors
    /// [`KeyError::TokenLength`], [`KeyError::Entropy`] or [`KeyError::Memory`].
    pub fn from_token(token: &[u8]) -> Result<Self, KeyError> {
        if !(MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES).contains(&token.len()) {
            return Err(KeyError::TokenLength { len: token.len() });
        }
        let mut copy = Zeroizing::new(token.to_vec());
        Self::admit(&mut copy)
    }

    /// A new random secret that only this process knows.
    ///
    /// # Errors
    /// [`RandomError`] as [`KeyError::Io`], or [`KeyError::Memory`].
    pub fn generate(random: &dyn Random) -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        let io = |error: RandomError| KeyError::Io {
            reason: error.to_string(),
        };
        random.fill(bytes.as_mut()).map_err(io)?;
        Self::admit(bytes.as_mut())
    }

    /// From a file of 64 hex digits: a regular file of this user or root, mode
    /// 0600 or tighter, not reached through a symbolic link.
    ///
    /// # Errors
    /// [`KeyError`] naming the file and what to change.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let file = open_private(path, NOBODY_ELSE)?;
        Self::from_reader(file)
    }

    /// From a systemd credential: `directory` is what systemd put into
    /// `CREDENTIALS_DIRECTORY`, passed by the caller.
    ///
    /// # Errors
    /// [`KeyError::Credential`] for a missing one, else as [`RootKey::from_file`].
    pub fn from_credential(directory: &Path, name: &str) -> Result<Self, KeyError> {
        let refused = |reason: &str| KeyError::Credential {
            name: name.chars().filter(|c| !c.is_control()).take(64).collect(),
            reason: reason.to_owned(),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
            return Err(refused(
                "the name may hold letters, digits, '-', '_' and '.'",
            ));
        }
        let path = directory.join(name);
        if !path.exists() {
            return Err(refused("it is not in the credentials directory"));
        }
        // systemd gives a service's user its credential as root:root 0440.
        Self::from_reader(open_private(&path, ROOT_MAY_SHARE)?)
    }

    /// From an open file, such as an inherited file descriptor: 64 hex digits
    /// and at most one newline.
    ///
    /// # Errors
    /// [`KeyError::Io`] or [`KeyError::Format`].
    pub fn from_reader(reader: impl Read) -> Result<Self, KeyError> {
        let text = read_text(reader)?;
        Self::from_digits(text.strip_suffix(b"\n").unwrap_or(&text))
    }

    fn from_digits(text: &[u8]) -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        hex::decode_to(text, bytes.as_mut()).ok_or(KeyError::Format {
            reason: "wrong length or other characters",
        })?;
        Self::admit(bytes.as_mut())
    }

    /// Writes a new random secret to `path`, which must not exist, with mode
    /// 0600, and returns it.
    ///
    /// # Errors
    /// [`KeyError::Open`] when the file exists or cannot be made.
    pub fn create_file(path: &Path, random: &dyn Random) -> Result<Self, KeyError> {
        let key = Self::generate(random)?;
        key.write_new(path, "")?;
        Ok(key)
    }

    fn write_new(&self, path: &Path, mark: &str) -> Result<(), KeyError> {
        let open = |error: std::io::Error| KeyError::Open {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(open)?;
        let room = KEY_TEXT_BYTES.saturating_add(mark.len());
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.push_str(mark);
        self.lend(|secret| hex::encode_to(secret, &mut text));
        text.push('\n');
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| {
                // Half a key would only be in the way; what went wrong is reported.
                let _ = std::fs::remove_file(path);
                open(error)
            })
    }

    fn admit(bytes: &mut [u8]) -> Result<Self, KeyError> {
        let mut seen = [false; 256];
        for byte in bytes.iter() {
            if let Some(slot) = seen.get_mut(usize::from(*byte)) {
                *slot = true;
            }
        }
        if seen.iter().filter(|seen| **seen).count() < MIN_DISTINCT_BYTES {
            return Err(KeyError::Entropy);
        }
        Ok(Self::from_secret(Secret::new(bytes)?))
    }
}

/// Marks of the files of signing keys, so that none is taken for a sealing key
/// nor a test key for a production key.
const MARKS: [(&str, Scope); 2] = [
    ("signing:", Scope::Production),
    ("test-signing:", Scope::Test),
];

impl SigningKey {
    /// From a file: a mark and 64 hex digits, under the rules of
    /// [`RootKey::from_file`]. Digits without a mark are a sealing key.
    ///
    /// # Errors
    /// [`KeyError`] naming the file and what to change.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::from_reader(open_private(path, NOBODY_ELSE)?)
    }

    /// From an open file, such as an inherited file descriptor: a mark, 64 hex
    /// digits and at most one newline, as in [`SigningKey::from_file`].
    ///
    /// # Errors
    /// [`KeyError::Io`], [`KeyError::Format`] or [`KeyError::NotSigning`].
    pub fn from_reader(reader: impl Read) -> Result<Self, KeyError> {
        let text = read_text(reader)?;
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        let marked = MARKS
            .iter()
            .find_map(|(mark, scope)| Some((line.strip_prefix(mark.as_bytes())?, *scope)));
        let Some((digits, scope)) = marked else {
            return Err(RootKey::from_digits(line)
                .err()
                .unwrap_or(KeyError::NotSigning));
        };
        Self::scoped(&RootKey::from_digits(digits)?, scope)
    }

    /// Writes a new random key of `scope` to `path`, which must not exist, with
    /// mode 0600, and returns it.
    ///
    /// # Errors
    /// [`KeyError::Open`] when the file exists or cannot be made.
    pub fn create_file(path: &Path, scope: Scope, random: &dyn Random) -> Result<Self, KeyError> {
        let secret = RootKey::generate(random)?;
        let mark = MARKS.iter().find(|(_, known)| *known == scope);
        secret.write_new(path, mark.map_or("", |(mark, _)| mark))?;
        Self::scoped(&secret, scope)
    }
}

fn read_text(reader: impl Read) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut text = Zeroizing::new(Vec::with_capacity(2048));
    let limit = MAX_KEY_FILE_BYTES.saturating_add(1);
    let io = |error: std::io::Error| KeyError::Io {
        reason: error.to_string(),
    };
    reader.take(limit).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_KEY_FILE_BYTES {
        return Err(KeyError::Format {
            reason: "it is longer than 1024 bytes",
        });
    }
    Ok(text)
}

/// Mode bits that a key file may have: its owner may read and write.
const NOBODY_ELSE: u32 = 0o600;
/// As [`NOBODY_ELSE`], for systemd's credentials: the group may read.
const ROOT_MAY_SHARE: u32 = 0o640;

/// Opens `path` without following a final link and checks what was opened, so
/// that nothing can be swapped between check and use. Opened non-blocking: a
/// FIFO must be refused, not waited for. `for_root`: mode bits that a file of
/// root's may have.
fn open_private(path: &Path, for_root: u32) -> Result<File, KeyError> {
    let path_buf = || path.to_owned();
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            return KeyError::NotRegular { path: path_buf() };
        }
        KeyError::Open {
            path: path_buf(),
            reason: error.to_string(),
        }
    })?;
    let open = |error: std::io::Error| KeyError::Open {
        path: path_buf(),
        reason: error.to_string(),
    };
    let meta = file.metadata().map_err(open)?;
    if !meta.is_file() {
        return Err(KeyError::NotRegular { path: path_buf() });
    }
    let mode = meta.mode() & 0o7777;
    let allowed = if meta.uid() == 0 {
        for_root
    } else {
        NOBODY_ELSE
    };
    if mode & !allowed != 0 {
        return Err(KeyError::PermissionsTooOpen {
            path: path_buf(),
            mode,
        });
    }
    let owner = meta.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(KeyError::Owner {
            path: path_buf(),
            owner,
        });
    }
    Ok(file)
}
