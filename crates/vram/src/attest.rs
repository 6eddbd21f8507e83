//! `vram attest`: seal a model, measure it for a nonce, sign what was measured.

use std::path::PathBuf;

use vram_residency::capacity::Sharing;
use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;
use vram_residency::receipt::Nonce;
use vram_residency::shard::{ModelRef, ShardId, WorkerId};
use vram_residency::{SealRequest, VramManager};

use crate::audit::LogArgs;
use crate::device::{self, DeviceSpec};
use crate::failure::Failure;
use crate::keys::KeyArgs;
use crate::models::ModelArgs;
use crate::output::Output;
use crate::signing::{Hand, SignArgs, believed};
use crate::{papers, records};

/// Answer a verifier's nonce with signed facts about a model in VRAM
///
/// Seals FILE, measures its digest in device memory after the nonce is known,
/// asks the driver about that memory, and signs the answers; then wipes and frees
/// it. A process that keeps models resident answers through the library
/// (`measure_residency`).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram attest model.safetensors --nonce 8f0c... --sign-key worker.sign --out answer.json
  vram verify answer.json --nonce 8f0c... --trust worker.pub

A key in production scope signs for no simulated device.

Exit codes: 0 fine, 1 failure, 2 usage, 3 VRAM was damaged, or the model is not
an approved one.")]
pub(crate) struct Args {
    /// The model
    file: PathBuf,
    /// cuda:N, or the simulated device: sim, sim:SIZE
    #[arg(long, value_name = "DEVICE", default_value = "cuda:0")]
    device: DeviceSpec,
    /// What the verifier chose: 16 to 64 bytes in hex
    #[arg(long, value_name = "HEX")]
    nonce: Nonce,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    log: LogArgs,
    /// Name of the shard [default: random]
    #[arg(long)]
    id: Option<ShardId>,
    /// What the model is called [default: the file's name]
    #[arg(long, value_name = "NAME")]
    model_ref: Option<ModelRef>,
    /// Who attests
    #[arg(long, value_name = "ID", default_value = "worker")]
    worker_id: WorkerId,
    /// Where to write the attestation [default: stdout]
    #[arg(long, value_name = "OUT.json")]
    out: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        if let Some(path) = &self.out {
            papers::check_target(path)?;
        }
        let hand = self.sign.load()?.ok_or_else(|| {
            Failure::usage("an attestation is signed: no key was named").hint("add --sign-key FILE")
        })?;
        let manager = self.manager(&hand)?;
        let name = self.file.to_string_lossy();
        let mut request = SealRequest::file(&self.file);
        if let Some(id) = &self.id {
            request = request.id(id.as_str());
        }
        if let Some(name) = &self.model_ref {
            request = request.model_ref(name.as_str());
        }
        let shard = manager.seal(request);
        let shard = shard.map_err(|error| Failure::about(&name, error))?;
        let measured = manager.measure_residency(&shard, &self.nonce);
        let measured = measured.map_err(|error| Failure::about(&name, error))?;
        let signed = measured.sign(&hand.signer());
        let text = signed
            .and_then(|signed| signed.to_json())
            .map_err(|error| believed(&name, error))?;
        manager.deallocate(&shard)?;
        let Some(path) = &self.out else {
            return output.line(text);
        };
        records::write(path, &format!("{text}\n"))?;
        output.note(&format!("the attestation is in {}", path.display()));
        Ok(())
    }

    fn manager(&self, hand: &Hand) -> Result<VramManager, Failure> {
        let device = device::open(&self.device)?;
        hand.check(device.info().kind)?;
        let key = match self.key.load()? {
            Some(key) => key,
            None => RootKey::generate(&OsRandom)?,
        };
        let builder = VramManager::builder()
            .device_with(device, None, Sharing::Dedicated)
            .key(key)
            .policy(self.models.load()?)
            .worker_id(self.worker_id.as_str());
        Ok(self.log.attach(builder, &self.worker_id)?.build()?)
    }
}
