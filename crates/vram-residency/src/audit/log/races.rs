//! Models of the queue and its writer: who records, who closes and what the disk
//! does meet in every order (see `crate::races`).
//!
//! requirement: AU-12, AU-13, AU-15, TP-9

use std::io;
use std::time::Duration;

use super::storage::Storage;
use super::tests::{Failing, critical, options, plain, start_on};
use super::{LogOptions, LogSink, Sink};
use crate::audit::check;
use crate::audit::line::CHECKPOINT;
use crate::races::explore;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, thread};

/// A disk that another thread can run beside, and that counts lines.
#[derive(Clone)]
struct Disk {
    files: Failing,
    /// Most lines of one append: what the queue let wait.
    most: Arc<AtomicUsize>,
}

impl Disk {
    fn new() -> Self {
        let (files, most) = (Failing::new(), Arc::default());
        Self { files, most }
    }

    /// The writer writes when a batch is full or somebody waits; its hour never ends.
    fn start(&self, queue_events: usize, batch_events: usize) -> Arc<LogSink> {
        let hour = Duration::from_secs(3600);
        let options = LogOptions {
            queue_events,
            batch_events,
            interval: hour,
            full_wait: hour,
            keep_segments: None,
            ..options()
        };
        Arc::new(start_on(Box::new(self.clone()), &options))
    }

    /// The events that a checkpoint vouches for now.
    fn covered(&self) -> Vec<u64> {
        let note = self.files.files()[CHECKPOINT].clone();
        let text = String::from_utf8(note).unwrap();
        let size: u64 = text.lines().nth(1).unwrap().parse().unwrap();
        let mut ids = Vec::new();
        check::show(&self.files, &check::Filter::default(), &mut |shown| {
            ids.extend((shown.seq < size).then_some(shown.event.unwrap().audit_id));
            Ok(())
        })
        .unwrap();
        ids
    }

    /// The log is whole; the events in it.
    fn close(&self, log: Arc<LogSink>) -> Vec<u64> {
        drop(Arc::into_inner(log).expect("everybody else is done"));
        let report = self.files.verify();
        assert_eq!((report.findings, report.uncovered), (vec![], 0));
        self.files.ids()
    }
}

impl Storage for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
        self.most.fetch_max(lines, Ordering::SeqCst);
        self.files.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        thread::yield_now();
        self.files.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.files.truncate(len)
    }

    fn rotate(&mut self, first: u64) -> io::Result<()> {
        self.files.rotate(first)
    }

    fn put(&mut self, path: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.files.put(path, bytes, durable)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.files.remove(path)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.files.sync_all()
    }

    fn remove_drafts(&mut self) -> io::Result<()> {
        self.files.remove_drafts()
    }
}

/// `ids` from one thread, in the order they were recorded.
fn in_order(ids: &[u64], from: std::ops::Range<u64>) -> bool {
    let theirs = ids.iter().filter(|id| from.contains(id));
    theirs.copied().eq(from.clone())
}

/// Three threads and room for two events: everybody waits for room, nobody for
/// ever; each critical event is under a checkpoint when `record` returns.
#[test]
fn events_of_many_threads_are_all_there_in_their_order() {
    explore(|| {
        let disk = Disk::new();
        let log = disk.start(2, 2);
        let threads: Vec<_> = [10_u64, 20, 30]
            .into_iter()
            .map(|base| {
                let (log, disk) = (Arc::clone(&log), disk.clone());
                thread::spawn(move || {
                    log.record(&plain(base)).unwrap();
                    log.record(&critical(base + 1)).unwrap();
                    let covered = disk.covered();
                    assert!(covered.contains(&(base + 1)), "acknowledged too soon");
                    assert!(covered.contains(&base), "a later event went first");
                    log.record(&plain(base + 2)).unwrap();
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(log.losses(), (0, 0));
        let most = disk.most.load(Ordering::SeqCst);
        assert!(most <= 2, "{most} events waited where two have room");
        let ids = disk.close(log);
        assert_eq!(ids.len(), 9, "{ids:?}");
        for base in [10, 20, 30] {
            assert!(in_order(&ids, base..base + 3), "{ids:?}");
        }
    });
}

/// Closing beside recording: an event is refused or it is in the log.
#[test]
fn a_log_that_closes_keeps_what_it_took() {
    explore(|| {
        let disk = Disk::new();
        let log = disk.start(4, 4);
        let threads: Vec<_> = [10_u64, 20]
            .into_iter()
            .map(|base| {
                let log = Arc::clone(&log);
                let taken = move || {
                    let first = log.record(&plain(base)).is_ok();
                    let second = log.record(&critical(base + 1)).is_ok();
                    [(base, first), (base + 1, second)]
                };
                thread::spawn(taken)
            })
            .collect();
        log.queue.stop();
        let answers: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        let ids = disk.close(log);
        for (id, taken) in answers {
            assert_eq!(ids.contains(&id), taken, "event {id} of {ids:?}");
        }
    });
}

/// A disk that fails at some step and is cleared by another thread: everybody who
/// waits is told, and what was acknowledged is in the log.
#[test]
fn a_disk_that_fails_leaves_nobody_waiting() {
    explore(|| {
        let disk = Disk::new();
        let log = disk.start(3, 2);
        let steps = i64::from(shuttle::rand::Rng::gen_range(
            &mut shuttle::rand::thread_rng(),
            0..12,
        ));
        disk.files.left.store(steps, Ordering::SeqCst);
        let threads: Vec<_> = [10_u64, 20]
            .into_iter()
            .map(|base| {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    let record = |id| (id, log.record(&critical(id)).is_ok());
                    [record(base), record(base + 1)]
                })
            })
            .collect();
        thread::yield_now();
        disk.files.left.store(i64::MAX, Ordering::SeqCst);
        let answers: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        let refused = answers.iter().filter(|(_, taken)| !taken).count();
        assert_eq!(log.losses().1, refused as u64);
        let ids = disk.close(log);
        for (id, taken) in answers {
            // One that was refused may still have been written.
            assert!(ids.contains(&id) || !taken, "event {id} of {ids:?}");
        }
    });
}
