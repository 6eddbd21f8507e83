//! The steps, in order. Dropping what was sealed wipes and frees it, so every
//! way out leaves the device as it was.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vram_residency::capacity::Sharing;
use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;
use vram_residency::shard::GroupRecord;
use vram_residency::verify::Verification;
use vram_residency::{Mode, SealRequest, SealedShard, VramManager};

use super::{Args, hold, report};
use crate::device;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::records;

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
    let key = args.key.load()?;
    let ephemeral_key = key.is_none();
    let key = match key {
        Some(key) => key,
        None => RootKey::generate(&OsRandom)?,
    };
    let device = device::open(&args.device)?;
    let manager = VramManager::builder()
        .device_with(device, None, Sharing::Dedicated)
        .key(key)
        .worker_id(args.worker_id.as_str())
        .build()?;
    let interrupt = Interrupt::listen()?;
    let outcome = work(args, &manager, ephemeral_key, &interrupt, output);
    outcome.map_err(|failure| failure.with_note(aftermath(&manager)))
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
    format!("nothing is left on the device: {used} of {total} bytes in use")
}

fn work(
    args: &Args,
    manager: &VramManager,
    ephemeral_key: bool,
    interrupt: &Interrupt,
    output: &Output,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (shards, group) = seal(args, manager, interrupt, output)?;
    let load = started.elapsed();
    let held = verify(args, manager, shards)?;
    let sealed = Sealed {
        held,
        group,
        load,
        ephemeral_key,
    };
    if let Some(path) = &args.record {
        records::write(path, &report::record_text(&sealed)?)?;
    }
    if !args.hold {
        free(manager, &sealed.held)?;
        return report::print(args, manager, &sealed, output);
    }
    report::print(args, manager, &sealed, output)?;
    let rounds = hold::Rounds {
        every: args.every,
        mode: args.mode.mode(),
    };
    hold::hold(&rounds, manager, &sealed.held, interrupt, output)?;
    free(manager, &sealed.held)
}

/// Seals every file, or none.
fn seal(
    args: &Args,
    manager: &VramManager,
    interrupt: &Interrupt,
    output: &Output,
) -> Result<(Vec<SealedShard>, Option<GroupRecord>), Failure> {
    if args.group {
        let requests = args.files.iter();
        let requests = requests.map(|path| request(args, path, interrupt, output));
        let group = manager.seal_group(requests.collect());
        let group = group.map_err(|error| Failure::about("group", error))?;
        let record = group.record();
        return Ok((group.into_shards(), Some(record)));
    }
    let mut shards = Vec::new();
    for path in &args.files {
        let sealed = manager.seal(request(args, path, interrupt, output));
        let name = path.display().to_string();
        shards.push(sealed.map_err(|error| Failure::about(&name, error))?);
    }
    Ok((shards, None))
}

fn request(
    args: &Args,
    path: &Path,
    interrupt: &Interrupt,
    output: &Output,
) -> SealRequest<'static> {
    let total = std::fs::metadata(path).ok().map(|meta| meta.len());
    let progress = Arc::new(Progress::start(
        output,
        "loading",
        &path.to_string_lossy(),
        total,
    ));
    let mut request = SealRequest::file(path)
        .format(args.format.choice())
        .cancel(interrupt.token())
        .progress(move |now| progress.set(now.done));
    if let Some(id) = &args.id {
        request = request.id(id.as_str());
    }
    if let Some(name) = &args.model_ref {
        request = request.model_ref(name.as_str());
    }
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

/// Verifies every shard in VRAM, in full.
fn verify(
    args: &Args,
    manager: &VramManager,
    shards: Vec<SealedShard>,
) -> Result<Vec<Held>, Failure> {
    let mut held = Vec::new();
    for (path, shard) in args.files.iter().zip(shards) {
        let file = path.to_string_lossy().into_owned();
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
