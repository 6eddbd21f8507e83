//! `vram audit show` and `vram audit tail`.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use vram_residency::audit::Body;
use vram_residency::audit::check::{self, DirFiles, Files as _, Filter, Finding, Shown};

use super::unreadable;
use crate::failure::{Exit, Failure};
use crate::output::{Output, say};
use crate::text::printable;

/// What a time in a log looks like, each part at its least.
const EARLIEST: &str = "0000-01-01T00:00:00.000000000Z";
/// The same, each part at its most.
const LATEST: &str = "9999-12-31T23:59:59.999999999Z";
/// What every event has beside its own fields.
const ENVELOPE: [&str; 8] = [
    "seq",
    "time",
    "audit_id",
    "timestamp",
    "worker_id",
    "severity",
    "correlation_id",
    "event_type",
];
/// Damaged lines that are named one by one.
const NAMED: usize = 20;

/// Print events; with --json the lines as they stand in the log
///
/// A line that is no event, or lacks what events of its type have, and a file that cannot
/// be read are named on stderr, and the exit code is 3 then. Events of types that this
/// version does not know are shown as they stand, and marked; with --json they are not
/// marked. Events that no checkpoint covered when their writer was killed are marked:
/// whoever could write to the directory then may have written them. With --json they end
/// in "adopted":true, which no line in a log has.
/// Nothing is proved: 'vram audit verify' does that.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram audit show log --shard model-a
  vram audit show log --correlation request-7
  vram audit show log --event seal.verification_failed --json
  vram audit show log --since 2026-01-31T12 --until 2026-02-01

Exit codes: 0 fine, 1 failure, 2 usage, 3 lines are no events or files cannot be read.")]
pub(super) struct Show {
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

Exit codes: 0 fine, 1 failure, 2 usage, 3 lines are no events or files cannot be read.")]
pub(super) struct Tail {
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
    /// Events of the request with this correlation id
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// Events of this type, or of a family that ends in a dot: seal.
    #[arg(long, value_name = "TYPE", value_parser = event_type)]
    event: Option<String>,
    /// Not before this UTC time, or a beginning of one: 2026-01-31T12
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
    /// Before this UTC time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<String>,
}

impl FilterArgs {
    fn filter(self) -> Filter {
        Filter {
            shard: self.shard,
            correlation_id: self.correlation,
            event_type: self.event,
            since: self.since,
            until: self.until,
        }
    }
}

/// A type of event, or a family of them that ends in a dot.
fn event_type(text: &str) -> Result<String, String> {
    let known = |name: &&str| **name == *text || (text.ends_with('.') && name.starts_with(text));
    if Body::TYPES.iter().any(known) {
        return Ok(text.to_owned());
    }
    let family = |name: &str| {
        name.split_inclusive('.')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let mut families: Vec<String> = Body::TYPES.iter().map(|name| family(name)).collect();
    families.sort();
    families.dedup();
    let families = families.join(" ");
    Err(format!(
        "there is no such event; name one as 'show' prints it, or a family: {families}"
    ))
}

/// A time in UTC, or a beginning of one that ends with a whole part.
fn time(text: &str) -> Result<String, String> {
    let fits = |(at, c): (usize, char)| {
        let least = EARLIEST.get(at..)?.chars().next()?;
        (c.is_ascii_digit() && least.is_ascii_digit() || c == least).then_some(())
    };
    let shaped = text.char_indices().all(|at| fits(at).is_some());
    let whole = [4, 7, 10, 13, 16, 19, 30].contains(&text.len());
    if shaped && whole && in_range(text) {
        return Ok(text.to_owned());
    }
    Err(
        "write UTC as 2026-01-31T12:30:00, or a beginning of it that ends with a whole part"
            .to_owned(),
    )
}

/// Whether each part is one that a clock shows.
fn in_range(text: &str) -> bool {
    let parts = |text: &str| -> Vec<u32> {
        let digits = text.split(|c: char| !c.is_ascii_digit());
        digits.filter_map(|part| part.parse().ok()).collect()
    };
    let bounds = parts(EARLIEST).into_iter().zip(parts(LATEST));
    let mut given = parts(text).into_iter().zip(bounds);
    given.all(|(part, (least, most))| (least..=most).contains(&part))
}

impl Show {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        let mut failed = None;
        let mut each = |shown: Shown| {
            event(&shown, output).map_err(|failure| {
                failed = Some(failure);
                io::Error::from(io::ErrorKind::BrokenPipe)
            })
        };
        let filter = self.filter.filter();
        let shown = check::show(&log(&self.dir)?, &filter, &mut each);
        match (shown, failed) {
            (_, Some(failure)) => Err(failure),
            (Err(error), None) => Err(unreadable(&self.dir, &error)),
            (Ok(damaged), None) => whole(&damaged),
        }
    }
}

impl Tail {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        let mut last = VecDeque::new();
        let mut each = |shown: Shown| {
            last.push_back(shown);
            if last.len() > self.lines {
                last.pop_front();
            }
            Ok(())
        };
        let filter = self.filter.filter();
        let shown = check::show(&log(&self.dir)?, &filter, &mut each);
        let damaged = shown.map_err(|error| unreadable(&self.dir, &error))?;
        last.iter().try_for_each(|shown| event(shown, output))?;
        whole(&damaged)
    }
}

/// The files of a log; a directory without any is a wrong argument.
fn log(dir: &Path) -> Result<DirFiles, Failure> {
    let files = DirFiles::new(dir);
    let names = files.names().map_err(|error| unreadable(dir, &error))?;
    if names.is_empty() {
        return Err(
            Failure::new(format!("there is no log in {}", dir.display()))
                .hint("name the directory that was given to --audit"),
        );
    }
    Ok(files)
}

/// One event: its line, or what people want of it.
fn event(shown: &Shown, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        let whole = shown.line.strip_suffix('}').filter(|_| shown.adopted);
        return match whole {
            Some(fields) => output.line(format!("{fields},\"adopted\":true}}")),
            None => output.line(&shown.line),
        };
    }
    let line: Map<String, Value> = serde_json::from_str(&shown.line).unwrap_or_default();
    let name = line.get("event_type").and_then(Value::as_str);
    let name = name.unwrap_or_default();
    let mut text = format!("{} {:>6} {name}", shown.time, shown.seq);
    let fields = line.iter();
    for (field, value) in fields.filter(|(field, _)| !ENVELOPE.contains(&field.as_str())) {
        text.push_str(&format!(" {field}={value}"));
    }
    if shown.event.is_none() {
        text.push_str(" (not known to this version)");
    }
    if shown.adopted {
        text.push_str(" (adopted from a killed writer: unproved)");
    }
    output.line(printable(&text).as_bytes())
}

/// Names the files that cannot be read and the lines that are no events; a log that has
/// some is wrong.
fn whole(damaged: &[Finding]) -> Result<(), Failure> {
    for finding in damaged.iter().take(NAMED) {
        say("error", &finding.to_string());
    }
    match damaged.len().checked_sub(NAMED) {
        Some(more) if more > 0 => say("error", &format!("and {more} more")),
        _ if damaged.is_empty() => return Ok(()),
        _ => {}
    }
    say("hint", "'vram audit verify' tells what happened to the log");
    Err(Failure::reported(Exit::Verification))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_beginnings_of_them_are_taken_and_others_are_not() {
        for good in [
            "2026",
            "2026-01",
            "2026-12-31",
            "2026-01-31T23",
            "2026-01-31T12:30:59",
            LATEST,
        ] {
            assert_eq!(time(good), Ok(good.to_owned()));
        }
        let bad = [
            "",
            "26",
            "2026-",
            "2026-1",
            "2026-13",
            "2026-00",
            "2026-01-32",
            "2026-01-31 12",
            "2026-01-31T24",
            "2026-01-31T12:60",
            "yesterday",
            "2026-01-31T12:30:59Z",
            "\u{663}026",
        ];
        for bad in bad {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn events_and_families_are_taken_and_others_are_not() {
        for good in ["seal.verified", "seal.", "audit.closed", "vram."] {
            assert_eq!(event_type(good), Ok(good.to_owned()));
        }
        for bad in ["", ".", "seal", "seal.verify", "sealed.", "Seal."] {
            assert!(event_type(bad).unwrap_err().contains("audit. "), "{bad}");
        }
    }
}
