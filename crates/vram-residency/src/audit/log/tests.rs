//! A disk that fails at any step.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::committer::{Committer, Position};
use super::open::{self, Place, Writer};
use super::queue::Queue;
use super::storage::Storage;
use super::{LogOptions, LogSink, Sink, writer};
use crate::audit::AuditMode;
use crate::audit::check::{self, Files, Report};
use crate::audit::event::{Body, Event, Text};
use crate::audit::line::{self, CURRENT};
use crate::audit::merkle::Tree;
use crate::audit::note::Origin;
use crate::clock::{SystemClock, Timestamp};
use crate::error::Error;
use crate::key::{RootKey, SigningKey};
use crate::sim::SimDevice;
use crate::{Mode, SealRequest, VramManager};

/// Files in memory; after `left` more operations every one fails until `left`
/// is raised again, and a failing append writes half of what it was given.
#[derive(Clone)]
pub(super) struct Failing {
    files: Arc<Mutex<std::collections::BTreeMap<String, Vec<u8>>>>,
    pub(super) left: Arc<AtomicI64>,
    rename_done: bool,
    /// What the failing operations say.
    pub(super) why: io::ErrorKind,
    /// What never works of the deletion of segments and tiles.
    kept: Option<Kept>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    /// The sync of everything before it.
    Sync,
    /// The deletion itself.
    Remove,
    /// The deletion of old tiles.
    Tile,
}

impl Failing {
    pub(super) fn new() -> Self {
        let files = std::iter::once((CURRENT.to_owned(), Vec::new())).collect();
        Self {
            files: Arc::new(Mutex::new(files)),
            left: Arc::new(AtomicI64::new(i64::MAX)),
            rename_done: false,
            why: io::ErrorKind::StorageFull,
            kept: None,
        }
    }

    pub(super) fn files(&self) -> MutexGuard<'_, std::collections::BTreeMap<String, Vec<u8>>> {
        self.files.lock().unwrap()
    }

    fn step(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(self.why.into())
    }

    pub(super) fn verify(&self) -> Report {
        let trusted = [key().public().clone()];
        let options = check::Options {
            trusted: &trusted,
            ..check::Options::default()
        };
        check::verify(self, &options).unwrap()
    }

    /// What the log says that it keeps, as often as it says so.
    fn retired(&self) -> Vec<u64> {
        let mut said = Vec::new();
        check::show(self, &check::Filter::default(), &mut |shown| {
            if let Body::AuditRetired { first_kept } = shown.event.unwrap().body {
                said.push(first_kept);
            }
            Ok(())
        })
        .unwrap();
        said
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        let mut ids = Vec::new();
        check::show(self, &check::Filter::default(), &mut |shown| {
            ids.push(shown.event.unwrap().audit_id);
            Ok(())
        })
        .unwrap();
        ids.retain(|id| *id != 0);
        ids
    }
}

impl Storage for Failing {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let step = self.step();
        let keep = if step.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        let mut files = self.files();
        let current = files.entry(CURRENT.to_owned()).or_default();
        current.extend_from_slice(&bytes[..keep]);
        step
    }

    fn sync(&mut self) -> io::Result<()> {
        self.step()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.step()?;
        let len = usize::try_from(len).unwrap();
        self.files().get_mut(CURRENT).unwrap().truncate(len);
        Ok(())
    }

    fn rotate(&mut self, first: u64) -> io::Result<()> {
        self.step()?;
        if !self.rename_done {
            let bytes = self.files().remove(CURRENT).unwrap();
            self.files().insert(line::segment_name(first), bytes);
            self.rename_done = true;
        }
        self.step()?;
        self.files().entry(CURRENT.to_owned()).or_default();
        self.step()?;
        self.rename_done = false;
        Ok(())
    }

    fn put(&mut self, path: &str, bytes: &[u8], _durable: bool) -> io::Result<()> {
        self.step()?;
        self.files().insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.step()?;
        let kept = match self.kept {
            Some(Kept::Remove) => line::segment_first(path).is_some(),
            Some(Kept::Tile) => path.starts_with("tile/"),
            _ => false,
        };
        if kept {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.files().remove(path);
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.step()?;
        if self.kept == Some(Kept::Sync) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }

    fn remove_drafts(&mut self) -> io::Result<()> {
        self.step()
    }
}

impl Files for Failing {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn io::BufRead + '_>> {
        let bytes = self.files().get(name).cloned();
        Ok(Box::new(io::Cursor::new(
            bytes.ok_or(io::ErrorKind::NotFound)?,
        )))
    }
}

pub(super) fn key() -> SigningKey {
    let root = RootKey::from_token(b"0123456789abcdef0123456789abcdef").unwrap();
    SigningKey::new(&root).unwrap()
}

pub(super) fn options() -> LogOptions {
    let origin = Origin::new("test").unwrap();
    let mut options = LogOptions::new(origin, "w".parse().unwrap());
    (options.keep_days, options.segment_bytes) = (None, 3000);
    options.keep_segments = Some(3);
    (options.interval, options.full_wait) = (Duration::from_millis(1), Duration::ZERO);
    options.queue_events = 50;
    options
}

fn start(disk: &Failing, options: &LogOptions) -> LogSink {
    start_on(Box::new(disk.clone()), options)
}

/// Where a log stands that does not exist yet.
pub(super) fn beginning() -> Position {
    Position {
        tree: Tree::default(),
        finished: Vec::new(),
        first: 0,
        day: None,
        len: 0,
        covered: 0,
        partial: Vec::new(),
        kept: 0,
    }
}

pub(super) fn start_on(disk: Box<dyn Storage>, options: &LogOptions) -> LogSink {
    let clock = Arc::new(SystemClock::new());
    let mut committer = Committer::new(disk, options.clone(), key(), clock, beginning());
    committer.sign().unwrap();
    let queue = Arc::new(Queue::new(options));
    let shared = Arc::clone(&queue);
    let interval = options.interval;
    let writer = crate::sync::thread::spawn(move || writer::run(&shared, committer, interval));
    LogSink {
        newest: Arc::default(),
        queue,
        writer: Some(writer),
    }
}

pub(super) fn critical(id: u64) -> Event {
    let body = Body::ManagerStopped {
        reason: Text::new("test"),
    };
    Event {
        audit_id: id,
        timestamp: Timestamp::from_nanos(id),
        worker_id: "w".parse().unwrap(),
        severity: body.severity(),
        correlation_id: None,
        body,
    }
}

pub(super) fn plain(id: u64) -> Event {
    let body = Body::KeyRetired {
        keys: 1,
        key_ids: Vec::new(),
    };
    Event {
        severity: body.severity(),
        body,
        ..critical(id)
    }
}

/// A disk that fills up, or turns read-only, at any operation and is well again
/// later: what was acknowledged is there, and the log goes on and verifies.
/// requirement: AU-13
/// The opening is taken before anything else, so a flush waits for that, too.
#[test]
fn a_flush_of_a_log_that_never_wrote_its_opening_is_refused() {
    let queue = Queue::new(&options());
    queue.ended();
    assert!(queue.flush().is_err());
}

#[test]
fn a_disk_that_fails_at_any_step_loses_nothing_acknowledged() {
    let reasons = [
        io::ErrorKind::StorageFull,
        io::ErrorKind::ReadOnlyFilesystem,
    ];
    for (why, allowed) in reasons
        .into_iter()
        .flat_map(|why| (0..200).map(move |n| (why, n)))
    {
        let disk = Failing {
            why,
            ..Failing::new()
        };
        // Two events a segment: the steps are also those that finish and retire one.
        let options = LogOptions {
            segment_bytes: 400,
            ..options()
        };
        let log = start(&disk, &options);
        disk.left.store(allowed, Ordering::SeqCst);
        let (mut acknowledged, mut refused) = (Vec::new(), 0);
        for id in 1..=12 {
            match log.record(&critical(id)) {
                Ok(()) => acknowledged.push(id),
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.reason, io::Error::from(why).to_string());
                }
            }
        }
        assert_eq!(log.losses().1, refused);
        disk.left.store(i64::MAX, Ordering::SeqCst);
        log.record(&critical(100)).unwrap();
        drop(log);
        let report = disk.verify();
        assert_eq!(report.findings, [], "{allowed}");
        assert_eq!(report.uncovered, 0);
        let ids = disk.ids();
        // Nothing was refused for want of room, so late ones are there as well.
        let kept = ids.first().copied().unwrap_or(0);
        acknowledged.retain(|id| *id >= kept);
        assert!(acknowledged.iter().all(|id| ids.contains(id)), "{allowed}");
        assert!(ids.is_sorted() && ids.contains(&100), "{allowed}: {ids:?}");
    }
}

/// requirement: AU-13
#[test]
fn a_full_queue_refuses_and_the_log_says_how_much_it_lost() {
    let disk = Failing::new();
    let options = options();
    let log = start(&disk, &options);
    disk.left.store(0, Ordering::SeqCst);
    assert!(log.record(&critical(1)).is_err());
    // None is promised, also of those that are taken and may still be written.
    let promised = (2..=200).filter(|id| log.record(&plain(*id)).is_ok());
    assert_eq!(promised.count(), 0);
    let refused = usize::try_from(log.losses().0).unwrap();
    // What the queue holds, and once more what the writer has just taken out of
    // it and not yet put back.
    let most = 2 * options.queue_events;
    assert!(199 - refused <= most, "{refused}");
    assert_eq!(log.losses().1, 1);
    disk.left.store(i64::MAX, Ordering::SeqCst);
    log.flush().unwrap();
    log.record(&critical(201)).unwrap();
    drop(log);
    assert_eq!(disk.verify().findings, []);
    let mut lost = 0;
    check::show(&disk, &check::Filter::default(), &mut |shown| {
        if let Body::AuditLost { events, .. } = shown.event.unwrap().body {
            lost += events;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(lost, refused as u64);
}

/// As [`plain`], and longer.
fn long(id: u64) -> Event {
    Event {
        body: Body::ManagerStopped {
            reason: Text::new(&"x".repeat(500)),
        },
        ..plain(id)
    }
}

/// Events that fill the queue by their bytes, long before they are a batch, do not wait
/// for the interval: neither many small ones nor one that finds too little room.
/// requirement: AU-13
#[test]
fn a_queue_that_is_full_by_bytes_wakes_the_writer() {
    let bytes = |event: &Event| serde_json::to_vec(event).unwrap().len();
    let (small, large) = (bytes(&plain(100)), bytes(&long(100)));
    assert!(
        large > 3 * small,
        "half of the room is more than a small one"
    );
    let makes: [fn(u64) -> Event; 2] = [plain, long];
    let rooms = [20 * small, large + 2].into_iter().zip(makes);
    for (queue_bytes, every_second) in rooms {
        let options = LogOptions {
            queue_bytes,
            queue_events: 1000,
            batch_events: 1000,
            interval: Duration::from_secs(3600),
            full_wait: Duration::from_secs(60),
            keep_segments: None,
            ..options()
        };
        let disk = Failing::new();
        let log = start(&disk, &options);
        log.flush().unwrap();
        for id in (1..=100).step_by(2) {
            log.record(&plain(id)).unwrap();
            log.record(&every_second(id + 1)).unwrap();
        }
        drop(log);
        assert_eq!(disk.ids(), (1..=100).collect::<Vec<_>>());
    }
}

/// Room in the queue is no promise: while the disk fails nothing is, and what was
/// taken meanwhile is written once it works.
/// requirement: AU-13, EXP-AUDIT-6001
#[test]
fn a_log_that_cannot_be_written_promises_nothing() {
    let disk = Failing::new();
    let log = start(&disk, &options());
    log.record(&plain(1)).unwrap();
    log.flush().unwrap();
    disk.left.store(0, Ordering::SeqCst);
    assert!(log.record(&critical(2)).is_err());
    let refused = log.record(&plain(3)).unwrap_err();
    assert!(refused.reason.contains("no storage space"), "{refused}");
    disk.left.store(i64::MAX, Ordering::SeqCst);
    log.flush().unwrap();
    log.record(&plain(4)).unwrap();
    assert_eq!(log.losses(), (0, 1), "none was refused for want of room");
    drop(log);
    assert_eq!(disk.ids(), [1, 2, 3, 4]);
}

/// The file system turns read-only under a manager that works: what must be recorded
/// fails, or goes on and is counted; nothing is lost that was taken.
/// requirement: AU-13, EXP-AUDIT-6001
#[test]
fn work_on_a_disk_that_turns_read_only_fails_or_is_counted_as_the_mode_says() {
    for mode in [AuditMode::Required, AuditMode::BestEffort] {
        let disk = Failing {
            why: io::ErrorKind::ReadOnlyFilesystem,
            ..Failing::new()
        };
        let log = Arc::new(start(&disk, &options()));
        let root = RootKey::from_token(&test_listener::secret()).unwrap();
        let builder = VramManager::builder().device(SimDevice::new(1 << 20));
        let builder = builder.key(root).sink(log.clone()).audit_mode(mode);
        let manager = builder.build().unwrap();
        let shard = manager.seal(SealRequest::bytes(&[1; 100])).unwrap();
        disk.left.store(0, Ordering::SeqCst);
        let words = io::Error::from(disk.why).to_string();
        let answers = [
            manager.stop("by hand"),
            manager.verify_sealed(&shard, Mode::TagOnly).map(drop),
            manager.seal(SealRequest::bytes(&[2; 100])).map(drop),
        ];
        for answer in answers {
            match (mode, answer) {
                (AuditMode::Required, Err(Error::Audit(error))) => assert_eq!(error.reason, words),
                (AuditMode::BestEffort, Ok(())) => {}
                (_, answer) => panic!("{mode:?}: {answer:?}"),
            }
        }
        let metrics = manager.metrics();
        assert!(metrics.audit_emit_failures_total >= 3, "{metrics:?}");
        assert_eq!(metrics.audit_critical_emit_failures_total, 1);
        assert_eq!(log.losses(), (0, 1));
        disk.left.store(i64::MAX, Ordering::SeqCst);
        manager.flush_audit().unwrap();
        manager.resume("the disk is well").unwrap();
        drop(manager.lease(&shard, Mode::Full).unwrap());
        drop(shard);
        drop(manager);
        drop(log);
        assert_eq!(disk.verify().findings, []);
        let ids = disk.ids();
        assert!(ids.is_sorted() && ids.len() > 10, "{mode:?}: {ids:?}");
    }
}

/// A segment that is to go and cannot be deleted: all is on disk, so nothing fails, and
/// the log says once for each that it may be gone.
/// requirement: AU-10, AU-13
#[test]
fn a_segment_that_cannot_be_deleted_fails_nothing() {
    for kept in [Kept::Sync, Kept::Remove] {
        let disk = Failing {
            kept: Some(kept),
            ..Failing::new()
        };
        let log = start(&disk, &options());
        for id in 1..=100 {
            log.record(&critical(id)).unwrap();
            log.flush().unwrap();
        }
        assert_eq!(log.losses(), (0, 0));
        drop(log);
        assert_eq!(disk.verify().findings, []);
        assert_eq!(disk.ids(), (1..=100).collect::<Vec<_>>());
        let said = disk.retired();
        let once = said.is_sorted_by(|a, b| a < b);
        assert!(said.len() > 2 && once, "{kept:?}: {said:?}");
    }
}

fn reopened(disk: &Failing) -> io::Result<Committer> {
    let place = Place {
        dir: Path::new("log"),
        files: disk,
        storage: Box::new(|| Ok(Box::new(disk.clone()))),
    };
    let writer = Writer {
        options: &options(),
        key: key(),
        clock: Arc::new(SystemClock::new()),
    };
    open::open(place, writer).map_err(io::Error::other)
}

/// A tile that newer ones stand for and that cannot be deleted: all is on disk, so
/// nothing fails, and the log opens again. One that no tree had is in the way.
/// requirement: AU-10, AU-13
#[test]
fn an_old_tile_that_cannot_be_deleted_fails_nothing() {
    let disk = Failing {
        kept: Some(Kept::Tile),
        ..Failing::new()
    };
    let log = start(&disk, &options());
    for id in 1..=300 {
        log.record(&critical(id)).unwrap();
    }
    assert_eq!(log.losses(), (0, 0));
    drop(log);
    let partial = |disk: &Failing| {
        let files = disk.files();
        files.keys().filter(|name| name.contains(".p/")).count()
    };
    assert!(partial(&disk) > 200);
    assert_eq!(disk.verify().findings, []);
    let mut log = reopened(&disk).unwrap();
    log.write().unwrap();
    log.close().unwrap();
    assert!(partial(&disk) > 200);
    assert_eq!(disk.verify().findings, []);
    let ahead = "tile/0/002.p/200".to_owned();
    disk.files().insert(ahead, vec![7; 6400]);
    assert!(reopened(&disk).is_err());
    let free = Failing { kept: None, ..disk };
    reopened(&free).unwrap();
    assert!(partial(&free) <= 2);
    assert_eq!(free.verify().findings, []);
}

/// What the log keeps from here on is said once, whichever step fails before it is on
/// disk.
/// requirement: AU-10, AU-13
#[test]
fn that_segments_go_is_said_once() {
    for allowed in 0..200 {
        let disk = Failing {
            kept: Some(Kept::Remove),
            ..Failing::new()
        };
        let options = LogOptions {
            segment_bytes: 1500,
            keep_segments: Some(1),
            ..options()
        };
        let log = start(&disk, &options);
        disk.left.store(allowed, Ordering::SeqCst);
        for id in 1..=30 {
            if log.record(&critical(id)).is_err() {
                disk.left.store(i64::MAX, Ordering::SeqCst);
            }
        }
        drop(log);
        assert_eq!(disk.ids(), (1..=30).collect::<Vec<_>>());
        let said = disk.retired();
        let once = said.is_sorted_by(|a, b| a < b);
        assert!(said.len() > 1 && once, "{allowed}: {said:?}");
    }
}

#[test]
fn a_closed_log_takes_nothing() {
    let disk = Failing::new();
    let log = start(&disk, &options());
    log.record(&plain(1)).unwrap();
    log.queue.stop();
    assert!(log.record(&plain(2)).is_err());
    drop(log);
    assert_eq!(disk.ids(), [1]);
}
