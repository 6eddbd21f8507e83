//! Which models may be loaded: options that several commands share.

use std::path::{Path, PathBuf};

use vram_residency::Policy;
use vram_residency::clock::{Clock as _, SystemClock};
use vram_residency::signed::{AllowError, AllowList, MAX_ALLOW_BYTES, ModelPolicy};

use crate::failure::Failure;
use crate::signing::{public_key, read};

/// A policy file, or allow-lists with the keys that sign them.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// File that says which models may be loaded, and which lists approve them
    #[arg(long, value_name = "policy.toml", conflicts_with = "allow")]
    policy: Option<PathBuf>,
    /// Load only what this list names ('vram approve' makes one)
    #[arg(long, value_name = "allow.toml", requires = "trust")]
    allow: Vec<PathBuf>,
    /// Public key of who signed the list: 64 hex digits or a file with them
    #[arg(long, value_name = "KEY", requires = "allow")]
    trust: Vec<String>,
}

impl ModelArgs {
    /// The policy of the manager: strict in everything else.
    pub(crate) fn load(&self) -> Result<Policy, Failure> {
        Ok(Policy {
            models: self.models()?,
            ..Policy::default()
        })
    }

    fn models(&self) -> Result<ModelPolicy, Failure> {
        if let Some(path) = &self.policy {
            return ModelPolicy::from_file(path, SystemClock::new().now())
                .map_err(|error| refused(&error));
        }
        if self.allow.is_empty() {
            return Ok(ModelPolicy::default());
        }
        let keys = self.trust.iter().map(|key| public_key(key));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let list = |path: &Path| {
            let text = read(path, MAX_ALLOW_BYTES)?;
            let list = AllowList::from_toml(&text, &keys, None);
            list.map_err(|error| refused(&error).naming(&path.to_string_lossy()))
        };
        let lists = self.allow.iter().map(|path| list(path));
        let lists = lists.collect::<Result<Vec<_>, Failure>>()?;
        Ok(ModelPolicy::signed_only(&lists))
    }
}

/// A list that is not believed is a failed verification.
fn refused(error: &AllowError) -> Failure {
    if error.is_verdict() {
        return Failure::verification(error.to_string())
            .hint("trust a key only if you know whose it is; 'vram approve' makes a new list");
    }
    Failure::new(error.to_string())
}
