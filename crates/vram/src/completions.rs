//! `vram completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Output;

/// Print a completion script for a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram completions bash > ~/.local/share/bash-completion/completions/vram
  vram completions zsh > ~/.zfunc/_vram
  vram completions fish > ~/.config/fish/completions/vram.fish

Exit codes: 0 fine, 1 failure, 2 usage.")]
pub(crate) struct Args {
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "vram", &mut script);
        output.line(script.trim_ascii_end())
    }
}
