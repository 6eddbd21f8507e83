//! `vram audit rekey`.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use vram_residency::audit::log::{LogOptions, change_key};
use vram_residency::audit::note::Origin;
use vram_residency::clock::SystemClock;
use vram_residency::key::SigningKey;

use super::unreadable;
use crate::failure::Failure;
use crate::keys::in_file;
use crate::log_name;
use crate::output::Output;
use crate::text::printable;

/// Let another key sign a log from now on
///
/// The old key's last word names the new one, so who trusts the old key believes
/// the new one, and the old one no further. No worker may be writing the log.
/// When the old key was stolen, revoke it as well ('vram key revoke'), and let
/// everybody trust the new key by itself.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram key new --signing new.key
  vram audit rekey log --audit-key audit.key --new-audit-key new.key
  vram audit verify log --trust audit.pub

Exit codes: 0 fine, 1 failure, 2 usage.")]
pub(super) struct Rekey {
    /// The log's directory
    dir: PathBuf,
    /// Key file that signs the log now
    #[arg(long, value_name = "FILE")]
    audit_key: PathBuf,
    /// Key file that signs it from now on
    #[arg(long, value_name = "FILE")]
    new_audit_key: PathBuf,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    seq: u64,
    old_key_id: String,
    new_key_id: String,
}

impl Rekey {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        let load = |path| SigningKey::from_file(path).map_err(|error| in_file(error, path));
        let (old, new) = (load(&self.audit_key)?, load(&self.new_audit_key)?);
        let [old_key_id, new_key_id] = [&old, &new].map(|key| key.public().id().to_string());
        let options = self.options()?;
        let seq = change_key(&self.dir, &options, old, new, Arc::new(SystemClock::new()));
        let seq = seq.map_err(|error| Failure::new(error.to_string()))?;
        let line = format!("rekeyed      from {old_key_id} to {new_key_id}, event {seq}");
        let report = Report {
            schema: "vram-residency/audit-rekey/v1",
            seq,
            old_key_id,
            new_key_id,
        };
        output.result(&report, &line)
    }

    /// The log goes on under its own name. What the checkpoint says of that is
    /// believed only when the log, which is checked then, opens under it.
    fn options(&self) -> Result<LogOptions, Failure> {
        let name = log_name::claimed(&self.dir).map_err(|error| unreadable(&self.dir, &error))?;
        let dir = self.dir.display();
        let worker = log_name::worker(&name);
        let origin = Origin::new(&name).ok().zip(worker);
        let (origin, worker) = origin.ok_or_else(|| {
            Failure::new(format!(
                "the log {dir} was not written by 'vram': it is '{}'",
                printable(&name)
            ))
        })?;
        Ok(LogOptions::new(origin, worker))
    }
}
