//! Keyed checks and their strong anchor.

use std::sync::Arc;
use std::time::Duration;

use super::{DeviceSlot, VramManager};
use crate::device::{Checked as Latched, Device, Extent, UPLOAD_ALIGN};
use crate::error::{Error, Result};
use crate::shard::Resident;
use crate::verify::{Contents, Made, Pace, Pass, Reference, Rolling};

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
    /// As many as fit the time, which counts from that monotonic moment.
    Time(Duration, u64),
    /// That many.
    Segments(u64),
}

impl Span {
    /// Checks of this span, from now on, until every byte was read; the last one
    /// visited `count` segments in the secret order, if that is what it did.
    fn passes(self, rolling: &Rolling, count: Option<u64>) -> u64 {
        match self {
            Self::All | Self::Segments(_) => 1,
            Self::Time(budget, _) => rolling.passes_to_cover(budget, count),
        }
    }
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
        let rolling = resident.take_rolling();
        let pace = rolling.as_ref().map(|rolling| rolling.pace);
        let pace = pace.unwrap_or_default();
        // A doubt is the tree's to settle.
        let due = |rolling: &Rolling| resident.doubts() > 0 || self.anchor_due(rolling, span);
        let Some(mut rolling) = rolling.filter(|rolling| !due(rolling)) else {
            return self.anchor(slot, resident, span, pace);
        };
        let device = slot.ledger.device();
        let held = resident.hold()?;
        let extent = held.allocation()?.extent();
        let pass = self.pass(device, extent, &mut rolling, span);
        // Given up before a loss is recorded, for a sink may free the shard, and before the
        // tree, which takes the memory's lock again.
        drop(held);
        let pass = self.lost_is_recorded(pass);
        resident.count_read(std::mem::take(&mut rolling.read));
        let pass = match pass {
            Ok(pass) => pass,
            Err(error) => {
                resident.set_rolling(rolling.fall_back(self.inner.random.as_ref())?);
                return Err(error);
            }
        };
        if let Some(contents) = pass.intact() {
            let count = pass.bytes.div_ceil(UPLOAD_ALIGN);
            let passes = span.passes(&rolling, Some(count));
            resident.set_rolling(Some(rolling));
            return Ok(Checked {
                contents,
                bytes: pass.bytes,
                passes,
            });
        }
        // A second opinion by other means: the tree condemns or acquits.
        let answer = pass.answer();
        resident.doubt(answer.bad, [answer]);
        self.anchor(slot, resident, span, rolling.pace)
    }

    fn anchor_due(&self, rolling: &Rolling, span: Span) -> bool {
        let policy = &self.inner.policy;
        let now = self.inner.clock.monotonic();
        // A clock that went back says nothing about ages: it is time.
        let age = now.checked_sub(rolling.anchored_at);
        let young = age.is_some_and(|age| u128::from(age) < policy.anchor_age.as_nanos());
        let segments = rolling.segments();
        // The scrubber goes round once in between, or a shard that takes it longer
        // than that age would be read in one go again and again.
        let owed = match span {
            Span::Segments(_) => rolling.since_anchor >= segments,
            Span::All | Span::Time(..) => true,
        };
        let limit = policy.anchor_passes.saturating_mul(segments);
        rolling.since_anchor >= limit || (owed && !young)
    }

    /// Two references in one pass, then the tree, which vouches for them. Where the
    /// CPU does not, there are none: the tree is then asked about the bytes, and the
    /// next check makes them.
    fn anchor(
        &self,
        slot: &DeviceSlot,
        resident: &Arc<Resident>,
        span: Span,
        pace: Pace,
    ) -> Result<Checked> {
        let random = self.inner.random.as_ref();
        let device = slot.ledger.device();
        let held = resident.hold()?;
        let extent = held.allocation()?.extent();
        let mut read = 0;
        let made = Reference::measure_pair(device.as_ref(), extent, random, &mut read);
        drop(held);
        resident.count_read(read);
        let made = self.lost_is_recorded(made)?;
        let made = match made {
            Made::Pair(reference, spare) => Some((reference, spare)),
            Made::Doubted(answer) => {
                resident.doubt(answer.bad, [answer]);
                None
            }
        };
        let contents = self.check_contents(slot, resident)?;
        let mut checked = Checked {
            contents,
            bytes: extent.len,
            passes: 1,
        };
        if let Some((reference, spare)) = made {
            let now = self.inner.clock.monotonic();
            let mut rolling = Rolling::new(reference, Some(spare), now, random)?;
            rolling.pace = pace;
            checked.passes = span.passes(&rolling, None);
            resident.set_rolling(Some(rolling));
        }
        Ok(checked)
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
            Span::Time(budget, since) => self.timed_pass(device, extent, rolling, (budget, since)),
        }
    }

    /// Batches until the time is spent or the epoch ends; each batch is sized
    /// by the rate of those before it, the first by that of earlier passes. There is
    /// none for which the rest of the time is too short, for a call takes some before
    /// it reads a byte: as long as the shortest, at most. A clock that goes back or
    /// stands still tells no rate and ends the pass.
    fn timed_pass(
        &self,
        device: &dyn Device,
        extent: Extent,
        rolling: &mut Rolling,
        (budget, since): (Duration, u64),
    ) -> Result<Pass, Error> {
        let clock = &self.inner.clock;
        let budget = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        let started = clock.monotonic();
        let whole = rolling.left();
        // Tag and witnesses come before it.
        let before = started.saturating_sub(since);
        let first = rolling.pace.affordable(budget.saturating_sub(before));
        let mut batch = first.unwrap_or(FIRST_BATCH);
        let (mut done, mut spent, mut shortest) = (0_u64, 0, u64::MAX);
        let mut pass = Pass::default();
        loop {
            let count = batch.clamp(1, whole.saturating_sub(done).max(1));
            pass.add(rolling.visit(device, extent, count, self.inner.random.as_ref())?);
            done = done.saturating_add(count);
            let last = spent;
            let now = clock.monotonic().checked_sub(started);
            let Some(now) = now.filter(|now| *now > 0) else {
                return Ok(pass);
            };
            spent = now;
            shortest = shortest.min(spent.saturating_sub(last));
            let all = before.saturating_add(spent);
            let pace = Pace {
                segments: done,
                nanos: spent,
                before,
                kept: all <= budget,
            };
            let left = budget.saturating_sub(all).saturating_sub(shortest);
            batch = pace.fits(left).unwrap_or(0);
            if batch == 0 || done >= whole || pass.is_suspect() {
                rolling.pace.learn(pace, done >= whole);
                return Ok(pass);
            }
        }
    }
}
