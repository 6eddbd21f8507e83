//! The driver's state, behind one lock.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::codes::CuError;
use super::options::Options;
use super::physical::Arena;
use super::plan::{Action, Effect, Plan};
use super::queue::{Queues, Random};
use super::space::Space;
use super::visible::{Kind, visible};
use crate::ptx::{Module, PtxError};

/// One pretended GPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    /// Its number in the machine, whatever the process calls it.
    pub(crate) number: usize,
    pub(crate) primary: Option<u64>,
}

/// A context. Only primary contexts exist here.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) device: usize,
    pub(crate) retained: u64,
    /// The error that every call in this context returns from now on.
    pub(crate) sticky: Option<CuError>,
    /// Its legacy stream.
    pub(crate) stream: u64,
    /// Devices whose plain allocations it may reach.
    pub(crate) peers: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct LoadedModule {
    pub(crate) context: u64,
    pub(crate) module: Arc<Module>,
    /// Device address of its variables, 0 without any.
    pub(crate) global_base: u64,
    /// Kernels whose code has been loaded: those that were launched.
    pub(crate) launched: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) module: u64,
    pub(crate) kernel: String,
    /// Launch-sized shared memory that was allowed (bytes).
    pub(crate) max_dynamic: u32,
}

pub(crate) struct Driver {
    pub(crate) options: Options,
    pub(crate) initialised: bool,
    /// The process's `CUDA_VISIBLE_DEVICES`, unless a test commands the machine.
    pub(crate) environment: Option<String>,
    /// Those that the process sees, once it has initialised the driver.
    pub(crate) devices: Vec<Device>,
    pub(crate) contexts: BTreeMap<u64, Context>,
    pub(crate) queues: Queues,
    pub(crate) modules: BTreeMap<u64, LoadedModule>,
    pub(crate) functions: BTreeMap<u64, Function>,
    pub(crate) space: Space,
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    /// Pretended time (ns).
    pub(crate) clock: u64,
    /// What the last faults said, newest last.
    pub(crate) log: Vec<String>,
    pub(crate) descriptors_exported: u64,
    /// Modules read before, newest last, as a driver's own cache of compiled
    /// code; outlives resets.
    parsed: Vec<(String, Arc<Module>)>,
    /// Counts resets, so that threads notice that their context stacks are stale.
    generation: u64,
    next_handle: u64,
}

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// Environment variable with control commands, separated by `;`, that a fresh
/// process carries out at its first call. For tests that start programs.
const SCRIPT: &str = "FAKE_CUDA";

/// Which devices a process sees.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// Runs `f` on the one driver of this library; the first use creates it.
pub(crate) fn with<R>(f: impl FnOnce(&mut Driver) -> R) -> Result<R, CuError> {
    let mut guard: MutexGuard<'_, Option<Driver>> =
        DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.is_none() {
        let mut driver = Driver::new(Options::default())?;
        if let Ok(script) = std::env::var(SCRIPT) {
            for command in script.split(';').filter(|c| !c.trim().is_empty()) {
                if super::control::command(&mut driver, command).is_err() {
                    // A test that misspells its script must not run without it.
                    eprintln!("fake-cuda: {SCRIPT}: bad command {command:?}");
                    return Err(CuError::UNKNOWN);
                }
            }
        }
        *guard = Some(driver);
    }
    guard.as_mut().map(f).ok_or(CuError::UNKNOWN)
}

thread_local! {
    /// Contexts pushed by this thread, and the generation they belong to.
    static STACK: RefCell<(u64, Vec<u64>)> = const { RefCell::new((0, Vec::new())) };
}

impl Driver {
    fn new(options: Options) -> Result<Driver, CuError> {
        let arena = Arena::new()?;
        let mut driver = Driver {
            random: Random(options.seed),
            devices: Vec::new(),
            environment: std::env::var(VISIBLE).ok(),
            options,
            initialised: false,
            contexts: BTreeMap::new(),
            queues: Queues::default(),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            space: Space::new(arena),
            plan: Plan::default(),
            clock: 0,
            log: Vec::new(),
            descriptors_exported: 0,
            parsed: Vec::new(),
            generation: 1,
            next_handle: 0x1000,
        };
        driver.space.ignore_protection = !driver.options.protection;
        Ok(driver)
    }

    /// `cuInit`: finds the devices that the process sees.
    ///
    /// # Errors
    /// [`CuError::NO_DEVICE`] when it sees none.
    pub(crate) fn initialise(&mut self) -> Result<(), CuError> {
        if !self.initialised {
            let list = self.options.visible.as_ref().or(self.environment.as_ref());
            let seen = visible(list.map(String::as_str), self.kind(), self.options.gpus);
            let device = |number| Device {
                number,
                primary: None,
            };
            self.devices = seen.into_iter().map(device).collect();
        }
        if self.devices.is_empty() {
            return Err(CuError::NO_DEVICE);
        }
        self.initialised = true;
        Ok(())
    }

    /// What all devices of this machine are.
    pub(crate) const fn kind(&self) -> Kind {
        if self.options.mig {
            Kind::Slice
        } else {
            Kind::Card
        }
    }

    /// A fresh machine: everything is forgotten, all its memory is gone.
    pub(crate) fn reset(&mut self, options: Options) {
        self.space.regions.clear();
        self.space.reservations.clear();
        self.space.physical.clear();
        self.space.arena.clear();
        self.space.next_serial = 0;
        self.space.freed = options.reuse.then(Vec::new);
        self.space.ignore_protection = !options.protection;
        self.random = Random(options.seed);
        self.devices = Vec::new();
        self.options = options;
        self.initialised = false;
        self.contexts.clear();
        self.queues = Queues::default();
        self.modules.clear();
        self.functions.clear();
        self.plan = Plan::default();
        self.clock = 0;
        self.log.clear();
        self.descriptors_exported = 0;
        self.generation = self.generation.saturating_add(1);
    }

    /// Parses and decodes PTX, or remembers what it came to.
    ///
    /// # Errors
    /// As [`Module::parse`]; failures are not remembered.
    pub(crate) fn parse(&mut self, text: &str) -> Result<Arc<Module>, PtxError> {
        /// Texts that are kept: a test rarely has more than one.
        const KEPT: usize = 4;
        if let Some((_, module)) = self.parsed.iter().find(|(known, _)| known == text) {
            return Ok(Arc::clone(module));
        }
        let module = Arc::new(Module::parse(text)?);
        if self.parsed.len() >= KEPT {
            self.parsed.remove(0);
        }
        self.parsed.push((text.to_owned(), Arc::clone(&module)));
        Ok(module)
    }

    /// A new handle: never null, never used before, never a small constant.
    pub(crate) fn handle(&mut self) -> u64 {
        self.next_handle = self.next_handle.saturating_add(0x10);
        self.next_handle
    }

    pub(crate) fn stack<R>(&self, f: impl FnOnce(&mut Vec<u64>) -> R) -> R {
        STACK.with_borrow_mut(|(generation, stack)| {
            if *generation != self.generation {
                *generation = self.generation;
                stack.clear();
            }
            f(stack)
        })
    }

    /// The current context of this thread, whatever its health.
    pub(crate) fn current(&self) -> Result<u64, CuError> {
        let top = self.stack(|s| s.last().copied()).filter(|c| *c != 0);
        let top = top.ok_or(CuError::INVALID_CONTEXT)?;
        if self.contexts.contains_key(&top) {
            Ok(top)
        } else {
            Err(CuError::CONTEXT_DESTROYED)
        }
    }

    /// The current context of this thread; its sticky error if it has one.
    pub(crate) fn healthy(&self) -> Result<u64, CuError> {
        let context = self.current()?;
        self.check(context)?;
        Ok(context)
    }

    /// Fails with the sticky error of a context, or when there is no such context.
    pub(crate) fn check(&self, context: u64) -> Result<(), CuError> {
        let context = self
            .contexts
            .get(&context)
            .ok_or(CuError::INVALID_CONTEXT)?;
        context.sticky.map_or(Ok(()), Err)
    }

    pub(crate) fn device_of(&self, context: u64) -> Result<usize, CuError> {
        self.contexts
            .get(&context)
            .map(|c| c.device)
            .ok_or(CuError::INVALID_CONTEXT)
    }

    pub(crate) fn ordinal(&self, device: i32) -> Result<usize, CuError> {
        let ordinal = usize::try_from(device).map_err(|_| CuError::INVALID_DEVICE)?;
        if ordinal < self.devices.len() {
            Ok(ordinal)
        } else {
            Err(CuError::INVALID_DEVICE)
        }
    }

    /// Breaks a context for good and drops its queued work.
    pub(crate) fn break_context(&mut self, context: u64, code: CuError, why: String) {
        if let Some(found) = self.contexts.get_mut(&context) {
            found.sticky.get_or_insert(code);
            self.queues.abandon(context);
            self.log.push(why);
        }
    }

    /// Counts a use of `name`, carries out what is planned before it, and fails
    /// if that is planned. Returns what is planned for afterwards.
    pub(crate) fn enter(&mut self, name: &str) -> Result<Vec<Action>, CuError> {
        let mut later = Vec::new();
        let mut failure = None;
        for effect in self.plan.use_of(name) {
            match effect {
                Effect::Before(action) => self.act(&action),
                Effect::After(action) => later.push(action),
                Effect::Fail { code, sticky } => {
                    failure = Some(code);
                    if let (true, Ok(context)) = (sticky, self.current()) {
                        self.break_context(context, code, format!("{name}: planned sticky error"));
                    }
                }
                Effect::Skip => {}
            }
        }
        failure.map_or(Ok(later), Err)
    }

    /// Changes the machine as a plan or a command says. An action whose target
    /// is not there is logged, so that a test can see that its plan missed.
    pub(crate) fn act(&mut self, action: &Action) {
        let done = match *action {
            Action::Flip {
                serial,
                offset,
                bit,
            } => self.flip(serial, offset, bit),
            Action::Remap { from, to } => self.remap(from, to),
            Action::Sticky { device, code } => {
                let context = self.devices.get(device).and_then(|d| d.primary);
                if let Some(context) = context {
                    self.break_context(context, code, "planned sticky error".to_owned());
                }
                context.is_some()
            }
        };
        if !done {
            self.log.push(format!("missed: {action:?}"));
        }
    }

    fn flip(&mut self, serial: u64, offset: u64, bit: u32) -> bool {
        let found = self.space.physical.get(&serial);
        let Some(place) = found.and_then(|p| p.backing.at(offset, 1)) else {
            return false;
        };
        // SAFETY: `at` checked that the byte is inside the live backing.
        let Ok(old) = (unsafe { super::raw::take(place) }) else {
            return false;
        };
        let new = old ^ 1_u8.wrapping_shl(bit);
        // SAFETY: as above.
        unsafe { super::raw::put(place, new) }.is_ok()
    }

    /// Diverts the addresses; who owns and pays for what stays as it was.
    fn remap(&mut self, from: u64, to: u64) -> bool {
        if !self.space.physical.contains_key(&to) {
            return false;
        }
        let mut found = false;
        for region in self
            .space
            .regions
            .values_mut()
            .filter(|r| r.physical == Some(from))
        {
            region.diverted = Some(to);
            found = true;
        }
        found
    }
}
