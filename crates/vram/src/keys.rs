//! Where a sealing key comes from: options that several commands share.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use vram_residency::key::{KeyError, RootKey};

use crate::environment;
use crate::failure::Failure;

/// At most one source of a key. A key never comes from an option's value or
/// from the environment: both can be read by others.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(crate) struct KeyArgs {
    /// Key file: 64 hex digits, mode 0600 or tighter, no link ('vram key new' makes one)
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Name of a systemd credential, read from $CREDENTIALS_DIRECTORY
    #[arg(long, value_name = "NAME")]
    key_credential: Option<String>,
    /// Open file descriptor that holds the key
    #[arg(long, value_name = "N")]
    key_fd: Option<u32>,
}

/// Of what only the sealing key can tell.
pub(crate) fn no_key(what: &str) -> Failure {
    Failure::new(format!(
        "no key: {what} can only be checked with the key it was sealed with"
    ))
    .hint("add --key-file FILE, --key-credential NAME or --key-fd N")
}

impl KeyArgs {
    /// Whether a source was named.
    pub(crate) const fn is_named(&self) -> bool {
        self.key_file.is_some() || self.key_credential.is_some() || self.key_fd.is_some()
    }

    /// The key, or `None` when no source was named (requirement: KD-6).
    pub(crate) fn load(&self) -> Result<Option<RootKey>, Failure> {
        if let Some(path) = &self.key_file {
            return RootKey::from_file(path)
                .map(Some)
                .map_err(|e| in_file(e, path));
        }
        if let Some(name) = &self.key_credential {
            let directory = environment::credentials_directory().ok_or_else(|| {
                Failure::new("CREDENTIALS_DIRECTORY is not set")
                    .hint("systemd sets it for units with LoadCredential=")
            })?;
            return Ok(Some(RootKey::from_credential(&directory, name)?));
        }
        let Some(fd) = self.key_fd else {
            return Ok(None);
        };
        let file = inherited(fd).map_err(|error| {
            Failure::new(format!("cannot read file descriptor {fd}: {error}"))
                .hint("open it for the command, as in: --key-fd 3 3<key")
        })?;
        RootKey::from_reader(file)
            .map(Some)
            .map_err(|error| Failure::from(error).naming(&format!("file descriptor {fd}")))
    }
}

/// Errors of a key file's contents do not know the file.
pub(crate) fn in_file(error: KeyError, path: &Path) -> Failure {
    let unnamed = matches!(
        error,
        KeyError::Format { .. } | KeyError::Entropy | KeyError::Io { .. }
    );
    let failure = Failure::from(error);
    if unnamed {
        return failure.naming(&path.to_string_lossy());
    }
    failure
}

/// The descriptor itself, not the file behind it: whoever opened it may have
/// had rights that this process gave up. Kernels before 5.6 reopen the file.
fn inherited(fd: u32) -> std::io::Result<File> {
    let number = i32::try_from(fd).map_err(std::io::Error::other)?;
    let own = pidfd_open(getpid(), PidfdFlags::empty());
    let taken = own.and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()));
    match taken {
        Ok(taken) => Ok(File::from(taken)),
        Err(_) => File::open(format!("/proc/self/fd/{fd}")),
    }
}
