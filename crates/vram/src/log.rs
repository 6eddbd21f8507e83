//! `--log`: what the library tells through `tracing`, on stderr.

use clap::ValueEnum;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::failure::Failure;

/// How much is told, and in which form.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Tell on stderr what happens, as far as this level; no secrets at any
    #[arg(long = "log", value_name = "LEVEL", value_enum, global = true)]
    log_level: Option<Level>,
    /// How to write the log: lines for people or one JSON object a line
    #[arg(
        long,
        value_name = "FORM",
        value_enum,
        global = true,
        default_value_t = Form::Text
    )]
    log_format: Form,
}

/// From the least told to the most.
#[derive(Clone, Copy, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
}

impl Args {
    /// A log was asked for; progress would only be torn apart by it.
    pub(crate) const fn is_wanted(&self) -> bool {
        self.log_level.is_some()
    }

    /// Listens from now on, if that was asked for.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let Some(level) = self.log_level else {
            return Ok(());
        };
        // Without a stderr there is nobody to tell, and nobody to tell of that.
        let builder = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::from(level))
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .log_internal_errors(false);
        let started = match self.log_format {
            Form::Text => builder.finish().try_init(),
            Form::Json => builder.json().with_current_span(false).finish().try_init(),
        };
        started.map_err(|error| Failure::new(format!("cannot start the log: {error}")))
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}
