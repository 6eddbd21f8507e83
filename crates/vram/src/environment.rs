//! The one place that reads the environment, and the one variable it reads
//! (requirement: EV-10). No variable weakens a check, and none holds a key.

use std::path::PathBuf;

/// `CREDENTIALS_DIRECTORY`, where systemd puts a service's credentials; only
/// for `--key-credential` and `doctor`.
pub(crate) fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}
