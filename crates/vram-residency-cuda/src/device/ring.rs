//! The staging ring of one upload session: pinned slots, a lane for each
//! (requirement: FF-11).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use vram_digest::{BLOCK_BYTES, HASH_BYTES, nh};
use vram_residency::device::{DeviceError, SlotBytes, UPLOAD_ALIGN, UploadPlan};

use super::context::{Context, PINNED_LIMIT};
use super::convert::lock;
use super::lane::Lane;
use super::pinned::Pinned;

/// Largest slot, in bytes.
const SLOT_LIMIT: usize = 64 << 20;
/// Smallest slot, and what every slot size is a multiple of.
const SLOT_UNIT: usize = nh::SEGMENT_BYTES;
/// Control bytes of a slot's lane, next to its results.
const LANE_CONTROL: usize = 8 << 10;

static NEXT_SESSION: AtomicU64 = AtomicU64::new(1);

/// A copy that was queued: the slot's bytes are the device's until it is done.
pub(crate) struct Flight {
    pub(crate) index: usize,
    pub(crate) bytes: Box<dyn SlotBytes>,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

/// Slots and their lanes.
pub(crate) struct Ring {
    session: u64,
    slots: Vec<Station>,
    state: Mutex<State>,
    changed: Condvar,
}

/// What belongs to one slot number.
struct Station {
    lane: Mutex<Lane>,
    /// First byte of the slot's pinned block, to recognise it when it comes back.
    address: usize,
    /// The bytes are on the device too, so they are wiped with the session
    /// rather than at every turn.
    sent: AtomicBool,
}

struct State {
    free: Vec<(usize, Pinned)>,
    flights: VecDeque<Flight>,
}

/// What a reader can do next.
pub(crate) enum Turn {
    /// Fill this slot.
    Free(usize, PinnedSlot),
    /// Wait for this copy first.
    Collect(Flight),
}

impl Ring {
    /// Slots as planned, fewer or smaller where the pinned limit or a short
    /// extent asks for it.
    pub(crate) fn new(
        context: &Arc<Context>,
        plan: &UploadPlan<'_>,
    ) -> Result<Arc<Self>, DeviceError> {
        let (size, count) = shape(plan, PINNED_LIMIT.saturating_sub(context.pinned()));
        let mut slots = Vec::new();
        let mut free = Vec::new();
        for index in 0..count {
            let bytes = Pinned::new(context, size)?;
            let lane = Lane::new(context, 1, results_bytes(size))?;
            slots.push(Station {
                lane: Mutex::new(lane),
                address: bytes.bytes().as_ptr().addr(),
                sent: AtomicBool::new(false),
            });
            free.push((index, bytes));
        }
        Ok(Arc::new(Self {
            session: NEXT_SESSION.fetch_add(1, Ordering::Relaxed),
            slots,
            state: Mutex::new(State {
                free,
                flights: VecDeque::new(),
            }),
            changed: Condvar::new(),
        }))
    }

    pub(crate) const fn session(&self) -> u64 {
        self.session
    }

    /// The lane of a slot.
    pub(crate) fn lane(&self, index: usize) -> Result<MutexGuard<'_, Lane>, DeviceError> {
        self.slots
            .get(index)
            .map(|slot| lock(&slot.lane))
            .ok_or(DeviceError::UnknownBuffer)
    }

    /// Whether `bytes` are the very bytes that slot `index` was lent with.
    pub(crate) fn owns(&self, index: usize, bytes: &[u8]) -> bool {
        self.slots
            .get(index)
            .is_some_and(|slot| slot.address == bytes.as_ptr().addr())
    }

    /// A free slot, or a copy to wait for; waits for other readers when all
    /// slots are with them.
    pub(crate) fn next(self: &Arc<Self>) -> Turn {
        let mut state = lock(&self.state);
        loop {
            if let Some((index, pinned)) = state.free.pop() {
                let ring = Arc::clone(self);
                return Turn::Free(
                    index,
                    PinnedSlot {
                        pinned: Some(pinned),
                        index,
                        ring,
                    },
                );
            }
            if let Some(flight) = state.flights.pop_front() {
                return Turn::Collect(flight);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes a queued copy.
    pub(crate) fn fly(&self, flight: Flight) {
        if let Some(slot) = self.slots.get(flight.index) {
            slot.sent.store(true, Ordering::Relaxed);
        }
        lock(&self.state).flights.push_back(flight);
        self.changed.notify_all();
    }

    /// The oldest queued copy, if there is one.
    pub(crate) fn land(&self) -> Option<Flight> {
        lock(&self.state).flights.pop_front()
    }

    /// Waits for all queued copies, without collecting their results.
    pub(crate) fn wait_idle(&self) -> Result<(), DeviceError> {
        self.slots
            .iter()
            .try_for_each(|slot| lock(&slot.lane).wait())
    }

    fn give_back(&self, index: usize, mut pinned: Pinned) {
        let sent = self
            .slots
            .get(index)
            .is_some_and(|slot| slot.sent.swap(false, Ordering::Relaxed));
        if !sent {
            pinned.wipe(0..pinned.len());
        }
        lock(&self.state).free.push((index, pinned));
        self.changed.notify_all();
    }
}

/// A slot's bytes on loan to a reader.
pub(crate) struct PinnedSlot {
    /// `None` only within `drop`.
    pinned: Option<Pinned>,
    index: usize,
    ring: Arc<Ring>,
}

impl AsRef<[u8]> for PinnedSlot {
    fn as_ref(&self) -> &[u8] {
        self.pinned.as_ref().map_or(&[], Pinned::bytes)
    }
}

impl AsMut<[u8]> for PinnedSlot {
    fn as_mut(&mut self) -> &mut [u8] {
        self.pinned.as_mut().map_or(&mut [], Pinned::bytes_mut)
    }
}

impl Drop for PinnedSlot {
    fn drop(&mut self) {
        if let Some(pinned) = self.pinned.take() {
            self.ring.give_back(self.index, pinned);
        }
    }
}

/// Bytes for the hashes and tags of one slot.
const fn results_bytes(slot: usize) -> usize {
    let hashes = slot.div_ceil(BLOCK_BYTES).saturating_mul(HASH_BYTES);
    hashes.saturating_add(slot.div_ceil(SLOT_UNIT).saturating_mul(nh::TAG_BYTES))
}

/// Size and number of slots: what the plan wants, within `room` pinned bytes.
fn shape(plan: &UploadPlan<'_>, room: u64) -> (usize, usize) {
    let whole = plan.extent.len.max(1).div_ceil(UPLOAD_ALIGN);
    let wanted = plan
        .slot_bytes
        .div_ceil(SLOT_UNIT)
        .clamp(1, SLOT_LIMIT / SLOT_UNIT);
    let most = usize::try_from(whole).unwrap_or(usize::MAX);
    let fitting =
        usize::try_from(room.checked_div(cost(SLOT_UNIT)).unwrap_or(0)).unwrap_or(usize::MAX);
    let units = wanted.min(most).min(fitting.max(1));
    let size = units.saturating_mul(SLOT_UNIT);
    let affordable = usize::try_from(room.checked_div(cost(size)).unwrap_or(0))
        .unwrap_or(usize::MAX)
        .max(1);
    let needed = most.div_ceil(units);
    (size, plan.slots.clamp(1, needed).min(affordable))
}

/// Pinned bytes of one slot with its lane.
fn cost(size: usize) -> u64 {
    size.saturating_add(results_bytes(size))
        .saturating_add(LANE_CONTROL)
        .max(1) as u64
}
