//! The one place that reads the environment
//! (requirement: EV-10). No variable weakens a check, and none holds a key.

use std::path::PathBuf;

/// `CREDENTIALS_DIRECTORY`, where systemd puts a service's credentials; only
/// for `--key-credential` and `doctor`.
pub(crate) fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// This program's own file, for measurements of whole runs of it.
pub(crate) fn this_program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

/// Where files that live as long as a measurement are put (`TMPDIR`).
pub(crate) fn temporary_directory() -> PathBuf {
    std::env::temp_dir()
}

/// A terminal that cannot move its cursor says so (`TERM=dumb`).
pub(crate) fn terminal_is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}
