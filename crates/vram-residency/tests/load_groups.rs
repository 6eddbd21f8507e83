//! Models of several files: progress in all, what a failure keeps, and what it
//! does not read again.

mod common;
#[path = "common/meeting.rs"]
mod meeting;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::source::Hooked;
use common::{Rig, rig_of, weights};
use meeting::Meeting;
use vram_residency::clock::Clock as _;
use vram_residency::error::{Error, InputError, VerifyError};
use vram_residency::load::{CancelToken, LoadError, Progress};
use vram_residency::sim::{Flip, Moment};
use vram_residency::{Policy, SealRequest};

const LEN: usize = (3 << 20) + 5;

fn rig(devices: u32) -> Rig {
    rig_of(devices, 64 << 20, Policy::default())
}

fn parts(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|i| weights(LEN, i)).collect()
}

/// Reads of each part so far, in bytes' worth of calls.
struct Counted {
    reads: Vec<AtomicU64>,
    /// Where the first read of each waits for those of the others.
    met: Meeting,
}

impl Counted {
    fn new(count: usize) -> Self {
        Self {
            reads: (0..count).map(|_| AtomicU64::new(0)).collect(),
            met: Meeting::of(1),
        }
    }

    /// All parts are loaded at the same time, or never.
    fn meeting(count: usize) -> Self {
        Self {
            met: Meeting::of(count),
            ..Self::new(count)
        }
    }

    /// Part `i`, whose reads are counted and fail while `broken`.
    fn request<'a>(&'a self, i: usize, bytes: &'a [u8], broken: bool) -> SealRequest<'a> {
        let hook = move |_| {
            if self.reads[i].fetch_add(1, Ordering::Relaxed) == 0 {
                self.met.wait();
            }
            if broken {
                return Err(io::Error::other("the cable is out"));
            }
            Ok(())
        };
        SealRequest::source(Hooked(bytes, hook))
    }

    fn reads(&self) -> Vec<u64> {
        let reads = self.reads.iter();
        reads.map(|n| n.load(Ordering::Relaxed)).collect()
    }
}

// requirement: WORKER-4122, PM-1
#[test]
fn a_member_that_is_condemned_while_others_load_ends_the_group() {
    let rig = rig(1);
    let (parts, counted) = (parts(2), Counted::meeting(2));
    let requests = (0..2).map(|i| counted.request(i, &parts[i], i == 1));
    let mut load = rig.manager.group_load(requests.collect()).unwrap();
    let _ = load.run().unwrap_err();
    let device = rig.device();
    device.flip_bit(device.buffers()[0], 9, 1).unwrap();
    assert!(rig.manager.scrub_step(u64::MAX).is_err());
    load.replace(1, counted.request(1, &parts[1], false))
        .unwrap();
    load.run().unwrap();
    let error = load.finish().err().unwrap();
    let barred = matches!(error, Error::Verify(VerifyError::Quarantined { .. }));
    assert!(barred, "{error}");
    assert_eq!(
        rig.manager.capacity(0).unwrap().used,
        0,
        "what was sealed is freed"
    );
}

// requirement: PM-1, API-F17
#[test]
fn a_failed_member_is_replaced_and_the_good_ones_are_not_read_again() {
    let rig = rig(1);
    let (parts, counted) = (parts(4), Counted::meeting(4));
    let requests = (0..4).map(|i| counted.request(i, &parts[i], i == 2));
    let mut load = rig.manager.group_load(requests.collect()).unwrap();
    let error = load.run().unwrap_err();
    assert!(
        matches!(&error, Error::Load(LoadError::Read { .. })),
        "{error}"
    );
    assert_eq!((load.sealed(), load.failed()), (3, vec![2]));
    let before = counted.reads();

    let again = load.replace(0, counted.request(0, &parts[0], false));
    let refused = again.unwrap_err().to_string();
    assert!(refused.contains("only a failed member"), "{refused}");
    load.replace(2, counted.request(2, &parts[2], false))
        .unwrap();
    load.run().unwrap();
    for i in [0, 1, 3] {
        assert_eq!(counted.reads()[i], before[i], "read once");
    }

    let group = load.finish().unwrap();
    assert_eq!(group.shards().len(), 4);
    for (i, shard) in group.shards().iter().enumerate() {
        let record = shard.record();
        assert_eq!(record.digest, vram_digest::digest(&parts[i]), "{i}");
        assert_eq!(record.position.unwrap().index as usize, i);
        assert_eq!(record.group, Some(group.id()));
    }
    rig.assert_balanced();
    drop(group);
    rig.assert_empty();
}

/// However many there may be at once: all of those fail.
#[test]
fn no_load_starts_after_a_failure() {
    let rig = rig(1);
    let (parts, counted) = (parts(30), Counted::new(30));
    let requests = (0..30).map(|i| counted.request(i, &parts[i], i < 20));
    let mut load = rig.manager.group_load(requests.collect()).unwrap();
    let told = load.run().unwrap_err().to_string();
    assert!(told.contains("the cable is out"), "{told}");
    assert_eq!(load.told(), load.failed().first().copied());
    assert!(load.failed().iter().all(|index| *index < 10));
    assert_eq!(counted.reads()[10..], [0; 20]);
    drop(load);
    rig.assert_empty();
}

/// All are under way when one turns out to be another file than it should be.
// requirement: WORKER-4113, ER-4
#[test]
fn a_member_that_is_refused_among_others_ends_them_and_leaves_nothing() {
    for bad in 0..4_u32 {
        let rig = rig(1);
        let (parts, counted) = (parts(4), Counted::meeting(4));
        let request = |i: u32| {
            let at = i as usize;
            let request = counted.request(at, &parts[at], false);
            match i == bad {
                true => request.expect(&vram_digest::digest(b"another").to_string()),
                false => request,
            }
        };
        let mut load = rig
            .manager
            .group_load((0..4).map(request).collect())
            .unwrap();
        let error = load.run_or_halt().unwrap_err();
        assert!(
            matches!(error, Error::Verify(VerifyError::Unexpected { .. })),
            "{error}"
        );
        assert_eq!(load.told(), Some(bad));
        drop(load);
        rig.assert_empty();
    }
}

// requirement: ER-8
#[test]
fn members_under_way_at_the_same_time_are_cancelled_together() {
    let rig = rig(1);
    let (parts, token) = (parts(4), CancelToken::new());
    let all = Meeting::of(4);
    let cancels = |offset| {
        if offset == 0 && all.wait() {
            token.cancel();
        }
        // No other goes on before the leader has done it.
        if offset == 0 {
            all.wait();
        }
        Ok(())
    };
    let request = |part| SealRequest::source(Hooked(part, cancels)).cancel(&token);
    let requests = parts.iter().map(|part| request(&part[..])).collect();
    let mut load = rig.manager.group_load(requests).unwrap();
    let error = load.run().unwrap_err();
    assert!(
        matches!(error, Error::Load(LoadError::Cancelled { .. })),
        "{error}"
    );
    assert_eq!(load.failed(), [0, 1, 2, 3]);
    drop(load);
    rig.assert_empty();
}

#[test]
fn an_unfinished_group_is_refused_and_freed() {
    let rig = rig(1);
    let (parts, counted) = (parts(2), Counted::meeting(2));
    let requests = (0..2).map(|i| counted.request(i, &parts[i], i == 1));
    let mut load = rig.manager.group_load(requests.collect()).unwrap();
    assert!(load.run().is_err());
    assert_eq!(rig.manager.shards().len(), 1);
    let refused = load.finish().unwrap_err();
    assert!(
        matches!(refused, Error::Input(InputError::Group(_))),
        "{refused}"
    );
    rig.assert_empty();
}

#[test]
fn all_or_nothing_is_the_default_on_several_devices() {
    let rig = rig(3);
    let (parts, counted) = (parts(6), Counted::new(6));
    let device = |i: usize| u32::try_from(i % 3).unwrap();
    let requests = (0..6).map(|i| counted.request(i, &parts[i], i == 4).device(device(i)));
    let error = rig.manager.seal_group(requests.collect()).unwrap_err();
    assert!(error.to_string().contains("the cable is out"), "{error}");
    rig.assert_empty();

    let requests = (0..6).map(|i| counted.request(i, &parts[i], false).device(device(i)));
    let group = rig.manager.seal_group(requests.collect()).unwrap();
    for (i, shard) in group.shards().iter().enumerate() {
        assert_eq!(shard.record().gpu_device, device(i));
        assert_eq!(shard.record().digest, vram_digest::digest(&parts[i]));
    }
    rig.assert_balanced();
}

/// The first read of each member waits for those of the others. Five are more than one
/// device loads at a time.
// requirement: PM-1
#[test]
fn files_load_at_the_same_time_on_one_device_and_on_several() {
    for (devices, files) in [(1, 2), (2, 2), (5, 5)] {
        load_at_the_same_time(devices, files);
    }
}

fn load_at_the_same_time(devices: u32, files: u32) {
    let rig = rig(devices);
    let parts = parts(files.into());
    let (arrived, changed) = (&Mutex::new(0_u32), &Condvar::new());
    let meet = move |offset| {
        if offset > 0 {
            return Ok(());
        }
        let mut arrived = arrived.lock().unwrap();
        *arrived += 1;
        changed.notify_all();
        let minute = Duration::from_secs(60);
        let waited = changed.wait_timeout_while(arrived, minute, |arrived| *arrived < files);
        match waited.unwrap().1.timed_out() {
            true => Err(io::Error::other(
                "the other files were not loaded meanwhile",
            )),
            false => Ok(()),
        }
    };
    let request = |i: u32| {
        SealRequest::source(Hooked(parts[i as usize].as_slice(), meet)).device(i % devices)
    };
    let group = rig
        .manager
        .seal_group((0..files).map(request).collect())
        .unwrap();
    for (i, shard) in (0..).zip(group.shards()) {
        assert_eq!(shard.record().gpu_device, i % devices);
        assert_eq!(
            shard.record().digest,
            vram_digest::digest(&parts[i as usize])
        );
    }
}

// requirement: ER-8
#[test]
fn the_time_of_a_member_starts_with_its_load() {
    let rig = rig(1);
    let (parts, long) = (parts(5), weights(8 * LEN, 5));
    let second = |_| {
        rig.clock.advance(1_000_000_000);
        Ok(())
    };
    let limited = |bytes| {
        let request = SealRequest::source(Hooked(bytes, second));
        request.timeout(Duration::from_secs(3))
    };
    // The last one waits for longer than its time, and does not take longer.
    let all = Meeting::of(4);
    let slow = |offset| {
        if offset == 0 {
            rig.clock.advance(1_000_000_000);
            all.wait();
        }
        Ok(())
    };
    let before = rig.clock.monotonic();
    let slow = |part| SealRequest::source(Hooked(part, slow));
    let requests = parts[..4].iter().map(|part| slow(&part[..]));
    let requests = requests.chain([limited(&parts[4][..])]).collect();
    drop(rig.manager.seal_group(requests).unwrap());
    let all = rig.clock.monotonic() - before;
    assert!(all > 3_000_000_000, "{all} ns");
    let requests = vec![limited(&parts[0][..]), limited(&long[..])];
    let error = rig.manager.seal_group(requests).unwrap_err();
    assert!(
        matches!(error, Error::Load(LoadError::Deadline { .. })),
        "{error}"
    );
    rig.assert_empty();
}

/// The copy of one member is bad; the other cannot be read and stands before it.
// requirement: WORKER-4113, ER-4
#[test]
fn a_verdict_is_not_hidden_behind_a_read_that_failed() {
    let rig = rig(2);
    let parts = parts(2);
    rig.devices[1].flip_at(Flip {
        moment: Moment::AfterCopy,
        offset: 7,
        bit: 0,
    });
    // Each ends only once the other is under way.
    let both = Meeting::of(2);
    let fails = |offset| {
        if offset > 0 {
            return Ok(());
        }
        both.wait();
        Err(io::Error::other("the cable is out"))
    };
    let waits = |offset| {
        if offset == 0 {
            both.wait();
        }
        Ok(())
    };
    let requests = vec![
        SealRequest::source(Hooked(parts[0].as_slice(), fails)).device(0),
        SealRequest::source(Hooked(parts[1].as_slice(), waits)).device(1),
    ];
    let mut load = rig.manager.group_load(requests).unwrap();
    let error = load.run().unwrap_err();
    assert!(
        matches!(error, Error::Verify(VerifyError::Copy { .. })),
        "{error}"
    );
    assert_eq!(load.failed(), [0, 1]);
    drop(load);
    rig.assert_empty();
}

#[test]
fn a_cancelled_group_says_so() {
    let rig = rig(2);
    let (parts, token) = (parts(2), CancelToken::new());
    token.cancel();
    let requests = [0, 1].map(|i| {
        SealRequest::bytes(&parts[i as usize])
            .device(i)
            .cancel(&token)
    });
    let error = rig.manager.seal_group(requests.into()).unwrap_err();
    assert!(
        matches!(error, Error::Load(LoadError::Cancelled { .. })),
        "{error}"
    );
    rig.assert_empty();
}

// requirement: PF-11
#[test]
fn progress_counts_each_file_and_all_of_them_and_forgets_what_failed() {
    let rig = rig(1);
    let (parts, counted) = (parts(3), Counted::new(3));
    let seen: Arc<Mutex<Vec<(usize, Progress)>>> = Arc::default();
    let watched = |i: usize, request: SealRequest<'static>| {
        let seen = Arc::clone(&seen);
        request.progress(move |progress| seen.lock().unwrap().push((i, progress)))
    };
    let leaked: &'static [Vec<u8>] = parts.leak();
    let counted: &'static Counted = Box::leak(Box::new(counted));
    let request = |i: usize, broken| watched(i, counted.request(i, &leaked[i], broken));
    let requests = (0..3).map(|i| request(i, i == 1));
    let mut load = rig.manager.group_load(requests.collect()).unwrap();
    assert!(load.run().is_err());
    load.replace(1, request(1, false)).unwrap();
    load.run().unwrap();
    let _group = load.finish().unwrap();

    let seen = seen.lock().unwrap();
    for i in 0..3 {
        let of_file = seen.iter().filter(|(file, _)| *file == i);
        let most = of_file.map(|(_, p)| p.done).max().unwrap();
        assert_eq!(most, LEN as u64, "{i}");
    }
    let all = 3 * LEN as u64;
    let most = seen.iter().map(|(_, p)| p.all_done).max().unwrap();
    assert_eq!(most, all);
    let last = seen.iter().find(|(_, p)| p.all_done == all).unwrap();
    assert_eq!(last.1.all_total, all);
    assert!(
        seen.iter()
            .all(|(_, p)| p.total == LEN as u64 && p.all_done <= p.all_total.max(all))
    );
}
