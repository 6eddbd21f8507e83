//! Reads events back, filtered.

use std::io;

use super::super::event::Event;
use super::super::line;
use super::files::Files;
use super::scan;

/// Which events to show; every condition that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Events that name this shard.
    pub shard: Option<String>,
    /// Events of this type, or of this family when it ends in a dot
    /// (`seal.` for all of `seal.*`).
    pub event_type: Option<String>,
    /// Not before this ISO 8601 time in UTC; a prefix such as `2026-01` will do.
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
}

/// One event that passed the filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Its number in the log.
    pub seq: u64,
    /// Its time, ISO 8601.
    pub time: String,
    /// The event.
    pub event: Event,
    /// The line as it stands in the log.
    pub line: String,
}

impl Filter {
    fn passes(&self, time: &str, value: &serde_json::Value) -> bool {
        let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
        let shard = self.shard.as_deref();
        let shard = shard.is_none_or(|id| text("shard_id") == Some(id));
        let event = self.event_type.as_deref().is_none_or(|wanted| {
            let is = text("event_type").unwrap_or_default();
            is == wanted || (wanted.ends_with('.') && is.starts_with(wanted))
        });
        let since = self.since.as_deref().is_none_or(|since| time >= since);
        let until = self.until.as_deref().is_none_or(|until| time < until);
        shard && event && since && until
    }
}

/// Gives each event that passes `filter` to `each`, oldest first. Lines that
/// are no events are skipped: [`super::verify`] names them.
///
/// # Errors
/// The system's, when a file cannot be read; and whatever `each` returns.
pub fn show(
    files: &dyn Files,
    filter: &Filter,
    each: &mut dyn FnMut(Shown) -> io::Result<()>,
) -> io::Result<()> {
    for name in scan::segments(&files.names()?) {
        let (mut reader, mut bytes) = (files.open(&name)?, Vec::new());
        while scan::next_line(reader.as_mut(), &mut bytes)? {
            if let Some(shown) = read(&bytes, filter) {
                each(shown)?;
            }
        }
    }
    Ok(())
}

fn read(bytes: &[u8], filter: &Filter) -> Option<Shown> {
    let text = std::str::from_utf8(bytes.strip_suffix(b"\n")?).ok()?;
    let (seq, time) = line::claims(text.as_bytes())?;
    let time = std::str::from_utf8(time).ok()?;
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    if !filter.passes(time, &value) {
        return None;
    }
    Some(Shown {
        seq,
        time: time.to_owned(),
        event: line::event(text.as_bytes())?,
        line: text.to_owned(),
    })
}
