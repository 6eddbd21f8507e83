//! Streams and events: work is queued, and runs later.
//!
//! Order inside a stream is kept; between streams it is random (seeded) unless
//! an event, or the legacy stream, says otherwise. Nothing here needs a thread:
//! queued work runs while somebody waits, or by chance during any other call,
//! which makes a test's interleaving a function of its seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::ptx::Module;

/// Where a host-to-device copy takes its bytes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Pinned: read when the copy runs.
    Pinned(u64),
    /// Pageable: taken when the copy was queued.
    Taken(Vec<u8>),
}

/// One piece of queued work.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    HostToDevice {
        from: Source,
        to: u64,
        len: u64,
    },
    DeviceToHost {
        from: u64,
        to: HostPlace,
        len: u64,
    },
    DeviceToDevice {
        from: u64,
        from_device: usize,
        to: u64,
        to_device: usize,
        len: u64,
    },
    Fill {
        to: u64,
        pattern: Vec<u8>,
        count: u64,
    },
    Launch(Box<Launch>),
    Record {
        event: u64,
        ticket: u64,
    },
    Wait {
        event: u64,
        ticket: u64,
    },
}

/// Where a device-to-host copy goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HostPlace {
    /// Pinned: must still be there when the copy runs.
    Pinned(u64),
    /// Pageable: the call that queued it waits, so it is there.
    Waiting(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) module: Arc<Module>,
    pub(crate) kernel: String,
    pub(crate) global_base: u64,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    pub(crate) params: Vec<u8>,
}

impl Work {
    /// The name that plans and traces use.
    pub(crate) fn name(&self) -> String {
        match self {
            Work::HostToDevice { .. } => "exec.htod".to_owned(),
            Work::DeviceToHost { .. } => "exec.dtoh".to_owned(),
            Work::DeviceToDevice { .. } => "exec.dtod".to_owned(),
            Work::Fill { .. } => "exec.memset".to_owned(),
            Work::Launch(launch) => format!("exec.launch.{}", launch.kernel),
            Work::Record { .. } => "exec.record".to_owned(),
            Work::Wait { .. } => "exec.wait".to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) context: u64,
    /// Ordered with the legacy stream?
    pub(crate) blocking: bool,
    /// The context's own stream, which has no handle.
    pub(crate) legacy: bool,
    pub(crate) queue: VecDeque<(u64, Work)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) context: u64,
    pub(crate) timing: bool,
    /// Ticket of the newest record; 0: never recorded.
    pub(crate) recorded: u64,
    /// Ticket of the newest record that ran.
    pub(crate) reached: u64,
    /// Pretended time of that (ns).
    pub(crate) time: u64,
}

impl Event {
    pub(crate) fn done(&self) -> bool {
        self.reached >= self.recorded
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Queues {
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) events: BTreeMap<u64, Event>,
    next_order: u64,
}

impl Queues {
    /// A number larger than all before: the order of queueing.
    pub(crate) fn order(&mut self) -> u64 {
        self.next_order = self.next_order.saturating_add(1);
        self.next_order
    }

    pub(crate) fn pending(&self) -> usize {
        self.streams.values().map(|s| s.queue.len()).sum()
    }

    /// Streams whose first work may run now.
    pub(crate) fn ready(&self) -> Vec<u64> {
        let may_run = |stream: &Stream| match stream.queue.front() {
            None => false,
            Some((order, work)) => !self.held_by_legacy(stream, *order) && self.waited_for(work),
        };
        self.streams
            .iter()
            .filter(|(_, s)| may_run(s))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Work of the legacy stream waits for earlier work of the blocking streams
    /// of its context, and the other way round.
    fn held_by_legacy(&self, stream: &Stream, order: u64) -> bool {
        if !stream.blocking && !stream.legacy {
            return false;
        }
        self.streams.values().any(|other| {
            other.context == stream.context
                && (if stream.legacy {
                    other.blocking && !other.legacy
                } else {
                    other.legacy
                })
                && other.queue.front().is_some_and(|(first, _)| *first < order)
        })
    }

    fn waited_for(&self, work: &Work) -> bool {
        match work {
            Work::Wait { event, ticket } => {
                self.events.get(event).is_none_or(|e| e.reached >= *ticket)
            }
            _ => true,
        }
    }

    /// Drops all queued work of a context; its events count as reached.
    pub(crate) fn abandon(&mut self, context: u64) {
        for stream in self.streams.values_mut().filter(|s| s.context == context) {
            stream.queue.clear();
        }
        for event in self.events.values_mut().filter(|e| e.context == context) {
            event.reached = event.recorded;
        }
    }
}

/// A small generator (splitmix64): the schedule is a function of the seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// One of `items`, `None` when there are none.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        let count = u64::try_from(items.len()).ok()?;
        let index = self.next().checked_rem(count)?;
        items.get(usize::try_from(index).ok()?).copied()
    }
}
