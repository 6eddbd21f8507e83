//! What a killed writer left: the input is what stands after the lines that the
//! last checkpoint covers, where whoever can write to the directory can write.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use vram_residency::audit::check::{self, DirFiles, Options};
use vram_residency::audit::log::{LogOptions, LogSink, OpenError};
use vram_residency::audit::note::Origin;
use vram_residency::clock::{ManualClock, Timestamp};
use vram_residency::key::SigningKey;

use crate::audit_log::{KNOWN, MemoryFiles, lines, split_lines};
use crate::vectors::token;

/// The writer opens it again or leaves it as it is. Opened, it holds what was
/// signed, then whole lines of the input that a manager could have recorded, and
/// nothing else of it; the log says how many.
pub(crate) fn run(tail: &[u8]) -> bool {
    let mut files = KNOWN[2].files.clone();
    let covered = covered();
    let mut newest = covered.concat();
    newest.extend_from_slice(tail);
    files.insert("events.jsonl".to_owned(), newest);
    // In memory where it can be: a log is synced many times.
    let temp = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let temp = temp.expect("a directory");
    let dir = temp.path().join("log");
    write(&dir, &files);
    match open(&dir) {
        Ok(log) => drop(log),
        Err(OpenError::Damaged { .. }) => {
            assert_eq!(read(&dir), files, "a damaged log was written to");
            return false;
        }
        Err(error) => panic!("{error}"),
    }
    let after = read(&dir);
    let trusted = [key().public().clone()];
    let options = Options {
        trusted: &trusted,
        closed: true,
        ..Options::default()
    };
    let report = check::verify(&after, &options).expect("files in memory");
    assert!(report.is_good(), "{:?}", report.findings);
    let after = lines(&after);
    let (signed, rest) = after.split_at(covered.len());
    assert!(
        signed
            .iter()
            .zip(&covered)
            .all(|(now, then)| [now, &b"\n"[..]].concat() == *then)
    );
    adopted(rest, tail, report.adopted)
}

/// Holds the lines after the signed ones against the input that stood there.
fn adopted(rest: &[&[u8]], tail: &[u8], count: u64) -> bool {
    let count = usize::try_from(count).expect("a number of lines");
    let mut offered = split_lines(tail);
    let torn = offered.pop_if(|line| !line.ends_with(b"\n"));
    let (adopted, own) = rest.split_at(count);
    for (now, offered) in adopted.iter().zip(&offered) {
        assert_eq!([now, &b"\n"[..]].concat(), *offered);
        let event: Value = serde_json::from_slice(now).expect("JSON");
        assert!(event["audit_id"].as_u64() > Some(0));
        assert_eq!(event["worker_id"], "worker-1");
        let event_type = event["event_type"].as_str().expect("a type");
        assert!(
            !event_type.starts_with("audit."),
            "{event_type} was adopted"
        );
    }
    let [opened, closed] = own else {
        panic!("{} lines after the adopted ones", own.len());
    };
    let opened: Value = serde_json::from_slice(opened).expect("JSON");
    assert_eq!(opened["event_type"], "audit.opened");
    assert_eq!(opened["adopted_events"], count);
    let refused = opened["refused_lines"].as_u64().unwrap_or(0);
    assert_eq!(refused, (offered.len() - count) as u64);
    assert_eq!(opened["torn_bytes"], torn.map_or(0, <[u8]>::len));
    let closed: Value = serde_json::from_slice(closed).expect("JSON");
    assert_eq!(closed["event_type"], "audit.closed");
    count > 0
}

/// The lines that the checkpoint of the killed log covers, with their line feeds.
fn covered() -> Vec<&'static [u8]> {
    let log = &KNOWN[2];
    let size = log.signed[0].size;
    let size = usize::try_from(size).expect("a number of lines");
    let mut lines = split_lines(&log.files["events.jsonl"]);
    lines.truncate(size);
    lines
}

fn key() -> SigningKey {
    SigningKey::new(&token()).expect("a signing key")
}

/// Opens the log later than anything in it was written.
fn open(dir: &Path) -> Result<LogSink, OpenError> {
    let origin = Origin::new("example.org/worker-1").expect("a name");
    let mut options = LogOptions::new(origin, "worker-1".parse().expect("a name"));
    options.keep_days = None;
    let later = Timestamp::from_nanos(1_700_000_100_000_000_000);
    LogSink::open(dir, options, key(), Arc::new(ManualClock::new(later)))
}

/// Puts the files into a private directory.
fn write(dir: &Path, files: &MemoryFiles) {
    for (name, bytes) in files {
        let path = dir.join(name);
        let folder = path.parent().expect("a folder");
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(folder).expect("a folder");
        fs::write(&path, bytes).expect("written");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, private).expect("made private");
    }
}

fn read(dir: &Path) -> MemoryFiles {
    use check::Files as _;
    let files = DirFiles::new(dir);
    let names = files.names().expect("names");
    let read = |name: String| {
        let bytes = fs::read(dir.join(&name)).expect("a file");
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}
