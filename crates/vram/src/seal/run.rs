//! The steps, in order. Dropping what was sealed wipes and frees it, so every
//! way out leaves the device as it was.

use std::path::Path;
use std::time::{Duration, Instant};

use vram_residency::capacity::plan::{MAX_PADDING, PlanPart};
use vram_residency::load::{CancelToken, Model};
use vram_residency::shard::GroupRecord;
use vram_residency::verify::Verification;
use vram_residency::{Mode, SealedShard, VramManager};

use super::devices::until_one_fails;
use super::load::{Load, Loaded};
use super::{Args, hold, report};
use crate::device::DeviceSpec;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::signing::{Hand, believed, not_signed};
use crate::worker::Worker;
use crate::{papers, records, text};

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
        papers::check_target(path)?;
    }
    let worker = args.worker.start(&args.device)?;
    let interrupt = Interrupt::listen()?;
    let job = Job {
        args,
        worker: &worker,
        interrupt: &interrupt,
        output,
    };
    let outcome = Asked::of(args).and_then(|asked| {
        asked.check_flips(args)?;
        job.work(asked)
    });
    outcome.map_err(|failure| worker.told(failure.with_note(aftermath(&worker.manager))))
}

/// What is to be sealed.
pub(super) struct Asked {
    /// The one FILE, where it stands for a model of several files.
    pub(super) model: Option<Model>,
    /// 0 bytes for what cannot be read, of which the seal tells.
    pub(super) files: Vec<PlanPart>,
}

impl Asked {
    fn of(args: &Args) -> Result<Self, Failure> {
        let model = args.model()?;
        let files = match &model {
            Some(model) => model.parts().iter().map(PlanPart::from).collect(),
            None => args.files.iter().map(|path| file(path)).collect(),
        };
        Ok(Self { model, files })
    }

    /// A scripted flip behind every file would never strike, and who tests an
    /// alarm with it would believe that it works.
    fn check_flips(&self, args: &Args) -> Result<(), Failure> {
        let largest_flip = args
            .device
            .iter()
            .filter_map(DeviceSpec::largest_flip)
            .max();
        let (Some(offset), Some(longest)) =
            (largest_flip, self.files.iter().map(|file| file.bytes).max())
        else {
            return Ok(());
        };
        if longest == 0 || offset < longest {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "the flip at offset {offset} lies behind the end of every file; the longest has {longest} bytes"
        )))
    }
}

/// A file that was not opened yet: where its tensors begin is not known.
fn file(path: &Path) -> PlanPart {
    let meta = std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file);
    PlanPart {
        name: path.display().to_string(),
        bytes: meta.map_or(0, |meta| meta.len()),
        padding: MAX_PADDING,
    }
}

/// What is left on the device after a failure.
fn aftermath(manager: &VramManager) -> String {
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

/// What was asked for, and who does it.
struct Job<'a> {
    args: &'a Args,
    worker: &'a Worker,
    interrupt: &'a Interrupt,
    output: &'a Output,
}

impl Job<'_> {
    /// The files that were asked for, with their texts.
    fn papers(&self, sealed: &Sealed) -> Result<Vec<(&Path, String)>, Failure> {
        let manager = &self.worker.manager;
        let mut papers = Vec::new();
        if let (Some(path), Some(hand)) = (&self.args.receipt, &self.worker.hand) {
            papers.push((path.as_path(), receipts(manager, &sealed.held, hand)?));
        }
        if let Some(path) = &self.args.record {
            papers.push((path.as_path(), report::record_text(sealed)?));
        }
        Ok(papers)
    }

    fn work(&self, asked: Asked) -> Result<(), Failure> {
        let (args, interrupt) = (self.args, self.interrupt);
        let manager = &self.worker.manager;
        let started = Instant::now();
        let load = Load {
            args,
            manager,
            interrupt,
            output: self.output,
        };
        let loaded = load.seal(asked)?;
        let load = started.elapsed();
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
        let papers = self.papers(&sealed)?;
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
        write_all(papers)?;
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

/// Writes all of them or none.
fn write_all(papers: &[(&Path, String)]) -> Result<(), Failure> {
    for (done, (path, text)) in papers.iter().enumerate() {
        let written = records::write(path, text);
        if written.is_err() {
            for (path, _) in papers.iter().take(done) {
                // Ours, and worthless alone; what went wrong is being reported.
                let _ = std::fs::remove_file(path);
            }
        }
        written?;
    }
    Ok(())
}

/// A receipt a line.
fn receipts(manager: &VramManager, held: &[Held], hand: &Hand) -> Result<String, Failure> {
    let mut text = String::new();
    for one in held {
        let receipt = manager.issue_receipt(&one.shard, &hand.signer());
        let receipt = receipt.map_err(|error| not_signed(&one.file, error))?;
        text.push_str(&receipt.to_json().map_err(|e| believed(&one.file, e))?);
        text.push('\n');
    }
    Ok(text)
}

/// After a signal nothing more is begun.
fn go_on(cancelled: &CancelToken, before: &str) -> Result<(), Failure> {
    if cancelled.is_cancelled() {
        return Err(Failure::new(format!("cancelled before {before}")));
    }
    Ok(())
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
    let verified = until_one_fails(&files, usize::MAX, device, &halt, verify)?;
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
