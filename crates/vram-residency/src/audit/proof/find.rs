//! What a proof takes from the files of a log that was examined. A writer may
//! finish segments meanwhile.

use std::io;

use super::super::check::{Examined, Files, next_line, open_if_there};
use super::super::line::{self, CURRENT, segment_first, segment_name};
use super::super::merkle::{Hash, leaf_hash};

/// How often a line is looked for again while segments are finished.
const MOST_LOOKS: usize = 5;

/// The line of a proved event; none when it was retired.
pub(super) fn line(files: &dyn Files, found: &Examined, seq: u64) -> io::Result<Option<String>> {
    let Some(leaf) = leaf(found, seq) else {
        return Ok(None);
    };
    let mut names = files.names()?;
    for _ in 0..MOST_LOOKS {
        let begun = names.iter().filter_map(|name| segment_first(name));
        let finished = begun.filter(|first| *first <= seq).max().map(segment_name);
        for name in finished.as_deref().into_iter().chain([CURRENT]) {
            if let Some(line) = line_in(files, name, seq, leaf)? {
                return Ok(Some(line));
            }
        }
        let before = std::mem::replace(&mut names, files.names()?);
        if names == before {
            break;
        }
    }
    Ok(None)
}

/// The line of event `seq` in a segment, when it is there and the tree holds it.
fn line_in(files: &dyn Files, name: &str, seq: u64, leaf: &Hash) -> io::Result<Option<String>> {
    let Some(mut reader) = open_if_there(files, name)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    while next_line(reader.as_mut(), &mut bytes)? {
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let ours = line::claims(text).is_some_and(|(claimed, _)| claimed == seq);
        if ours && leaf_hash(text) == *leaf {
            let text = String::from_utf8(text.to_vec());
            return text.map(Some).map_err(io::Error::other);
        }
    }
    Ok(None)
}

fn leaf(found: &Examined, seq: u64) -> Option<&Hash> {
    found.leaves.get(usize::try_from(seq).ok()?)
}
