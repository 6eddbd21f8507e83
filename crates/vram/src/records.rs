//! Files of records: one record, one a line, or a group.

use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use vram_residency::Record;
use vram_residency::shard::{GROUP_SCHEMA, GroupRecord, MAX_GROUP_RECORD_BYTES};

use crate::failure::Failure;
use crate::{regular, replace};

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
    Err(replace::exists(path))
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
}
