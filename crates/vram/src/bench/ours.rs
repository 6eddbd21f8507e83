//! What we make of it: digests, and the simulated device.

use std::hint::black_box;
use std::num::NonZeroUsize;

use sha2::{Digest as _, Sha256};
use vram_digest::{BLOCK_BYTES, BlockHash, hash_blocks, hash_blocks_parallel, root};
use vram_residency::capacity::Sharing;
use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;
use vram_residency::sim::{SimDevice, SimOptions};
use vram_residency::{Mode, SealRequest, SealedShard, VramManager};

use super::ratios::{CACHED, READ_AGAIN, SHA2};
use super::roofs::{each_on_its_thread, read_all, words};
use super::sample::{Turn, in_turn, timed};
use super::teams::{turn, turns};
use super::{Plan, Show};
use crate::device::{self, DeviceSpec};
use crate::failure::Failure;

pub(super) fn measure(plan: &Plan, show: Show<'_>) -> Result<(), Failure> {
    let bytes = pattern(plan);
    digests(plan, &bytes, show)?;
    // The library asks once how many cores there are; not while it is held to one.
    drop(manager(4096, plan.cores)?.seal(SealRequest::bytes(&[0]))?);
    let capacity = (bytes.len() as u64).saturating_mul(2);
    let of_team = |team| Ok((team, manager(capacity, team)?));
    let managers: Result<Vec<_>, Failure> = plan.teams().into_iter().map(of_team).collect();
    shards(plan, "seal, simulated device", &managers?, &bytes, show)
}

/// Ours, and one stream on one core: what a digest costs those who take the
/// usual crate. What stays in the caches shows what the cores themselves give.
fn digests(plan: &Plan, bytes: &[u8], show: Show<'_>) -> Result<(), Failure> {
    let mut hashes = vec![BlockHash::default(); bytes.len().div_ceil(BLOCK_BYTES)];
    let mut rows = turns(plan, "digest of memory", |team| {
        timed(|| {
            let hashed = hash_blocks_parallel(bytes, &mut hashes, team);
            hashed.map_err(|error| Failure::new(error.to_string()))?;
            Ok(root(&hashes))
        })
    });
    rows.extend(turns(plan, CACHED, |team| {
        timed(|| digest_cached(bytes, team))
    }));
    rows.push(turn(plan, SHA2, NonZeroUsize::MIN, || {
        timed(|| Ok(Sha256::digest(bytes)))
    }));
    in_turn(plan.runs, rows)?.into_iter().try_for_each(show)
}

/// As much work as the digest of `bytes`, each thread on a small piece of its
/// own.
fn digest_cached(bytes: &[u8], team: NonZeroUsize) -> Result<(), Failure> {
    let small = bytes.len().min(256 << 10);
    let times = bytes.len().div_ceil(small.max(1)).div_ceil(team.get());
    let pieces = bytes.chunks(small.max(1)).take(team.get());
    each_on_its_thread(pieces, |piece| {
        let mut hashes = vec![BlockHash::default(); piece.len().div_ceil(BLOCK_BYTES)];
        for _ in 0..times {
            // The lengths agree by construction; nothing is hidden.
            let _ = hash_blocks(black_box(piece), &mut hashes);
        }
        black_box(&hashes);
    })
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
    let managers = [(plan.cores, manager_of(spec)?)];
    shards(plan, "seal, named device", &managers, &pattern(plan), show)
}

/// Seals `bytes` with each team's manager in turn, then verifies and exports
/// what the last round sealed.
fn shards(
    plan: &Plan,
    label: &'static str,
    managers: &[(NonZeroUsize, VramManager)],
    bytes: &[u8],
    show: Show<'_>,
) -> Result<(), Failure> {
    let mut last: Vec<Option<SealedShard>> = managers.iter().map(|_| None).collect();
    let seals = managers.iter().zip(&mut last);
    let seals = seals.map(|((team, manager), last)| {
        turn(plan, label, *team, move || {
            // The one before is wiped outside the time.
            drop(last.take());
            timed(|| {
                *last = Some(manager.seal(SealRequest::bytes(bytes))?);
                Ok(())
            })
        })
    });
    for rate in in_turn(plan.runs, seals.collect())? {
        show(rate)?;
    }
    let sealed = managers.iter().zip(&last);
    let sealed = sealed.filter_map(|((team, manager), shard)| {
        let shard = shard.as_ref()?;
        Some((*team, manager, shard))
    });
    let mut each = |name, work: Work<'_>, beside: Vec<Turn<'_>>| {
        let rows = sealed.clone().map(|(team, manager, shard)| {
            turn(plan, name, team, move || timed(|| work(manager, shard)))
        });
        let rows = rows.chain(beside).collect();
        in_turn(plan.runs, rows)?
            .into_iter()
            .try_for_each(&mut *show)
    };
    let verify = |mode| {
        move |manager: &VramManager, shard: &SealedShard| {
            Ok(manager.verify_sealed(shard, mode).map(drop)?)
        }
    };
    each("verify, full", &verify(Mode::Full), Vec::new())?;
    let source = words(plan);
    let read = turns(plan, READ_AGAIN, |team| read_all(&source, team));
    each("verify, keyed", &verify(Mode::Keyed), read)?;
    let exports = |(_, manager): &(NonZeroUsize, VramManager)| {
        let mut devices = manager.devices().into_iter();
        devices.all(|info| manager.policy().admit_export(info).is_ok())
    };
    if !managers.iter().all(exports) {
        return Ok(());
    }
    let unseal = |manager: &VramManager, shard: &SealedShard| {
        Ok(manager.unseal_to(shard, &mut std::io::sink()).map(drop)?)
    };
    each("unseal, each block checked", &unseal, Vec::new())
}

/// What is measured of a sealed shard.
type Work<'w> = &'w dyn Fn(&VramManager, &SealedShard) -> Result<(), Failure>;
