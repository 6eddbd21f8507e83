//! Times of one thing, run several times.

use std::time::{Duration, Instant};

/// Sorted times.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Runs `work` once to warm up and `runs` times to measure.
    pub(crate) fn of<E: ToString>(
        runs: usize,
        mut work: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, String> {
        work().map_err(|error| error.to_string())?;
        Self::cold(runs, work)
    }

    /// Without a warm-up.
    pub(crate) fn cold<E: ToString>(
        runs: usize,
        mut work: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, String> {
        let mut times = Vec::new();
        for _ in 0..runs {
            let started = Instant::now();
            work().map_err(|error| error.to_string())?;
            times.push(started.elapsed());
        }
        Self::from_list(times)
    }

    /// Two things in turn, so that what drifts drifts for both.
    pub(crate) fn pair<E: ToString>(
        runs: usize,
        mut first: impl FnMut() -> Result<(), E>,
        mut second: impl FnMut() -> Result<(), E>,
    ) -> Result<(Self, Self), String> {
        let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let started = Instant::now();
            first().map_err(|error| error.to_string())?;
            of_first.push(started.elapsed());
            let started = Instant::now();
            second().map_err(|error| error.to_string())?;
            of_second.push(started.elapsed());
        }
        Ok((Self::from_list(of_first)?, Self::from_list(of_second)?))
    }

    /// Times taken elsewhere.
    pub(crate) fn from_list(mut times: Vec<Duration>) -> Result<Self, String> {
        if times.is_empty() {
            return Err("nothing was timed".to_owned());
        }
        times.sort_unstable();
        Ok(Self(times))
    }

    /// Seconds.
    pub(crate) fn median(&self) -> f64 {
        self.0[self.0.len() / 2].as_secs_f64()
    }

    /// Shortest and longest, in seconds.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let last = self.0.len() - 1;
        (self.0[0].as_secs_f64(), self.0[last].as_secs_f64())
    }
}
