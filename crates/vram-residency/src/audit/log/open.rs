//! Opens a log: permissions, lock, the check of what is there, recovery.

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use super::super::check::{self, DirFiles, Examined, Fault, Files, Report};
use super::super::event::Body;
use super::super::line::{self, CURRENT};
use super::super::merkle::{Tree, tile};
use super::adopt;
use super::committer::{Committer, Position, Segment, day};
use super::storage::{DirStorage, Storage};
use super::{LogOptions, OpenError, handover, private};
use crate::clock::Clock;
use crate::key::SigningKey;

pub(super) fn open(
    dir: &Path,
    options: &LogOptions,
    key: SigningKey,
    clock: Arc<dyn Clock>,
) -> Result<Committer, OpenError> {
    let io = |error: io::Error| OpenError::Io {
        path: dir.to_owned(),
        reason: error.to_string(),
    };
    let (root, lock) = private::folder(dir)?;
    let files = DirFiles::new(dir);
    private::files(dir, &root, &files)?;
    if is_new(&files).map_err(io)? {
        let storage = DirStorage::new(root, lock).map_err(io)?;
        return begin(storage, options, key, clock).map_err(io);
    }
    let trusted = [key.public().clone()];
    let checks = check::Options {
        trusted: &trusted,
        ..check::Options::default()
    };
    let found = check::examine(&files, &checks);
    let found = found.map_err(|error| io(io::Error::other(error)))?;
    if found.replaced {
        return Err(OpenError::Replaced {
            path: dir.to_owned(),
        });
    }
    refuse(dir, &found.report, options)?;
    let finished = finished(&files, &found).map_err(io)?;
    let mut storage = DirStorage::new(root, lock).map_err(io)?;
    handover::finish(&mut storage, &files, &found, key.public()).map_err(io)?;
    resume(storage, options, key, clock, &files, found, finished).map_err(io)
}

/// Nothing yet, or the empty segment of a first start that was killed.
fn is_new(files: &DirFiles) -> io::Result<bool> {
    for name in files.names()? {
        if name != CURRENT || !files.open(&name)?.fill_buf()?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first checkpoint stands before the first line: a log without one was
/// tampered with.
fn begin(
    storage: DirStorage,
    options: &LogOptions,
    key: SigningKey,
    clock: Arc<dyn Clock>,
) -> io::Result<Committer> {
    let at = Position {
        tree: Tree::default(),
        finished: Vec::new(),
        first: 0,
        day: None,
        len: 0,
        covered: 0,
        partial: Vec::new(),
    };
    let mut committer = Committer::new(Box::new(storage), options.clone(), key, clock, at);
    committer.sign()?;
    committer.note(Body::audit_opened(0, 0, 0));
    Ok(committer)
}

/// Goes on with a log that verifies.
fn resume(
    mut storage: DirStorage,
    options: &LogOptions,
    key: SigningKey,
    clock: Arc<dyn Clock>,
    files: &DirFiles,
    found: Examined,
    finished: Vec<Segment>,
) -> io::Result<Committer> {
    let adopted = adopt::adopt(files, &found)?;
    storage.truncate(adopted.len)?;
    storage.sync()?;
    let mut tree = Tree::default();
    found.leaves.iter().for_each(|leaf| tree.push(*leaf));
    let partial = store_tiles(&mut storage, files, &tree)?;
    tree.forget_finished();
    let in_current = found.scan.lines.iter();
    let in_current = in_current.filter(|line| found.scan.file_of(line) == CURRENT);
    let in_current = in_current.count().saturating_sub(found.tail.len());
    let first = tree.size().saturating_sub(in_current as u64);
    let tail = found.tail.iter().take(adopted.lines);
    tail.for_each(|leaf| tree.push(*leaf));
    let at = Position {
        day: first_day(files, CURRENT)?,
        finished,
        first,
        len: adopted.len,
        covered: found.leaves.len() as u64,
        tree,
        partial,
    };
    let mut committer = Committer::new(Box::new(storage), options.clone(), key, clock, at);
    if found.report.closed {
        committer.reopen()?;
    }
    let (lines, refused) = (adopted.lines as u64, adopted.refused as u64);
    let torn = found.report.torn_bytes;
    committer.note(Body::audit_opened(lines, refused, torn));
    Ok(committer)
}

/// Brings the stored tiles to those of the tree; the paths of the partial ones.
/// What a power failure took is written again. What a killed writer stored for
/// its next checkpoint goes before the first one is signed that it would not fit.
fn store_tiles(
    storage: &mut dyn Storage,
    files: &DirFiles,
    tree: &Tree,
) -> io::Result<Vec<String>> {
    let mut ours = HashSet::new();
    for tile in tree.finished().iter().cloned().chain(tree.partial()) {
        let (path, bytes) = (tile.path(), tile.bytes());
        let mut stored = Vec::new();
        let read = files.open(&path);
        let same = read.is_ok_and(|mut file| {
            io::Read::read_to_end(&mut file, &mut stored).is_ok() && stored == bytes
        });
        if !same {
            storage.put(&path, &bytes, false)?;
        }
        ours.insert(path);
    }
    for name in files.names()? {
        if tile::parse_path(&name).is_some() && !ours.contains(&name) {
            storage.remove(&name)?;
        }
    }
    Ok(tree.partial().map(|tile| tile.path()).collect())
}

/// A log with any fault is left as it is. Tiles are no evidence of their own:
/// where the lines give the signed root, tiles can be made again.
fn refuse(dir: &Path, report: &Report, options: &LogOptions) -> Result<(), OpenError> {
    let fault = |fault: &&check::Finding| fault.fault != Fault::Tile;
    if let Some(finding) = report.findings.iter().find(fault) {
        return Err(OpenError::Damaged {
            path: dir.to_owned(),
            finding: finding.to_string(),
        });
    }
    let found = report.origin.clone().unwrap_or_default();
    if found != options.origin.as_str() {
        return Err(OpenError::Origin {
            path: dir.to_owned(),
            found,
            expected: options.origin.to_string(),
        });
    }
    Ok(())
}

fn finished(files: &DirFiles, found: &Examined) -> io::Result<Vec<Segment>> {
    let names = found.scan.files.iter();
    let finished = names.filter_map(|name| Some((line::segment_first(name)?, name)));
    finished
        .map(|(first, name)| {
            let day = first_day(files, name)?.unwrap_or(0);
            Ok(Segment { first, day })
        })
        .collect()
}

/// The day of a segment's first event.
fn first_day(files: &DirFiles, name: &str) -> io::Result<Option<u64>> {
    let mut bytes = Vec::new();
    match files.open(name) {
        Ok(mut reader) => reader.read_until(b'\n', &mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let event = bytes.strip_suffix(b"\n").and_then(line::event);
    Ok(event.map(|event| day(event.timestamp)))
}
