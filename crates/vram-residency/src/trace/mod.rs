//! What the library does, told through `tracing` (requirement: OB-1, OB-6, OB-7).
//!
//! Operations are spans that name shard, device and correlation id where there are
//! such; each tells how it ended and how long it took, at the span's own level, or as
//! a warning when it was refused. Every audit event is
//! told as well, at the level of its severity ([`told`]), whether or not there
//! is a sink. Calls of a device are told at debug level.
//!
//! Fields are names, sizes, times and results: never a key, a tag, an address or
//! a weight. Text from outside is cleaned and cut like that of the audit log.
//! Durations are the machine's own, so that a clock that was passed in is read no
//! more often with a listener than without one. Without one, a span or an event
//! costs the reading of one atomic number.

mod body;

use std::time::Instant;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, debug, info, warn};

pub(crate) use body::{lost, told};

use crate::audit::Text;
use crate::device::{DeviceError, FreeError};
use crate::error::{Error, Result};

/// Tells that segments of the audit log before an event are to go and stay.
pub(crate) fn not_deleted(first_kept: u64, error: &std::io::Error) {
    let reason = Text::new(&error.to_string());
    warn!(first_kept, %reason, "retired segments of the audit log cannot be deleted");
}

/// Tells that a tile of the audit log that newer ones stand for stays.
pub(crate) fn tile_not_deleted(path: &str, error: &std::io::Error) {
    let reason = Text::new(&error.to_string());
    warn!(path, %reason, "an old tile of the audit log cannot be deleted");
}

/// Runs an operation inside its span and tells how it ended.
#[inline]
pub(crate) fn operation<T>(span: &Span, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if span.is_disabled() {
        return work();
    }
    let began = Instant::now();
    let _entered = span.enter();
    let answer = work();
    ended(span, answer.as_ref().err(), nanos_since(began));
    answer
}

/// When something began that ends with an event; without a listener no clock is read.
pub(crate) struct Began(Option<Instant>);

impl Began {
    /// The event will be of this level.
    pub(crate) fn at(level: Level) -> Self {
        Self((level <= LevelFilter::current()).then(Instant::now))
    }

    pub(crate) fn nanos(&self) -> Option<u64> {
        self.0.map(nanos_since)
    }
}

fn ended(span: &Span, error: Option<&Error>, nanos: u64) {
    let Some(of) = span.metadata() else { return };
    let name = of.name();
    match error {
        None if *of.level() == Level::INFO => info!(nanos, outcome = "ok", "{name} is done"),
        None => debug!(nanos, outcome = "ok", "{name} is done"),
        Some(error) if error.is_refusal() => refused(name, error, Some(nanos)),
        // What failed has an event of its own severity; this is about the time.
        Some(error) if *of.level() == Level::INFO => {
            info!(
                nanos,
                outcome = "failed",
                code = error.code().as_str(),
                "{name} failed"
            );
        }
        Some(error) => debug!(
            nanos,
            outcome = "failed",
            code = error.code().as_str(),
            "{name} failed"
        ),
    }
}

/// Tells of a request that was refused, which is no event of the log
/// (requirement: OB-6, AU-14).
pub(crate) fn refused(operation: &str, error: &Error, nanos: Option<u64>) {
    warn!(
        nanos,
        outcome = "refused",
        code = error.code().as_str(),
        reason = %Text::new(&error.to_string()),
        "{operation} was refused"
    );
}

/// What a call of a device can answer instead of doing its work.
pub(crate) trait Fault {
    /// The device's words.
    fn words(&self) -> Text;
}

impl Fault for DeviceError {
    fn words(&self) -> Text {
        Text::new(&self.to_string())
    }
}

impl Fault for FreeError {
    fn words(&self) -> Text {
        self.source.words()
    }
}

/// Runs one call of a device and tells what came of it.
#[inline]
pub(crate) fn device_call<T, E: Fault>(
    gpu_device: u32,
    op: &'static str,
    bytes: Option<u64>,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    if !tracing::enabled!(Level::DEBUG) {
        return call();
    }
    let began = Instant::now();
    let answer = call();
    let nanos = nanos_since(began);
    match &answer {
        Ok(_) => debug!(gpu_device, op, bytes, nanos, outcome = "ok", "device call"),
        Err(fault) => debug!(
            gpu_device, op, bytes, nanos,
            outcome = "failed",
            reason = %fault.words(),
            "device call"
        ),
    }
    answer
}

fn nanos_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
