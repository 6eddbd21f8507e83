//! The scrubber of a hold, and the signals that pause it.

use std::sync::atomic::{AtomicBool, Ordering};

use vram_residency::manager::Scrubber;
use vram_residency::{Error, VramManager};

use super::run::Held;
use crate::failure::Failure;
use crate::interrupt::{Order, Orders};
use crate::output::Output;
use crate::text;

/// A running or paused scrubber; stopped when dropped.
pub(super) struct Scrubbing {
    scrubber: Scrubber,
    rate: u64,
    paused: AtomicBool,
}

impl Scrubbing {
    /// Starts to scrub at `rate` bytes a second; `None` for a rate of 0.
    pub(super) fn start(manager: &VramManager, rate: u64) -> Result<Option<Self>, Failure> {
        if rate == 0 {
            return Ok(None);
        }
        let failed = |error| Failure::new(format!("cannot start the scrubber: {error}"));
        Ok(Some(Self {
            scrubber: Scrubber::start(manager, rate).map_err(failed)?,
            rate,
            paused: AtomicBool::new(false),
        }))
    }

    /// Does what was ordered last since the last call.
    pub(super) fn obey(&self, orders: &Orders, output: &Output) {
        let Some(order) = orders.take() else { return };
        self.paused.store(order == Order::Pause, Ordering::SeqCst);
        match order {
            Order::Pause => {
                self.scrubber.pause();
                output.note("the scrubber is paused; SIGUSR2 lets it go on");
            }
            Order::Resume => {
                self.scrubber.resume();
                output.note("the scrubber goes on");
            }
        }
    }

    /// What the scrubber found, as the failure that ends the hold.
    pub(super) fn check(&self, held: &[Held]) -> Result<(), Failure> {
        told(held, self.scrubber.take_failure())
    }

    /// Ends it; what it found and nobody has told yet.
    pub(super) fn end(self, held: &[Held]) -> Result<(), Failure> {
        told(held, self.scrubber.end())
    }

    /// For the live view.
    pub(super) fn line(&self, held: u64) -> String {
        let checked = text::size(self.scrubber.bytes_checked());
        if self.paused.load(Ordering::SeqCst) {
            return format!("scrubber paused after {checked}; SIGUSR2 lets it go on");
        }
        let rate = text::size(self.rate);
        // Tree passes come on top, and a change may just have been passed by.
        let seconds = held.div_ceil(self.rate.max(1));
        format!("scrubber: {checked} checked, {rate} a second, one round in {seconds} s or more")
    }
}

/// Names the file, for people know shards by their files.
fn told(held: &[Held], found: Option<Error>) -> Result<(), Failure> {
    let Some(error) = found else { return Ok(()) };
    let shard = match &error {
        Error::Verify(error) => error.shard_id(),
        _ => None,
    };
    let file = held.iter().find(|one| Some(one.shard.id()) == shard);
    Err(match file {
        Some(one) => Failure::about(&one.file, error),
        None => error.into(),
    })
}
