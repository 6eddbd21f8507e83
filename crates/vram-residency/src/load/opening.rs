//! How a model is opened.

use std::path::Path;
use std::time::Duration;

use super::{CancelToken, Control, LoadError, Model};
use crate::clock::{Clock, SystemClock};
use crate::format::Limits;
use crate::sync::Arc;

/// Under which limits a model is opened, how long each of its files may take,
/// and who may end it: the headers of many files on a slow disk take their time.
#[must_use = "nothing is opened until Opening::open"]
pub struct Opening {
    pub(super) limits: Limits,
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
    pub fn open(&self, path: &Path) -> Result<Model, LoadError> {
        Model::open_as(path, self)
    }

    /// Opens one file of the model, and says how long that took.
    pub(super) fn file<T>(
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
