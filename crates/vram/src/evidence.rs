//! The audit log of commands that hold models: open before anything can fail,
//! durable before anything is claimed.

use std::path::PathBuf;
use std::sync::Arc;

use vram_residency::audit::log::{LogOptions, LogSink};
use vram_residency::audit::note::Origin;
use vram_residency::audit::{AuditError, AuditMode, Sink};
use vram_residency::clock::SystemClock;
use vram_residency::key::SigningKey;
use vram_residency::manager::VramManagerBuilder;
use vram_residency::shard::WorkerId;

use crate::failure::Failure;
use crate::keys::in_file;
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
}

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
        let origin = Origin::new(&format!("vram/{worker}"));
        let origin = origin.map_err(|error| Failure::new(error.to_string()))?;
        let options = LogOptions::new(origin, worker.clone());
        let opened = LogSink::open(dir, options, key, Arc::new(SystemClock::new()));
        let sink = opened.map_err(|error| Failure::new(error.to_string()))?;
        Ok(Log {
            sink: Some(Arc::new(sink)),
            mode,
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
