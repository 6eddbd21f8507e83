//! Files of records: one record, one a line, or a group.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Deserialize;
use vram_residency::Record;
use vram_residency::shard::{GROUP_SCHEMA, GroupRecord, MAX_GROUP_RECORD_BYTES};

use crate::failure::Failure;
use crate::{fresh, regular};

/// Longest file of records that is read, in bytes.
const MAX_BYTES: u64 = MAX_GROUP_RECORD_BYTES as u64;

/// What a file of records says, not yet trusted.
#[derive(Debug)]
pub(crate) struct Records {
    /// In file order, at least one.
    pub(crate) records: Vec<Record>,
    /// They claim to be one group.
    pub(crate) is_group: bool,
}

/// The first thing to know about a JSON text.
#[derive(Deserialize)]
struct Peek {
    schema: String,
}

/// Reads a file of records.
pub(crate) fn read(path: &Path) -> Result<Records, Failure> {
    let name = path.display();
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot read record {name}: {error}"));
    let (file, _) = regular::open(path).map_err(failed)?;
    let mut text = Vec::new();
    let limit = MAX_BYTES.saturating_add(1);
    file.take(limit).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Failure::new(format!(
            "record {name} is longer than {MAX_BYTES} bytes"
        )));
    }
    let text = String::from_utf8(text);
    let text = text.map_err(|_| Failure::new(format!("record {name} is not UTF-8 text")))?;
    parse(&text).map_err(|failure| failure.naming(&name.to_string()))
}

fn parse(text: &str) -> Result<Records, Failure> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let is_object = |line: &&str| line.starts_with('{') && line.ends_with('}');
    if lines.len() > 1 && lines.iter().all(is_object) {
        let records = lines.into_iter().map(Record::from_json);
        return Ok(Records {
            records: records.collect::<Result<_, _>>()?,
            is_group: false,
        });
    }
    let schema = serde_json::from_str::<Peek>(text).map(|peek| peek.schema);
    if schema.is_ok_and(|schema| schema == GROUP_SCHEMA) {
        let records = GroupRecord::from_json(text)?.members;
        return Ok(Records {
            records,
            is_group: true,
        });
    }
    Ok(Records {
        records: vec![Record::from_json(text)?],
        is_group: false,
    })
}

/// Refuses a target that is something else than a record of ours: a model, a
/// link or a device must not be replaced by a slip of the hand.
pub(crate) fn check_target(path: &Path) -> Result<(), Failure> {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        // Nothing there; whether it can be made shows when it is written.
        return Ok(());
    };
    let refused = |what: &str| {
        let message = format!("{} {what}; it is not replaced by a record", path.display());
        Err(Failure::new(message).hint("name another file for --record"))
    };
    if !meta.is_file() {
        return refused("is not a regular file");
    }
    if meta.len() > 0 && read(path).is_err() {
        return refused("is not a record");
    }
    Ok(())
}

/// Nothing is replaced by a slip of the hand.
pub(crate) fn new_only(path: &Path) -> Result<(), Failure> {
    if std::fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let message = format!("{} exists; it is not replaced", path.display());
    Err(Failure::new(message).hint("name a new file"))
}

/// Writes `text` so that readers see the old file or the whole new one.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot write record {}: {error}", path.display()))
    };
    let mut options = File::options();
    let created = fresh::create_temporary(path, options.write(true).mode(0o644));
    let (mut file, temporary) = created.map_err(failed)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Ours: it was created a few lines above.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_record_says_why() {
        for (text, expected) in [
            ("", "EOF"),
            ("[]", "invalid"),
            ("{}", "missing field"),
            (
                "{\"schema\":\"vram-residency/record/v9\"}",
                "unknown schema",
            ),
            ("{\"schema\":\"a\",\"schema\":\"b\"}", "schema"),
        ] {
            let failure = parse(text).unwrap_err();
            assert!(
                failure.message().contains(expected),
                "{text}: {}",
                failure.message()
            );
        }
    }

    #[test]
    fn a_failed_write_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let occupied = dir.path().join("there");
        std::fs::create_dir(&occupied).unwrap();
        assert!(write(&occupied, "{}").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
