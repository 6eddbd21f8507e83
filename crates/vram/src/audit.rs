//! `vram audit`.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vram_residency::audit::check::{self, DirFiles, Filter, Shown};
use vram_residency::audit::note::MAX_CHECKPOINT_BYTES;

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::signing::{public_key, read};
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

Exit codes: 0 fine, 1 failure, 2 usage, 3 'verify' found the log wrong.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Verify(Verify),
    Show(Show),
    Tail(Tail),
}

/// Prove that a log is what was written: all of it, in order, unchanged
///
/// Every edited, dropped, inserted, repeated, moved or missing line is named
/// with its file and line. A log that was cut back to an older checkpoint of
/// its own can only be told by a newer one that was kept elsewhere: --earlier.
/// Events that a killed writer left without a checkpoint are counted: whoever
/// can write to the directory could have written them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram audit verify log --trust audit.pub
  vram audit verify log --trust audit.pub --earlier kept/checkpoint --closed

Exit codes: 0 fine, 1 failure, 2 usage, 3 anything is wrong with the log.")]
struct Verify {
    /// The log's directory
    dir: PathBuf,
    /// Public key of the log ('vram key public'): 64 hex digits or a file with them
    #[arg(long, value_name = "KEY", required = true)]
    trust: Vec<String>,
    /// A checkpoint of this log that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    earlier: Option<PathBuf>,
    /// The writer has ended in order: the log's last event must say so
    #[arg(long)]
    closed: bool,
}

/// Print events; with --json the lines as they stand in the log
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram audit show log --shard model-a
  vram audit show log --event seal.verification_failed --json
  vram audit show log --since 2026-01-31T12 --until 2026-02-01

Exit codes: 0 fine, 1 failure, 2 usage.")]
struct Show {
    /// The log's directory
    dir: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Print the newest events
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram audit tail log -n 20

Exit codes: 0 fine, 1 failure, 2 usage.")]
struct Tail {
    /// The log's directory
    dir: PathBuf,
    /// How many
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: usize,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(clap::Args)]
struct FilterArgs {
    /// Events of this shard
    #[arg(long, value_name = "ID")]
    shard: Option<String>,
    /// Events of this type, or of a family that ends in a dot: seal.
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,
    /// Not before this UTC time, or a beginning of one: 2026-01-31T12
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this UTC time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl FilterArgs {
    fn filter(self) -> Filter {
        Filter {
            shard: self.shard,
            event_type: self.event,
            since: self.since,
            until: self.until,
        }
    }
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::Verify(args) => args.run(output),
            Command::Show(args) => args.run(output),
            Command::Tail(args) => args.run(output),
        }
    }
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
        let trusted: Result<Vec<_>, _> = self.trust.iter().map(|key| public_key(key)).collect();
        let trusted = trusted?;
        let earlier = self.earlier.as_deref();
        let earlier = earlier.map(|path| read(path, MAX_CHECKPOINT_BYTES));
        let earlier = earlier.transpose()?;
        let options = check::Options {
            trusted: &trusted,
            earlier: earlier.as_deref(),
            closed: self.closed,
        };
        let report = check::verify(&DirFiles::new(&self.dir), &options);
        let report = report.map_err(|error| unreadable(&self.dir, &error))?;
        print(&report, output)?;
        if report.is_good() {
            return Ok(());
        }
        Err(Failure::reported(Exit::Verification))
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
        output.line(format!("clock        set back {steps} times"))?;
    }
    let good = report.is_good();
    output.line(format!(
        "result       {}",
        if good { "good" } else { "WRONG" }
    ))
}

impl Show {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let mut failed = None;
        let mut each = |shown: Shown| {
            event(&shown, output).map_err(|failure| {
                failed = Some(failure);
                io::Error::from(io::ErrorKind::BrokenPipe)
            })
        };
        let filter = self.filter.filter();
        let shown = check::show(&DirFiles::new(&self.dir), &filter, &mut each);
        match (shown, failed) {
            (_, Some(failure)) => Err(failure),
            (Err(error), None) => Err(unreadable(&self.dir, &error)),
            (Ok(()), None) => Ok(()),
        }
    }
}

impl Tail {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let mut last = VecDeque::new();
        let mut each = |shown: Shown| {
            last.push_back(shown);
            if last.len() > self.lines {
                last.pop_front();
            }
            Ok(())
        };
        let filter = self.filter.filter();
        let shown = check::show(&DirFiles::new(&self.dir), &filter, &mut each);
        shown.map_err(|error| unreadable(&self.dir, &error))?;
        last.iter().try_for_each(|shown| event(shown, output))
    }
}

/// One event: its line, or what people want of it.
fn event(shown: &Shown, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.line(&shown.line);
    }
    let name = shown.event.body.event_type();
    let mut text = format!("{} {:>6} {name}", shown.time, shown.seq);
    let body = serde_json::to_value(&shown.event.body).unwrap_or_default();
    let fields = body.as_object().into_iter().flatten();
    for (field, value) in fields.filter(|(field, _)| *field != "event_type") {
        text.push_str(&format!(" {field}={value}"));
    }
    output.line(printable(&text).as_bytes())
}

fn unreadable(dir: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot read the log {}: {error}", dir.display()))
        .hint("name the directory that was given to --audit")
}
