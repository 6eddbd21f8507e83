//! `vram key`.

use std::path::PathBuf;

use serde::Serialize;
use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;

use crate::failure::Failure;
use crate::output::Output;

/// Make keys
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram key new worker.key

Exit codes: 0 fine, 1 failure, 2 usage.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    New(New),
}

/// Write a new random key to a file that does not exist yet, mode 0600
///
/// The key seals records and checks them: whoever has it can do both. Keep it
/// where only the worker reads it; it is never printed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram key new worker.key
  vram seal model.safetensors --key-file worker.key --record model.json
  vram verify model.json model.safetensors --key-file worker.key

Exit codes: 0 fine, 1 failure, 2 usage.")]
struct New {
    /// The file to make
    file: PathBuf,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    file: String,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let Command::New(New { file }) = self.command;
        let name = file.to_string_lossy().into_owned();
        let made = RootKey::create_file(&file, &OsRandom);
        made.map_err(|error| {
            Failure::new(format!("cannot make {name}: {error}"))
                .hint("an existing file is never overwritten; name a new one")
        })?;
        if output.is_json() {
            let schema = "vram-residency/key/v1";
            return output.json(&Report { schema, file: name });
        }
        output.note("keep this file secret; without it records cannot be verified");
        output.line(format!("new key in {name}"))
    }
}
