//! Opening a model of several files: who may end it, how long it may take, and
//! what is opened again after a failure.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Rig, rig};
use vram_residency::clock::{Clock, Timestamp};
use vram_residency::error::Error;
use vram_residency::format::{FormatError, Limits};
use vram_residency::load::{CancelToken, FileIdentity, LoadError, Opening, Part};

const MODELS: [&str; 3] = [
    "sharded",
    "sharded/model.safetensors.index.json",
    "split/small-00001-of-00002.gguf",
];

fn testdata(name: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    data.join(name)
}

/// A second passes each time it is asked; the last of these cancels.
struct Ticks {
    seconds: AtomicU32,
    last: u32,
    token: CancelToken,
}

impl Ticks {
    fn new(last: u32) -> Arc<Self> {
        Arc::new(Self {
            seconds: AtomicU32::new(0),
            last,
            token: CancelToken::new(),
        })
    }
}

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(common::START_NS)
    }

    fn monotonic(&self) -> u64 {
        let second = self.seconds.fetch_add(1, Ordering::Relaxed) + 1;
        if second == self.last {
            self.token.cancel();
        }
        u64::from(second) * 1_000_000_000
    }
}

/// The files that refusals name.
fn file(name: &str) -> String {
    let name = Path::new(name).file_name().unwrap();
    name.to_string_lossy().into_owned()
}

// requirement: ER-8
#[test]
fn opening_ends_with_the_file_in_which_it_is_cancelled() {
    for model in MODELS {
        let mut ended = BTreeSet::new();
        for last in 1.. {
            let ticks = Ticks::new(last);
            // Long enough: the clock is asked at each piece of a header.
            let opening = Opening::new().cancel(&ticks.token).clock(ticks.clone());
            let mut opening = opening.timeout(Duration::from_secs(1 << 20));
            match opening.open(&testdata(model)) {
                Err(LoadError::Cancelled { name }) => ended.insert(file(&name)),
                Err(error) => panic!("{model}: {error}"),
                Ok(_) => break,
            };
        }
        let parts = ended.iter().filter(|name| name.contains("-of-"));
        assert_eq!(parts.count(), 2, "{model}: {ended:?}");
    }
}

// requirement: ER-8
#[test]
fn each_file_has_its_own_time() {
    for model in MODELS {
        let open = |seconds| {
            let opening = Opening::new().clock(Ticks::new(u32::MAX));
            let mut opening = opening.timeout(Duration::from_secs(seconds));
            opening.open(&testdata(model))
        };
        let enough = (1..).find(|seconds| open(*seconds).is_ok()).unwrap();
        let (ticks, all) = (Ticks::new(u32::MAX), Duration::from_secs(enough));
        let mut opening = Opening::new().timeout(all).clock(ticks.clone());
        drop(opening.open(&testdata(model)).unwrap());
        let taken = u64::from(ticks.seconds.load(Ordering::Relaxed));
        assert!(taken > enough, "{model}: all files together took no longer");
        let late = open(enough - 1).err().unwrap();
        assert!(matches!(late, LoadError::Deadline { .. }), "{late}");
    }
}

/// Opens and seals the files of `sharded`, as a model or as they are named.
fn seal(rig: &Rig, named: bool, timeout: Duration) -> Result<(), Error> {
    let mut opening = Opening::new().clock(Ticks::new(u32::MAX));
    let parts = match named {
        true => opening.files(&PARTS.map(testdata))?,
        false => opening.open(&testdata("sharded"))?.into_parts(),
    };
    let requests = parts.into_iter().map(Part::into_request);
    let requests = requests.map(|request| request.timeout(timeout));
    rig.manager.seal_group(requests.collect()).map(drop)
}

// requirement: ER-8
#[test]
fn what_opening_a_file_took_counts_against_its_load() {
    let rig = rig(1 << 20);
    for named in [false, true] {
        seal(&rig, named, Duration::from_secs(1)).unwrap();
        let late = seal(&rig, named, Duration::from_millis(999)).unwrap_err();
        assert!(
            matches!(late, Error::Load(LoadError::Deadline { .. })),
            "{late}"
        );
        rig.assert_empty();
    }
}

/// The parts of `sharded`.
const PARTS: [&str; 2] = [
    "sharded/model-00001-of-00002.safetensors",
    "sharded/model-00002-of-00002.safetensors",
];

/// A directory with the models, in which files can be put away.
struct Away {
    dir: tempfile::TempDir,
}

impl Away {
    fn new(model: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(testdata(model)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(file(path.to_str().unwrap()))).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What cannot be opened, and no name or right says that it never can.
    fn put(&self, name: &str) {
        std::fs::rename(self.path(name), self.path("aside")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(self.path(name)).unwrap());
    }

    fn back(&self, name: &str) {
        std::fs::rename(self.path("aside"), self.path(name)).unwrap();
    }
}

/// How a model is opened, and how many files are.
type Open = fn(&mut Opening, &Away) -> Result<Vec<Part>, LoadError>;

const WAYS: [(&str, [&str; 2], Open); 3] = [
    (
        "sharded",
        [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ],
        |opening, dir| Ok(opening.open(dir.dir.path())?.into_parts()),
    ),
    (
        "split",
        ["small-00001-of-00002.gguf", "small-00002-of-00002.gguf"],
        |opening, dir| {
            let first = dir.path("small-00001-of-00002.gguf");
            Ok(opening.open(&first)?.into_parts())
        },
    ),
    (
        "sharded",
        [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ],
        |opening, dir| opening.files(&PARTS.map(|name| dir.path(&file(name)))),
    ),
];

#[test]
fn after_a_failure_only_what_failed_is_opened_again() {
    for (model, [first, second], open) in WAYS {
        // A file that is opened asks twice for the time, and so do its index and
        // its directory, which are asked each time.
        let asked = |away: bool| {
            let dir = Away::new(model);
            let ticks = Ticks::new(u32::MAX);
            let mut opening = Opening::new().clock(ticks.clone());
            if away {
                dir.put(second);
                let told = open(&mut opening, &dir).err().unwrap();
                assert!(
                    told.is_retriable() && told.to_string().contains(second),
                    "{told}"
                );
                dir.back(second);
            }
            let before = ticks.seconds.load(Ordering::Relaxed);
            assert_eq!(open(&mut opening, &dir).unwrap().len(), 2);
            ticks.seconds.load(Ordering::Relaxed) - before
        };
        assert_eq!(asked(true) + 2, asked(false), "{model}");
        // What changed while another file was waited for is opened again, too.
        let dir = Away::new(model);
        let mut opening = Opening::new();
        dir.put(second);
        assert!(open(&mut opening, &dir).is_err());
        dir.back(second);
        std::fs::copy(dir.path(first), dir.path("copy")).unwrap();
        std::fs::rename(dir.path("copy"), dir.path(first)).unwrap();
        let parts = open(&mut opening, &dir).unwrap();
        let now = FileIdentity::at(&dir.path(first)).unwrap();
        assert_eq!(parts[0].identity(), now, "{model}");
    }
}

// requirement: VA-10, PF-11
#[test]
fn files_that_are_named_share_the_bound_of_tables_and_stay_counted_while_one_is_away() {
    let (_, [first, second], open) = WAYS[2];
    let dir = Away::new("sharded");
    let whole = open(&mut Opening::new(), &dir).unwrap();
    let each: Vec<u64> = whole.iter().map(|part| part.tensors().memory()).collect();
    let bounded = |table_bytes: u64| {
        let mut limits = Limits::default();
        limits.table_bytes = table_bytes;
        Opening::new().limits(limits)
    };
    let all: u64 = each.iter().sum();
    assert!(open(&mut bounded(all), &dir).is_ok());
    let told = open(&mut bounded(all - 1), &dir).err().unwrap().to_string();
    assert!(
        told.contains(second) && told.ends_with("(table_bytes)"),
        "{told}"
    );
    for (away, bound) in [
        (first, all),
        (second, all),
        (first, all - 1),
        (second, all - 1),
    ] {
        let mut opening = bounded(bound);
        dir.put(away);
        assert!(open(&mut opening, &dir).is_err());
        dir.back(away);
        assert_eq!(
            open(&mut opening, &dir).is_ok(),
            bound == all,
            "{away} {bound}"
        );
    }
    // One that is opened again is opened beside the others.
    let beside = |before: u64| bounded(all).file(&dir.path(second), before);
    assert!(beside(each[0]).is_ok() && beside(each[0] + 1).is_err());
}

/// Two directories change places when this is asked for the time as often.
struct Exchange {
    one: PathBuf,
    two: PathBuf,
    left: AtomicU32,
}

impl Clock for Exchange {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(common::START_NS)
    }

    fn monotonic(&self) -> u64 {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1 {
            renameat_with(CWD, &self.one, CWD, &self.two, RenameFlags::EXCHANGE).unwrap();
        }
        0
    }
}

/// A copy of a directory of `testdata`.
fn copy(name: &str, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(testdata(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

// requirement: VA-10
#[test]
fn a_model_is_of_one_directory_whatever_takes_its_name_meanwhile() {
    for model in MODELS {
        let (name, file) = model.split_once('/').unwrap_or((model, ""));
        let mut seen = BTreeSet::new();
        for tick in 1.. {
            let top = tempfile::tempdir().unwrap();
            let [one, two] = ["one", "two"].map(|dir| top.path().join(dir));
            copy(name, &one);
            copy(name, &two);
            let files = |dir: &Path| -> Vec<FileIdentity> {
                let paths = std::fs::read_dir(dir).unwrap();
                let paths = paths.map(|entry| FileIdentity::at(&entry.unwrap().path()));
                paths.map(Result::unwrap).collect()
            };
            let revisions = [files(&one), files(&two)];
            let clock = Arc::new(Exchange {
                one: one.clone(),
                two,
                left: AtomicU32::new(tick),
            });
            let opening = Opening::new().clock(clock.clone());
            let mut opening = opening.timeout(Duration::from_secs(1));
            let opened = opening.open(&one.join(file)).unwrap();
            let parts = opened.parts().iter().map(Part::identity);
            let parts: Vec<_> = parts.collect();
            let of = revisions.map(|files| parts.iter().all(|part| files.contains(part)));
            assert_ne!(of[0], of[1], "{model}: {tick}: files of both or of none");
            seen.insert(of[0]);
            if clock.left.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
        assert_eq!(seen.len(), 2, "{model}: no exchange came in time to matter");
    }
}

// requirement: ER-8
#[test]
fn who_lists_a_large_directory_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..50 {
        std::fs::write(dir.path().join(format!("{i}.txt")), "").unwrap();
    }
    let open = |seconds| {
        let opening = Opening::new().clock(Ticks::new(u32::MAX));
        let mut opening = opening.timeout(Duration::from_secs(seconds));
        opening.open(dir.path()).err().unwrap()
    };
    assert!(matches!(open(40), LoadError::Deadline { .. }));
    assert!(matches!(open(1000), LoadError::NoModel { .. }));
}

// requirement: VA-10
#[test]
fn a_directory_of_more_files_than_a_model_may_have_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut limits = Limits::default();
    limits.index_files = 7;
    for i in 0..8 {
        let open = || Opening::new().limits(limits.clone()).open(dir.path());
        let error = open().err().unwrap().to_string();
        assert!(!error.contains("over the limit"), "{i}: {error}");
        // Empty: those that are not even read are no models, and no index.
        let name = ["safetensors", "gguf", "safetensors.index.json"][i % 3];
        std::fs::write(dir.path().join(format!("{i}.{name}")), "").unwrap();
    }
    let error = Opening::new()
        .limits(limits)
        .open(dir.path())
        .err()
        .unwrap();
    let LoadError::Format { name, source } = &error else {
        panic!("{error}");
    };
    assert_eq!(name, dir.path().to_str().unwrap());
    let setting = Some("index_files");
    assert!(
        matches!(source, FormatError::TooLarge { value: 8, limit: 7, setting: found, .. } if *found == setting),
        "{source}"
    );
}

#[test]
fn indices_of_several_models_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..6 {
        let name = format!("{i}.safetensors.index.json");
        std::fs::write(dir.path().join(name), "no index").unwrap();
    }
    std::fs::write(dir.path().join("x.safetensors"), "").unwrap();
    let error = Opening::new().open(dir.path()).err().unwrap();
    assert!(
        matches!(error, LoadError::Ambiguous { count: 7, .. }),
        "{error}"
    );
}
