//! A handful of lanes, shared by all operations of a device.

use std::collections::VecDeque;

use vram_residency::device::DeviceError;
use vram_residency::load::KEPT_BY_CUDA;
use vram_residency::sync::{Arc, Condvar, Mutex, PoisonError};

use super::context::Context;
use super::convert::lock;
use super::lane::{Lane, pinned_bytes};

/// Lanes of one device.
const LANES: usize = 4;
/// Lanes that one operation may use; the rest is for the others.
const LANES_PER_OPERATION: usize = 3;
/// Runs of scattered segments that one tag launch takes.
pub(crate) const RUNS: usize = 2048;
/// Bytes of results or of copied weights per lane: the hashes of 512 MiB.
const ROOM: usize = 4 << 20;
/// Least such bytes; small devices spend less of their memory on lanes.
const LEAST_ROOM: usize = 64 << 10;
/// Part of a device's memory that one lane may take.
const ROOM_PART: u64 = 1024;

// Loads on several devices leave so much room for the lanes of each.
const _: () = assert!(LANES.saturating_mul(pinned_bytes(RUNS, ROOM)) <= KEPT_BY_CUDA);

/// The lanes that are free now, and how many there are in all.
pub(crate) struct Lanes {
    room: usize,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    free: Vec<Lane>,
    alive: usize,
    closed: bool,
    /// Why a lane was given up.
    fault: Option<DeviceError>,
}

impl Lanes {
    /// Lanes for a device of `total` bytes.
    pub(crate) fn new(context: &Arc<Context>, total: u64) -> Result<Self, DeviceError> {
        let part = usize::try_from(total / ROOM_PART).unwrap_or(ROOM);
        let room = part.next_multiple_of(LEAST_ROOM).clamp(LEAST_ROOM, ROOM);
        let free: Result<Vec<_>, _> = (0..LANES).map(|_| Lane::new(context, RUNS, room)).collect();
        let state = State {
            free: free?,
            alive: LANES,
            closed: false,
            fault: None,
        };
        Ok(Self {
            room,
            state: Mutex::new(state),
            returned: Condvar::new(),
        })
    }

    /// Bytes of results or of copied weights that one lane takes.
    pub(crate) const fn room(&self) -> usize {
        self.room
    }

    /// A lane; waits for one when all are busy.
    pub(crate) fn take(&self) -> Result<LaneGuard<'_>, DeviceError> {
        let mut state = lock(&self.state);
        loop {
            if let Some(lane) = state.free.pop() {
                return Ok(LaneGuard {
                    lanes: self,
                    lane: Some(lane),
                });
            }
            if state.alive == 0 {
                return Err(state.fault.clone().unwrap_or(DeviceError::Closed));
            }
            state = self
                .returned
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn try_take(&self) -> Option<LaneGuard<'_>> {
        let lane = lock(&self.state).free.pop()?;
        Some(LaneGuard {
            lanes: self,
            lane: Some(lane),
        })
    }

    /// Drops all lanes, now or when they come back.
    pub(crate) fn close(&self) {
        let free = {
            let mut state = lock(&self.state);
            state.closed = true;
            state.alive = state.alive.saturating_sub(state.free.len());
            std::mem::take(&mut state.free)
        };
        drop(free);
    }

    /// Runs jobs on several lanes: `start` queues one, `finish` takes its
    /// results once it is done. After an error no queued work is left behind.
    pub(crate) fn pipeline<J>(
        &self,
        jobs: impl ExactSizeIterator<Item = J>,
        mut start: impl FnMut(&mut Lane, &mut J) -> Result<(), DeviceError>,
        mut finish: impl FnMut(&mut Lane, J) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let mut lanes = VecDeque::new();
        if jobs.len() > 0 {
            lanes.push_back((self.take()?, None));
        }
        while lanes.len() < jobs.len().min(LANES_PER_OPERATION) {
            let Some(lane) = self.try_take() else { break };
            lanes.push_back((lane, None));
        }
        for mut job in jobs {
            let Some((mut lane, earlier)) = lanes.pop_front() else {
                break;
            };
            lane.with(|lane| {
                if let Some(earlier) = earlier {
                    lane.wait()?;
                    finish(lane, earlier)?;
                }
                start(lane, &mut job)
            })?;
            lanes.push_back((lane, Some(job)));
        }
        for (mut lane, last) in lanes {
            lane.with(|lane| match last {
                Some(last) => lane.wait().and_then(|()| finish(lane, last)),
                None => Ok(()),
            })?;
        }
        Ok(())
    }
}

/// A lane on loan; goes back idle and wiped.
pub(crate) struct LaneGuard<'l> {
    lanes: &'l Lanes,
    /// `None` only within `drop`.
    lane: Option<Lane>,
}

impl LaneGuard<'_> {
    /// Runs `work` with the lane.
    pub(crate) fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Lane) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        self.lane.as_mut().map_or(Err(DeviceError::Closed), work)
    }
}

impl Drop for LaneGuard<'_> {
    fn drop(&mut self) {
        let Some(mut lane) = self.lane.take() else {
            return;
        };
        let settled = lane.settle();
        let mut state = lock(&self.lanes.state);
        match settled {
            Ok(()) if !state.closed => {
                state.free.push(lane);
                drop(state);
            }
            settled => {
                state.alive = state.alive.saturating_sub(1);
                state.fault = settled.err().or(state.fault.take());
                drop(state);
                drop(lane);
            }
        }
        self.lanes.returned.notify_all();
    }
}
