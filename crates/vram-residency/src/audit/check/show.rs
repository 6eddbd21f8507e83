//! Reads events back, filtered.

use std::io::{self, BufRead};

use super::super::event::{Body, Event, Text};
use super::super::line::{self, CURRENT, MAX_LINE_BYTES};
use super::adopted::Adopted;
use super::files::{Files, open_if_there};
use super::readable::Readable;
use super::report::{Fault, Finding};
use super::scan;

/// Which events to show; every condition that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Events that name this shard.
    pub shard: Option<String>,
    /// Events of the request with this correlation id.
    pub correlation_id: Option<String>,
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
    /// The event; none when another version wrote it and this one does not know its type.
    pub event: Option<Event>,
    /// The log says that no checkpoint covered the event when its writer was
    /// killed: nothing proves it.
    pub adopted: bool,
    /// The line as it stands in the log.
    pub line: String,
}

impl Filter {
    fn passes(&self, shown: &Shown) -> bool {
        let by_field = [&self.shard, &self.correlation_id, &self.event_type];
        let value: serde_json::Value = if by_field.iter().any(|wanted| wanted.is_some()) {
            serde_json::from_str(&shown.line).unwrap_or_default()
        } else {
            serde_json::Value::Null
        };
        let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
        let shard = self.shard.as_deref();
        let shard = shard.is_none_or(|id| text("shard_id") == Some(id));
        let request = self.correlation_id.as_deref().map(Text::new);
        let request = request.is_none_or(|id| text("correlation_id") == Some(id.as_str()));
        let event = self.event_type.as_deref().is_none_or(|wanted| {
            let is = text("event_type").unwrap_or_default();
            is == wanted || (wanted.ends_with('.') && is.starts_with(wanted))
        });
        let time = shown.time.as_str();
        let since = self.since.as_deref().is_none_or(|since| time >= since);
        let until = self.until.as_deref().is_none_or(|until| time < until);
        shard && request && event && since && until
    }
}

/// Gives each event that passes `filter` to `each`, oldest first, and returns the files
/// that cannot be read and the lines that are no events. An unfinished last line, as a
/// running writer has it, is none of them. [`super::verify`] tells what happened to the
/// others.
///
/// # Errors
/// The system's, when the directory cannot be read; and whatever `each` returns.
pub fn show(
    files: &dyn Files,
    filter: &Filter,
    each: &mut dyn FnMut(Shown) -> io::Result<()>,
) -> io::Result<Vec<Finding>> {
    let files = Readable::new(files);
    let (mut damaged, mut own) = (Vec::<Finding>::new(), Vec::new());
    // What opens a log after a writer was killed stands behind what it adopts.
    walk(&files, &mut |_, _, bytes| {
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let opened = line::own(text).filter(|body| matches!(body, Body::AuditOpened { .. }));
        own.extend(line::claims(text).map(|(seq, _)| seq).zip(opened));
        Ok(())
    })?;
    let adopted = Adopted::said(own);
    walk(&files, &mut |name, number, bytes| {
        if let Some(mut shown) = read(bytes) {
            shown.adopted = adopted.contains(shown.seq);
            return if filter.passes(&shown) {
                each(shown)
            } else {
                Ok(())
            };
        }
        let unfinished = name == CURRENT && bytes.last() != Some(&b'\n');
        if unfinished && bytes.len() < MAX_LINE_BYTES {
            return Ok(());
        }
        let mut finding = Finding::of_file(Fault::Unreadable, name, "the line is no event");
        finding.line = Some(number);
        if !damaged.last_mut().is_some_and(|last| last.absorb(&finding)) {
            damaged.push(finding);
        }
        Ok(())
    })?;
    Ok(files.findings().into_iter().chain(damaged).collect())
}

/// Takes a line's segment, its number from 1, and its bytes.
type Visit<'a> = dyn FnMut(&str, u64, &[u8]) -> io::Result<()> + 'a;

/// Gives every line to `visit`, oldest first, also while a writer finishes segments.
fn walk(files: &dyn Files, visit: &mut Visit<'_>) -> io::Result<()> {
    let mut walked = None;
    loop {
        for first in finished(files, walked)? {
            walked = Some(first);
            let name = line::segment_name(first);
            // One that is not there any more was retired meanwhile.
            if let Some(mut reader) = open_if_there(files, &name)? {
                segment(reader.as_mut(), &name, visit)?;
            }
        }
        let current = open_if_there(files, CURRENT)?;
        // What a writer finished since the listing may be what was opened here:
        // it comes first, and under its own name.
        if finished(files, walked)?.is_empty() {
            return match current {
                Some(mut reader) => segment(reader.as_mut(), CURRENT, visit),
                None => Ok(()),
            };
        }
    }
}

/// The first events of the finished segments after the one of `walked`, in order.
fn finished(files: &dyn Files, walked: Option<u64>) -> io::Result<Vec<u64>> {
    let names = files.names()?;
    let all = names.iter().filter_map(|name| line::segment_first(name));
    let mut newer: Vec<u64> = all.filter(|first| Some(*first) > walked).collect();
    newer.sort_unstable();
    Ok(newer)
}

fn segment(reader: &mut dyn BufRead, name: &str, visit: &mut Visit<'_>) -> io::Result<()> {
    let (mut bytes, mut number) = (Vec::new(), 0_u64);
    while scan::next_line(reader, &mut bytes)? {
        number = number.saturating_add(1);
        visit(name, number, &bytes)?;
    }
    Ok(())
}

fn read(bytes: &[u8]) -> Option<Shown> {
    let text = std::str::from_utf8(bytes.strip_suffix(b"\n")?).ok()?;
    let (seq, time) = line::claims(text.as_bytes())?;
    let event = line::event(text.as_bytes());
    // Of a type that is known it would be an event, were it whole.
    let of_another_version = |name: String| !Body::TYPES.contains(&name.as_str());
    if event.is_none() && !line::event_type(text.as_bytes()).is_some_and(of_another_version) {
        return None;
    }
    Some(Shown {
        seq,
        time: std::str::from_utf8(time).ok()?.to_owned(),
        event,
        adopted: false,
        line: text.to_owned(),
    })
}
