//! The steps, in order. Dropping what was sealed wipes and frees it, so every
//! way out leaves the device as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vram_residency::load::{Model, Part};
use vram_residency::shard::GroupRecord;
use vram_residency::verify::Verification;
use vram_residency::{Mode, SealRequest, SealedShard, VramManager};

use super::{Args, hold, report};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::{self, Progress};
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
    let worker = args.worker.start()?;
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
struct Asked {
    /// The one FILE, where it stands for a model of several files.
    model: Option<Model>,
    names: Vec<String>,
    /// In bytes; 0 for what cannot be read, of which the seal tells.
    sizes: Vec<u64>,
}

impl Asked {
    fn of(args: &Args) -> Result<Self, Failure> {
        let model = args.model()?;
        let (names, sizes) = match &model {
            Some(model) => {
                let one = |part: &Part| (part.path().display().to_string(), part.bytes());
                model.parts().iter().map(one).unzip()
            }
            None => {
                let size = |path: &Path| match std::fs::metadata(path) {
                    Ok(meta) if meta.is_file() => meta.len(),
                    _ => 0,
                };
                let one = |path: &PathBuf| (path.display().to_string(), size(path));
                args.files.iter().map(one).unzip()
            }
        };
        Ok(Self {
            model,
            names,
            sizes,
        })
    }

    /// A scripted flip behind every file would never strike, and who tests an
    /// alarm with it would believe that it works.
    fn check_flips(&self, args: &Args) -> Result<(), Failure> {
        let (Some(offset), Some(&longest)) =
            (args.worker.device.largest_flip(), self.sizes.iter().max())
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
        let loaded = seal(asked, args, manager, (interrupt, self.output))?;
        let load = started.elapsed();
        if args.worker.device.discards() {
            return Err(dropped(&loaded, load));
        }
        let group = loaded.group;
        let held = verify(manager, loaded.names, loaded.shards, interrupt)?;
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
        go_on(self.interrupt, "anything was written")?;
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

/// What was asked for, by name, and what it became.
struct Loaded {
    names: Vec<String>,
    shards: Vec<SealedShard>,
    group: Option<GroupRecord>,
}

/// Seals every file, or none.
fn seal(
    asked: Asked,
    args: &Args,
    manager: &VramManager,
    (interrupt, output): (&Interrupt, &Output),
) -> Result<Loaded, Failure> {
    let dress = Dress {
        args,
        interrupt,
        output,
    };
    let Asked {
        model,
        names,
        sizes,
    } = asked;
    if let Some(model) = model {
        let all = dress.progress(&names, &sizes);
        let requests = model.into_requests().into_iter().zip(&names);
        let requests = requests.map(|(request, name)| dress.request(request, name, &all, 0));
        return grouped(manager, requests.collect(), names.clone());
    }
    if args.group {
        let all = dress.progress(&names, &sizes);
        let requests = args.files.iter().map(|path| dress.file(path, &all, 0));
        return grouped(manager, requests.collect(), names);
    }
    let all = dress.progress(&names, &sizes);
    let (mut shards, mut before) = (Vec::new(), 0_u64);
    for ((path, name), size) in args.files.iter().zip(&names).zip(sizes) {
        let sealed = manager.seal(dress.file(path, &all, before));
        shards.push(sealed.map_err(|error| Failure::to_seal(name, error))?);
        before = before.saturating_add(size);
    }
    Ok(Loaded {
        names,
        shards,
        group: None,
    })
}

/// All or none.
fn grouped(
    manager: &VramManager,
    requests: Vec<SealRequest<'static>>,
    names: Vec<String>,
) -> Result<Loaded, Failure> {
    let group = manager.seal_group(requests);
    let group = group.map_err(|error| Failure::to_seal("group", error))?;
    Ok(Loaded {
        names,
        group: Some(group.record()),
        shards: group.into_shards(),
    })
}

/// Puts the options of the command on requests.
struct Dress<'a> {
    args: &'a Args,
    interrupt: &'a Interrupt,
    output: &'a Output,
}

impl Dress<'_> {
    /// One line for files that are loaded together.
    fn progress(&self, names: &[String], sizes: &[u64]) -> Arc<Progress> {
        let name = match names {
            [one] => one.clone(),
            several => text::count(several.len(), "file"),
        };
        let total = sizes.iter().copied().fold(0, u64::saturating_add);
        Arc::new(Progress::start(self.output, "loading", &name, Some(total)))
    }

    fn file(&self, path: &Path, all: &Arc<Progress>, before: u64) -> SealRequest<'static> {
        let request = SealRequest::file(path).format(self.args.format.choice());
        self.request(request, &path.to_string_lossy(), all, before)
    }

    /// `before` bytes of all files were loaded before this request.
    fn request(
        &self,
        request: SealRequest<'static>,
        name: &str,
        all: &Arc<Progress>,
        before: u64,
    ) -> SealRequest<'static> {
        let args = self.args;
        let (all, part) = (Arc::clone(all), progress::Part::new(name));
        let show = move |now: vram_residency::load::Progress| {
            let done = before.saturating_add(now.all_done);
            if all.total() == Some(now.total) {
                return all.set(done);
            }
            all.set_part(done, &part, (now.done, now.total));
        };
        let request = request.cancel(self.interrupt.token()).progress(show);
        let mut request = args.worker.named(request);
        if let Some(digest) = &args.expect {
            request = request.expect(&digest.to_string());
        }
        if let Some(digest) = &args.expect_content {
            request = request.expect_content(digest);
        }
        if args.content {
            request = request.with_content_digest();
        }
        match args.timeout {
            Some(timeout) => request.timeout(timeout),
            None => request,
        }
    }
}

/// After a signal nothing more is begun.
fn go_on(interrupt: &Interrupt, before: &str) -> Result<(), Failure> {
    if interrupt.token().is_cancelled() {
        return Err(Failure::new(format!("cancelled before {before}")));
    }
    Ok(())
}

/// Verifies every shard in VRAM, in full.
fn verify(
    manager: &VramManager,
    names: Vec<String>,
    shards: Vec<SealedShard>,
    interrupt: &Interrupt,
) -> Result<Vec<Held>, Failure> {
    let mut held = Vec::new();
    for (file, shard) in names.into_iter().zip(shards) {
        go_on(interrupt, &format!("{file} was verified"))?;
        let verified = manager.verify_sealed(&shard, Mode::Full);
        let verified = verified.map_err(|error| Failure::about(&file, error))?;
        held.push(Held {
            file,
            shard,
            verification: verified.into_verification(),
        });
    }
    Ok(held)
}

/// Wipes and frees every shard.
fn free(manager: &VramManager, held: &[Held]) -> Result<(), Failure> {
    for one in held {
        let freed = manager.deallocate(&one.shard);
        freed.map_err(|error| Failure::about(&one.file, error))?;
    }
    Ok(())
}
