//! Opens a log: permissions, lock, the check of what is there, recovery.

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use super::super::check::{self, DirFiles, Examined, Fault, Files, Report};
use super::super::event::Body;
use super::super::line::{self, CURRENT};
use super::super::merkle::{Tree, tile};
use super::super::note::Cut;
use super::adopt::{self, Adopted};
use super::committer::{Committer, Left, Position, Segment, day, put_tile};
use super::private::{self, failed};
use super::storage::{DirStorage, Storage};
use super::{LogOptions, OpenError, handover};
use crate::clock::Clock;
use crate::key::{SigningKey, VerifyingKey};
use crate::trace;

/// Where a log is. Nothing is written to it before `storage` is called.
pub(super) struct Place<'a> {
    /// Its name in messages.
    pub(super) dir: &'a Path,
    pub(super) files: &'a dyn Files,
    pub(super) storage: Box<dyn FnOnce() -> io::Result<Box<dyn Storage>> + 'a>,
}

/// Who writes a log.
pub(super) struct Writer<'a> {
    pub(super) options: &'a LogOptions,
    pub(super) key: SigningKey,
    pub(super) clock: Arc<dyn Clock>,
}

impl Place<'_> {
    /// Checks what is there.
    pub(super) fn examine(&self, key: &VerifyingKey) -> Result<Examined, OpenError> {
        let trusted = std::slice::from_ref(key);
        let checks = check::Options {
            trusted,
            ..check::Options::default()
        };
        check::examine(self.files, &checks).map_err(|error| failed(self.dir, &error))
    }

    /// Goes on with the log that was found.
    pub(super) fn resume(
        self,
        writer: Writer<'_>,
        found: &Examined,
    ) -> Result<Committer, OpenError> {
        refuse(self.dir, &found.report, writer.options)?;
        let dir = self.dir;
        resume(self, writer, found).map_err(|error| failed(dir, &error))
    }
}

/// Locks a directory, checks whose it is, and does `work` there.
pub(super) fn in_dir<T>(
    dir: &Path,
    work: impl FnOnce(Place<'_>) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let (root, lock) = private::folder(dir)?;
    let files = DirFiles::new(dir);
    private::files(dir, &root, &files)?;
    let storage = || -> io::Result<Box<dyn Storage>> { Ok(Box::new(DirStorage::new(root, lock)?)) };
    work(Place {
        dir,
        files: &files,
        storage: Box::new(storage),
    })
}

pub(super) fn open(place: Place<'_>, writer: Writer<'_>) -> Result<Committer, OpenError> {
    let dir = place.dir;
    if is_new(place.files).map_err(|error| failed(dir, &error))? {
        return begin(place, writer).map_err(|error| failed(dir, &error));
    }
    let found = place.examine(writer.key.public())?;
    if found.replaced || handover::named(&found, writer.key.public()).is_some() {
        return Err(OpenError::Replaced {
            path: dir.to_owned(),
        });
    }
    place.resume(writer, &found)
}

/// Nothing yet, or the empty segment of a first start that was killed.
fn is_new(files: &dyn Files) -> io::Result<bool> {
    for name in files.names()? {
        if name != CURRENT || !files.open(&name)?.fill_buf()?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first checkpoint stands before the first line: a log without one was
/// tampered with.
fn begin(place: Place<'_>, writer: Writer<'_>) -> io::Result<Committer> {
    let mut storage = (place.storage)()?;
    storage.remove_drafts()?;
    let at = Position {
        tree: Tree::default(),
        finished: Vec::new(),
        first: 0,
        day: None,
        len: 0,
        covered: 0,
        partial: Vec::new(),
        kept: 0,
    };
    let mut committer = writer.committer(storage, at);
    committer.sign()?;
    committer.note(Body::audit_opened(0, 0, 0));
    Ok(committer)
}

impl Writer<'_> {
    fn committer(self, storage: Box<dyn Storage>, at: Position) -> Committer {
        Committer::new(storage, self.options.clone(), self.key, self.clock, at)
    }
}

/// Goes on with a log that verifies.
fn resume(place: Place<'_>, writer: Writer<'_>, found: &Examined) -> io::Result<Committer> {
    let files = place.files;
    let day = first_day(files, CURRENT)?;
    let finished = finished(files, found)?;
    let adopted = adopt::adopt(files, found, &writer.options.worker_id)?;
    let mut storage = (place.storage)()?;
    storage.remove_drafts()?;
    handover::finish(&mut *storage, files, found, writer.key.public())?;
    let mut tree = Tree::default();
    found.leaves.iter().for_each(|leaf| tree.push(*leaf));
    let partial = store_tiles(&mut *storage, files, &tree, found.report.first_kept)?;
    tree.forget_finished();
    let in_current = found.scan.lines.iter();
    let in_current = in_current.filter(|line| found.scan.file_of(line) == CURRENT);
    let in_current = in_current.count().saturating_sub(found.tail.len());
    let at = Position {
        day,
        finished,
        first: tree.size().saturating_sub(in_current as u64),
        len: adopted.len,
        covered: tree.size(),
        tree,
        partial,
        kept: found.retired,
    };
    let mut committer = writer.committer(storage, at);
    let cut = cut_off(found, &adopted);
    committer.take_over(&Left {
        adopted: found.tail.get(..adopted.lines).unwrap_or_default(),
        cut,
        reopened: found.checkpoint.as_ref().is_some_and(|note| note.reopened),
    })?;
    if found.report.closed {
        committer.reopen()?;
    }
    committer.note(Body::audit_opened(
        adopted.lines as u64,
        cut.lines,
        cut.bytes,
    ));
    Ok(committer)
}

/// What is cut off now, and what an earlier start cut off that was killed before
/// its `audit.opened` was under a checkpoint. The same once more is what that start
/// was killed over.
fn cut_off(found: &Examined, adopted: &Adopted) -> Cut {
    let before = found
        .checkpoint
        .as_ref()
        .map_or(Cut::default(), |note| note.cut);
    let now = Cut {
        lines: adopted.refused as u64,
        bytes: found.report.torn_bytes,
    };
    if now == before {
        return now;
    }
    Cut {
        lines: now.lines.saturating_add(before.lines),
        bytes: now.bytes.saturating_add(before.bytes),
    }
}

/// Brings the stored tiles to those of the tree; the paths of the partial ones.
/// What a power failure took is written again. What a killed writer stored for
/// its next checkpoint goes before the first one is signed that it would not fit. One of a
/// smaller tree that cannot be deleted fits, and stays.
fn store_tiles(
    storage: &mut dyn Storage,
    files: &dyn Files,
    tree: &Tree,
    first_kept: u64,
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
            put_tile(storage, &tile, first_kept)?;
        }
        ours.insert(path);
    }
    for name in files.names()? {
        let Some(place) = tile::parse_path(&name).filter(|_| !ours.contains(&name)) else {
            continue;
        };
        match storage.remove(&name) {
            Err(error) if tile::is_within(place, tree.size()) => {
                trace::tile_not_deleted(&name, &error);
            }
            removed => removed?,
        }
    }
    Ok(tree.partial().map(|tile| tile.path()).collect())
}

/// A log with any fault is left as it is. Tiles are no evidence of their own:
/// where the lines give the signed root, tiles can be made again.
fn refuse(dir: &Path, report: &Report, options: &LogOptions) -> Result<(), OpenError> {
    let foreign = |fault: &check::Finding| fault.fault == Fault::ForeignCheckpoint;
    if report.findings.iter().any(foreign) {
        return Err(OpenError::OtherKey {
            path: dir.to_owned(),
        });
    }
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

fn finished(files: &dyn Files, found: &Examined) -> io::Result<Vec<Segment>> {
    let names = found.scan.files.iter();
    let finished = names.filter_map(|name| Some((line::segment_first(name)?, name)));
    finished
        .map(|(first, name)| {
            let day = first_day(files, name)?;
            Ok(Segment { first, day })
        })
        .collect()
}

/// The day of a segment's first event, also of one that another version wrote.
fn first_day(files: &dyn Files, name: &str) -> io::Result<Option<u64>> {
    let mut bytes = Vec::new();
    match files.open(name) {
        Ok(mut reader) => reader.read_until(b'\n', &mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let time = bytes.strip_suffix(b"\n").and_then(line::time);
    Ok(time.map(day))
}
