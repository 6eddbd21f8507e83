//! Loading what was asked for, onto one device or several, and again after
//! failures that may be over by then.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vram_residency::capacity::plan::PlanPart;
use vram_residency::error::Error;
use vram_residency::load::{CancelToken, MAX_AT_ONCE, Model};
use vram_residency::shard::{GroupRecord, SealedGroup};
use vram_residency::{SealRequest, SealedShard, VramManager};

use super::again::{self, Patience};
use super::asked::{Asked, opening};
use super::devices::until_one_fails;
use super::{Args, placing};
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::{Part, Progress};
use crate::text;

/// Time before files that failed are read again, in so many steps: one more
/// step after a signal it is over.
const PAUSE: (Duration, u32) = (Duration::from_millis(50), 20);

/// What was asked for, by name, and what it became.
pub(super) struct Loaded {
    pub(super) names: Vec<String>,
    pub(super) shards: Vec<SealedShard>,
    pub(super) group: Option<GroupRecord>,
}

/// Everything that a load needs.
pub(super) struct Load<'a> {
    pub(super) args: &'a Args,
    pub(super) manager: &'a VramManager,
    pub(super) token: &'a CancelToken,
    pub(super) output: &'a Output,
}

/// A file on its way, as its request is made of it.
struct Way<'w> {
    at: usize,
    file: &'w PlanPart,
    ordinal: u32,
    all: &'w Arc<Ways>,
    /// Ends it: a signal, or another file that failed.
    halt: &'w CancelToken,
}

/// How far all files are.
struct Ways {
    shown: Progress,
    /// Bytes of each.
    done: Vec<AtomicU64>,
    /// Of so many at the same time.
    at_once: usize,
}

impl Ways {
    /// One line for all of them.
    fn new(output: &Output, files: &[PlanPart], places: &[u32]) -> Self {
        let name = match files {
            [one] => one.name.clone(),
            several => text::count(several.len(), "file"),
        };
        let total = files.iter().map(|file| file.bytes);
        let total = total.fold(0, u64::saturating_add);
        let mut devices = places.to_vec();
        devices.sort_unstable();
        devices.dedup();
        Self {
            shown: Progress::start(output, "loading", &name, Some(total)),
            done: files.iter().map(|_| AtomicU64::new(0)).collect(),
            at_once: devices.len().clamp(1, MAX_AT_ONCE),
        }
    }

    /// File `at` has come so far; 0 when it is begun anew.
    fn set(&self, at: usize, done: u64) {
        let Some(place) = self.done.get(at) else {
            return;
        };
        match done {
            0 => place.store(0, Ordering::Relaxed),
            // Of two threads the later one may be told of earlier.
            _ => _ = place.fetch_max(done, Ordering::Relaxed),
        }
    }

    fn show(&self, part: &Part, (done, total): (u64, u64)) {
        let all = self.done.iter().map(|done| done.load(Ordering::Relaxed));
        let all = all.fold(0, u64::saturating_add);
        if self.done.len() == 1 {
            return self.shown.set(all);
        }
        self.shown.set_part(all, part, (done, total));
    }
}

impl Load<'_> {
    /// Seals every file, or none, and says how long that took.
    pub(super) fn seal(&self) -> Result<(Loaded, Duration), Failure> {
        let started = Instant::now();
        let args = self.args;
        let wait = |note: &str| self.wait(note, self.token);
        let mut patience = Patience::of_group(args.retries, &wait);
        let Asked { model, files } = Asked::of(args, self.token, &mut patience)?;
        let of_model = model.is_some();
        let places = placing::place(self.manager, &files, of_model)?;
        placing::check_flips(&args.device, self.manager, &files, &places)?;
        let all = Arc::new(Ways::new(self.output, &files, &places));
        let halt = self.token.child();
        let ways = files.iter().zip(places).enumerate();
        let ways = ways.map(|(at, (file, ordinal))| Way {
            at,
            file,
            ordinal,
            all: &all,
            halt: &halt,
        });
        let ways: Vec<Way<'_>> = ways.collect();
        let (shards, group) = if of_model || args.group {
            let group = self.group(model, &ways, &mut patience);
            let group = group.map_err(|error| Failure::to_seal("group", error))?;
            let record = group.record();
            (group.into_shards(), Some(record))
        } else {
            (self.one_by_one(&ways, &halt)?, None)
        };
        let loaded = Loaded {
            names: files.iter().map(|file| file.name.clone()).collect(),
            shards,
            group,
        };
        Ok((loaded, started.elapsed()))
    }

    /// Seals files that have nothing to do with each other: those of one device
    /// in order, several devices at the same time.
    fn one_by_one(
        &self,
        ways: &[Way<'_>],
        halt: &CancelToken,
    ) -> Result<Vec<SealedShard>, Failure> {
        let files: Vec<(&PathBuf, &Way<'_>)> = self.args.files.iter().zip(ways).collect();
        let at_once = ways.first().map_or(1, |way| way.all.at_once);
        let seal = |(path, way): &(&PathBuf, &Way<'_>)| {
            let wait = |note: &str| self.wait(note, halt);
            let mut patience = Patience::new(self.args.retries, &wait);
            let sealed = patience.patiently(|| self.manager.seal(self.file(path, way)));
            sealed.map_err(|error| Failure::to_seal(&way.file.name, error))
        };
        until_one_fails(&files, at_once, |(_, way)| way.ordinal, halt, seal)
    }

    /// Seals the files of one model: all or none.
    fn group(
        &self,
        model: Option<Model>,
        ways: &[Way<'_>],
        patience: &mut Patience<'_>,
    ) -> Result<SealedGroup, Error> {
        let is_model = model.is_some();
        let mut opened = model;
        let mut requests = || match opened.take() {
            Some(model) => Ok(self.parts(model, ways)),
            None => self.anew(is_model, ways),
        };
        if self.args.retries == 0 {
            return self.manager.seal_group(requests()?);
        }
        let names: Vec<&str> = ways.iter().map(|way| way.file.name.as_str()).collect();
        again::seal_group(self.manager, &names, patience, requests)
    }

    /// Tells of a retry and waits for its time; false when all is to end.
    fn wait(&self, note: &str, halt: &CancelToken) -> bool {
        self.output.note(note);
        let (step, steps) = PAUSE;
        (0..steps).all(|_| {
            std::thread::sleep(step);
            !halt.is_cancelled()
        })
    }

    /// The requests of all files of a group, opened anew.
    fn anew(&self, is_model: bool, ways: &[Way<'_>]) -> Result<Vec<SealRequest<'static>>, Error> {
        let files = self.args.files.iter();
        if let (true, Some(path)) = (is_model, files.clone().next()) {
            let model = opening(self.args, self.token).open(path)?;
            return Ok(self.parts(model, ways));
        }
        let requests = files.zip(ways).map(|(path, way)| self.file(path, way));
        Ok(requests.collect())
    }

    fn parts(&self, model: Model, ways: &[Way<'_>]) -> Vec<SealRequest<'static>> {
        let requests = model.into_requests().into_iter().zip(ways);
        requests
            .map(|(request, way)| self.request(request, way))
            .collect()
    }

    fn file(&self, path: &Path, way: &Way<'_>) -> SealRequest<'static> {
        let begun = Instant::now();
        let request = SealRequest::file(path).format(self.args.format.choice());
        self.request(request.spent(begun.elapsed()), way)
    }

    /// Puts the options of the command on a request.
    fn request(&self, request: SealRequest<'static>, way: &Way<'_>) -> SealRequest<'static> {
        let args = self.args;
        let (all, at, part) = (Arc::clone(way.all), way.at, Part::new(&way.file.name));
        all.set(at, 0);
        let show = move |now: vram_residency::load::Progress| {
            all.set(at, now.done);
            all.show(&part, (now.done, now.total));
        };
        let request = request.device(way.ordinal).at_once(way.all.at_once);
        let request = request.cancel(way.halt).progress(show);
        let mut request = args.worker.named(request);
        if let Some(digest) = &args.expect {
            request = request.expect(&digest.to_string());
        }
        if let Some(digest) = &args.expect_content {
            request = request.expect_content(digest);
        }
        if args.content {
            request = request.with_content_digest();
        }
        match args.timeout {
            Some(timeout) => request.timeout(timeout),
            None => request,
        }
    }
}
