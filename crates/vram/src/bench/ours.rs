//! What we make of it: digests, and the simulated device.

use std::num::NonZeroUsize;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use vram_digest::{BLOCK_BYTES, BlockHash, hash_blocks_parallel, root};
use vram_residency::capacity::Sharing;
use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;
use vram_residency::sim::{SimDevice, SimOptions};
use vram_residency::{Mode, SealRequest, SealedShard, VramManager};

use super::pin::Pinned;
use super::ratios::SHA2;
use super::sample::{rate, timed};
use super::{Plan, Show};
use crate::device::{self, DeviceSpec};
use crate::failure::Failure;

pub(super) fn measure(plan: &Plan, show: Show<'_>) -> Result<(), Failure> {
    let bytes = pattern(plan);
    for team in plan.teams() {
        let _pinned = Pinned::to(team)?;
        let mut hashes = vec![BlockHash::default(); bytes.len().div_ceil(BLOCK_BYTES)];
        show(rate(
            "digest of memory",
            team.get(),
            bytes.len(),
            plan.runs,
            || {
                timed(|| {
                    let hashed = hash_blocks_parallel(&bytes, &mut hashes, team);
                    hashed.map_err(|error| Failure::new(error.to_string()))?;
                    Ok(root(&hashes))
                })
            },
        )?)?;
    }
    sha2(plan, &bytes, show)?;
    // The library asks once how many cores there are; not while it is held to one.
    drop(manager(4096, plan.cores)?.seal(SealRequest::bytes(&[0]))?);
    for team in plan.teams() {
        let _pinned = Pinned::to(team)?;
        let manager = manager((bytes.len() as u64).saturating_mul(2), team)?;
        let named = (&manager, "seal, simulated device");
        shards(plan, named, team, &bytes, show)?;
    }
    Ok(())
}

/// One stream on one core: what a digest costs those who take the usual crate.
fn sha2(plan: &Plan, bytes: &[u8], show: Show<'_>) -> Result<(), Failure> {
    let _pinned = Pinned::to(NonZeroUsize::MIN)?;
    show(rate(SHA2, 1, bytes.len(), plan.runs, || {
        timed(|| Ok(Sha256::digest(bytes)))
    })?)
}

/// The plan's bytes of a repeatable pattern.
pub(super) fn pattern(plan: &Plan) -> Vec<u8> {
    let word = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    (0..plan.bytes / 8).flat_map(word).collect()
}

/// A manager of one simulated device of `capacity` bytes. It keeps its memory:
/// the roofs are those of memory that was touched before, and so is VRAM.
pub(super) fn manager(capacity: u64, team: NonZeroUsize) -> Result<VramManager, Failure> {
    let options = SimOptions::new(capacity).threads(team).keep_memory();
    let device = SimDevice::with_options(options);
    let manager = VramManager::builder()
        .device(device)
        .key(RootKey::generate(&OsRandom)?)
        .build()?;
    Ok(manager)
}

/// A manager of a device that the user named.
pub(super) fn manager_of(spec: &DeviceSpec) -> Result<VramManager, Failure> {
    let manager = VramManager::builder()
        .device_with(device::open(spec)?, None, Sharing::Dedicated)
        .key(RootKey::generate(&OsRandom)?)
        .build()?;
    Ok(manager)
}

/// The same on a device that the user named.
pub(super) fn on_device(plan: &Plan, spec: &DeviceSpec, show: Show<'_>) -> Result<(), Failure> {
    let bytes = pattern(plan);
    let manager = manager_of(spec)?;
    shards(
        plan,
        (&manager, "seal, named device"),
        plan.cores,
        &bytes,
        show,
    )
}

fn shards(
    plan: &Plan,
    (manager, label): (&VramManager, &'static str),
    team: NonZeroUsize,
    bytes: &[u8],
    show: Show<'_>,
) -> Result<(), Failure> {
    let mut last: Option<SealedShard> = None;
    let seal = || -> Result<Duration, Failure> {
        // The one before is wiped outside the time.
        drop(last.take());
        timed(|| {
            last = Some(manager.seal(SealRequest::bytes(bytes))?);
            Ok(())
        })
    };
    let sealed = rate(label, team.get(), bytes.len(), plan.runs, seal)?;
    show(sealed)?;
    let shard = last.ok_or_else(|| Failure::new("nothing was sealed"))?;
    for (name, mode) in [("verify, full", Mode::Full), ("verify, keyed", Mode::Keyed)] {
        show(rate(name, team.get(), bytes.len(), plan.runs, || {
            timed(|| Ok(manager.verify_sealed(&shard, mode)?.into_verification()))
        })?)?;
    }
    let exports = |info| manager.policy().admit_export(info).is_ok();
    if !manager.devices().into_iter().all(exports) {
        return Ok(());
    }
    show(rate(
        "unseal, each block checked",
        team.get(),
        bytes.len(),
        plan.runs,
        || timed(|| Ok(manager.unseal_to(&shard, &mut std::io::sink())?)),
    )?)
}
