//! What `vram seal` says when all went well.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use vram_residency::device::DeviceInfo;
use vram_residency::verify::Verification;
use vram_residency::{Record, VramManager};

use super::Args;
use super::run::{Held, Sealed};
use crate::devices;
use crate::failure::Failure;
use crate::output::Output;
use crate::text;

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    /// The first of them.
    device: Option<&'a DeviceInfo>,
    devices: Vec<&'a DeviceInfo>,
    shards: Vec<Shard<'a>>,
    group: Option<String>,
    /// Nobody can check the records later.
    ephemeral_key: bool,
    record_file: Option<String>,
    receipt_file: Option<String>,
    load_nanos: u64,
    /// The shards stay on the device until the command ends.
    held: bool,
    used_bytes: u64,
}

#[derive(Serialize)]
struct Shard<'a> {
    file: &'a str,
    tensors: usize,
    record: &'a Record,
    verification: &'a Verification,
}

/// The text of the record file: a record, a group record, or a record a line.
pub(super) fn record_text(sealed: &Sealed) -> Result<String, Failure> {
    if let Some(group) = &sealed.group {
        let text = serde_json::to_string(group);
        let text = text.map_err(|error| Failure::new(format!("cannot write JSON: {error}")))?;
        return Ok(text + "\n");
    }
    let mut text = String::new();
    for one in &sealed.held {
        text.push_str(&one.shard.record().to_json()?);
        text.push('\n');
    }
    Ok(text)
}

pub(super) fn print(
    args: &Args,
    manager: &VramManager,
    sealed: &Sealed,
    output: &Output,
) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json(args, manager, sealed));
    }
    for one in &sealed.held {
        lines(one).iter().try_for_each(|line| output.line(line))?;
        if manager.devices().len() > 1 {
            let ordinal = one.shard.record().gpu_device;
            output.line(format!("placed    on device {ordinal}"))?;
        }
    }
    summary(args, manager, sealed)?
        .iter()
        .try_for_each(|line| output.line(line))
}

fn json<'a>(args: &Args, manager: &'a VramManager, sealed: &'a Sealed) -> Report<'a> {
    let shard = |one: &'a Held| Shard {
        file: &one.file,
        tensors: one.shard.tensors().tensors().len(),
        record: one.shard.record(),
        verification: &one.verification,
    };
    Report {
        schema: "vram-residency/seal/v1",
        device: manager.devices().first().copied(),
        devices: manager.devices(),
        shards: sealed.held.iter().map(shard).collect(),
        group: sealed.group.as_ref().map(|group| group.group.to_string()),
        ephemeral_key: sealed.ephemeral_key,
        record_file: args
            .record
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned()),
        receipt_file: args
            .receipt
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned()),
        load_nanos: u64::try_from(sealed.load.as_nanos()).unwrap_or(u64::MAX),
        held: args.hold,
        used_bytes: manager.used_vram(),
    }
}

/// One shard.
fn lines(one: &Held) -> Vec<String> {
    let record = one.shard.record();
    let size = text::size(record.vram_bytes);
    let tensors = one.shard.tensors().tensors().len();
    let mut lines = vec![
        format!("file      {}", text::printable(&one.file)),
        format!("shard     {}", record.shard_id),
        format!(
            "size      {} bytes ({size}), {}",
            record.vram_bytes,
            text::count(tensors, "tensor")
        ),
        format!("digest    sha256:{}", record.digest),
    ];
    if let Some(hash) = &record.content_sha256 {
        lines.push(format!(
            "content   {} (as sha256sum prints it)",
            text::hex(hash)
        ));
    }
    if let Some(signer) = &record.signer {
        lines.push(format!("signer    {signer}"));
    }
    lines.push(format!("verified  {}", verification(&one.verification)));
    lines
}

/// What was checked and how fast.
pub(super) fn verification(done: &Verification) -> String {
    let time = Duration::from_nanos(done.nanos);
    format!(
        "{}: {} of {} bytes in device memory, {}, {}",
        done.mode,
        done.bytes_checked,
        done.bytes_total,
        text::time(time),
        text::rate(done.bytes_checked, time),
    )
}

/// What holds for all of them.
fn summary(args: &Args, manager: &VramManager, sealed: &Sealed) -> Result<Vec<String>, Failure> {
    let bytes = sealed.held.iter().map(|one| one.shard.record().vram_bytes);
    let bytes = bytes.fold(0, u64::saturating_add);
    let (time, rate) = (text::time(sealed.load), text::rate(bytes, sealed.load));
    let mut lines = vec![format!("loaded    {bytes} bytes in {time}, {rate}")];
    lines.extend(sealed.group.as_ref().map(|group| {
        let members = text::count(group.members.len(), "shard");
        format!("group     {} of {members}", group.group)
    }));
    let devices = manager.devices().into_iter().map(devices::line);
    lines.extend(devices.map(|line| format!("device    {line}")));
    lines.push(key(sealed));
    lines.extend(papers(args, sealed)?);
    lines.push(if args.hold {
        let (used, total) = (manager.used_vram(), manager.total_vram());
        format!("held      {used} of {total} bytes in use; interrupt to free")
    } else {
        freed(manager)
    });
    Ok(lines)
}

/// The key that sealed them.
fn key(sealed: &Sealed) -> String {
    if sealed.ephemeral_key {
        return "key       ephemeral: the record cannot be verified later; name a key with --key-file"
            .to_owned();
    }
    let first = sealed.held.first();
    let id = first.map(|one| one.shard.record().key_id.to_string());
    format!("key       {}", id.unwrap_or_default())
}

/// Where record and receipt were written; the record itself where it was not.
fn papers(args: &Args, sealed: &Sealed) -> Result<Vec<String>, Failure> {
    let name = |path: &PathBuf| text::printable(&path.to_string_lossy());
    let mut lines = match &args.record {
        Some(path) => vec![format!("record    {}", name(path))],
        None => {
            let text = record_text(sealed)?;
            let lines = text.lines().map(|line| format!("record    {line}"));
            lines.collect()
        }
    };
    let receipt = args.receipt.as_ref();
    lines.extend(receipt.map(|path| format!("receipt   {}", name(path))));
    Ok(lines)
}

/// What is said when everything was given back.
pub(super) fn freed(manager: &VramManager) -> String {
    let (used, total) = (manager.used_vram(), manager.total_vram());
    format!("freed     wiped; {used} of {total} bytes in use")
}
