//! Brings events to disk and under a checkpoint. Every step that fails leaves
//! a state from which the next attempt goes on; what was accepted is kept in
//! memory until it is synced, and written again after a failure.

use std::io;

use super::super::event::{Body, Event, Text};
use super::super::line::{self, CHECKPOINT};
use super::super::merkle::tile::{Tile, WIDTH};
use super::super::merkle::{Hash, Tree, leaf_hash};
use super::super::note::{Checkpoint, Cut};
use super::LogOptions;
use super::queue::Entry;
use super::retention;
use super::storage::Storage;
use crate::clock::{Clock, Timestamp};
use crate::key::{SigningKey, VerifyingKey};
use crate::sync::{Arc, Mutex, PoisonError};
use crate::trace;

/// Bytes that are written before the disk is asked to keep them, unless a
/// checkpoint comes first. A sync for each group would make the disk's answer the
/// bound of plain events.
const UNSYNCED_BYTES: u64 = 4 << 20;
const NANOS_PER_DAY: u64 = 86_400_000_000_000;

/// A finished segment: its first event, and the day of it where that can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) day: Option<u64>,
}

/// Where the log stands.
pub(super) struct Position {
    pub(super) tree: Tree,
    /// Finished segments, oldest first.
    pub(super) finished: Vec<Segment>,
    /// The segment that is written to; no day when it is empty.
    pub(super) first: u64,
    pub(super) day: Option<u64>,
    /// Synced bytes of it.
    pub(super) len: u64,
    /// Leaves under the checkpoint on disk.
    pub(super) covered: u64,
    /// Partial tiles on disk.
    pub(super) partial: Vec<String>,
    /// The first event that is kept, as the log has said.
    pub(super) kept: u64,
}

/// What a killed writer left after the checkpoint.
pub(super) struct Left<'a> {
    /// Lines that are taken over, in a segment of [`Position::len`] bytes.
    pub(super) adopted: &'a [Hash],
    /// What stands after them.
    pub(super) cut: Cut,
    /// Whether the checkpoint reopened a closed log.
    pub(super) reopened: bool,
}

/// A change of keys that is written and not yet signed.
pub(super) struct Announced {
    /// The number of its event, the last one.
    pub(super) seq: u64,
    /// Its line.
    pub(super) line: String,
    /// The leaf hashes that the log grew by, its own included.
    pub(super) leaves: Vec<Hash>,
}

pub(super) struct Committer {
    storage: Box<dyn Storage>,
    options: LogOptions,
    key: SigningKey,
    clock: Arc<dyn Clock>,
    at: Position,
    /// The first event to keep, of segments that could not all be deleted.
    stuck: Option<u64>,
    /// Accepted, not yet synced.
    waiting: Vec<Entry>,
    /// Leaf hashes of those that are written already: the first of `waiting`.
    written: Vec<Hash>,
    /// Their bytes, behind the synced ones.
    unsynced: u64,
    /// A write failed: what is behind the synced bytes is unknown.
    suspect: bool,
    /// Lines were taken over or cut off, and the event that says so, the first of
    /// `waiting`, is not synced: a checkpoint before it would prove what nobody wrote.
    unsaid: bool,
    newest: Arc<Mutex<Option<String>>>,
}

impl Committer {
    pub(super) fn new(
        storage: Box<dyn Storage>,
        options: LogOptions,
        key: SigningKey,
        clock: Arc<dyn Clock>,
        at: Position,
    ) -> Self {
        Self {
            storage,
            options,
            key,
            clock,
            at,
            stuck: None,
            waiting: Vec::new(),
            written: Vec::new(),
            unsynced: 0,
            suspect: false,
            unsaid: false,
            newest: Arc::default(),
        }
    }

    /// The newest checkpoint, also after this moved to another thread.
    pub(super) fn newest(&self) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.newest)
    }

    /// Number of lines that are synced.
    pub(super) const fn size(&self) -> u64 {
        self.at.tree.size()
    }

    /// Whether something accepted is not under a checkpoint.
    pub(super) fn has_open_work(&self) -> bool {
        !self.waiting.is_empty() || self.at.covered < self.at.tree.size()
    }

    /// Events and bytes that are not yet synced.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let bytes = self.waiting.iter().map(|entry| entry.json.len());
        (self.waiting.len(), bytes.fold(0, usize::saturating_add))
    }

    /// Accepts events, and the number of those that were refused before them.
    pub(super) fn accept(&mut self, entries: Vec<Entry>, (events, critical): (u64, u64)) {
        if events > 0 {
            self.note(Body::AuditLost { events, critical });
        }
        self.waiting.extend(entries);
    }

    /// Writes, under a checkpoint, that nothing comes after it.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.note(Body::AuditClosed);
        self.write()?;
        self.cover()
    }

    /// Goes on with what a killed writer left. What is cut off goes once the
    /// checkpoint says so; no other is signed before the log's next event is synced.
    pub(super) fn take_over(&mut self, left: &Left<'_>) -> io::Result<()> {
        if !left.cut.is_empty() {
            self.sign_as(Checkpoint {
                reopened: left.reopened,
                cut: left.cut,
                ..self.checkpoint()
            })?;
        }
        self.storage.truncate(self.at.len)?;
        self.storage.sync()?;
        left.adopted
            .iter()
            .for_each(|leaf| self.at.tree.push(*leaf));
        self.unsaid = !left.adopted.is_empty() || !left.cut.is_empty();
        Ok(())
    }

    /// Writes, under no checkpoint yet, that `next` signs from here on.
    pub(super) fn announce(&mut self, next: &VerifyingKey) -> io::Result<Announced> {
        self.note(Body::AuditKeyChanged {
            from: Text::new(&self.key.public().to_string()),
            to: Text::new(&next.to_string()),
        });
        let (text, leaves) = self.lines();
        self.write()?;
        self.sync()?;
        self.store_tiles()?;
        let text = String::from_utf8(text).map_err(io::Error::other)?;
        Ok(Announced {
            seq: self.at.tree.size().saturating_sub(1),
            line: text.lines().last().unwrap_or_default().to_owned(),
            leaves,
        })
    }

    /// The checkpoint over everything written, signed by this key and by `next`. It
    /// is the first that holds this key's last word: from here on nobody can give
    /// the change up.
    pub(super) fn sign_over_to(&mut self, next: &SigningKey) -> io::Result<String> {
        let checkpoint = self.checkpoint();
        let both = checkpoint.sign_both(&self.key, next);
        self.put_checkpoint(&checkpoint, both.map_err(io::Error::other)?)?;
        checkpoint.sign(&self.key).map_err(io::Error::other)
    }

    /// Leaves the proof of event `seq` and lets `next` close the log.
    pub(super) fn hand_over(&mut self, next: SigningKey, seq: u64, proof: &str) -> io::Result<()> {
        let name = line::handover_name(seq);
        self.storage.put(&name, proof.as_bytes(), true)?;
        self.remove_old_tiles();
        self.key = next;
        self.close()
    }

    /// Adds an event of the log itself.
    pub(super) fn note(&mut self, body: Body) {
        let event = Event {
            audit_id: 0,
            timestamp: self.clock.now(),
            worker_id: self.options.worker_id.clone(),
            severity: body.severity(),
            correlation_id: None,
            body,
        };
        // Events serialise: they hold numbers and text only.
        if let Ok(json) = serde_json::to_vec(&event) {
            let time = event.timestamp;
            self.waiting.push(Entry { time, json });
        }
    }

    /// Writes what waits, and syncs it once that is worth it.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let Some(next) = self.waiting.get(self.written.len()) else {
            return Ok(());
        };
        // The segment of what was taken over holds the event that says so, too.
        let says_so = self.unsaid && self.written.is_empty();
        if !says_so && self.segment_is_over(day(next.time)) {
            self.sync()?;
            self.rotate()?;
        }
        if self.suspect {
            self.storage.truncate(self.at.len)?;
        }
        let (text, leaves) = self.lines();
        self.suspect = true;
        if let Err(error) = self.storage.append(&text) {
            self.forget_written();
            return Err(error);
        }
        self.suspect = false;
        self.written.extend(leaves);
        self.unsynced = self.unsynced.saturating_add(text.len() as u64);
        if self.unsynced >= UNSYNCED_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    /// Syncs what is written; only then does it count.
    fn sync(&mut self) -> io::Result<()> {
        let Some(first) = self.waiting.first().filter(|_| !self.written.is_empty()) else {
            return Ok(());
        };
        let day = day(first.time);
        if let Err(error) = self.storage.sync() {
            self.suspect = true;
            self.forget_written();
            return Err(error);
        }
        self.unsaid = false;
        let synced = self.written.len();
        self.written
            .drain(..)
            .for_each(|leaf| self.at.tree.push(leaf));
        self.waiting.drain(..synced);
        self.at.len = self.at.len.saturating_add(self.unsynced);
        self.unsynced = 0;
        self.at.day.get_or_insert(day);
        Ok(())
    }

    /// What is behind the synced bytes is unknown: it is all written again.
    fn forget_written(&mut self) {
        self.written.clear();
        self.unsynced = 0;
    }

    /// The lines of what waits to be written, and their leaf hashes.
    fn lines(&self) -> (Vec<u8>, Vec<Hash>) {
        let (mut text, mut leaves) = (Vec::new(), Vec::new());
        let first = self
            .at
            .tree
            .size()
            .saturating_add(self.written.len() as u64);
        for (seq, entry) in (first..).zip(self.waiting.iter().skip(self.written.len())) {
            let start = text.len();
            line::write(&mut text, seq, &entry.time.to_string(), &entry.json);
            let end = text.len().saturating_sub(1);
            leaves.push(leaf_hash(text.get(start..end).unwrap_or_default()));
        }
        (text, leaves)
    }

    fn segment_is_over(&self, today: u64) -> bool {
        let len = self.at.len.saturating_add(self.unsynced);
        let full = len >= self.options.segment_bytes;
        let unsynced = self.waiting.first().filter(|_| self.unsynced > 0);
        let began = self.at.day.or(unsynced.map(|entry| day(entry.time)));
        // A clock that went backwards finishes nothing.
        began.is_some_and(|began| full || today > began)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.cover()?;
        if self.suspect {
            self.storage.truncate(self.at.len)?;
            self.suspect = false;
        }
        self.storage.rotate(self.at.first)?;
        self.at.finished.push(Segment {
            first: self.at.first,
            day: self.at.day.take(),
        });
        (self.at.first, self.at.len) = (self.at.tree.size(), 0);
        Ok(())
    }

    /// Syncs, then stores the tiles and a checkpoint over everything written.
    pub(super) fn cover(&mut self) -> io::Result<()> {
        self.sync()?;
        if self.at.covered == self.at.tree.size() {
            return Ok(());
        }
        self.store_tiles()?;
        self.sign()?;
        self.remove_old_tiles();
        Ok(())
    }

    /// Stores the tiles of the tree as it is.
    fn store_tiles(&mut self) -> io::Result<()> {
        let first_kept = self.at.finished.first().map_or(self.at.first, |s| s.first);
        for tile in self.at.tree.finished() {
            put_tile(&mut *self.storage, tile, first_kept)?;
        }
        for tile in self.at.tree.partial() {
            put_tile(&mut *self.storage, &tile, first_kept)?;
        }
        Ok(())
    }

    /// Deletes the partial tiles that the tree has grown beyond: the checkpoint is
    /// over newer ones. One that cannot be deleted is as right as it was and stays until
    /// the next start: everything is on disk, and nothing fails for it.
    fn remove_old_tiles(&mut self) {
        self.at.tree.forget_finished();
        let partial = self.at.tree.partial().map(|tile| tile.path()).collect();
        for old in std::mem::replace(&mut self.at.partial, partial) {
            if !self.at.partial.contains(&old)
                && let Err(error) = self.storage.remove(&old)
            {
                trace::tile_not_deleted(&old, &error);
            }
        }
    }

    /// Writes the checkpoint over the tree as it is.
    pub(super) fn sign(&mut self) -> io::Result<()> {
        self.sign_as(self.checkpoint())
    }

    /// Says of a log that was closed that lines may follow, before any does.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.sign_as(Checkpoint {
            reopened: true,
            ..self.checkpoint()
        })
    }

    fn sign_as(&mut self, checkpoint: Checkpoint) -> io::Result<()> {
        let note = checkpoint.sign(&self.key).map_err(io::Error::other)?;
        self.put_checkpoint(&checkpoint, note)
    }

    fn put_checkpoint(&mut self, checkpoint: &Checkpoint, note: String) -> io::Result<()> {
        self.storage.put(CHECKPOINT, note.as_bytes(), true)?;
        self.at.covered = checkpoint.size;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
        Ok(())
    }

    /// The tree as it is.
    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            origin: self.options.origin.clone(),
            size: self.at.tree.size(),
            root: self.at.tree.root(),
            reopened: false,
            cut: Cut::default(),
        }
    }

    /// Deletes the finished segments that need not be kept, after the log says
    /// so and every tile is synced. One that cannot be deleted stays until the next
    /// one is to go as well: everything is on disk, and nothing fails for it.
    pub(super) fn retire(&mut self) -> io::Result<()> {
        let gone = retention::gone(&self.options, &self.at, self.clock.now());
        let left = self.at.finished.get(gone);
        let first_kept = left.map_or(self.at.first, |segment| segment.first);
        if gone == 0 || self.stuck == Some(first_kept) {
            return Ok(());
        }
        if first_kept > self.at.kept {
            self.note(Body::AuditRetired { first_kept });
            // Said once, also when it takes another attempt to write it.
            self.at.kept = first_kept;
        }
        self.write()?;
        self.cover()?;
        if let Err(error) = self.delete_before(first_kept) {
            trace::not_deleted(first_kept, &error);
            self.stuck = Some(first_kept);
        }
        Ok(())
    }

    fn delete_before(&mut self, first_kept: u64) -> io::Result<()> {
        self.storage.sync_all()?;
        while let Some(oldest) = self.at.finished.first().filter(|s| s.first < first_kept) {
            self.storage.remove(&line::segment_name(oldest.first))?;
            self.at.finished.remove(0);
        }
        Ok(())
    }
}

/// Stores a tile. One whose first lines are retired is the only place of their
/// hashes: it is durable before the tile goes that it replaces. Every other can be
/// made again.
pub(super) fn put_tile(storage: &mut dyn Storage, tile: &Tile, first_kept: u64) -> io::Result<()> {
    let first = tile.number.saturating_mul(WIDTH as u64);
    let durable = tile.level == 0 && first < first_kept;
    storage.put(&tile.path(), &tile.bytes(), durable)
}

/// The day of a time, counted from the epoch.
pub(super) const fn day(time: Timestamp) -> u64 {
    time.nanos() / NANOS_PER_DAY
}
