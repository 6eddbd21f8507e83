//! `vram audit`.

mod prove;
mod rekey;
mod show;

use std::path::{Path, PathBuf};

use serde::Serialize;
use vram_residency::audit::check::{self, CheckError, DirFiles};
use vram_residency::audit::note::NoteError;
use vram_residency::audit::proof;
use vram_residency::key::VerifyingKey;
use vram_residency::receipt::{Attested, MAX_RECEIPT_BYTES, Revocations};

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::papers::{self, Papers};
use crate::signing::{RevokedArgs, believed, public_keys, read};
use crate::text::{count, printable};

/// Check and read audit logs
///
/// 'vram seal --audit DIR' writes them: JSON Lines whose hashes form a tree
/// with a signed root.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram key new --signing audit.key
  vram key public audit.key > audit.pub
  vram seal model.safetensors --audit log --audit-key audit.key
  vram audit verify log --trust audit.pub
  vram audit show log --event seal. --since 2026-01-31
  vram audit prove log --line 4 --trust audit.pub --json > proof.json
  vram audit check proof.json --trust audit.pub

Exit codes: 0 fine, 1 failure, 2 usage, 3 a log or a proof is wrong.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Verify(Verify),
    Show(show::Show),
    Tail(show::Tail),
    Prove(prove::Prove),
    Check(prove::Check),
    Rekey(rekey::Rekey),
}

/// Prove that a log is what was written: all of it, in order, unchanged
///
/// Every edited, dropped, inserted, repeated, moved or missing line is named
/// with its file and line. A log that was cut back to an older checkpoint of
/// its own can only be told by a newer one that was kept elsewhere: --earlier.
/// One that no key of the log signed says nothing about it (exit code 2).
/// Events that a killed writer left without a checkpoint are counted: whoever
/// can write to the directory could have written them.
///
/// Tiles (tile/) tell which line is wrong when one is. Where they are gone or wrong,
/// too, the lines that nothing proves are named 'doubtful': some of them are not what
/// was written, and nothing tells which. Tiles that are gone, as a power failure
/// leaves a log, while the lines give the signed root are counted and no fault: the
/// log's next writer makes them again. A file that cannot be read, or something else in
/// its place, is named, and the rest is checked all the same.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram audit verify log --trust audit.pub
  vram audit verify log --trust audit.pub --earlier kept/checkpoint --closed
  vram audit verify log --trust audit.pub --earlier attestation.json
  vram audit verify log --trust audit.pub --trust op.pub --revoked revoked.json

Exit codes: 0 fine, 1 failure, 2 usage, 3 anything is wrong with the log.")]
struct Verify {
    /// The log's directory
    dir: PathBuf,
    #[command(flatten)]
    trust: Trust,
    /// A checkpoint of this log that was kept elsewhere, or an attestation with one
    #[arg(long, value_name = "FILE")]
    earlier: Option<PathBuf>,
    /// The log's name, as 'vram audit verify' prints it: another log of the same worker
    /// and key has another
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The writer has ended in order: the log's last event must say so
    #[arg(long)]
    closed: bool,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::Verify(args) => args.run(output),
            Command::Show(args) => args.run(output),
            Command::Tail(args) => args.run(output),
            Command::Prove(args) => args.run(output),
            Command::Check(args) => args.run(output),
            Command::Rekey(args) => args.run(output),
        }
    }
}

/// Whose checkpoints are believed.
#[derive(clap::Args)]
struct Trust {
    /// Public key of the log ('vram key public'): 64 hex digits or a file with them;
    /// keys that it named as its successors ('vram audit rekey') are believed, too
    #[arg(long = "trust", value_name = "KEY", required = true)]
    keys: Vec<String>,
    #[command(flatten)]
    revoked: RevokedArgs,
}

/// Keys and list, loaded.
struct Trusted {
    keys: Vec<VerifyingKey>,
    revoked: Option<Revocations>,
}

impl Trust {
    fn load(&self) -> Result<Trusted, Failure> {
        let keys = public_keys(&self.keys)?;
        let revoked = self.revoked.load(&keys)?;
        Ok(Trusted { keys, revoked })
    }
}

impl Trusted {
    fn options(&self) -> check::Options<'_> {
        check::Options {
            trusted: &self.keys,
            revoked: self.revoked.as_ref().map(Revocations::keys),
            ..check::Options::default()
        }
    }

    /// The same for a proof.
    fn of_proof(&self) -> proof::Trust<'_> {
        proof::Trust {
            keys: &self.keys,
            revoked: self.revoked.as_ref().map(Revocations::keys),
        }
    }
}

/// The checkpoint in a file: the file itself, or what an attestation carries.
/// The checkpoint has a signature of its own; that of the attestation is not
/// asked about.
fn checkpoint(path: &Path) -> Result<String, Failure> {
    let text = read(path, MAX_RECEIPT_BYTES)?;
    if !text.trim_start().starts_with('{') {
        return Ok(text);
    }
    let name = path.to_string_lossy();
    let checkpoint = match papers::open(path)? {
        Some(Papers::Tagged(tagged)) => tagged.facts().checkpoint.clone(),
        _ => {
            let attested = Attested::from_json(&text).map_err(|error| believed(&name, error))?;
            attested.checkpoint().map(str::to_owned)
        }
    };
    checkpoint.ok_or_else(|| {
        let text = format!("{name} is an attestation without a checkpoint: its worker had no log");
        Failure::usage(text)
    })
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    good: bool,
    #[serde(flatten)]
    report: &'a check::Report,
}

impl Verify {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let trusted = self.trust.load()?;
        let earlier = self.earlier.as_deref().map(checkpoint).transpose()?;
        let options = check::Options {
            origin: self.name.as_deref(),
            earlier: earlier.as_deref(),
            closed: self.closed,
            ..trusted.options()
        };
        let report = check::verify(&DirFiles::new(&self.dir), &options);
        let report =
            report.map_err(|error| unchecked(&self.dir, self.earlier.as_deref(), error))?;
        print(&report, output)?;
        if report.is_good() {
            return Ok(());
        }
        Err(Failure::reported(Exit::Verification))
    }
}

/// The check could not be made as it was asked for, with the checkpoint in `note`.
fn unchecked(dir: &Path, note: Option<&Path>, error: CheckError) -> Failure {
    let hint = match &error {
        CheckError::Io(error) => return unreadable(dir, error),
        CheckError::Earlier(NoteError::Foreign { .. }) => {
            "this says nothing about the log; name the key that signed the checkpoint with --trust, too, if you know it for one of this log: the log may have been cut back to before a change to it"
        }
        _ => "this says nothing about the log; name a checkpoint of this log and its key",
    };
    let failure = Failure::usage(error.to_string()).hint(hint);
    match note {
        Some(note) => failure.naming(&note.to_string_lossy()),
        None => failure,
    }
}

fn print(report: &check::Report, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&Report {
            schema: "vram-residency/audit-verify/v1",
            good: report.is_good(),
            report,
        });
    }
    for finding in &report.findings {
        output.line(format!("wrong        {}", printable(&finding.to_string())))?;
    }
    if let Some(why) = &report.not_compared {
        output.line(format!("not checked  --earlier: {}", printable(why)))?;
    }
    let origin = report.origin.as_deref().unwrap_or("no believed checkpoint");
    output.line(format!("log          {origin}"))?;
    let (size, kept) = (report.size, report.first_kept);
    output.line(format!(
        "proved       {size} events, lines kept from {kept}"
    ))?;
    if let Some(root) = report.root.as_deref().filter(|_| report.is_good()) {
        output.line(format!("root         {root}"))?;
    }
    if report.uncovered > 0 || report.torn_bytes > 0 {
        let (lines, bytes) = (report.uncovered, report.torn_bytes);
        let text = "not proved   after the checkpoint:";
        output.line(format!("{text} {lines} lines and {bytes} bytes of another"))?;
    }
    if report.adopted > 0 {
        let adopted = count(report.adopted, "event");
        let text = "that no checkpoint covered when their writer was killed";
        output.line(format!("unproved     {adopted} {text}"))?;
    }
    if report.clock_steps_back > 0 {
        let steps = report.clock_steps_back;
        output.line(format!("clock        times go back {steps} times"))?;
    }
    if report.tiles_lost > 0 {
        let tiles = count(report.tiles_lost, "tile");
        let text = "lost, as by a power failure; the lines prove the log without";
        output.line(format!("tiles        {tiles} {text}"))?;
    }
    let good = report.is_good();
    output.line(format!(
        "result       {}",
        if good { "good" } else { "WRONG" }
    ))
}

fn unreadable(dir: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read the log {}: {error}", dir.display()))
        .hint("name the directory that was given to --audit")
}
