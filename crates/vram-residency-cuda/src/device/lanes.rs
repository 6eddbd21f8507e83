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
    /// Numbers drawn by who wants a lane, and the one whose turn it is.
    drawn: u64,
    turn: u64,
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
            drawn: 0,
            turn: 0,
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

    /// A lane; waits for one when all are busy. Who came first is served first, or who
    /// gives a lane back for the others would take it again.
    pub(crate) fn take(&self) -> Result<LaneGuard<'_>, DeviceError> {
        let mut state = lock(&self.state);
        let mine = state.drawn;
        state.drawn = mine.wrapping_add(1);
        loop {
            if state.turn == mine
                && let Some(lane) = state.free.pop()
            {
                state.turn = mine.wrapping_add(1);
                drop(state);
                // There may be a lane for the next one, too.
                self.returned.notify_all();
                return Ok(self.lend(lane));
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

    /// A lane that nobody waits for.
    fn try_take(&self) -> Option<LaneGuard<'_>> {
        let mut state = lock(&self.state);
        let lane = (state.drawn == state.turn).then(|| state.free.pop());
        lane.flatten().map(|lane| self.lend(lane))
    }

    /// Whether more want a lane than there are free ones.
    fn is_short(&self) -> bool {
        let state = lock(&self.state);
        state.drawn.wrapping_sub(state.turn) > state.free.len() as u64
    }

    const fn lend(&self, lane: Lane) -> LaneGuard<'_> {
        LaneGuard {
            lanes: self,
            lane: Some(lane),
        }
    }

    /// Drops all lanes, now or when they come back.
    pub(crate) fn close(&self) {
        let free = {
            let mut state = lock(&self.state);
            state.closed = true;
            state.alive = state.alive.saturating_sub(state.free.len());
            std::mem::take(&mut state.free)
        };
        // Whoever waits for its turn waits for none of these any more.
        self.returned.notify_all();
        drop(free);
    }

    /// Runs jobs on several lanes: `start` queues one, `finish` takes its
    /// results once it is done. Between two jobs a lane goes to whoever waits for
    /// one, so nobody waits for all of somebody else's. After an error no queued
    /// work is left behind.
    pub(crate) fn pipeline<J>(
        &self,
        jobs: impl Iterator<Item = J>,
        mut start: impl FnMut(&mut Lane, &mut J) -> Result<(), DeviceError>,
        mut finish: impl FnMut(&mut Lane, J) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let mut lanes: VecDeque<Busy<'_, J>> = VecDeque::new();
        for mut job in jobs {
            let mut lane = self.lane_for(&mut lanes, &mut finish)?;
            lane.with(|lane| start(lane, &mut job))?;
            lanes.push_back((lane, job));
        }
        for (mut lane, last) in lanes {
            lane.with(|lane| lane.wait().and_then(|()| finish(lane, last)))?;
        }
        Ok(())
    }
}

/// A lane and what was queued on it.
type Busy<'l, J> = (LaneGuard<'l>, J);

impl Lanes {
    /// A lane for one more job: a free one, or that of the oldest job once it is
    /// done and nobody else waits for it.
    fn lane_for<'l, J>(
        &'l self,
        busy: &mut VecDeque<Busy<'l, J>>,
        mut finish: impl FnMut(&mut Lane, J) -> Result<(), DeviceError>,
    ) -> Result<LaneGuard<'l>, DeviceError> {
        let more = busy.len() < LANES_PER_OPERATION;
        if let Some(lane) = more.then(|| self.try_take()).flatten() {
            return Ok(lane);
        }
        while let Some((mut lane, earlier)) = busy.pop_front() {
            lane.with(|lane| lane.wait().and_then(|()| finish(lane, earlier)))?;
            if !self.is_short() {
                return Ok(lane);
            }
        }
        self.take()
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use fake_cuda::Ctl;

    use super::*;
    use crate::Cuda;

    const LONG: Duration = Duration::from_secs(120);

    /// Beside work that has three lanes, and beside work that has the only one left.
    #[test]
    fn long_work_hands_a_lane_to_who_waits_for_one() {
        let fake = Ctl::open_private().unwrap();
        fake.run("reset vram=64M").unwrap();
        let device = Cuda::open_library(fake.path()).unwrap().device(0).unwrap();
        let lanes = device.lanes();
        for used in [1, 3] {
            let others: Vec<_> = (0..used).map(|_| lanes.take().unwrap()).collect();
            let (served, answer) = mpsc::channel();
            thread::scope(|scope| {
                let start = |_: &mut Lane, job: &mut u32| {
                    if *job == 10 {
                        let served = served.clone();
                        scope.spawn(move || served.send(lanes.take().map(drop)));
                        let since = Instant::now();
                        while !lanes.is_short() {
                            assert!(since.elapsed() < LONG, "nobody waits for a lane");
                            thread::yield_now();
                        }
                    }
                    if *job == 20 {
                        let answer = answer.recv_timeout(LONG);
                        let answer = answer.expect("it waits for all of the work");
                        answer.unwrap();
                    }
                    Ok(())
                };
                lanes.pipeline(0..30, start, |_, _| Ok(())).unwrap();
            });
            drop(others);
            assert_eq!(lock(&lanes.state).free.len(), LANES);
        }
    }
}
