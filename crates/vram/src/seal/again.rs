//! Reading again what failed, as often as --retries says, file by file.

use std::collections::{BTreeMap, BTreeSet};

use vram_residency::error::Error;
use vram_residency::load::{FileIdentity, LoadError};
use vram_residency::manager::GroupLoad;
use vram_residency::shard::SealedGroup;
use vram_residency::{SealRequest, VramManager};

use super::asked::Known;

/// How often each file was read again.
pub(super) type Used = BTreeMap<String, u32>;

/// How often each file was read again, and how often it may be.
pub(super) struct Patience<'p> {
    retries: u32,
    used: Used,
    /// Whether a file that changed may be read again: not where others of what
    /// it was are loaded.
    changes: bool,
    /// Tells of a retry and waits; false when nothing more is to be begun.
    wait: &'p dyn Fn(&str) -> bool,
}

impl<'p> Patience<'p> {
    /// For the files of one model, and for opening files of any kind.
    pub(super) fn of_group(retries: u32, wait: &'p dyn Fn(&str) -> bool) -> Self {
        Self {
            retries,
            used: Used::new(),
            changes: false,
            wait,
        }
    }

    /// For one of several files that have nothing to do with each other, after
    /// opening them `used` some of the retries.
    pub(super) fn of_one(
        retries: u32,
        file: &str,
        used: &Used,
        wait: &'p dyn Fn(&str) -> bool,
    ) -> Self {
        let used = used.get_key_value(file);
        let used = used.map(|(file, used)| (file.clone(), *used));
        Self {
            used: used.into_iter().collect(),
            changes: true,
            ..Self::of_group(retries, wait)
        }
    }

    /// Retries that were used, by file.
    pub(super) const fn used(&self) -> &Used {
        &self.used
    }

    /// Does `work`, and again while it fails at reading a file that may still
    /// be read again.
    pub(super) fn patiently<T>(
        &mut self,
        mut work: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            match work() {
                Err(error) => self.again(error, &[])?,
                done => return done,
            }
        }
    }

    /// Waits until the file of an error, and others that failed with it, may be
    /// read again; the error where one may not.
    fn again(&mut self, error: Error, others: &[&str]) -> Result<(), Error> {
        let Some(file) = self.passing(&error) else {
            return Err(error);
        };
        let name = file.to_owned();
        let files: BTreeSet<&str> = others.iter().copied().chain([file]).collect();
        let mut retry = 0;
        for file in files {
            let used = self.used.entry(file.to_owned()).or_default();
            *used = used.saturating_add(1);
            retry = retry.max(*used);
        }
        let retries = self.retries;
        if retry > retries {
            return Err(error);
        }
        let note = format!("{error}; trying again, retry {retry} of {retries}");
        if (self.wait)(&note) {
            return Ok(());
        }
        // Not the failure ended it, which was to be tried again.
        Err(LoadError::Cancelled { name }.into())
    }

    /// The file whose reading failed, if that may be over soon.
    fn passing<'e>(&self, error: &'e Error) -> Option<&'e str> {
        match error {
            Error::Load(LoadError::Changed { .. }) if !self.changes => None,
            Error::Load(error) if error.is_retriable() => error.source_name(),
            _ => None,
        }
    }
}

/// Seals the files of one model, as they were when all were opened: all or none.
/// What is loaded stays while those that failed, and only those, are opened and
/// read `again`.
///
/// # Errors
/// The error and, where it is known, the position of the file that it is about.
pub(super) fn seal_group<'a>(
    manager: &VramManager,
    files: &[&Known],
    patience: &mut Patience<'_>,
    opened: Vec<SealRequest<'a>>,
    again: impl Fn(usize) -> Result<SealRequest<'a>, Error>,
) -> Result<SealedGroup, (Option<u32>, Error)> {
    let of_none = |error| (None, error);
    let named = |index: u32| Some(files.get(usize::try_from(index).ok()?)?.plan.name.as_str());
    let mut load = manager.group_load(opened).map_err(of_none)?;
    // What is not read again need not be loaded.
    let run = match patience.retries {
        0 => GroupLoad::run_or_halt,
        _ => GroupLoad::run,
    };
    while let Err(error) = run(&mut load) {
        let about = load.told();
        let failed = load.failed();
        let failed: Vec<&str> = failed.iter().filter_map(|index| named(*index)).collect();
        let again_now = patience.again(error, &failed);
        again_now.map_err(|error| (about, error))?;
        let refilled = patience.patiently(|| refill(&mut load, files, &again));
        refilled.map_err(of_none)?;
    }
    load.finish().map_err(of_none)
}

/// Gives the members that failed their requests anew, if all files, those that
/// are loaded as well, are what they were: no group is of two revisions.
fn refill<'a>(
    load: &mut GroupLoad<'a>,
    files: &[&Known],
    again: impl Fn(usize) -> Result<SealRequest<'a>, Error>,
) -> Result<(), Error> {
    let failed = load.failed();
    for (index, (at, file)) in (0..).zip(files.iter().enumerate()) {
        if failed.contains(&index) {
            let request = again(at)?;
            file.same_as(request.identity())?;
            load.replace(index, request)?;
        } else {
            file.same_as(Some(FileIdentity::at(&file.path)?))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs::File;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, SystemTime};

    use vram_residency::capacity::plan::PlanPart;
    use vram_residency::clock::Clock;
    use vram_residency::format::ReadAt;
    use vram_residency::key::RootKey;
    use vram_residency::load::{FileSource, Source};
    use vram_residency::sim::{SimDevice, SimOptions};

    use super::*;

    const NAMES: [&str; 3] = ["first", "second", "third"];

    /// A file whose next reads fail.
    struct Flaky {
        file: FileSource,
        failures: Arc<AtomicU32>,
        reads: Arc<AtomicU32>,
    }

    impl ReadAt for Flaky {
        fn len(&self) -> u64 {
            self.file.len()
        }

        fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let one_less = |left: u32| left.checked_sub(1);
            let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
            match self.failures.fetch_update(set, fetch, one_less) {
                Ok(_) => Err(io::Error::other("the disk is away")),
                Err(_) => self.file.read_exact_at(offset, out),
            }
        }
    }

    impl Source for Flaky {
        fn name(&self) -> String {
            let name = self.file.path().file_name().unwrap();
            name.to_string_lossy().into_owned()
        }

        fn read_piece(&self, offset: u64, out: &mut [u8], _: &dyn Clock) -> io::Result<()> {
            self.read_exact_at(offset, out)
        }

        fn identity(&self) -> Option<FileIdentity> {
            self.file.identity()
        }

        fn check_unchanged(&self) -> Result<(), LoadError> {
            self.file.check_unchanged()
        }
    }

    /// Three files, each on a device of its own or all on one, and what befalls
    /// them.
    struct Disk {
        dir: tempfile::TempDir,
        devices: u32,
        failures: [Arc<AtomicU32>; 3],
        reads: [Arc<AtomicU32>; 3],
        notes: RefCell<Vec<String>>,
        /// How often each was opened.
        opened: [AtomicU32; 3],
    }

    impl Disk {
        fn new(devices: u32, failures: [u32; 3]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in NAMES {
                std::fs::write(dir.path().join(name), [7; 5000]).unwrap();
            }
            Self {
                dir,
                devices,
                failures: failures.map(|count| Arc::new(AtomicU32::new(count))),
                reads: [0; 3].map(|none| Arc::new(AtomicU32::new(none))),
                notes: RefCell::default(),
                opened: [0; 3].map(AtomicU32::new),
            }
        }

        /// What is known of each file once it was opened.
        fn known(&self) -> Vec<Known> {
            let known = |name: &str| {
                let path = self.dir.path().join(name);
                let identity = FileIdentity::at(&path).unwrap();
                let plan = PlanPart {
                    name: name.to_owned(),
                    bytes: 5000,
                    padding: 0,
                };
                let tables = 0;
                Known {
                    plan,
                    path,
                    identity,
                    tables,
                }
            };
            NAMES.into_iter().map(known).collect()
        }

        fn request(&self, at: usize) -> Result<SealRequest<'static>, Error> {
            self.opened[at].fetch_add(1, Ordering::Relaxed);
            let source = Flaky {
                file: FileSource::open(&self.dir.path().join(NAMES[at]))?,
                failures: Arc::clone(&self.failures[at]),
                reads: Arc::clone(&self.reads[at]),
            };
            let device = u32::try_from(at)
                .unwrap()
                .min(self.devices.saturating_sub(1));
            Ok(SealRequest::source(source).device(device))
        }

        /// Seals the group; `meanwhile` happens before files are read again, and
        /// says whether they are.
        fn seal(&self, retries: u32, meanwhile: impl Fn(&Self) -> bool) -> Result<(), Error> {
            let mut builder =
                VramManager::builder().key(RootKey::from_token(&test_listener::secret()).unwrap());
            for ordinal in 0..self.devices {
                builder = builder.device(SimDevice::with_options(
                    SimOptions::new(1 << 20).ordinal(ordinal),
                ));
            }
            let manager = builder.build().unwrap();
            let wait = |note: &str| {
                self.notes.borrow_mut().push(note.to_owned());
                meanwhile(self)
            };
            let known = self.known();
            let known: Vec<&Known> = known.iter().collect();
            let opened = (0..3).map(|at| self.request(at)).collect::<Result<_, _>>();
            let mut patience = Patience::of_group(retries, &wait);
            let again = |at| self.request(at);
            let group = seal_group(&manager, &known, &mut patience, opened?, again);
            let group = group.map_err(|(_, error)| error);
            let sealed = group.map(|group| assert_eq!(group.shards().len(), 3));
            assert_eq!(manager.used_vram(), 0, "the group is gone");
            sealed
        }

        fn reads(&self) -> [u32; 3] {
            [0, 1, 2].map(|at: usize| self.reads[at].load(Ordering::Relaxed))
        }

        fn opened(&self) -> [u32; 3] {
            [0, 1, 2].map(|at: usize| self.opened[at].load(Ordering::Relaxed))
        }
    }

    #[test]
    fn only_what_failed_is_opened_and_read_again() {
        let disk = Disk::new(1, [0, 1, 0]);
        disk.seal(1, |_| true).unwrap();
        assert_eq!((disk.reads(), disk.opened()), ([1, 2, 1], [1, 2, 1]));
        // At the same time: each is as often opened as it is read.
        let disk = Disk::new(3, [1, 1, 1]);
        disk.seal(3, |_| true).unwrap();
        assert_eq!((disk.reads(), disk.opened()), ([2; 3], [2; 3]));
    }

    #[test]
    fn retries_are_counted_by_file() {
        let disk = Disk::new(1, [2, 2, 2]);
        disk.seal(2, |_| true).unwrap();
        assert_eq!((disk.reads(), disk.opened()), ([3, 3, 3], [3, 3, 3]));
        // Those that failed at the same time wait together.
        let disk = Disk::new(1, [0, 3, 0]);
        let error = disk.seal(2, |_| true).unwrap_err().to_string();
        assert!(error.contains("cannot read second"), "{error}");
        let notes = disk.notes.borrow();
        assert_eq!(notes.len(), 2);
        for (retry, note) in (1..).zip(notes.iter()) {
            assert!(note.contains("cannot read second"), "{note}");
            assert!(note.ends_with(&format!("retry {retry} of 2")), "{note}");
        }
        assert_eq!(disk.reads()[1], 3);
    }

    #[test]
    fn what_opening_used_up_is_used_up_for_the_load() {
        let (wait, never) = (|_: &str| true, |_: &str| panic!("no retry is left"));
        let fails = |file: &str| {
            let name = file.to_owned();
            let source = io::Error::other("the disk is away");
            Error::from(LoadError::Open { name, source })
        };
        let mut opening = Patience::of_group(2, &wait);
        opening.again(fails("first"), &[]).unwrap();
        opening.again(fails("first"), &[]).unwrap();
        let used = opening.used();
        let mut second = Patience::of_one(2, "second", used, &wait);
        second.again(fails("second"), &[]).unwrap();
        let mut first = Patience::of_one(2, "first", used, &never);
        first.again(fails("first"), &[]).unwrap_err();
    }

    #[test]
    fn who_ends_the_wait_is_told_so_and_not_what_was_waited_for() {
        let disk = Disk::new(1, [0, 1, 0]);
        let ended = disk.seal(9, |_| false).unwrap_err();
        assert!(
            matches!(&ended, Error::Load(LoadError::Cancelled { name }) if name == "second"),
            "{ended}"
        );
    }

    /// What befalls a file while another is waited for.
    type Fate = fn(&std::path::Path);

    const FATES: [Fate; 3] = [
        |path| {
            let other = path.with_extension("new");
            std::fs::write(&other, [8; 5000]).unwrap();
            std::fs::rename(other, path).unwrap();
        },
        |path| std::fs::write(path, [8; 4000]).unwrap(),
        |path| {
            let file = File::options().write(true).open(path).unwrap();
            let later = SystemTime::now() + Duration::from_secs(9);
            file.set_modified(later).unwrap();
        },
    ];

    #[test]
    fn a_group_is_never_of_two_revisions() {
        // The one that is loaded, the one that failed, and the one after it.
        for name in NAMES {
            for (number, fate) in FATES.iter().enumerate() {
                let disk = Disk::new(1, [0, 1, 0]);
                let change = |disk: &Disk| {
                    // Times of files are as coarse as the kernel's ticks.
                    std::thread::sleep(Duration::from_millis(20));
                    fate(&disk.dir.path().join(name));
                    true
                };
                let error = disk.seal(9, change).unwrap_err();
                let says = format!("{name} changed while it was read");
                assert!(error.to_string().contains(&says), "{number}: {error}");
                assert_eq!(disk.notes.borrow().len(), 1, "{number}: it was tried again");
            }
        }
    }
}
