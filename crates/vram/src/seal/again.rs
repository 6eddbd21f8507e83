//! Reading again what failed, as often as --retries says, file by file.

use std::collections::{BTreeMap, BTreeSet};

use vram_residency::error::Error;
use vram_residency::load::{FileIdentity, LoadError};
use vram_residency::manager::GroupLoad;
use vram_residency::shard::SealedGroup;
use vram_residency::{SealRequest, VramManager};

/// How often each file was read again, and how often it may be.
pub(super) struct Patience<'p> {
    retries: u32,
    used: BTreeMap<String, u32>,
    /// Whether a file that changed may be read again: not where others of what
    /// it was are loaded.
    changes: bool,
    /// Tells of a retry and waits; false when nothing more is to be begun.
    wait: &'p dyn Fn(&str) -> bool,
}

impl<'p> Patience<'p> {
    /// For files that have nothing to do with each other.
    pub(super) fn new(retries: u32, wait: &'p dyn Fn(&str) -> bool) -> Self {
        Self {
            retries,
            used: BTreeMap::new(),
            changes: true,
            wait,
        }
    }

    /// For the files of one model.
    pub(super) fn of_group(retries: u32, wait: &'p dyn Fn(&str) -> bool) -> Self {
        Self {
            changes: false,
            ..Self::new(retries, wait)
        }
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
        let files: BTreeSet<&str> = others.iter().copied().chain([file]).collect();
        let mut retry = 0;
        for file in files {
            let used = self.used.entry(file.to_owned()).or_default();
            *used = used.saturating_add(1);
            retry = retry.max(*used);
        }
        let retries = self.retries;
        let go_on = retry <= retries
            && (self.wait)(&format!(
                "{error}; trying again, retry {retry} of {retries}"
            ));
        if go_on { Ok(()) } else { Err(error) }
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

/// Seals the files of one model, as they were when all were first opened: all
/// or none. What is loaded stays while those that failed are read again.
pub(super) fn seal_group<'a>(
    manager: &VramManager,
    names: &[&str],
    patience: &mut Patience<'_>,
    mut requests: impl FnMut() -> Result<Vec<SealRequest<'a>>, Error>,
) -> Result<SealedGroup, Error> {
    let mut opened = Vec::new();
    let mut load = patience.patiently(|| {
        let requests = requests()?;
        opened = requests.iter().map(SealRequest::identity).collect();
        manager.group_load(requests)
    })?;
    while let Err(error) = load.run() {
        let failed = load.failed();
        let at = |index: &u32| names.get(usize::try_from(*index).ok()?).copied();
        let failed: Vec<&str> = failed.iter().filter_map(at).collect();
        patience.again(error, &failed)?;
        let known = || names.iter().copied().zip(opened.iter().copied());
        patience.patiently(|| refill(&mut load, requests()?, known()))?;
    }
    load.finish()
}

/// Gives the members that failed their requests anew, if all files, those that
/// are loaded as well, are what they were: no group is of two revisions.
fn refill<'a, 'n>(
    load: &mut GroupLoad<'a>,
    anew: Vec<SealRequest<'a>>,
    known: impl Iterator<Item = (&'n str, Option<FileIdentity>)>,
) -> Result<(), Error> {
    let failed = load.failed();
    let mut anew = anew.into_iter();
    for (index, (name, opened)) in (0..).zip(known) {
        let request = anew.next();
        let now = request.as_ref().and_then(SealRequest::identity);
        if let Some(request) = request.filter(|_| failed.contains(&index)) {
            // One that cannot be opened says so.
            load.replace(index, request)?;
        }
        let what = match (opened, now) {
            (Some(opened), Some(now)) => opened.difference(&now),
            (Some(_), None) => Some("identity"),
            (None, _) => None,
        };
        if let Some(what) = what {
            let name = name.to_owned();
            return Err(LoadError::Changed { name, what }.into());
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

    use vram_residency::clock::Clock;
    use vram_residency::format::ReadAt;
    use vram_residency::key::RootKey;
    use vram_residency::load::{FileSource, Source};
    use vram_residency::random::OsRandom;
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
        opened: u32,
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
                opened: 0,
            }
        }

        /// Seals the group; `meanwhile` happens before files are read again.
        fn seal(&mut self, retries: u32, meanwhile: impl Fn(&Self)) -> Result<(), Error> {
            let mut builder = VramManager::builder().key(RootKey::generate(&OsRandom).unwrap());
            for ordinal in 0..self.devices {
                builder = builder.device(SimDevice::with_options(
                    SimOptions::new(1 << 20).ordinal(ordinal),
                ));
            }
            let manager = builder.build().unwrap();
            let opened = AtomicU32::new(0);
            let this = &*self;
            let requests = || {
                opened.fetch_add(1, Ordering::Relaxed);
                let flaky = (0..).zip(NAMES).zip(this.failures.iter().zip(&this.reads));
                let request = |((at, name), (failures, reads)): ((u32, &str), _)| {
                    let (failures, reads): (&Arc<_>, &Arc<_>) = (failures, reads);
                    let source = Flaky {
                        file: FileSource::open(&this.dir.path().join(name))?,
                        failures: Arc::clone(failures),
                        reads: Arc::clone(reads),
                    };
                    Ok(SealRequest::source(source).device(at.min(this.devices.saturating_sub(1))))
                };
                flaky.map(request).collect()
            };
            let wait = |note: &str| {
                this.notes.borrow_mut().push(note.to_owned());
                meanwhile(this);
                true
            };
            let mut patience = Patience::of_group(retries, &wait);
            let group = seal_group(&manager, &NAMES, &mut patience, requests);
            let sealed = group.map(|group| assert_eq!(group.shards().len(), 3));
            self.opened = opened.into_inner();
            assert_eq!(manager.used_vram(), 0, "the group is gone");
            sealed
        }

        fn reads(&self) -> [u32; 3] {
            [0, 1, 2].map(|at: usize| self.reads[at].load(Ordering::Relaxed))
        }
    }

    #[test]
    fn only_what_failed_is_read_again_and_all_is_opened_once() {
        let mut disk = Disk::new(1, [0, 1, 0]);
        disk.seal(1, |_| {}).unwrap();
        assert_eq!((disk.reads(), disk.opened), ([1, 2, 1], 2));
        // Two that fail at the same time cost one opening.
        let mut disk = Disk::new(3, [1, 1, 1]);
        disk.seal(3, |_| {}).unwrap();
        assert!(disk.reads().iter().all(|reads| *reads <= 2));
        assert_eq!(disk.opened as usize, 1 + disk.notes.borrow().len());
    }

    #[test]
    fn retries_are_counted_by_file() {
        let mut disk = Disk::new(1, [2, 2, 2]);
        disk.seal(2, |_| {}).unwrap();
        assert_eq!((disk.reads(), disk.opened), ([3, 3, 3], 7));
        let notes = disk.notes.borrow();
        for (file, notes) in NAMES.iter().zip(notes.chunks(2)) {
            for (retry, note) in (1..).zip(notes) {
                assert!(note.contains(file), "{note}");
                assert!(note.ends_with(&format!("retry {retry} of 2")), "{note}");
            }
        }
        drop(notes);
        let mut disk = Disk::new(1, [2, 3, 0]);
        let error = disk.seal(2, |_| {}).unwrap_err().to_string();
        assert!(error.contains("cannot read second"), "{error}");
        assert_eq!(disk.reads(), [3, 3, 0]);
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
                let mut disk = Disk::new(1, [0, 1, 0]);
                let change = |disk: &Disk| {
                    // Times of files are as coarse as the kernel's ticks.
                    std::thread::sleep(Duration::from_millis(20));
                    fate(&disk.dir.path().join(name));
                };
                let error = disk.seal(9, change).unwrap_err();
                let says = format!("{name} changed while it was read");
                assert!(error.to_string().contains(&says), "{number}: {error}");
                assert_eq!(disk.notes.borrow().len(), 1, "{number}: it was tried again");
            }
        }
    }
}
