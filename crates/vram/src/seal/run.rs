//! The steps, in order. Dropping what was sealed wipes and frees it, so every
//! way out leaves the device as it was.

use std::path::Path;
use std::time::Duration;

use vram_residency::load::CancelToken;
use vram_residency::shard::GroupRecord;
use vram_residency::sync::AtOnce;
use vram_residency::verify::Verification;
use vram_residency::{Mode, SealedShard, VramManager};

use super::devices::until_one_fails;
use super::load::{Load, Loaded};
use super::paper::papers;
use super::{Args, hold, report};
use crate::device::DeviceSpec;
use crate::failure::Failure;
use crate::interrupt::{Interrupt, go_on};
use crate::output::Output;
use crate::papers::Kind;
use crate::worker::Worker;
use crate::{papers, records, replace, text};

/// One sealed and verified file.
pub(super) struct Held {
    pub(super) file: String,
    pub(super) shard: SealedShard,
    pub(super) verification: Verification,
}

/// Everything that was sealed.
pub(super) struct Sealed {
    pub(super) held: Vec<Held>,
    pub(super) group: Option<GroupRecord>,
    /// Loading, measuring and sealing, without verifying.
    pub(super) load: Duration,
    pub(super) ephemeral_key: bool,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    if let Some(path) = &args.record {
        records::check_target(path)?;
    }
    if let Some(path) = &args.receipt {
        papers::check_target(path, Kind::Receipts)?;
    }
    let worker = args.worker.start(&args.device)?;
    let interrupt = Interrupt::listen()?;
    let job = Job {
        args,
        worker: &worker,
        interrupt: &interrupt,
        output,
    };
    job.work()
        .map_err(|failure| worker.told(failure.with_note(worker.aftermath())))
}

/// What was asked for, and who does it.
struct Job<'a> {
    args: &'a Args,
    worker: &'a Worker,
    interrupt: &'a Interrupt,
    output: &'a Output,
}

impl Job<'_> {
    fn work(&self) -> Result<(), Failure> {
        let (args, interrupt) = (self.args, self.interrupt);
        let manager = &self.worker.manager;
        let load = Load {
            args,
            manager,
            token: interrupt.token(),
            output: self.output,
        };
        let (loaded, load) = load.seal()?;
        if args.device.iter().any(DeviceSpec::discards) {
            return Err(dropped(&loaded, load));
        }
        let group = loaded.group;
        let held = verify(manager, loaded.names, loaded.shards, interrupt.token())?;
        let sealed = Sealed {
            held,
            group,
            load,
            ephemeral_key: self.worker.ephemeral_key,
        };
        let papers = papers(args, self.worker, &sealed)?;
        if !args.hold {
            free(manager, &sealed.held)?;
            return self.claim(&papers, &sealed);
        }
        self.claim(&papers, &sealed)?;
        self.hold(&sealed.held)?;
        free(manager, &sealed.held)?;
        self.worker.keep_evidence(self.output)?;
        if self.output.is_json() {
            return Ok(());
        }
        self.output.line(report::freed(manager))
    }

    /// Writes and tells what was done, once the log holds it.
    fn claim(&self, papers: &[(&Path, String)], sealed: &Sealed) -> Result<(), Failure> {
        go_on(self.interrupt.token(), "anything was written")?;
        self.worker.keep_evidence(self.output)?;
        replace::all(papers)?;
        report::print(self.args, &self.worker.manager, sealed, self.output)
    }

    fn hold(&self, held: &[Held]) -> Result<(), Failure> {
        let rounds = hold::Rounds {
            every: self.args.every,
            mode: self.args.mode.mode(),
            scrub_rate: self.args.scrub_rate,
        };
        let manager = &self.worker.manager;
        let keep = || self.worker.keep_evidence(self.output);
        hold::hold(&rounds, manager, held, &keep, (self.interrupt, self.output))
    }
}

/// What is left to say when the device dropped what it measured: no shard that
/// was not verified passes for sealed.
fn dropped(loaded: &Loaded, load: Duration) -> Failure {
    let mut bytes = 0_u64;
    let mut failure =
        Failure::new("nothing was verified: the simulated device was told to discard contents");
    for (name, shard) in loaded.names.iter().zip(&loaded.shards) {
        let record = shard.record();
        bytes = bytes.saturating_add(record.vram_bytes);
        failure = failure.with_note(format!(
            "measured while loading: sha256:{} {name}, {} bytes",
            record.digest, record.vram_bytes
        ));
    }
    failure
        .with_note(format!(
            "loaded {bytes} bytes in {}, {}",
            text::time(load),
            text::rate(bytes, load)
        ))
        .hint("without discard, and with as much memory as the model has bytes, it can be verified")
}

/// Verifies every shard in VRAM, in full, on several devices at the same time.
fn verify(
    manager: &VramManager,
    names: Vec<String>,
    shards: Vec<SealedShard>,
    cancelled: &CancelToken,
) -> Result<Vec<Held>, Failure> {
    let files: Vec<(String, SealedShard)> = names.into_iter().zip(shards).collect();
    let verify = |(file, shard): &(String, SealedShard)| {
        go_on(cancelled, &format!("{file} was verified"))?;
        let verified = manager.verify_sealed(shard, Mode::Full);
        let verified = verified.map_err(|error| Failure::about(file, error))?;
        Ok(verified.into_verification())
    };
    let device = |(_, shard): &(String, SealedShard)| shard.record().gpu_device;
    let halt = CancelToken::new();
    let verified = until_one_fails(&files, AtOnce::DEVICES, device, &halt, verify)?;
    let held = |((file, shard), verification)| Held {
        file,
        shard,
        verification,
    };
    Ok(files.into_iter().zip(verified).map(held).collect())
}

/// Wipes and frees every shard.
fn free(manager: &VramManager, held: &[Held]) -> Result<(), Failure> {
    for one in held {
        let freed = manager.deallocate(&one.shard);
        freed.map_err(|error| Failure::about(&one.file, error))?;
    }
    Ok(())
}
