//! How models and files are opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{CancelToken, Control, FileSource, FormatChoice, LoadError, Model, Part};
use crate::clock::{Clock, SystemClock};
use crate::format::Limits;
use crate::sync::Arc;

/// Under which limits models and files are opened, how long each file may take,
/// and who may end it: the headers of many files on a slow disk take their time.
///
/// When one of several files fails, those that were opened stay open until the
/// next call, which opens only the others, and what changed in the meantime.
#[must_use = "nothing is opened until Opening::open or Opening::files"]
pub struct Opening {
    limits: Limits,
    choice: FormatChoice,
    /// Opened before another file failed, by what they are called.
    kept: BTreeMap<PathBuf, Part>,
    cancel: CancelToken,
    timeout: Option<Duration>,
    clock: Arc<dyn Clock>,
}

impl Default for Opening {
    fn default() -> Self {
        Self::new()
    }
}

impl Opening {
    /// The default limits, and all the time that it takes by the system's clock.
    pub fn new() -> Self {
        Self {
            limits: Limits::default(),
            choice: FormatChoice::Auto,
            kept: BTreeMap::new(),
            cancel: CancelToken::new(),
            timeout: None,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// What a header may claim (requirement: VA-10).
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How files that are named are read; those that an index, a split or a
    /// directory leads to are recognised.
    pub const fn format(mut self, choice: FormatChoice) -> Self {
        self.choice = choice;
        self
    }

    /// Lets others end it, between files and within a header.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }

    /// Gives up when one file takes longer. What it took counts against the
    /// [`super::SealRequest::timeout`] of that file.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What time it is.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the model, as [`Model::open`] says.
    ///
    /// # Errors
    /// As [`Model::open`]; [`LoadError::Cancelled`], [`LoadError::Deadline`].
    pub fn open(&mut self, path: &Path) -> Result<Model, LoadError> {
        Model::open_as(path, self)
    }

    /// Opens files that are named one by one, and takes each as it is: a part of
    /// a split for a file of its own. [`Limits::table_bytes`] bounds the tables of
    /// all of them together.
    ///
    /// # Errors
    /// As [`Opening::open`].
    pub fn files(&mut self, paths: &[PathBuf]) -> Result<Vec<Part>, LoadError> {
        self.parts(paths, self.choice, FileSource::open)
    }

    /// Opens one such file, beside others whose tables take `before` bytes.
    ///
    /// # Errors
    /// As [`Opening::open`].
    pub fn file(&self, path: &Path, before: u64) -> Result<Part, LoadError> {
        Part::open(path, before, (self.choice, self), || FileSource::open(path))
    }

    pub(super) const fn choice(&self) -> FormatChoice {
        self.choice
    }

    pub(super) const fn bounds(&self) -> &Limits {
        &self.limits
    }

    /// Keeps a file for the next call.
    pub(super) fn keep(&mut self, part: Part) {
        self.kept.insert(part.path().to_owned(), part);
    }

    /// The file at `path`, which may lead to others.
    pub(super) fn one(
        &mut self,
        path: &Path,
        choice: FormatChoice,
        open: impl FnOnce() -> Result<FileSource, LoadError>,
    ) -> Result<Part, LoadError> {
        let kept = self.kept.remove(path).filter(Part::is_current);
        match kept {
            Some(part) => Ok(part),
            None => Part::open(path, memory(self.kept.values()), (choice, self), open),
        }
    }

    /// Opens these files in order, under one bound for their tables.
    pub(super) fn parts(
        &mut self,
        files: &[PathBuf],
        choice: FormatChoice,
        open: impl Fn(&Path) -> Result<FileSource, LoadError>,
    ) -> Result<Vec<Part>, LoadError> {
        let mut kept = std::mem::take(&mut self.kept);
        let wanted: BTreeSet<&PathBuf> = files.iter().collect();
        kept.retain(|called, part| wanted.contains(called) && part.is_current());
        // Those that are kept count from the start, and so only once.
        let mut taken = memory(kept.values());
        let mut parts = Vec::with_capacity(files.len());
        for file in files {
            if let Some(part) = kept.remove(file) {
                parts.push(part);
                continue;
            }
            match Part::open(file, taken, (choice, self), || open(file)) {
                Ok(part) => {
                    taken = taken.saturating_add(part.tensors().memory());
                    parts.push(part);
                }
                Err(error) => {
                    self.kept = kept;
                    parts.into_iter().for_each(|part| self.keep(part));
                    return Err(error);
                }
            }
        }
        Ok(parts)
    }

    /// Does what belongs to one file in that file's time, and says how long it
    /// took.
    pub(super) fn timed<T>(
        &self,
        path: &Path,
        open: impl FnOnce(&Control) -> Result<T, LoadError>,
    ) -> Result<(T, Duration), LoadError> {
        let (cancel, clock) = (self.cancel.clone(), Arc::clone(&self.clock));
        let mut control = Control::new(cancel, None, clock, self.timeout, 0);
        let name = path.display().to_string();
        control.start();
        control.check(&name)?;
        let opened = open(&control);
        // What ended it is told before what came of that.
        control.check(&name)?;
        Ok((opened?, control.spent()))
    }
}

/// What the tables of these files take.
fn memory<'p>(parts: impl Iterator<Item = &'p Part>) -> u64 {
    let each = parts.map(|part| part.tensors().memory());
    each.fold(0, u64::saturating_add)
}
