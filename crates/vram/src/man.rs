//! `vram man`: the manual pages, from the same definitions as the help.

use std::path::PathBuf;

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Output;

/// Write the manual pages into a directory
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram man ~/.local/share/man/man1

Exit codes: 0 fine, 1 failure, 2 usage.")]
pub(crate) struct Args {
    /// An existing directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let written = clap_mangen::generate_to(Cli::command(), &self.directory);
        written.map_err(|error| {
            let directory = self.directory.display();
            Failure::new(format!("cannot write manual pages to {directory}: {error}"))
        })?;
        output.note(&format!("manual pages are in {}", self.directory.display()));
        Ok(())
    }
}
