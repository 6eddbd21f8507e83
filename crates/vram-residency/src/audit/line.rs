//! Lines of the log: `{"seq":<number>,"time":"<ISO 8601>",` and the event's own
//! fields, in one JSON object. The number makes every line unique and tells
//! where it belongs; a leaf of the tree is the line without its newline.

use serde::Deserialize;

use super::{Body, Event, Severity};
use crate::clock::Timestamp;
use crate::shard::WorkerId;
use crate::signed::json;

/// Longest line, in bytes with its newline. Events are far shorter.
pub(crate) const MAX_LINE_BYTES: usize = 256 << 10;
/// The segment that is written to.
pub(crate) const CURRENT: &str = "events.jsonl";
/// The signed size and root.
pub(crate) const CHECKPOINT: &str = "checkpoint";

const SEQ_PREFIX: &[u8] = b"{\"seq\":";
const TIME_PREFIX: &[u8] = b",\"time\":\"";
const TIME_LEN: usize = 30;
/// How an event of the log itself goes on: managers count theirs from 1.
const OWN_PREFIX: &[u8] = b"\",\"audit_id\":0,";

/// Appends the line of `event`, whose own JSON is `json`.
pub(crate) fn write(out: &mut Vec<u8>, seq: u64, time: &str, json: &[u8]) {
    out.extend_from_slice(SEQ_PREFIX);
    out.extend_from_slice(seq.to_string().as_bytes());
    out.extend_from_slice(TIME_PREFIX);
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\",");
    out.extend_from_slice(json.strip_prefix(b"{").unwrap_or(json));
    out.push(b'\n');
}

/// The number and time that a line claims.
pub(crate) fn claims(line: &[u8]) -> Option<(u64, &[u8])> {
    let (seq, time, _) = envelope(line)?;
    Some((seq, time))
}

/// What the log says of itself in this line, if it is one of its own.
pub(crate) fn own(line: &[u8]) -> Option<Body> {
    let (_, _, rest) = envelope(line)?;
    rest.strip_prefix(OWN_PREFIX)?;
    Some(event(line)?.body).filter(Body::is_of_the_log)
}

/// The number, the time and what follows them.
fn envelope(line: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let rest = line.strip_prefix(SEQ_PREFIX)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at_checked(digits)?;
    let seq = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (time, rest) = rest.strip_prefix(TIME_PREFIX)?.split_at_checked(TIME_LEN)?;
    Some((seq, time, rest))
}

/// The event of a line. None when a name stands twice in it: another reader
/// might take the other one.
pub(crate) fn event(line: &[u8]) -> Option<Event> {
    json::read(line).ok()
}

/// The type of the event in a line that has what surrounds one, the same in every
/// version: one that is no event here may be of a type that this version does not know.
pub(crate) fn event_type(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "some are read for their types")]
    struct Envelope {
        audit_id: u64,
        timestamp: Timestamp,
        worker_id: WorkerId,
        severity: Severity,
        event_type: String,
    }
    Some(json::read::<Envelope>(line).ok()?.event_type)
}

/// The time of a line, whether this version knows its event or not.
pub(crate) fn time(line: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Timed {
        timestamp: Timestamp,
    }
    let timed: Timed = serde_json::from_slice(line).ok()?;
    Some(timed.timestamp)
}

/// The name of a finished segment, by the number of its first event.
pub(crate) fn segment_name(first: u64) -> String {
    format!("events.{first:012}.jsonl")
}

/// The number of the first event in a finished segment of this name.
pub(crate) fn segment_first(name: &str) -> Option<u64> {
    let first = name.strip_prefix("events.")?.strip_suffix(".jsonl")?;
    let first = first.parse().ok()?;
    (segment_name(first) == name).then_some(first)
}

/// The name of the file in which the log's key names the next one, by the number
/// of that event.
pub(crate) fn handover_name(seq: u64) -> String {
    format!("handover.{seq:012}.json")
}

/// The number of the event in a file of this name.
pub(crate) fn handover_seq(name: &str) -> Option<u64> {
    let seq = name.strip_prefix("handover.")?.strip_suffix(".json")?;
    let seq = seq.parse().ok()?;
    (handover_name(seq) == name).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Body, Text};
    use crate::shard::WorkerId;

    #[test]
    fn a_line_reads_back() {
        let event = Event {
            audit_id: 7,
            timestamp: Timestamp::from_nanos(1_700_000_000_000_000_001),
            worker_id: "w".parse::<WorkerId>().unwrap(),
            severity: crate::audit::Severity::Critical,
            correlation_id: None,
            body: Body::ManagerStopped {
                reason: Text::new("r"),
            },
        };
        let mut line = Vec::new();
        let json = serde_json::to_vec(&event).unwrap();
        let time = event.timestamp.to_string();
        assert_eq!(time.len(), TIME_LEN);
        write(&mut line, 41, &time, &json);
        let line = line.strip_suffix(b"\n").unwrap();
        assert_eq!(claims(line), Some((41, time.as_bytes())));
        assert_eq!(super::event(line), Some(event));
        let value: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert_eq!(value["event_type"], "manager.stopped");
        // Of a version to come it would be told by what surrounds it.
        let text = String::from_utf8(line.to_vec()).unwrap();
        let newer = text.replace("manager.stopped", "manager.of_tomorrow");
        assert_eq!(super::event(newer.as_bytes()), None);
        let named = event_type(newer.as_bytes());
        assert_eq!(named.as_deref(), Some("manager.of_tomorrow"));
        let bare = newer.replace("worker_id", "somebody");
        assert_eq!(event_type(bare.as_bytes()), None);
    }

    #[test]
    fn segment_names_round_trip() {
        assert_eq!(segment_first(&segment_name(1200)), Some(1200));
        for bad in [CURRENT, "events.12.jsonl", "events..jsonl", "checkpoint"] {
            assert_eq!(segment_first(bad), None);
        }
    }
}
