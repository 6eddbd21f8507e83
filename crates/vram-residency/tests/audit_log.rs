//! The audit log in a directory: restart, rotation, retention, and who may write.

mod audit_log_support;
#[path = "common/skipped.rs"]
mod skipped;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use audit_log_support::*;
use skipped::skipped;
use vram_residency::audit::Sink;
use vram_residency::audit::check::{self, DirFiles, Fault, Files, Filter};
use vram_residency::audit::log::{LogSink, OpenError};
use vram_residency::audit::merkle;
use vram_residency::audit::note::Checkpoint;
use vram_residency::clock::{Clock as _, ManualClock, SystemClock, Timestamp};

// requirement: AU-10, AU-15, AU-16
#[test]
fn a_log_goes_on_after_restarts_and_verifies() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    for start in 0..3 {
        let log = open(&dir, options()).unwrap();
        (1..=300).for_each(|id| log.record(&event(start * 300 + id)).unwrap());
        drop(log);
        let report = verify(&dir);
        assert_eq!(report.findings, []);
        assert_eq!((report.size, report.uncovered), ((start + 1) * 302, 0));
    }
    assert_eq!(audit_ids(&dir), (1..=900).collect::<Vec<_>>());
    for name in DirFiles::new(&dir).names().unwrap() {
        let mode = fs::metadata(dir.join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let mode = fs::metadata(&dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

// requirement: AU-12
#[test]
fn a_critical_event_is_covered_when_record_returns() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut slow = options();
    slow.interval = Duration::from_secs(3600);
    let log = open(&dir, slow).unwrap();
    for id in 1..20 {
        log.record(&event(1000 + id)).unwrap();
        log.record(&critical(id)).unwrap();
        let report = verify(&dir);
        assert_eq!((report.findings.len(), report.uncovered), (0, 0));
        assert!(audit_ids(&dir).contains(&id), "critical {id}");
    }
    log.record(&event(5000)).unwrap();
    log.flush().unwrap();
    assert!(audit_ids(&dir).contains(&5000));
    log.record(&event(5001)).unwrap();
    let newest = log.checkpoint().unwrap();
    assert_eq!(newest, fs::read_to_string(dir.join("checkpoint")).ok());
    assert_eq!(verify(&dir).uncovered, 0, "it covers what was recorded");
    assert_eq!(log.losses(), (0, 0));
}

#[test]
fn segments_rotate_by_size_and_day_and_old_ones_retire() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    (small.segment_bytes, small.keep_segments) = (4000, Some(2));
    let log = open(&dir, small.clone()).unwrap();
    for id in 1..=400 {
        log.record(&event(id)).unwrap();
        log.flush().unwrap();
    }
    drop(log);
    let report = verify(&dir);
    assert_eq!(report.findings, []);
    assert!(report.first_kept > 300, "{report:?}");
    let names = DirFiles::new(&dir).names().unwrap();
    let segments = names.iter().filter(|name| name.ends_with(".jsonl"));
    assert!(segments.count() <= 3, "{names:?}");
    assert_eq!(audit_ids(&dir).last(), Some(&400));
    // It opens again although most lines are gone, and goes on.
    let log = open(&dir, small).unwrap();
    log.record(&event(401)).unwrap();
    drop(log);
    assert_eq!(verify(&dir).findings, []);
    // Deleting one more segment than the log says is seen.
    let oldest = names
        .iter()
        .filter(|name| name.starts_with("events.0"))
        .min();
    fs::remove_file(dir.join(oldest.unwrap())).unwrap();
    assert_eq!(verify(&dir).findings[0].fault, Fault::Dropped);
}

#[test]
fn a_new_day_starts_a_segment_and_a_clock_set_back_does_not() {
    const DAY: u64 = 86_400_000_000_000;
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let at = |days: u64| Timestamp::from_nanos((20_000 + days) * DAY + 5);
    let clock = Arc::new(ManualClock::new(at(0)));
    let log = open_at(&dir, options(), clock.clone()).unwrap();
    for (id, days) in [(1, 0), (2, 1), (3, 0), (4, 1), (5, 2)] {
        clock.set_wall(at(days));
        let mut event = event(id);
        event.timestamp = at(days);
        log.record(&event).unwrap();
        log.flush().unwrap();
    }
    drop(log);
    let report = verify(&dir);
    assert_eq!(report.findings, []);
    assert_eq!(report.clock_steps_back, 1);
    let names = DirFiles::new(&dir).names().unwrap();
    let segments = names.iter().filter(|name| name.ends_with(".jsonl"));
    assert_eq!(segments.count(), 3, "{names:?}");
}

/// One start of a log at the days of a clock, an event on each; the first event that
/// is kept after it.
fn start_at(dir: &Path, days: &[u64]) -> u64 {
    const DAY: u64 = 86_400_000_000_000;
    let mut options = options();
    options.keep_days = Some(10);
    let at = |day: &u64| Timestamp::from_nanos((20_000 + day) * DAY + 5);
    let clock = Arc::new(ManualClock::new(at(&days[0])));
    let log = open_at(dir, options, clock.clone()).unwrap();
    for pair in days.windows(2) {
        let mut event = event(pair[0] + 1);
        event.timestamp = clock.now();
        log.record(&event).unwrap();
        log.flush().unwrap();
        match pair[1].checked_sub(pair[0]) {
            Some(days) if days < 1000 => clock.advance(days * DAY),
            _ => clock.set_wall(at(&pair[1])),
        }
    }
    let mut event = event(days[days.len() - 1] + 1);
    event.timestamp = clock.now();
    log.record(&event).unwrap();
    drop(log);
    let report = verify(dir);
    assert_eq!(report.findings, []);
    report.first_kept
}

/// Who sets the clock, and a clock that comes up wrong, delete nothing: neither what is
/// from before the clock was put right, nor all that there is when it is ahead, for as
/// many starts as it likes.
// requirement: AU-10
#[test]
fn a_clock_that_is_wrong_for_a_start_makes_nothing_old() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    // Years behind, and put right while the log is open.
    assert_eq!(start_at(&dir, &[0, 5000]), 0);
    assert_eq!(start_at(&dir, &[5001, 5005]), 0);
    // Years ahead for one start, and for two.
    assert_eq!(start_at(&dir, &[9000, 9001]), 0);
    assert_eq!(start_at(&dir, &[5005, 5006]), 0);
    assert_eq!(start_at(&dir, &[12_000]), 0);
    assert_eq!(start_at(&dir, &[12_001, 12_002]), 0);
    assert!(audit_ids(&dir).len() >= 11);
}

/// A machine that wakes up in the past for days, until its clock is put right.
// requirement: AU-10
#[test]
fn days_before_the_clock_was_put_right_are_kept() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    assert_eq!(start_at(&dir, &[0, 1, 2, 3]), 0);
    for day in 5000..5006 {
        assert_eq!(start_at(&dir, &[day]), 0);
    }
    assert_eq!(audit_ids(&dir).len(), 10);
}

// requirement: AU-10
#[test]
fn days_that_have_gone_by_make_segments_old() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    // Finished on day 1, kept for ten more.
    assert_eq!(start_at(&dir, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), 0);
    assert_eq!(audit_ids(&dir)[..2], [1, 2]);
    assert!(start_at(&dir, &[12]) > 0);
    assert_eq!(audit_ids(&dir)[..2], [2, 3]);
    // A log that lay for years: that counts for one day.
    start_at(&dir, &[900]);
    assert_eq!(audit_ids(&dir)[..2], [3, 4]);
}

#[test]
fn one_writer_private_directories_and_no_links() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    let second = open(&dir, options());
    assert!(matches!(second.err(), Some(OpenError::Locked { .. })));
    drop(log);
    let link = temp.path().join("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    assert!(matches!(
        open(&link, options()).err(),
        Some(OpenError::Io { .. })
    ));
    let segment = dir.join("events.jsonl");
    fs::rename(&segment, temp.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(temp.path().join("elsewhere"), &segment).unwrap();
    let linked = open(&dir, options()).err().unwrap().to_string();
    assert!(linked.contains("symbolic link"), "{linked}");
    let open_dir = temp.path().join("open");
    fs::create_dir(&open_dir).unwrap();
    fs::set_permissions(&open_dir, fs::Permissions::from_mode(0o750)).unwrap();
    let error = open(&open_dir, options()).err();
    assert!(matches!(
        error,
        Some(OpenError::PermissionsTooOpen { mode: 0o750, .. })
    ));
}

/// Who deletes the file of the lock, as one does with a stale one, lets no second writer
/// in: it would write over what the first one signs.
// requirement: AU-10
#[test]
fn a_deleted_lock_lets_no_second_writer_in() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    log.record(&event(1)).unwrap();
    fs::remove_file(dir.join("lock")).unwrap();
    let second = open(&dir, options()).err();
    let second = second.expect("two writers").to_string();
    assert!(second.contains("has a writer already"), "{second}");
    let changed = change(&dir, 0, 1);
    assert!(matches!(changed, Err(OpenError::Locked { .. })));
    log.record(&event(2)).unwrap();
    drop(log);
    drop(open(&dir, options()).unwrap());
    assert_eq!(verify(&dir).findings, []);
    assert_eq!(audit_ids(&dir), [1, 2]);
}

/// Something that is no file under the name of one would hold up whoever opens it,
/// or hide what it stands for.
// requirement: AU-10
#[test]
fn a_fifo_or_a_folder_in_the_place_of_a_file_is_named_and_holds_nobody_up() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    drop(open(&dir, options()).unwrap());
    let good = read_all(&dir);
    let tile = good.keys().find(|name| name.starts_with("tile/")).unwrap();
    let names = ["events.jsonl", "checkpoint", "lock", tile.as_str()];
    let kinds: [fn(&std::path::Path); 2] = [
        |path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        },
        |path| fs::create_dir(path).unwrap(),
    ];
    for (name, kind) in names
        .into_iter()
        .flat_map(|name| kinds.map(|kind| (name, kind)))
    {
        for others in [true, false] {
            let mut files = good.clone();
            files.retain(|other, _| others && other != name);
            write_all(&dir, &files);
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            kind(&dir.join(name));
            let error = open(&dir, options()).err().unwrap();
            let named = matches!(&error, OpenError::Io { reason, .. } if reason.contains(name));
            let folder = name == "lock" && error.to_string().contains("Is a directory");
            assert!(named || folder, "{name}: {error}");
            if name == "lock" {
                continue;
            }
            let found = verify(&dir).findings;
            let first = found.first().expect("a fault");
            assert_eq!(first.fault, Fault::UnreadableFile, "{name}: {found:?}");
            assert!(first.file == name && first.text.contains(name), "{first}");
        }
    }
    // Between the listing and the opening, too.
    write_all(&dir, &good);
    fs::remove_file(dir.join("events.jsonl")).unwrap();
    kinds[0](&dir.join("events.jsonl"));
    let opened = DirFiles::new(&dir).open("events.jsonl").err().unwrap();
    assert!(opened.to_string().contains("no regular file"), "{opened}");
}

/// What a killed writer had begun to put is deleted by the next one, whatever it
/// is; what is not the log's stays.
// requirement: AU-15
#[test]
fn drafts_of_a_killed_writer_are_deleted() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    drop(open(&dir, options()).unwrap());
    let drafts = [
        "checkpoint.new",
        "handover.000000000007.json.new",
        "tile/0/000.p/5.new",
        "tile/0/x001/002.new",
        "tile/1/000.new",
    ];
    let others = ["note.new", "tile/readme.new", "tile/0/other.new"];
    for name in drafts.iter().chain(&others) {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs::write(dir.join(name), "half of it").unwrap();
    }
    // A draft that holds up whoever writes to it.
    fs::remove_file(dir.join(drafts[0])).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.join(drafts[0]), mode).unwrap();
    let log = open(&dir, options()).unwrap();
    for gone in drafts {
        assert!(!dir.join(gone).exists(), "{gone}");
    }
    for stays in others {
        assert!(dir.join(stays).exists(), "{stays}");
    }
    // One that appears meanwhile, as a put leaves it that failed.
    fs::write(dir.join(drafts[0]), "half of it").unwrap();
    log.record(&critical(1)).unwrap();
    drop(log);
    assert!(!dir.join(drafts[0]).exists());
    assert_eq!(verify(&dir).findings, []);
}

/// A file that others can reach inside a private directory was put there, or was
/// opened to them, by somebody else than the log.
// requirement: AU-10
#[test]
fn files_that_others_can_reach_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    small.segment_bytes = 2_000;
    let log = open(&dir, small).unwrap();
    for id in 1..=20 {
        log.record(&event(id)).unwrap();
        log.flush().unwrap();
    }
    drop(log);
    let names = DirFiles::new(&dir).names().unwrap();
    assert!(names.len() > 4, "{names:?}");
    for name in names {
        let path = dir.join(&name);
        for open_to_others in [0o644, 0o660, 0o602] {
            let mode = |bits| fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            mode(open_to_others);
            let refused = open(&dir, options()).err();
            let Some(OpenError::PermissionsTooOpen {
                path: named,
                mode: found,
            }) = refused
            else {
                panic!("{name}: {refused:?}")
            };
            assert_eq!((named, found), (path.clone(), open_to_others));
            mode(0o600);
        }
    }
    drop(open(&dir, options()).unwrap());
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("theirs");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    if !rustix::process::geteuid().is_root() {
        skipped("a log of another user: giving a directory away needs root");
        return;
    }
    std::os::unix::fs::chown(&dir, Some(4242), None).unwrap();
    let error = open(&dir, options()).err().unwrap();
    assert!(
        matches!(error, OpenError::Owner { owner: 4242, .. }),
        "{error}"
    );
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

/// What kill -9 leaves, made by hand for every length of a last line.
#[test]
fn every_torn_end_is_cut_off_and_recorded() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    (1..=5).for_each(|id| log.record(&event(id)).unwrap());
    log.flush().unwrap();
    let before = read_all(&dir);
    drop(log);
    let text = String::from_utf8(before["events.jsonl"].clone()).unwrap();
    let last = text
        .lines()
        .last()
        .unwrap()
        .replace("\"seq\":5", "\"seq\":6");
    let tail = format!("{last}\n");
    for len in 0..=tail.len() {
        let torn = format!("{text}{}", &tail[..len]);
        write_all(&dir, &before);
        fs::write(dir.join("events.jsonl"), &torn).unwrap();
        assert_eq!(verify(&dir).findings, [], "{len}");
        drop(open(&dir, options()).unwrap());
        let report = verify(&dir);
        assert_eq!((report.findings.len(), report.uncovered), (0, 0), "{len}");
        let complete = u64::from(len == tail.len());
        let cut = if complete == 1 { 0 } else { len };
        let said =
            format!("\"adopted_events\":{complete},\"refused_lines\":0,\"torn_bytes\":{cut}");
        let now = fs::read_to_string(dir.join("events.jsonl")).unwrap();
        assert!(now.contains(&said), "{len}: {now}");
    }
}

#[test]
fn a_log_that_does_not_verify_or_has_another_key_or_name_is_not_written_to() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    (1..=5).for_each(|id| log.record(&event(id)).unwrap());
    drop(log);
    let mut renamed = options();
    renamed.origin = vram_residency::audit::note::Origin::new("other").unwrap();
    assert!(matches!(
        open(&dir, renamed).err(),
        Some(OpenError::Origin { .. })
    ));
    let path = dir.join("events.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("shard-3", "shard-4")).unwrap();
    let error = open(&dir, options()).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(
        error.to_string().contains("events.jsonl:4: edited"),
        "{error}"
    );
    fs::write(&path, text).unwrap();
    let clock = Arc::new(SystemClock::new());
    let other = LogSink::open(&dir, options(), numbered(3), clock);
    let error = other.err().unwrap();
    assert!(matches!(error, OpenError::OtherKey { .. }), "{error}");
    assert!(error.to_string().contains("name the key that signs it"));
    drop(open(&dir, options()).unwrap());
    fs::remove_file(dir.join("checkpoint")).unwrap();
    let error = open(&dir, options()).err().unwrap().to_string();
    assert!(error.contains("missing_checkpoint"), "{error}");
}

#[test]
fn lost_tiles_are_made_again() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    (1..=700).for_each(|id| log.record(&event(id)).unwrap());
    drop(log);
    fs::remove_dir_all(dir.join("tile")).unwrap();
    // What a power failure leaves is no fault of the log: two full tiles, a partial one
    // and the one above them.
    let report = verify(&dir);
    assert_eq!((report.findings, report.tiles_lost), (vec![], 4));
    drop(open(&dir, options()).unwrap());
    let report = verify(&dir);
    assert_eq!((report.findings, report.tiles_lost), (vec![], 0));
}

/// A tile whose lines are retired is the only place of their hashes.
#[test]
fn a_lost_tile_that_no_line_gives_is_a_fault() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut small = options();
    (small.segment_bytes, small.keep_segments) = (4_000, Some(2));
    let log = open(&dir, small.clone()).unwrap();
    for id in 1..=400 {
        log.record(&event(id)).unwrap();
        log.flush().unwrap();
    }
    drop(log);
    assert_eq!(verify(&dir).findings, []);
    assert!(verify(&dir).first_kept > 256);
    for bytes in [None, Some(100)] {
        let files = read_all(&dir);
        let tile = dir.join("tile/0/000");
        match bytes {
            None => fs::remove_file(&tile).unwrap(),
            Some(len) => fs::write(&tile, &files["tile/0/000"][..len]).unwrap(),
        }
        let report = verify(&dir);
        let faults: Vec<_> = report.findings.iter().map(|found| found.fault).collect();
        assert_eq!(faults, [Fault::Tile, Fault::Root], "{report:?}");
        assert_eq!(report.findings[0].file, "tile/0/000");
        let error = open(&dir, small.clone()).err().unwrap();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        write_all(&dir, &files);
    }
}

/// What hides behind one file that cannot be read is everything else.
#[test]
fn what_cannot_be_read_hides_nothing_that_can() {
    use std::os::unix::fs::symlink;

    type Put<'a> = &'a dyn Fn(&Path);

    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    (1..=9).for_each(|id| log.record(&event(id)).unwrap());
    drop(log);
    let good = read_all(&dir);
    let fifo = |path: &Path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
    };
    let link = |path: &Path| symlink("elsewhere", path).unwrap();
    let folder = |path: &Path| fs::create_dir(path).unwrap();
    let file = |path: &Path| fs::write(path, "x").unwrap();
    let socket = |path: &Path| {
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    };
    let cases: [(&str, Put<'_>, &str); 8] = [
        ("handover.000000000999.json", &link, "is a symbolic link"),
        ("handover.000000000999.json", &socket, "no regular file"),
        ("events.000000000999.jsonl", &fifo, "no regular file"),
        ("tile/0/000.p/5", &folder, "no regular file"),
        ("tile/zzz", &link, "is a symbolic link"),
        ("tile", &link, "is a symbolic link"),
        ("tile", &file, "is no folder"),
        ("checkpoint", &folder, "no regular file"),
    ];
    for (name, put, why) in cases {
        let mut files = good.clone();
        let text = String::from_utf8(files["events.jsonl"].clone()).unwrap();
        let text = text.replacen("shard-5", "shard-6", 1);
        files.insert("events.jsonl".to_owned(), text.into());
        files.retain(|other, _| other != name && !(name == "tile" && other.starts_with("tile/")));
        write_all(&dir, &files);
        put(&dir.join(name));
        let findings = verify(&dir).findings;
        assert_eq!(findings[0].fault, Fault::UnreadableFile, "{findings:?}");
        assert_eq!(findings[0].file, name);
        assert!(findings[0].text.ends_with(why), "{findings:?}");
        let line = findings.iter().find(|found| {
            let lines = found.line.map(|line| line..line + found.count);
            found.file == "events.jsonl" && lines.is_some_and(|lines| lines.contains(&6))
        });
        let line = line.unwrap_or_else(|| panic!("{name}: {findings:?}"));
        assert!([Fault::Edited, Fault::Doubtful].contains(&line.fault));
        let (mut shown, filter) = (0, check::Filter::default());
        let damaged = check::show(&DirFiles::new(&dir), &filter, &mut |_| {
            shown += 1;
            Ok(())
        });
        let damaged: Vec<_> = damaged.unwrap();
        assert_eq!((shown, &damaged[0]), (11, &findings[0]));
    }
}

/// A disk that gives half a file.
#[test]
fn a_file_that_cannot_be_read_to_its_end_is_named() {
    use std::io::{self, BufRead, Read as _};

    struct Failing(MemoryFiles, &'static str);
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is broken"))
        }
    }
    impl Files for Failing {
        fn names(&self) -> io::Result<Vec<String>> {
            self.0.names()
        }
        fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>> {
            let whole = self.0.open(name)?;
            if name != self.1 {
                return Ok(whole);
            }
            let half = whole.take(self.0[name].len() as u64 / 2);
            Ok(Box::new(io::BufReader::new(half.chain(Broken))))
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    (1..=9).for_each(|id| log.record(&event(id)).unwrap());
    drop(log);
    for name in ["events.jsonl", "checkpoint", "tile/0/000.p/11"] {
        let findings = verify_files(&Failing(read_all(&dir), name)).findings;
        let first = (findings[0].fault, findings[0].file.as_str());
        assert_eq!(first, (Fault::UnreadableFile, name), "{findings:?}");
        assert_eq!(findings[0].text, "the disk is broken");
    }
}

#[test]
fn an_earlier_checkpoint_uncovers_a_log_that_was_cut_back() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    (1..=20).for_each(|id| log.record(&event(id)).unwrap());
    log.flush().unwrap();
    let old = read_all(&dir);
    (21..=40).for_each(|id| log.record(&event(id)).unwrap());
    drop(log);
    let new = read_all(&dir);
    let note = |files: &MemoryFiles| String::from_utf8(files["checkpoint"].clone()).unwrap();
    let trusted = trusted();
    let against = |files: &MemoryFiles, earlier: &str| {
        let options = check::Options {
            trusted: &trusted,
            earlier: Some(earlier),
            ..check::Options::default()
        };
        check::verify(files, &options).unwrap().findings
    };
    assert_eq!(against(&new, &note(&old)), []);
    assert_eq!(against(&old, &note(&new))[0].fault, Fault::RolledBack);
    // The same by a consistency proof, without the log.
    let [before, after] = [&old, &new].map(|f| Checkpoint::open(&note(f), &trusted).unwrap());
    let leaves: Vec<_> = new["events.jsonl"]
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| merkle::leaf_hash(line.strip_suffix(b"\n").unwrap()))
        .collect();
    let proof = merkle::consistency(&leaves, before.size as usize);
    let (a, b) = (before.size, after.size);
    assert!(merkle::verify_consistency(
        a,
        &before.root,
        b,
        &after.root,
        &proof
    ));
    assert!(!merkle::verify_consistency(
        a,
        &after.root,
        b,
        &after.root,
        &proof
    ));
}

#[test]
fn show_filters_by_shard_type_and_time() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let log = open(&dir, options()).unwrap();
    (1..=30).for_each(|id| log.record(&event(id)).unwrap());
    log.record(&critical(31)).unwrap();
    drop(log);
    let shown = |filter: Filter| {
        let mut ids = Vec::new();
        check::show(&DirFiles::new(&dir), &filter, &mut |shown| {
            ids.push(shown.event.unwrap().audit_id);
            Ok(())
        })
        .unwrap();
        ids
    };
    let shard = Filter {
        shard: Some("shard-3".to_owned()),
        ..Filter::default()
    };
    assert_eq!(shown(shard), [3, 10, 17, 24]);
    let family = Filter {
        event_type: Some("manager.".to_owned()),
        ..Filter::default()
    };
    assert_eq!(shown(family), [31]);
    let time = |id: u64| Some(event(id).timestamp.to_string());
    let span = Filter {
        since: time(5),
        until: time(8),
        ..Filter::default()
    };
    assert_eq!(shown(span), [5, 6, 7]);
}
