//! The `vram` command: results on stdout, messages for people on stderr.
//!
//! Exit codes: 0 fine, 1 failure, 2 usage, 3 a verification failed.
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_ptr_alignment,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::string_slice,
    clippy::missing_panics_doc
)]

mod approve;
mod attest;
mod audit;
mod bench;
mod cli;
mod completions;
mod device;
mod devices;
mod digest;
mod doctor;
mod environment;
mod evidence;
mod failure;
mod folder;
mod fresh;
mod gpu;
mod inspect;
mod interrupt;
mod key;
mod keys;
mod limits;
mod log;
mod log_name;
mod man;
mod measure;
mod models;
mod open_files;
mod output;
mod papers;
mod plan;
mod progress;
mod records;
mod regular;
mod replace;
mod seal;
mod signing;
mod synth;
mod text;
mod usage;
mod verify;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

use cli::Cli;
use output::Output;

fn main() -> ExitCode {
    open_files::allow_all();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error),
    };
    let output = Output::new(cli.json, cli.quiet, cli.log.is_wanted());
    match cli.log.start().and_then(|()| cli.command.run(&output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&output),
    }
}
