//! Keyed checks and their strong anchor.

use std::sync::Arc;
use std::time::Duration;

use super::{DeviceSlot, VramManager};
use crate::device::{Checked as Latched, Device, Extent, UPLOAD_ALIGN};
use crate::error::{Error, Result};
use crate::shard::Resident;
use crate::verify::{Contents, Pass, Reference, Rolling};

/// Contents that were checked, and how much of them.
pub(super) struct Checked {
    pub(super) contents: Contents,
    pub(super) bytes: u64,
    /// Such checks from now on until every byte was read.
    pub(super) passes: u64,
}

/// How far a keyed pass goes.
#[derive(Clone, Copy)]
pub(super) enum Span {
    /// Every segment once.
    All,
    /// As many as fit the time.
    Time(Duration),
    /// That many.
    Segments(u64),
}

/// Segments of the first batch of a timed pass, before its rate is known.
const FIRST_BATCH: u64 = 8;

impl VramManager {
    /// One keyed pass, or a full one that makes new references when the policy
    /// says it is time, when there is none, or when a tag did not match.
    pub(super) fn check_keyed(
        &self,
        slot: &DeviceSlot,
        resident: &Arc<Resident>,
        span: Span,
    ) -> Result<Checked> {
        let Some(mut rolling) = resident.take_rolling().filter(|r| !self.anchor_due(r)) else {
            return self.anchor(slot, resident);
        };
        let device = slot.ledger.device();
        let held = resident.hold()?;
        let extent = held.allocation()?.extent();
        let pass = self.lost_is_recorded(self.pass(device, extent, &mut rolling, span));
        // Given up before the tree, which takes the memory's lock again.
        drop(held);
        let pass = match pass {
            Ok(pass) => pass,
            Err(error) => {
                // The key may be spent; the spare was never on the device alone.
                let (now, random) = (rolling.anchored_at, self.inner.random.as_ref());
                let spare = rolling.into_spare();
                let spare = spare.map(|spare| Rolling::new(spare, None, now, random));
                resident.set_rolling(spare.transpose()?);
                return Err(error);
            }
        };
        if let Some(contents) = pass.intact() {
            let passes = match span {
                Span::All | Span::Segments(_) => 1,
                Span::Time(budget) => {
                    rolling.passes_to_cover(budget, pass.bytes.div_ceil(UPLOAD_ALIGN))
                }
            };
            resident.set_rolling(Some(rolling));
            return Ok(Checked {
                contents,
                bytes: pass.bytes,
                passes,
            });
        }
        // A second opinion by other means: the tree condemns or acquits.
        let checked = self.anchor(slot, resident)?;
        self.checker_fault(resident.record(), pass.suspects().saturating_mul(256))?;
        Ok(checked)
    }

    fn anchor_due(&self, rolling: &Rolling) -> bool {
        let policy = &self.inner.policy;
        let now = self.inner.clock.monotonic();
        // A clock that went back says nothing about ages: it is time.
        let age = now.checked_sub(rolling.anchored_at);
        let young = age.is_some_and(|age| u128::from(age) < policy.anchor_age.as_nanos());
        let limit = policy.anchor_passes.saturating_mul(rolling.segments());
        rolling.since_anchor >= limit || !young
    }

    /// Two references in one pass, then the tree, which vouches for them.
    fn anchor(&self, slot: &DeviceSlot, resident: &Arc<Resident>) -> Result<Checked> {
        let random = self.inner.random.as_ref();
        let device = slot.ledger.device();
        let held = resident.hold()?;
        let extent = held.allocation()?.extent();
        let pair = Reference::measure_pair(device.as_ref(), extent, random);
        drop(held);
        let (reference, spare) = self.lost_is_recorded(pair)?;
        let contents = self.check_contents(slot, resident)?;
        let now = self.inner.clock.monotonic();
        let rolling = Rolling::new(reference, Some(spare), now, random)?;
        resident.set_rolling(Some(rolling));
        Ok(Checked {
            contents,
            bytes: extent.len,
            passes: 1,
        })
    }

    fn pass(
        &self,
        device: &Arc<Latched>,
        extent: Extent,
        rolling: &mut Rolling,
        span: Span,
    ) -> Result<Pass, Error> {
        let device: &dyn Device = device.as_ref();
        let random = self.inner.random.as_ref();
        match span {
            Span::All => rolling.visit_all(device, extent, random),
            Span::Segments(count) => {
                rolling.visit(device, extent, count.clamp(1, rolling.left()), random)
            }
            Span::Time(budget) => self.timed_pass(device, extent, rolling, budget),
        }
    }

    /// Batches until the time is spent or the epoch ends; each batch is sized
    /// by the rate of those before it, the first by that of earlier passes.
    fn timed_pass(
        &self,
        device: &dyn Device,
        extent: Extent,
        rolling: &mut Rolling,
        budget: Duration,
    ) -> Result<Pass, Error> {
        let budget = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        let started = self.inner.clock.monotonic();
        let whole = rolling.left();
        let mut batch = budget.checked_div(rolling.pace).unwrap_or(FIRST_BATCH);
        let mut done = 0_u64;
        let mut pass = Pass::default();
        loop {
            let count = batch.clamp(1, whole.saturating_sub(done).max(1));
            pass.add(rolling.visit(device, extent, count, self.inner.random.as_ref())?);
            done = done.saturating_add(count);
            let spent = self.inner.clock.monotonic().saturating_sub(started).max(1);
            rolling.pace = spent.checked_div(done).unwrap_or(0).max(1);
            let left = budget.saturating_sub(spent);
            let affordable = u128::from(done).saturating_mul(u128::from(left));
            let affordable = affordable.checked_div(u128::from(spent)).unwrap_or(0);
            batch = u64::try_from(affordable).unwrap_or(u64::MAX);
            if batch == 0 || done >= whole || pass.suspects() > 0 {
                return Ok(pass);
            }
        }
    }
}
