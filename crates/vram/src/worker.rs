//! Who works, on which device, under which rules: what `vram seal` and
//! `vram attest` need before they can load anything.

use std::sync::Arc;

use vram_residency::audit::Body;
use vram_residency::capacity::Sharing;
use vram_residency::device::Device;
use vram_residency::error::Code;
use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;
use vram_residency::shard::{ModelRef, ShardId, WorkerId};
use vram_residency::{Policy, SealRequest, VramManager};

use crate::device::{self, DeviceSpec};
use crate::evidence::{Log, LogArgs};
use crate::failure::{Exit, Failure};
use crate::keys::KeyArgs;
use crate::limits::LimitArgs;
use crate::models::ModelArgs;
use crate::output::Output;
use crate::signing::{Hand, SignArgs};

/// Options of commands that put models into VRAM.
#[derive(clap::Args)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    log: LogArgs,
    /// Name of the shard: letters, digits, '-' and '_' [default: random]
    #[arg(long)]
    pub(crate) id: Option<ShardId>,
    /// What the model is called [default: the file's name]
    #[arg(long, value_name = "NAME")]
    model_ref: Option<ModelRef>,
    /// Who works; bound into the record and its key
    #[arg(long, value_name = "ID", default_value = "worker")]
    worker_id: WorkerId,
    /// Every event of this command carries this id of the request that it serves
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
}

/// A manager of the devices, its log, and who signs for it.
pub(crate) struct Worker {
    pub(crate) manager: VramManager,
    pub(crate) hand: Option<Hand>,
    /// The sealing key is forgotten when the command ends.
    pub(crate) ephemeral_key: bool,
    log: Log,
}

/// What a manager is made of.
struct Parts {
    hand: Option<Hand>,
    policy: Policy,
    key: Option<RootKey>,
    devices: Vec<Arc<dyn Device>>,
}

/// What a start can fail at before there is a manager.
#[derive(Clone, Copy)]
enum Step {
    Sign,
    Models,
    Key,
    Device,
}

impl WorkerArgs {
    /// Opens the log first, so that whatever else fails is in it
    /// (requirement: AU-7, OP-6).
    pub(crate) fn start(&self, devices: &[DeviceSpec]) -> Result<Worker, Failure> {
        let log = self.log.open(&self.worker_id)?;
        let builder = VramManager::builder().worker_id(self.worker_id.as_str());
        let builder = log.attach(builder);
        let builder = match &self.correlation_id {
            Some(id) => builder.for_request(id),
            None => builder,
        };
        let parts = match self.parts(devices) {
            Ok(parts) => parts,
            Err((step, failure)) => {
                let recorded = step.event(&failure).map(|body| builder.record(body));
                return Err(match recorded {
                    Some(Err(error)) => failure.with_note(error.to_string()),
                    _ => failure,
                });
            }
        };
        let ephemeral_key = parts.key.is_none();
        let key = match parts.key {
            Some(key) => key,
            None => RootKey::generate(&OsRandom)?,
        };
        let devices = parts.devices.into_iter();
        let builder = devices.fold(builder, |builder, device| {
            builder.device_with(device, None, Sharing::Dedicated)
        });
        let manager = builder.key(key).policy(parts.policy).build()?;
        Ok(Worker {
            manager,
            hand: parts.hand,
            ephemeral_key,
            log,
        })
    }

    fn parts(&self, devices: &[DeviceSpec]) -> Result<Parts, (Step, Failure)> {
        let at = |step| move |failure| (step, failure);
        let hand = self.sign.load().map_err(at(Step::Sign))?;
        let policy = self.models.load().map_err(at(Step::Models))?;
        let policy = self.limits.widen(policy);
        let key = self.key.load().map_err(at(Step::Key))?;
        let open = |spec| device::open(spec).map_err(Failure::from);
        let devices: Result<Vec<_>, _> = devices.iter().map(open).collect();
        let devices = devices.map_err(at(Step::Device))?;
        if let Some(hand) = &hand {
            let kinds = devices.iter().map(|device| device.info().kind);
            hand.check(&self.worker_id, kinds).map_err(at(Step::Sign))?;
        }
        Ok(Parts {
            hand,
            policy,
            key,
            devices,
        })
    }

    /// Puts the shard's names on a request, and what its header may claim.
    pub(crate) fn named<'a>(&self, request: SealRequest<'a>) -> SealRequest<'a> {
        let mut request = request.limits(self.limits.limits());
        if let Some(id) = &self.id {
            request = request.id(id.as_str());
        }
        match &self.model_ref {
            Some(name) => request.model_ref(name.as_str()),
            None => request,
        }
    }
}

impl Step {
    /// The event of a failure; what was asked for wrongly is none.
    fn event(self, failure: &Failure) -> Option<Body> {
        let reason = failure.message();
        let verdict = failure.exit() == Exit::Verification;
        match (failure.exit(), self) {
            (Exit::Usage, _) => None,
            (_, Self::Device) => Some(Body::start_blocked("vram_only", reason)),
            (_, Self::Models) if verdict => Some(Body::start_blocked("signed_models", reason)),
            (_, Self::Models) => Some(Body::start_failed(Code::PolicyViolation, reason)),
            (_, Self::Key | Self::Sign) => Some(Body::start_failed(Code::AuthFailed, reason)),
        }
    }
}

impl Worker {
    /// Waits until the log holds what happened so far; nothing is claimed before.
    pub(crate) fn keep_evidence(&self, output: &Output) -> Result<(), Failure> {
        self.log.keep(output)
    }

    /// What is left on the device after a failure.
    pub(crate) fn aftermath(&self) -> String {
        let manager = &self.manager;
        let (used, total) = (manager.used_vram(), manager.total_vram());
        let stranded = total
            .saturating_sub(used)
            .saturating_sub(manager.available_vram());
        if stranded > 0 {
            return format!("{stranded} bytes could not be wiped and freed; reset the device");
        }
        if used > 0 {
            return format!("{used} of {total} bytes of the device are still in use");
        }
        format!("nothing is left on the device: {used} of {total} bytes in use")
    }

    /// A failure, and whether the log holds what led to it.
    pub(crate) fn told(&self, failure: Failure) -> Failure {
        match self.manager.flush_audit() {
            Ok(()) => failure,
            Err(error) => failure.with_note(error.to_string()),
        }
    }
}
