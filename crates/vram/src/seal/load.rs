//! Loading what was asked for, onto one device or several, and again after
//! failures that may be over by then.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vram_residency::capacity::plan::PlanPart;
use vram_residency::error::Error;
use vram_residency::load::Model;
use vram_residency::shard::{GroupRecord, SealedGroup};
use vram_residency::{SealRequest, SealedShard, VramManager};

use super::again::{self, Patience};
use super::run::Asked;
use super::{Args, placing};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::{self, Progress};
use crate::text;

/// Time before files that failed are read again.
const PAUSE: Duration = Duration::from_secs(1);

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
    pub(super) interrupt: &'a Interrupt,
    pub(super) output: &'a Output,
}

/// A file on its way, as its request is made of it.
struct Way<'w> {
    file: &'w PlanPart,
    ordinal: u32,
    all: &'w Arc<Progress>,
    /// Bytes of all files that were loaded before this one.
    before: u64,
}

impl Load<'_> {
    /// Seals every file, or none.
    pub(super) fn seal(&self, asked: Asked) -> Result<Loaded, Failure> {
        let Asked { model, files } = asked;
        let places = placing::place(self.manager, &files)?;
        let all = self.progress(&files);
        let mut ways: Vec<Way<'_>> = files
            .iter()
            .zip(places)
            .map(|(file, ordinal)| Way {
                file,
                ordinal,
                all: &all,
                before: 0,
            })
            .collect();
        let names = files.iter().map(|file| file.name.clone()).collect();
        if model.is_some() || self.args.group {
            let group = self.group(model, &ways);
            let group = group.map_err(|error| Failure::to_seal("group", error))?;
            return Ok(Loaded {
                names,
                group: Some(group.record()),
                shards: group.into_shards(),
            });
        }
        let mut before = 0_u64;
        for way in &mut ways {
            way.before = before;
            before = before.saturating_add(way.file.bytes);
        }
        let wait = |note: &str| self.wait(note);
        let mut shards = Vec::new();
        for (path, way) in self.args.files.iter().zip(&ways) {
            let mut patience = Patience::new(self.args.retries, &wait);
            let sealed = patience.patiently(|| self.manager.seal(self.file(path, way)));
            shards.push(sealed.map_err(|error| Failure::to_seal(&way.file.name, error))?);
        }
        Ok(Loaded {
            names,
            shards,
            group: None,
        })
    }

    /// Seals the files of one model: all or none.
    fn group(&self, model: Option<Model>, ways: &[Way<'_>]) -> Result<SealedGroup, Error> {
        let is_model = model.is_some();
        let mut opened = model;
        let mut requests = || match opened.take() {
            Some(model) => Ok(self.parts(model, ways)),
            None => self.anew(is_model, ways),
        };
        let retries = self.args.retries;
        if retries == 0 {
            return self.manager.seal_group(requests()?);
        }
        let names: Vec<&str> = ways.iter().map(|way| way.file.name.as_str()).collect();
        let wait = |note: &str| self.wait(note);
        let mut patience = Patience::of_group(retries, &wait);
        again::seal_group(self.manager, &names, &mut patience, requests)
    }

    /// Tells of a retry and waits for its time; false after a signal.
    fn wait(&self, note: &str) -> bool {
        self.output.note(note);
        !self.interrupt.wait(PAUSE)
    }

    /// The requests of all files of a group, opened anew.
    fn anew(&self, is_model: bool, ways: &[Way<'_>]) -> Result<Vec<SealRequest<'static>>, Error> {
        let files = self.args.files.iter();
        if let (true, Some(path)) = (is_model, files.clone().next()) {
            let model = Model::open_with(path, &self.args.worker.limits.limits())?;
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

    /// One line for files that are loaded together.
    fn progress(&self, files: &[PlanPart]) -> Arc<Progress> {
        let name = match files {
            [one] => one.name.clone(),
            several => text::count(several.len(), "file"),
        };
        let total = files
            .iter()
            .map(|file| file.bytes)
            .fold(0, u64::saturating_add);
        Arc::new(Progress::start(self.output, "loading", &name, Some(total)))
    }

    fn file(&self, path: &Path, way: &Way<'_>) -> SealRequest<'static> {
        self.request(
            SealRequest::file(path).format(self.args.format.choice()),
            way,
        )
    }

    /// Puts the options of the command on a request.
    fn request(&self, request: SealRequest<'static>, way: &Way<'_>) -> SealRequest<'static> {
        let args = self.args;
        let (all, before) = (Arc::clone(way.all), way.before);
        let part = progress::Part::new(&way.file.name);
        let show = move |now: vram_residency::load::Progress| {
            let done = before.saturating_add(now.all_done);
            if all.total() == Some(now.total) {
                return all.set(done);
            }
            all.set_part(done, &part, (now.done, now.total));
        };
        let request = request.device(way.ordinal);
        let request = request.cancel(self.interrupt.token()).progress(show);
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
