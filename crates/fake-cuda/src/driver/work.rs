//! Running queued work.

use super::codes::CuError;
use super::options::Schedule;
use super::plan::Effect;
use super::queue::{HostPlace, Launch, Source, Work};
use super::raw;
use super::space::{READ, View, WRITE};
use super::state::Driver;
use crate::ptx;

/// Queued work beyond this makes the call that queues more run some, as real
/// queues are finite.
const MAX_PENDING: usize = 1024;

impl Driver {
    /// The stream behind a handle: null and `CU_STREAM_LEGACY` are the current
    /// context's own. Fails with the sticky error of the stream's context.
    pub(crate) fn stream(&self, handle: u64) -> Result<u64, CuError> {
        let current = self.healthy()?;
        if handle == 0 || handle == 1 {
            let context = self
                .contexts
                .get(&current)
                .ok_or(CuError::INVALID_CONTEXT)?;
            return Ok(context.stream);
        }
        let found = self.queues.streams.get(&handle).filter(|s| !s.legacy);
        let stream = found.ok_or(CuError::INVALID_HANDLE)?;
        self.check(stream.context)?;
        Ok(handle)
    }

    /// Appends work to a stream.
    pub(crate) fn queue(&mut self, stream: u64, work: Work) -> Result<(), CuError> {
        let order = self.queues.order();
        let found = self
            .queues
            .streams
            .get_mut(&stream)
            .ok_or(CuError::INVALID_HANDLE)?;
        found.queue.push_back((order, work));
        match self.options.schedule {
            Schedule::Eager => while self.run_one() {},
            Schedule::Lazy | Schedule::Random => {
                while self.queues.pending() > MAX_PENDING && self.run_one() {}
            }
        }
        Ok(())
    }

    /// What the device does by itself while the host makes another call.
    pub(crate) fn breathe(&mut self) {
        if self.options.schedule == Schedule::Random && self.random.next().is_multiple_of(4) {
            self.run_one();
        }
    }

    /// Runs one piece of work of a randomly chosen ready stream; false: none was.
    pub(crate) fn run_one(&mut self) -> bool {
        let ready = self.queues.ready();
        let Some(id) = self.random.pick(&ready) else {
            return false;
        };
        let Some(stream) = self.queues.streams.get_mut(&id) else {
            return false;
        };
        let Some((_, work)) = stream.queue.pop_front() else {
            return false;
        };
        let context = stream.context;
        if let Err((code, why)) = self.run(context, &work) {
            self.break_context(context, code, why);
        }
        true
    }

    /// Runs work until `done` says so or nothing can run.
    pub(crate) fn run_until(&mut self, done: impl Fn(&Driver) -> bool) {
        while !done(self) && self.run_one() {}
    }

    /// Waits for one stream, then reports its context's health.
    pub(crate) fn wait_stream(&mut self, stream: u64) -> Result<(), CuError> {
        self.run_until(|d| {
            d.queues
                .streams
                .get(&stream)
                .is_none_or(|s| s.queue.is_empty())
        });
        let context = self.queues.streams.get(&stream).map(|s| s.context);
        self.check(context.ok_or(CuError::INVALID_HANDLE)?)
    }

    /// Waits for everything in a context, then reports its health.
    pub(crate) fn wait_context(&mut self, context: u64) -> Result<(), CuError> {
        self.run_until(|d| {
            d.queues
                .streams
                .values()
                .all(|s| s.context != context || s.queue.is_empty())
        });
        self.check(context)
    }

    fn run(&mut self, context: u64, work: &Work) -> Result<(), (CuError, String)> {
        let name = work.name();
        let fail = |code: CuError| (code, format!("{name}: error {}", code.0));
        let device = self.device_of(context).map_err(fail)?;
        let effects = self.plan.use_of(&name);
        for effect in &effects {
            match effect {
                Effect::Before(action) => self.act(action),
                Effect::Fail { code, .. } => return Err((*code, format!("{name}: planned"))),
                Effect::Skip | Effect::After(_) => {}
            }
        }
        if !effects.contains(&Effect::Skip) {
            self.perform(device, work)
                .map_err(|(code, why)| (code, format!("{name}: {why}")))?;
        }
        for effect in effects {
            if let Effect::After(action) = effect {
                self.act(&action);
            }
        }
        Ok(())
    }

    fn perform(&mut self, device: usize, work: &Work) -> Result<(), (CuError, String)> {
        let plain = |code: CuError| (code, "access refused".to_owned());
        self.clock = self.clock.saturating_add(1_000);
        match work {
            Work::HostToDevice { from, to, len } => self.htod(device, from, *to, *len),
            Work::DeviceToHost { from, to, len } => self.dtoh(device, *from, *to, *len),
            Work::DeviceToDevice {
                from,
                from_device,
                to,
                to_device,
                len,
            } => {
                let reader = self.space.copier(*from, device, *from_device);
                let writer = self.space.copier(*to, device, *to_device);
                let bytes = self
                    .space
                    .read((*from, *len), Some(reader))
                    .map_err(plain)?;
                self.tick(*len);
                self.space.write(*to, &bytes, Some(writer))
            }
            Work::Fill { to, pattern, count } => self.fill(device, *to, pattern, *count),
            Work::Launch(launch) => return self.launch(device, launch),
            Work::Record { event, ticket } => {
                if let Some(event) = self.queues.events.get_mut(event) {
                    event.reached = *ticket;
                    event.time = self.clock;
                }
                Ok(())
            }
            Work::Wait { .. } => Ok(()),
        }
        .map_err(plain)
    }

    fn tick(&mut self, bytes: u64) {
        self.clock = self.clock.saturating_add(bytes / 16);
    }

    fn htod(&mut self, device: usize, from: &Source, to: u64, len: u64) -> Result<(), CuError> {
        self.tick(len);
        match from {
            Source::Taken(bytes) => self.space.write(to, bytes, Some(device)),
            // Pinned memory is checked again: it may have been freed too early.
            Source::Pinned(at) => {
                let bytes = self.space.read((*at, len), None)?;
                self.space.write(to, &bytes, Some(device))
            }
        }
    }

    fn dtoh(&mut self, device: usize, from: u64, to: HostPlace, len: u64) -> Result<(), CuError> {
        self.tick(len);
        let bytes = self.space.read((from, len), Some(device))?;
        match to {
            HostPlace::Pinned(at) => self.space.write(at, &bytes, None),
            HostPlace::Waiting(at) => {
                let at = usize::try_from(at).map_err(|_| CuError::INVALID_VALUE)?;
                let to = std::ptr::with_exposed_provenance_mut(at);
                // SAFETY: the application passed `at` as the destination of `len`
                // bytes to a call that has not returned yet.
                unsafe { raw::copy(to, bytes.as_ptr(), bytes.len()) };
                Ok(())
            }
        }
    }

    fn fill(&mut self, device: usize, to: u64, pattern: &[u8], count: u64) -> Result<(), CuError> {
        const CHUNK: u64 = 1 << 20;
        let width = pattern.len() as u64;
        let total = count.checked_mul(width).ok_or(CuError::INVALID_VALUE)?;
        self.space
            .pieces((to, total), Some(device), READ | WRITE, |_, _| {})?;
        let repeat = usize::try_from(CHUNK.checked_div(width).unwrap_or(0)).unwrap_or(0);
        let chunk = pattern.repeat(repeat);
        let mut at = to;
        let mut left = total;
        while left > 0 {
            let now = left.min(CHUNK);
            let bytes = chunk
                .get(..usize::try_from(now).unwrap_or(0))
                .unwrap_or(&[]);
            self.space.write(at, bytes, Some(device))?;
            at = at.saturating_add(now);
            left = left.saturating_sub(now);
        }
        self.tick(total);
        Ok(())
    }

    fn launch(&mut self, device: usize, launch: &Launch) -> Result<(), (CuError, String)> {
        let kernel = launch.module.kernel(&launch.kernel);
        let kernel = kernel.ok_or((CuError::NOT_FOUND, "kernel is gone".to_owned()))?;
        let mut view = View::new(&self.space, device);
        let result = kernel.launch(
            &mut view,
            &ptx::Launch {
                grid: launch.grid,
                block: launch.block,
                shared_bytes: launch.shared_bytes,
                params: &launch.params,
                global_base: launch.global_base,
                instruction_limit: self.options.instruction_limit,
            },
        );
        match result {
            Ok(instructions) => {
                self.tick(instructions);
                Ok(())
            }
            Err(fault) => Err((CuError(fault.code()), fault.to_string())),
        }
    }
}
