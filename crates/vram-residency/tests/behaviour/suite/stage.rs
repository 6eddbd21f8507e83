//! What a scenario stands on: devices, a worker, its shards, and the outcome of
//! what was tried last.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use vram_residency::audit::log::LogSink;
use vram_residency::audit::{AuditMode, Event, MemorySink, Severity};
use vram_residency::capacity::Sharing;
use vram_residency::clock::{ManualClock, Timestamp};
use vram_residency::device::{Allocated, Device};
use vram_residency::key::RootKey;
use vram_residency::random::{Random, RandomError};
use vram_residency::receipt::{Receipt, Tagged};
use vram_residency::seal::Record;
use vram_residency::{
    Error, Lease, Mode, Policy, SealRequest, SealedGroup, SealedShard, VramManager,
};

use super::tap::Tap;

/// Devices for one scenario, and what must live as long as they do.
pub(crate) struct Machine {
    pub(crate) devices: Vec<Arc<dyn Device>>,
    pub(crate) keep: Box<dyn Any>,
}

/// What scenarios run on.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    /// Devices that a machine has at most.
    pub(crate) devices: u32,
    /// Whether scenarios marked slow run.
    pub(crate) fast: bool,
    /// Whether a device may hand freed memory out again as it was left.
    pub(crate) reuses: bool,
    /// Makes a machine with so many devices.
    pub(crate) make: fn(u32) -> Machine,
    /// What the tests say where there is no GPU, and why; `None` where they ask
    /// for none.
    pub(crate) without_gpu: Option<fn(&str) -> String>,
}

impl Setting {
    /// Whether scenarios of this tag run.
    pub(super) fn runs(&self, tag: &str) -> bool {
        match tag {
            "two-devices" => self.devices > 1,
            "slow" => self.fast,
            "reused-memory" => self.reuses,
            "asks-for-gpus" => self.without_gpu.is_some(),
            other => panic!("nothing is known of the tag {other}"),
        }
    }
}

static SETTING: Mutex<Option<Setting>> = Mutex::new(None);

/// The setting of the scenarios from now on.
pub(super) fn run_in(setting: Setting) {
    *SETTING.lock().unwrap() = Some(setting);
}

fn setting() -> Setting {
    SETTING.lock().unwrap().expect("a setting was chosen")
}

/// What the tests say where there is no GPU.
pub(super) fn without_gpu() -> Option<fn(&str) -> String> {
    setting().without_gpu
}

/// SplitMix64: equal runs give equal salts and names.
struct Seeded(Mutex<u64>);

impl Random for Seeded {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

impl Seeded {
    fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// `len` bytes that only `name` has.
pub(crate) fn weights(name: &str, len: u64) -> Vec<u8> {
    let seed = name
        .bytes()
        .fold(7_u64, |h, b| h.wrapping_mul(0x100_0000_01b3) ^ u64::from(b));
    let mut out = vec![0; len as usize];
    Seeded(Mutex::new(seed)).fill(&mut out).unwrap();
    out
}

/// One world of one scenario. Fields drop in this order, devices last.
#[derive(cucumber::World)]
#[world(init = Self::new)]
pub(crate) struct Stage {
    // The worker to be started.
    pub(crate) budget: u64,
    pub(crate) devices: u32,
    pub(crate) sharing: Sharing,
    pub(crate) policy: Policy,
    pub(crate) audit: AuditMode,
    pub(crate) token: Vec<u8>,
    // What the scenario holds.
    pub(crate) leases: Vec<Lease>,
    pub(crate) group: Option<SealedGroup>,
    pub(crate) shards: BTreeMap<String, SealedShard>,
    pub(crate) many: Vec<SealedShard>,
    pub(crate) models: BTreeMap<String, Vec<u8>>,
    pub(crate) kept: Option<Record>,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) attestation: Option<Tagged>,
    pub(crate) buffers: BTreeMap<String, (usize, Allocated)>,
    // What was tried last.
    pub(crate) outcome: Option<Result<(), Error>>,
    pub(crate) results: Vec<Result<(), Error>>,
    pub(crate) notes: Vec<String>,
    pub(crate) answers: Vec<bool>,
    pub(crate) blocks: u64,
    pub(crate) other: Option<Allocated>,
    // The worker and what is around it.
    manager: Option<VramManager>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) sink: Arc<MemorySink>,
    pub(crate) log: Option<Arc<LogSink>>,
    pub(crate) folder: Option<tempfile::TempDir>,
    pub(crate) taps: Vec<Tap>,
    keep: Option<Box<dyn Any>>,
}

impl Stage {
    fn new() -> Self {
        Self {
            budget: 0,
            devices: 1,
            sharing: Sharing::Dedicated,
            policy: Policy::default(),
            audit: AuditMode::BestEffort,
            token: b"the-token-of-a-worker-of-scenarios-0123456789".to_vec(),
            leases: Vec::new(),
            group: None,
            shards: BTreeMap::new(),
            many: Vec::new(),
            models: BTreeMap::new(),
            kept: None,
            receipt: None,
            attestation: None,
            buffers: BTreeMap::new(),
            outcome: None,
            results: Vec::new(),
            notes: Vec::new(),
            answers: Vec::new(),
            blocks: 0,
            other: None,
            manager: None,
            clock: Arc::new(ManualClock::new(Timestamp::from_nanos(
                1_700_000_000_000_000_000,
            ))),
            sink: Arc::new(MemorySink::new()),
            log: None,
            folder: None,
            taps: Vec::new(),
            keep: None,
        }
    }

    /// The devices of the scenario, made when they are first needed.
    pub(crate) fn plug_in(&mut self) {
        if self.taps.is_empty() {
            let machine = (setting().make)(self.devices);
            self.taps = machine.devices.into_iter().map(Tap::new).collect();
            self.keep = Some(machine.keep);
        }
    }

    /// Starts the worker as planned so far.
    pub(crate) fn start(&mut self) -> Result<VramManager, Error> {
        self.plug_in();
        test_listener::plant(&self.token);
        let mut builder = VramManager::builder()
            .key(RootKey::from_token(&self.token)?)
            .policy(self.policy.clone())
            .audit_mode(self.audit)
            .clock(self.clock.clone())
            .random(Arc::new(Seeded(Mutex::new(3))))
            .sink(self.sink.clone());
        if let Some(log) = &self.log {
            builder = builder.sink(log.clone());
        }
        for tap in &self.taps {
            builder = builder.device_with(Arc::new(tap.clone()), Some(self.budget), self.sharing);
        }
        builder.build()
    }

    /// The worker, started when it is first needed.
    pub(crate) fn manager(&mut self) -> VramManager {
        if self.manager.is_none() {
            self.manager = Some(self.start().expect("the worker starts"));
        }
        self.manager.clone().unwrap()
    }

    /// Ends the worker: every shard is freed first.
    pub(crate) fn end(&mut self) {
        self.leases.clear();
        self.group = None;
        self.many.clear();
        self.shards.clear();
        self.manager = None;
        self.log = None;
    }

    /// After a scenario: whatever happened, nothing is held any more.
    pub(super) fn leave(&mut self) {
        let manager = self.manager.clone();
        self.end();
        let live: usize = self.taps.iter().map(|tap| tap.script().live.len()).sum();
        assert_eq!(live, 0, "allocations are left");
        let Some(manager) = manager else { return };
        for info in manager.devices() {
            let c = manager.capacity(info.ordinal).unwrap();
            assert_eq!(
                (c.used, c.reserved, c.holders),
                (0, 0, 0),
                "something leaked: {c:?}"
            );
            assert_eq!(c.free + c.stranded, c.total, "{c:?}");
        }
    }

    pub(crate) fn try_seal(&mut self, name: &str, request: SealRequest<'_>) -> bool {
        let sealed = self.manager().seal(request);
        let answer = sealed.map(|shard| {
            let gpu = shard.record().gpu_device as usize;
            let newest = *self.taps[gpu].script().live.last().unwrap();
            self.buffers.insert(name.to_owned(), (gpu, newest));
            self.shards.insert(name.to_owned(), shard);
        });
        self.outcome = Some(answer);
        self.outcome.as_ref().unwrap().is_ok()
    }

    /// Seals the weights of `name` under that name.
    pub(crate) fn seal(&mut self, name: &str, len: u64, ordinal: u32) {
        let bytes = weights(name, len);
        let request = SealRequest::bytes(&bytes).id(name).device(ordinal);
        self.try_seal(name, request);
        self.models.insert(name.to_owned(), bytes);
    }

    pub(crate) fn shard(&self, name: &str) -> &SealedShard {
        self.shards
            .get(name)
            .unwrap_or_else(|| panic!("no shard '{name}'"))
    }

    pub(crate) fn record(&self, name: &str) -> Record {
        self.shard(name).record().clone()
    }

    pub(crate) fn verify(&mut self, name: &str) -> Result<(), Error> {
        let manager = self.manager();
        manager
            .verify_sealed(self.shard(name), Mode::Full)
            .map(drop)
    }

    /// Every shard that the scenario holds.
    pub(crate) fn held(&self) -> Vec<&SealedShard> {
        let group = self.group.iter().flat_map(SealedGroup::shards);
        self.shards
            .values()
            .chain(&self.many)
            .chain(group)
            .collect()
    }

    pub(crate) fn error(&self) -> &Error {
        let outcome = self.outcome.as_ref().expect("something was tried");
        outcome.as_ref().expect_err("it succeeded")
    }

    /// Events of a type so far.
    pub(crate) fn events(&self, event_type: &str) -> Vec<Event> {
        let events = self.sink.events().into_iter();
        events
            .filter(|event| event.body.event_type() == event_type)
            .collect()
    }

    pub(crate) fn root_key(&self) -> RootKey {
        RootKey::from_token(&self.token).unwrap()
    }

    pub(crate) fn critical(&self, event_type: &str) -> Vec<Event> {
        let events = self.events(event_type);
        assert!(
            events
                .iter()
                .all(|event| event.severity == Severity::Critical)
        );
        events
    }
}

impl fmt::Debug for Stage {
    /// For the runner's report of a failed step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("outcome", &self.outcome)
            .field("events", &self.sink.types())
            .finish_non_exhaustive()
    }
}
