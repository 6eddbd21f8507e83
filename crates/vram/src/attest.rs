//! `vram attest`: seal a model, measure it for a nonce, sign or tag what was measured.

use std::path::PathBuf;
use std::time::Duration;

use vram_residency::SealRequest;
use vram_residency::load::CancelToken;
use vram_residency::receipt::Nonce;

use crate::device::DeviceSpec;
use crate::failure::Failure;
use crate::interrupt::{Interrupt, go_on};
use crate::output::Output;
use crate::papers::Kind;
use crate::progress::Progress;
use crate::seal::args::{FormatArg, duration};
use crate::signing::not_signed;
use crate::worker::{Worker, WorkerArgs};
use crate::{papers, replace};

/// Answer a verifier's nonce with signed facts about a model in VRAM
///
/// Seals FILE, measures its digest in device memory after the nonce is known,
/// asks the driver about that memory, and signs the answers; then wipes and frees
/// it. With a sealing key and no --sign-key the answers are tagged instead, for who
/// has that key, too. A process that keeps models resident answers through the
/// library (`measure_residency`, `attest_vram_residency`).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram attest model.safetensors --nonce 8f0c... --sign-key worker.sign --out answer.json
  vram verify answer.json --nonce 8f0c... --trust worker.pub
  vram attest model.safetensors --nonce 8f0c... --key-file worker.key --out tagged.json
  vram verify tagged.json --nonce 8f0c... --key-file worker.key

A signing key in production scope signs for no simulated device.

Exit codes: 0 fine, 1 failure, 2 usage, 3 VRAM was damaged, or the model is not
an approved one. SIGINT and SIGTERM cancel a load or what follows it (exit 1; the
memory is wiped, and nothing is written).")]
pub(crate) struct Args {
    /// The model: one file, and no index or part of a split GGUF
    file: PathBuf,
    /// What the verifier chose: 16 to 64 bytes in hex
    #[arg(long, value_name = "HEX")]
    nonce: Nonce,
    /// cuda:N; or the simulated device: sim, sim:SIZE or sim:SIZE,OPTION,... ('vram seal --help')
    #[arg(long, value_name = "DEVICE", default_value = "cuda:0")]
    device: DeviceSpec,
    /// How to read the file
    #[arg(long, value_enum, default_value_t = FormatArg::Auto)]
    format: FormatArg,
    /// Give up when opening and loading the file take longer than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Where to write the attestation; one that is there is replaced [default: stdout]
    #[arg(long, value_name = "OUT.json")]
    out: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        if let Some(path) = &self.out {
            papers::check_target(path, Kind::Attestation)?;
        }
        if self.worker.sign.sign_key.is_none() && !self.worker.key.is_named() {
            return Err(no_key());
        }
        let worker = self.worker.start(std::slice::from_ref(&self.device))?;
        let interrupt = Interrupt::listen()?;
        let text = self.work(&worker, interrupt.token(), output);
        let text = text.map_err(|failure| worker.told(failure.with_note(worker.aftermath())))?;
        worker.keep_evidence(output)?;
        let Some(path) = &self.out else {
            return output.line(text);
        };
        replace::one(path, &format!("{text}\n"))?;
        output.note(&format!("the attestation is in {}", path.display()));
        Ok(())
    }

    /// Seals, measures, signs and frees.
    fn work(
        &self,
        worker: &Worker,
        token: &CancelToken,
        output: &Output,
    ) -> Result<String, Failure> {
        let (manager, name) = (&worker.manager, self.file.to_string_lossy());
        let shard = manager.seal(self.request(token, output));
        let shard = shard.map_err(|error| Failure::to_seal(&name, error))?;
        go_on(token, &format!("{name} was measured"))?;
        let text = match &worker.hand {
            Some(hand) => {
                let attested = manager.answer(&shard, &self.nonce, &hand.signer());
                attested.and_then(|attested| Ok(attested.to_json()?))
            }
            None => {
                let tagged = manager.attest_vram_residency(&shard, Some(self.nonce.as_bytes()));
                tagged.and_then(|tagged| Ok(tagged.to_json()?))
            }
        };
        let text = text.map_err(|error| not_signed(&name, error))?;
        manager.deallocate(&shard)?;
        go_on(token, "the attestation was written")?;
        Ok(text)
    }

    /// The file as it is to be sealed, until a signal.
    fn request(&self, token: &CancelToken, output: &Output) -> SealRequest<'static> {
        let total = std::fs::metadata(&self.file).ok().map(|file| file.len());
        let shown = Progress::start(output, "loading", &self.file.to_string_lossy(), total);
        let request = SealRequest::file(&self.file).format(self.format.choice());
        let request = self.worker.named(request).cancel(token);
        let request = request.progress(move |now| shown.set(now.done));
        match self.timeout {
            Some(timeout) => request.timeout(timeout),
            None => request,
        }
    }
}

fn no_key() -> Failure {
    Failure::usage("an attestation is signed or tagged: no key was named")
        .hint("add --sign-key FILE, or the sealing key of who asks: --key-file FILE")
}
