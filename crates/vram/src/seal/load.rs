//! Loading what was asked for, onto one device or several, and again after
//! failures that may be over by then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vram_residency::capacity::plan::PlanPart;
use vram_residency::error::Error;
use vram_residency::load::{CancelToken, LoadError, Model, Part, Staging};
use vram_residency::shard::{GroupRecord, SealedGroup};
use vram_residency::sync::{AtOnce, Mutex, PoisonError};
use vram_residency::{SealRequest, SealedShard, VramManager};

use super::again::{self, Patience};
use super::asked::{Asked, Known, opening};
use super::devices::until_one_fails;
use super::{Args, placing};
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::{self, Progress};
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
    file: &'w Known,
    /// Memory of the tables of all other files.
    tables_beside: u64,
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
    staging: Staging,
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
        Self {
            shown: Progress::start(output, "loading", &name, Some(total)),
            done: files.iter().map(|_| AtomicU64::new(0)).collect(),
            staging: Staging::of(places.iter().copied()),
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

    fn show(&self, part: &progress::Part, (done, total): (u64, u64)) {
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
        let mut opening = opening(args, self.token);
        let told = |error: LoadError| self.manager.not_opened(error);
        let Asked { of_model, parts } = Asked::of(args, &mut opening, &mut patience, told)?;
        let known: Vec<Known> = parts.iter().map(Known::from).collect();
        let files: Vec<PlanPart> = known.iter().map(|known| known.plan.clone()).collect();
        let places = placing::place(self.manager, &files, of_model)?;
        placing::check_flips(&args.device, self.manager, &files, &places)?;
        let all = Arc::new(Ways::new(self.output, &files, &places));
        let halt = self.token.child();
        let ways = ways(&known, &places, &all, &halt);
        let (shards, group) = if of_model || args.group {
            let group = self.group(parts, &ways, &mut patience);
            let group = group.map_err(|(file, error)| {
                let file = file.and_then(|at| files.get(usize::try_from(at).ok()?));
                Failure::to_seal(file.map_or("group", |file| &file.name), error)
            })?;
            let record = group.record();
            (group.into_shards(), Some(record))
        } else {
            (
                self.one_by_one(parts, &ways, (&halt, all.staging.at_once()), &patience)?,
                None,
            )
        };
        let loaded = Loaded {
            names: files.iter().map(|file| file.name.clone()).collect(),
            shards,
            group,
        };
        Ok((loaded, started.elapsed()))
    }

    /// Seals files that have nothing to do with each other: several at
    /// the same time, of each device begun in order.
    fn one_by_one(
        &self,
        parts: Vec<Part>,
        ways: &[Way<'_>],
        (halt, at_once): (&CancelToken, AtOnce),
        opened: &Patience<'_>,
    ) -> Result<Vec<SealedShard>, Failure> {
        // Each is taken when its turn comes.
        let parts = parts.into_iter().map(|part| Mutex::new(Some(part)));
        let parts: Vec<_> = parts.collect();
        let files: Vec<(&Mutex<Option<Part>>, &Way<'_>)> = parts.iter().zip(ways).collect();
        let used = opened.used();
        let seal = |(part, way): &(&Mutex<Option<Part>>, &Way<'_>)| {
            let name = &way.file.plan.name;
            let wait = |note: &str| self.wait(note, halt);
            let mut patience = Patience::of_one(self.args.retries, name, used, &wait);
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner).take();
            let sealed = patience.patiently(|| {
                let part = match part.take() {
                    Some(part) => part,
                    None => self.anew(way)?,
                };
                self.manager.seal(self.request(part.into_request(), way))
            });
            sealed.map_err(|error| Failure::to_seal(name, error))
        };
        until_one_fails(&files, at_once, |(_, way)| way.ordinal, halt, seal)
    }

    /// Seals the files of one model: all or none.
    fn group(
        &self,
        parts: Vec<Part>,
        ways: &[Way<'_>],
        patience: &mut Patience<'_>,
    ) -> Result<SealedGroup, (Option<u32>, Error)> {
        let opened = parts.into_iter().zip(ways);
        let opened = opened.map(|(part, way)| self.request(part.into_request(), way));
        let opened = opened.collect();
        let again = |at: usize| {
            let way = ways
                .get(at)
                .ok_or(Error::Internal("a file without a way"))?;
            Ok(self.request(self.again(way)?.into_request(), way))
        };
        let files: Vec<&Known> = ways.iter().map(|way| way.file).collect();
        again::seal_group(self.manager, &files, patience, opened, again)
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

    /// A file that failed, opened again beside the others.
    fn again(&self, way: &Way<'_>) -> Result<Part, Error> {
        let opening = opening(self.args, way.halt);
        let part = opening.file(&way.file.path, way.tables_beside);
        part.map_err(|error| self.manager.not_opened(error))
    }

    /// The same for a file that may have changed. The one FILE may have become
    /// one of several, of which it is not sealed alone.
    fn anew(&self, way: &Way<'_>) -> Result<Part, Error> {
        if self.args.files.len() > 1 {
            return self.again(way);
        }
        let path = &way.file.path;
        let parts = opening(self.args, way.halt).open(path);
        let parts = parts.map(Model::into_parts);
        let one = parts.and_then(|parts| match <[Part; 1]>::try_from(parts) {
            Ok([one]) if one.path() == path => Ok(one),
            _ => Err(LoadError::Changed {
                name: way.file.plan.name.clone(),
                what: "number of files",
            }),
        });
        one.map_err(|error| self.manager.not_opened(error))
    }

    /// Puts the options of the command on a request.
    fn request(&self, request: SealRequest<'static>, way: &Way<'_>) -> SealRequest<'static> {
        let args = self.args;
        let (all, at, part) = (
            Arc::clone(way.all),
            way.at,
            progress::Part::new(&way.file.plan.name),
        );
        all.set(at, 0);
        let show = move |now: vram_residency::load::Progress| {
            all.set(at, now.done);
            all.show(&part, (now.done, now.total));
        };
        let request = request.device(way.ordinal).staging(&way.all.staging);
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

/// How each file is to go.
fn ways<'w>(
    files: &'w [Known],
    places: &[u32],
    all: &'w Arc<Ways>,
    halt: &'w CancelToken,
) -> Vec<Way<'w>> {
    let tables = files.iter().map(|file| file.tables);
    let tables = tables.fold(0, u64::saturating_add);
    let ways = files.iter().zip(places).enumerate();
    let ways = ways.map(|(at, (file, ordinal))| Way {
        at,
        file,
        tables_beside: tables.saturating_sub(file.tables),
        ordinal: *ordinal,
        all,
        halt,
    });
    ways.collect()
}
