//! The audit log of commands that hold models: open before anything can fail,
//! durable before anything is claimed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vram_residency::audit::log::{LogOptions, LogSink};
use vram_residency::audit::{AuditError, AuditMode, Sink};
use vram_residency::clock::SystemClock;
use vram_residency::key::SigningKey;
use vram_residency::manager::VramManagerBuilder;
use vram_residency::shard::WorkerId;

use crate::failure::Failure;
use crate::keys::in_file;
use crate::log_name;
use crate::output::Output;
use crate::text;

/// Options of commands that write a log.
#[derive(clap::Args)]
pub(crate) struct LogArgs {
    /// Write every event to the audit log in this directory
    #[arg(long, value_name = "DIR", requires = "audit_key")]
    audit: Option<PathBuf>,
    /// Key file that signs the log's checkpoints ('vram key new --signing' makes one)
    #[arg(long, value_name = "FILE", requires = "audit")]
    audit_key: Option<PathBuf>,
    /// Go on when the open log cannot be written [default: what cannot be recorded fails]
    #[arg(long, requires = "audit")]
    audit_best_effort: bool,
    /// Days that the log's finished segments are kept
    #[arg(long, value_name = "DAYS", default_value_t = KEEP_DAYS, value_parser = clap::value_parser!(u64).range(1..), requires = "audit")]
    audit_keep_days: u64,
    /// Finished segments of the log, of a day or 64 MiB, that are kept at most [default: all of those days]
    #[arg(long, value_name = "N", requires = "audit")]
    audit_keep_segments: Option<usize>,
}

/// Seven years (requirement: AU-10).
const KEEP_DAYS: u64 = 2555;

/// The log of one command, if one was asked for.
pub(crate) struct Log {
    sink: Option<Arc<LogSink>>,
    mode: AuditMode,
}

impl LogArgs {
    /// Opens the log (requirement: EXP-AUDIT-6001).
    pub(crate) fn open(&self, worker: &WorkerId) -> Result<Log, Failure> {
        let mode = if self.audit_best_effort {
            AuditMode::BestEffort
        } else {
            AuditMode::Required
        };
        let (Some(dir), Some(key)) = (&self.audit, &self.audit_key) else {
            return Ok(Log { sink: None, mode });
        };
        let key = SigningKey::from_file(key).map_err(|e| in_file(e, key))?;
        let options = self.options(dir, worker)?;
        let opened = LogSink::open(dir, options, key, Arc::new(SystemClock::new()));
        let sink = opened.map_err(|error| Failure::new(error.to_string()))?;
        Ok(Log {
            sink: Some(Arc::new(sink)),
            mode,
        })
    }

    fn options(&self, dir: &Path, worker: &WorkerId) -> Result<LogOptions, Failure> {
        let origin = log_name::of_log(dir, worker)?;
        Ok(LogOptions {
            keep_days: Some(self.audit_keep_days),
            keep_segments: self.audit_keep_segments,
            ..LogOptions::new(origin, worker.clone())
        })
    }
}

impl Log {
    /// Gives the manager its log.
    pub(crate) fn attach(&self, builder: VramManagerBuilder) -> VramManagerBuilder {
        let Some(sink) = &self.sink else {
            return builder;
        };
        let sink: Arc<dyn Sink> = Arc::clone(sink) as _;
        builder.sink(sink).audit_mode(self.mode)
    }

    /// Waits until all that happened is on disk and under a checkpoint. Where it
    /// cannot be, the command fails, or with --audit-best-effort says so.
    pub(crate) fn keep(&self, output: &Output) -> Result<(), Failure> {
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        let kept = sink.flush();
        if self.mode == AuditMode::Required {
            return kept.map_err(lost);
        }
        if let Err(error) = kept {
            output.note(&format!("{error}; going on without it"));
        }
        let (events, _) = sink.losses();
        if events > 0 {
            let what = text::count(events, "event");
            output.note(&format!("the audit log lost {what}"));
        }
        Ok(())
    }
}

fn lost(error: AuditError) -> Failure {
    Failure::new(error.to_string())
        .hint("nothing is claimed that the log does not hold; --audit-best-effort goes on without")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        log: LogArgs,
    }

    /// What `--audit log --audit-key key` and these words say is kept.
    fn kept(words: &str) -> Option<(Option<u64>, Option<usize>)> {
        let words = format!("vram --audit log --audit-key key {words}");
        let cli = Cli::try_parse_from(words.split_whitespace()).ok()?;
        let options = cli.log.options(Path::new("log"), &"w".parse().unwrap());
        let options = options.map_err(|failure| failure.message().to_owned());
        let options = options.unwrap();
        Some((options.keep_days, options.keep_segments))
    }

    // requirement: AU-10
    #[test]
    fn what_a_log_keeps_can_be_said() {
        assert_eq!(kept(""), Some((Some(2555), None)));
        let said = "--audit-keep-days 90 --audit-keep-segments 10";
        assert_eq!(kept(said), Some((Some(90), Some(10))));
        assert_eq!(kept("--audit-keep-segments 0"), Some((Some(2555), Some(0))));
        for wrong in ["--audit-keep-days 0", "--audit-keep-segments -1"] {
            assert_eq!(kept(wrong), None, "{wrong}");
        }
        let alone = Cli::try_parse_from(["vram", "--audit-keep-days", "9"]);
        assert!(alone.is_err());
    }
}
