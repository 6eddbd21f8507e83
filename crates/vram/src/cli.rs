//! The command line as a whole; each command's options stand in its module.

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::output::Output;
use crate::{
    approve, attest, audit, bench, completions, devices, digest, doctor, inspect, key, log, man,
    plan, seal, synth, verify,
};

/// Keep model weights in VRAM and keep proving that they are the file that was
/// signed off
///
/// Results go to stdout, messages for people to stderr.
#[derive(Parser)]
#[command(
    name = "vram",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
#[command(after_help = "\
Examples:
  vram seal model.safetensors --device sim    load, seal, verify, report, free
  vram digest model.safetensors               what 'fsverity digest' prints
  vram doctor                                 is this machine ready?

Exit codes: 0 fine, 1 failure, 2 usage, 3 a verification failed")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print results as JSON with a `schema` field
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress and no notes; results and errors only
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) log: log::Args,
}

/// The commands, in the order of their help.
#[derive(Subcommand)]
pub(crate) enum Command {
    Devices(devices::Args),
    Doctor(doctor::Args),
    Digest(digest::Args),
    Seal(Box<seal::Args>),
    Verify(Box<verify::Args>),
    Approve(Box<approve::Args>),
    Attest(Box<attest::Args>),
    Key(key::Args),
    Audit(audit::Args),
    Inspect(inspect::Args),
    Plan(plan::Args),
    Synth(synth::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Runs the command.
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Devices(args) => args.run(output),
            Self::Doctor(args) => args.run(output),
            Self::Digest(args) => args.run(output),
            Self::Seal(args) => args.run(output),
            Self::Verify(args) => args.run(output),
            Self::Approve(args) => args.run(output),
            Self::Attest(args) => args.run(output),
            Self::Key(args) => args.run(output),
            Self::Audit(args) => args.run(output),
            Self::Inspect(args) => args.run(output),
            Self::Plan(args) => args.run(output),
            Self::Synth(args) => args.run(output),
            Self::Bench(args) => args.run(output),
            Self::Completions(args) => args.run(output),
            Self::Man(args) => args.run(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_visible_command_has_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(
                help.contains("Examples:"),
                "{}:\n{help}",
                command.get_name()
            );
        }
    }
}
