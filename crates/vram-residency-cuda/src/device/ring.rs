//! The staging ring of one upload session: pinned slots, a lane for each
//! (requirement: FF-11).
//!
//! The first slot is there when the session opens. The others are made when a
//! reader finds none free and the sessions together have room for one more: taking pinned memory costs more time than reading a
//! slot full of bytes, and so one reader's cost hides behind the others' reads.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::atomic::AtomicU64;

use vram_digest::{BLOCK_BYTES, HASH_BYTES, nh};
use vram_residency::device::{DeviceError, SlotBytes, StagingShare, UPLOAD_ALIGN, UploadPlan};
use vram_residency::sync::atomic::{AtomicBool, Ordering};
use vram_residency::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, one_more, thread,
};

use super::context::{Context, PINNED_LIMIT, PINNED_ROOMY};
use super::convert::lock;
use super::lane::Lane;
use super::pinned::Pinned;

/// Largest slot, in bytes.
const SLOT_LIMIT: usize = 64 << 20;
/// Smallest slot, and what every slot size is a multiple of.
const SLOT_UNIT: usize = nh::SEGMENT_BYTES;
/// Most threads that wipe the slots of a session.
const WIPERS: usize = 8;
/// No further thread for less than so many bytes to wipe.
const WIPE_PER_THREAD: usize = 16 << 20;
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
    context: Arc<Context>,
    /// Bytes of each slot.
    size: usize,
    /// As many places as the plan wants slots.
    slots: Vec<OnceLock<Station>>,
    state: Mutex<State>,
    changed: Condvar,
    /// Given back after the slots themselves.
    share: StagingShare,
}

/// What belongs to one slot number.
struct Station {
    lane: Mutex<Lane>,
    /// First byte of the slot's pinned block, to recognise it when it comes back.
    address: usize,
    /// The bytes are on the device too, so they are wiped with the session
    /// rather than at every turn.
    sent: AtomicBool,
    /// The device may read the bytes for ever.
    stuck: AtomicBool,
}

struct State {
    free: Vec<(usize, Pinned)>,
    flights: VecDeque<Flight>,
    /// Slots that were made or are being made.
    made: usize,
    /// Slots that may be made: fewer than planned once memory ran out.
    most: usize,
    /// A slot will not come back, because the device cannot be waited for.
    lost: Option<DeviceError>,
}

/// What a reader can do next.
pub(crate) enum Turn {
    /// Fill this slot.
    Free(usize, PinnedSlot),
    /// Wait for this copy first.
    Collect(Flight),
}

impl Ring {
    /// Slots as planned; smaller ones where a short extent or the pinned limit
    /// asks for it. However many sessions there are, each gets one of the
    /// smallest size, which some pinned memory is kept for.
    pub(crate) fn new(
        context: &Arc<Context>,
        plan: &UploadPlan<'_>,
    ) -> Result<Arc<Self>, DeviceError> {
        let (mut size, most) = shape(plan, PINNED_ROOMY.saturating_sub(context.pinned()));
        let first = match seat(context, size, PINNED_ROOMY) {
            Err(DeviceError::HostOutOfMemory { .. }) if small_is_less(context, size) => {
                size = SLOT_UNIT;
                seat(context, size, PINNED_LIMIT)
            }
            other => other,
        };
        let (station, bytes) = first?;
        let slots: Vec<_> = (0..most).map(|_| OnceLock::new()).collect();
        if let Some(place) = slots.first() {
            let _empty = place.set(station);
        }
        Ok(Arc::new(Self {
            session: NEXT_SESSION.fetch_add(1, Ordering::Relaxed),
            context: Arc::clone(context),
            size,
            slots,
            state: Mutex::new(State {
                free: vec![(0, bytes)],
                flights: VecDeque::new(),
                made: 1,
                most,
                lost: None,
            }),
            changed: Condvar::new(),
            share: StagingShare::of(&plan.room),
        }))
    }

    pub(crate) const fn session(&self) -> u64 {
        self.session
    }

    fn station(&self, index: usize) -> Option<&Station> {
        self.slots.get(index).and_then(OnceLock::get)
    }

    /// Pinned bytes of one slot.
    fn cost(&self) -> usize {
        usize::try_from(cost(self.size)).unwrap_or(usize::MAX)
    }

    /// The lane of a slot.
    pub(crate) fn lane(&self, index: usize) -> Result<MutexGuard<'_, Lane>, DeviceError> {
        self.station(index)
            .map(|slot| lock(&slot.lane))
            .ok_or(DeviceError::UnknownBuffer)
    }

    /// Whether `bytes` are the very bytes that slot `index` was lent with.
    pub(crate) fn owns(&self, index: usize, bytes: &[u8]) -> bool {
        self.station(index)
            .is_some_and(|slot| slot.address == bytes.as_ptr().addr())
    }

    /// A free slot, a new one, or a copy to wait for; waits for other readers
    /// when all slots are with them. Fails once a slot cannot come back.
    pub(crate) fn next(self: &Arc<Self>) -> Result<Turn, DeviceError> {
        let mut state = lock(&self.state);
        loop {
            if let Some(why) = &state.lost {
                return Err(why.clone());
            }
            if let Some((index, pinned)) = state.free.pop() {
                return Ok(self.lend(index, pinned));
            }
            if state.made < state.most && self.share.take(self.cost()) {
                let index = state.made;
                state.made = index.saturating_add(1);
                drop(state);
                let grown = self.grow(index);
                if let Ok(Some(pinned)) = grown {
                    return Ok(self.lend(index, pinned));
                }
                self.share.give_back(self.cost());
                let _none = grown?;
                state = lock(&self.state);
                state.most = 0;
                continue;
            }
            if let Some(flight) = state.flights.pop_front() {
                return Ok(Turn::Collect(flight));
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lend(self: &Arc<Self>, index: usize, pinned: Pinned) -> Turn {
        let slot = PinnedSlot {
            pinned: Some(pinned),
            index,
            ring: Arc::clone(self),
        };
        Turn::Free(index, slot)
    }

    /// Makes slot `index`; `None` when there is no memory for it, which is no
    /// failure: the session has others.
    fn grow(&self, index: usize) -> Result<Option<Pinned>, DeviceError> {
        match seat(&self.context, self.size, PINNED_ROOMY) {
            Ok((station, bytes)) => {
                let place = self.slots.get(index).ok_or(DeviceError::UnknownBuffer)?;
                let _empty = place.set(station);
                Ok(Some(bytes))
            }
            Err(DeviceError::HostOutOfMemory { .. } | DeviceError::OutOfMemory { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes a queued copy.
    pub(crate) fn fly(&self, flight: Flight) {
        if let Some(slot) = self.station(flight.index) {
            slot.sent.store(true, Ordering::Relaxed);
        }
        lock(&self.state).flights.push_back(flight);
        self.changed.notify_all();
    }

    /// The oldest queued copy, if there is one.
    pub(crate) fn land(&self) -> Option<Flight> {
        lock(&self.state).flights.pop_front()
    }

    /// Slot `index` will not come back; readers that wait for it are told.
    pub(crate) fn abandon(&self, index: usize, why: DeviceError) {
        if let Some(slot) = self.station(index) {
            slot.stuck.store(true, Ordering::Relaxed);
        }
        lock(&self.state).lost.get_or_insert(why);
        self.changed.notify_all();
    }

    /// Waits for all queued copies, without collecting their results.
    pub(crate) fn wait_idle(&self) -> Result<(), DeviceError> {
        self.slots
            .iter()
            .filter_map(OnceLock::get)
            .try_for_each(|slot| lock(&slot.lane).wait())
    }

    fn give_back(&self, index: usize, mut pinned: Pinned) {
        let Some(slot) = self.station(index) else {
            return;
        };
        if slot.stuck.load(Ordering::Relaxed) {
            // Freeing memory that a device may still read would be unsound; on a
            // device that cannot even be waited for, keeping it is all that is left.
            pinned.wipe_in_use(0..pinned.len());
            let _kept = ManuallyDrop::new(pinned);
            return;
        }
        if !slot.sent.swap(false, Ordering::Relaxed) {
            pinned.wipe(0..pinned.len());
        }
        lock(&self.state).free.push((index, pinned));
        self.changed.notify_all();
    }
}

impl Drop for Ring {
    /// Wipes and frees the slots. Where they are many bytes, that is work for
    /// several threads: a sealed load ends only after it.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let free = std::mem::take(&mut state.free);
        let bytes = free.len().saturating_mul(self.size);
        let helpers = free.len().min(bytes / WIPE_PER_THREAD).min(WIPERS);
        let slots = Mutex::new(free.into_iter());
        let wipe = || {
            loop {
                let slot = lock(&slots).next();
                if slot.is_none() {
                    break;
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..helpers {
                // Without another thread this one does its work.
                let _ = one_more(scope, wipe);
            }
            wipe();
        });
    }
}

/// One slot with its lane, keeping the device's pinned memory within `limit`.
fn seat(context: &Arc<Context>, size: usize, limit: u64) -> Result<(Station, Pinned), DeviceError> {
    let bytes = Pinned::new(context, size, limit)?;
    let lane = Lane::within(context, 1, results_bytes(size), limit)?;
    let station = Station {
        lane: Mutex::new(lane),
        address: bytes.bytes().as_ptr().addr(),
        sent: AtomicBool::new(false),
        stuck: AtomicBool::new(false),
    };
    Ok((station, bytes))
}

/// Whether a slot of the smallest size may still be had where one of `size` was
/// refused: it is smaller, or this crate's own limit was in the way.
fn small_is_less(context: &Context, size: usize) -> bool {
    let small = context.pinned().saturating_add(cost(SLOT_UNIT));
    size > SLOT_UNIT || small > PINNED_ROOMY
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

/// Size of a slot within `room` pinned bytes, and how many the plan wants: further
/// ones are made as long as there is memory for them.
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
    (size, plan.slots.clamp(1, most.div_ceil(units)))
}

/// Pinned bytes of one slot with its lane.
fn cost(size: usize) -> u64 {
    size.saturating_add(results_bytes(size))
        .saturating_add(LANE_CONTROL)
        .max(1) as u64
}
