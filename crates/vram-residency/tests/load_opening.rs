//! Opening a model of several files: who may end it, and how long it may take.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Rig, rig};
use vram_residency::clock::{Clock, Timestamp};
use vram_residency::error::Error;
use vram_residency::load::{CancelToken, LoadError, Opening};

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
            let opening = opening.timeout(Duration::from_secs(1 << 20));
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
            let opening = opening.timeout(Duration::from_secs(seconds));
            opening.open(&testdata(model))
        };
        let enough = (1..).find(|seconds| open(*seconds).is_ok()).unwrap();
        let (ticks, all) = (Ticks::new(u32::MAX), Duration::from_secs(enough));
        let opening = Opening::new().timeout(all).clock(ticks.clone());
        drop(opening.open(&testdata(model)).unwrap());
        let taken = u64::from(ticks.seconds.load(Ordering::Relaxed));
        assert!(taken > enough, "{model}: all files together took no longer");
        let late = open(enough - 1).err().unwrap();
        assert!(matches!(late, LoadError::Deadline { .. }), "{late}");
    }
}

fn seal(rig: &Rig, timeout: Duration) -> Result<(), Error> {
    let opening = Opening::new().clock(Ticks::new(u32::MAX));
    let model = opening.open(&testdata("sharded")).unwrap();
    let requests = model.into_requests().into_iter();
    let requests = requests.map(|request| request.timeout(timeout));
    rig.manager.seal_group(requests.collect()).map(drop)
}

// requirement: ER-8
#[test]
fn what_opening_a_file_took_counts_against_its_load() {
    let rig = rig(1 << 20);
    seal(&rig, Duration::from_secs(1)).unwrap();
    let late = seal(&rig, Duration::from_millis(999)).unwrap_err();
    assert!(
        matches!(late, Error::Load(LoadError::Deadline { .. })),
        "{late}"
    );
    rig.assert_empty();
}
