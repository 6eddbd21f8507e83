//! The only constructor: devices, keys, clock, randomness and sinks go in.

use std::sync::Arc;

use tracing::{info, info_span};

use super::failure::started;
use super::keys::KeyRing;
use super::metrics::Counters;
use super::state::StateCell;
use super::{DeviceSlot, Inner, VramManager};
use crate::audit::{AuditMode, Body, Recorder, Sink, Text};
use crate::capacity::{Ledger, Sharing};
use crate::clock::{Clock, SystemClock};
use crate::device::{Checked, Device, DeviceInfo};
use crate::error::{InputError, Misuse, Result};
use crate::key::{KeyContext, KeyProvider, Salt};
use crate::policy::{Admitted, Policy, PolicyError};
use crate::random::{OsRandom, Random, bytes};
use crate::seal::InstanceId;
use crate::shard::{Registry, WorkerId};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::trace;

/// Longest list of devices (requirement: API-F39, VA-2 as corrected).
const MAX_DEVICES: usize = 64;
/// Worker id when the caller names none.
const DEFAULT_WORKER: &str = "worker";

struct Planned {
    device: Arc<dyn Device>,
    budget: Option<u64>,
    sharing: Sharing,
}

/// Collects the parts of a manager. A device and a key are required; no token
/// or secret is kept here (requirement: TY-4).
#[must_use = "a builder does nothing until build"]
pub struct VramManagerBuilder {
    devices: Vec<Planned>,
    key: Option<Arc<dyn KeyProvider>>,
    policy: Policy,
    worker_id: Result<WorkerId, InputError>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    sinks: Vec<Arc<dyn Sink>>,
    audit_mode: AuditMode,
    request: Option<Text>,
}

impl VramManagerBuilder {
    pub(super) fn new() -> Self {
        Self {
            devices: Vec::new(),
            key: None,
            policy: Policy::default(),
            worker_id: DEFAULT_WORKER.parse(),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(OsRandom),
            sinks: Vec::new(),
            audit_mode: AuditMode::default(),
            request: None,
        }
    }

    /// Adds a device that is ours alone, all of its memory managed.
    pub fn device(self, device: impl Device + 'static) -> Self {
        self.device_with(Arc::new(device), None, Sharing::Dedicated)
    }

    /// Adds a device with a budget in bytes (all of it by default) and a rule
    /// for sharing it with others (requirement: API-F3, CAP-8).
    pub fn device_with(
        mut self,
        device: Arc<dyn Device>,
        budget: Option<u64>,
        sharing: Sharing,
    ) -> Self {
        self.devices.push(Planned {
            device,
            budget,
            sharing,
        });
        self
    }

    /// Where sealing keys come from.
    pub fn key(mut self, provider: impl KeyProvider + 'static) -> Self {
        self.key = Some(Arc::new(provider));
        self
    }

    /// The operator's choices; strict by default.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Who seals; `worker` by default.
    pub fn worker_id(mut self, id: &str) -> Self {
        self.worker_id = id.parse();
        self
    }

    /// Another clock than the system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another source of randomness than the operating system's.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Adds a place where events go.
    pub fn sink(mut self, sink: Arc<dyn Sink>) -> Self {
        self.sinks.push(sink);
        self
    }

    /// What a failing sink means.
    pub fn audit_mode(mut self, mode: AuditMode) -> Self {
        self.audit_mode = mode;
        self
    }

    /// The request that the start is for: its events, and those of the manager that
    /// is built, carry this id (requirement: AU-17, [`VramManager::for_request`]).
    pub fn for_request(mut self, correlation_id: &str) -> Self {
        self.request = Some(Text::new(correlation_id));
        self
    }

    /// Records why a start came to nothing before [`Self::build`], as with
    /// [`Body::start_blocked`]: no device could be opened, no key read, or a
    /// policy is not believed (requirement: AU-7, POL-3).
    ///
    /// # Errors
    /// [`InputError`] for a bad worker id; [`crate::audit::AuditError`] in
    /// `required` mode.
    pub fn record(&self, body: Body) -> Result<()> {
        Ok(self.recorder()?.emit_for(self.request.as_ref(), body)?)
    }

    fn recorder(&self) -> Result<Recorder, InputError> {
        let (sinks, worker_id) = (self.sinks.clone(), self.worker_id.clone()?);
        let clock = Arc::clone(&self.clock);
        Ok(Recorder::new(sinks, self.audit_mode, worker_id, clock))
    }

    /// Checks everything and starts the manager. Devices that the policy does
    /// not admit block the start (requirement: POL-3, OP-6, WORKER-4171, WORKER-4172).
    /// A start that fails is recorded; one that was asked for wrongly is not.
    ///
    /// # Errors
    /// [`Misuse::Builder`], [`InputError`], [`PolicyError`], [`crate::key::KeyError`]
    /// or [`crate::random::RandomError`].
    pub fn build(self) -> Result<VramManager> {
        let recorder = Arc::new(self.recorder()?);
        let worker_id = self.worker_id?;
        check_devices(&self.devices)?;
        let key = self
            .key
            .ok_or(Misuse::Builder("no key; add one with key(..)"))?;
        let (devices, request) = (self.devices.len(), self.request);
        let correlation_id = request.as_ref().map(Text::as_str);
        let span = info_span!("build", %worker_id, devices, correlation_id);
        let start = Start {
            policy: self.policy,
            clock: self.clock,
            random: self.random,
            recorder: Arc::clone(&recorder),
            worker_id,
            request: request.clone(),
        };
        trace::operation(&span, || {
            let manager = start.manager(self.devices, key.as_ref());
            started(&recorder, request.as_ref(), manager)
        })
    }
}

/// What a start needs besides devices and key.
struct Start {
    policy: Policy,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    recorder: Arc<Recorder>,
    worker_id: WorkerId,
    request: Option<Text>,
}

impl Start {
    fn manager(self, devices: Vec<Planned>, key: &dyn KeyProvider) -> Result<VramManager> {
        let salt: Salt = bytes(self.random.as_ref())?;
        let instance = InstanceId::from_bytes(bytes(self.random.as_ref())?);
        let mut slots = Vec::new();
        for planned in devices {
            let device = Arc::new(Checked::new(planned.device));
            let info = device.info();
            let request = self.request.as_ref();
            let admitted = admit((&self.policy, info), &self.recorder, request)?;
            info!(
                gpu_device = info.ordinal,
                device_uuid = %info.uuid,
                device_kind = %info.kind,
                total_bytes = info.total_bytes,
                "a device was admitted"
            );
            let context = KeyContext {
                salt: &salt,
                worker: &self.worker_id,
                device: info.uuid,
            };
            let keys = KeyRing::new(key.seal_key(&context)?);
            let ledger = Arc::new(Ledger::new(device, planned.budget, planned.sharing));
            slots.push(DeviceSlot {
                ledger,
                admitted,
                keys,
            });
        }
        let inner = Inner {
            slots,
            policy: self.policy,
            clock: self.clock,
            random: self.random,
            recorder: self.recorder,
            registry: Arc::new(Registry::default()),
            worker_id: self.worker_id,
            salt,
            instance,
            sequence: AtomicU64::new(1),
            scrub_steps: AtomicU64::new(0),
            scrubbed_in_doubt: AtomicBool::new(false),
            changing_keys: Mutex::new(()),
            state: StateCell::new(),
            counters: Counters::default(),
        };
        Ok(VramManager {
            inner: Arc::new(inner),
            request: self.request,
        })
    }
}

fn check_devices(devices: &[Planned]) -> Result<(), Misuse> {
    if devices.is_empty() {
        return Err(Misuse::Builder("no device; add one with device(..)"));
    }
    if devices.len() > MAX_DEVICES {
        return Err(Misuse::Builder("more than 64 devices"));
    }
    for (i, planned) in devices.iter().enumerate() {
        let info = planned.device.info();
        let twin = |other: &Planned| {
            other.device.info().ordinal == info.ordinal || other.device.info().uuid == info.uuid
        };
        if devices.iter().skip(i.saturating_add(1)).any(twin) {
            return Err(Misuse::Builder("two devices have the same ordinal or UUID"));
        }
    }
    Ok(())
}

fn admit(
    (policy, info): (&Policy, &DeviceInfo),
    recorder: &Recorder,
    request: Option<&Text>,
) -> Result<Admitted> {
    let admitted = policy.admit_device(info);
    if let Err(error @ PolicyError::Device { .. }) = &admitted {
        let action = "worker_startup_blocked";
        // As `VramManager::tell`.
        let body = Body::policy_violation(error, None, info, action);
        let _ = recorder.emit_for(request, body);
    }
    Ok(admitted?)
}
