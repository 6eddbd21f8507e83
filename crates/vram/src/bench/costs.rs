//! Parts whose cost does not depend on the size of the model (requirement: PF-1, PF-4).

use std::hint::black_box;
use std::time::Duration;

use vram_residency::key::{KeyContext, KeyProvider as _, RootKey};
use vram_residency::random::OsRandom;
use vram_residency::seal::authenticate;
use vram_residency::shard::ShardId;
use vram_residency::sim::SimDevice;
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};

use super::Plan;
use super::sample::{Cost, cost, timed};
use crate::failure::Failure;

/// Calls that are timed together where one is too short for the clock.
const CALLS: u32 = 10_000;
/// Seals that are timed together; they are wiped outside the time.
const SEALS: u32 = 200;
/// The small shard.
const SMALL: usize = 1024;

pub(super) fn measure(plan: &Plan) -> Result<Vec<Cost>, Failure> {
    let manager = manager()?;
    let shard = manager.seal(SealRequest::bytes(&[7; SMALL]))?;
    let mut costs = tags(plan, &shard)?;
    costs.push(cost(
        "capacity read",
        Some(100.0),
        CALLS,
        plan.runs,
        || repeat(|| Ok(manager.capacity(0)?)),
    )?);
    costs.push(cost("id check", None, CALLS, plan.runs, || {
        repeat(|| {
            let id = black_box("orch-shard-0123456789abcdef0123456789abcdef");
            let id = id.parse::<ShardId>();
            id.map_err(|error| vram_residency::Error::from(error).into())
        })
    })?);
    let _ = manager.verify_sealed(&shard, Mode::Full)?;
    costs.push(cost(
        "lease on a verification that counts again",
        None,
        CALLS,
        plan.runs,
        || {
            repeat(|| {
                manager.lease(&shard, Mode::Full)?.finish();
                Ok(())
            })
        },
    )?);
    costs.push(cost(
        "seal of 1 KiB, simulated device",
        Some(50_000.0),
        SEALS,
        plan.runs,
        || seals(&manager),
    )?);
    Ok(costs)
}

/// A lease may reuse a verification here: otherwise its cost is the
/// verification's.
fn manager() -> Result<VramManager, Failure> {
    let policy = Policy {
        max_lease_age: Some(Duration::from_secs(3600)),
        ..Policy::default()
    };
    let manager = VramManager::builder()
        .device(SimDevice::new(64 << 20))
        .key(RootKey::generate(&OsRandom)?)
        .policy(policy)
        .build()?;
    Ok(manager)
}

/// Making and checking the tag of a record.
fn tags(plan: &Plan, shard: &SealedShard) -> Result<Vec<Cost>, Failure> {
    let root = RootKey::generate(&OsRandom)?;
    let mut record = shard.record().clone();
    let context = KeyContext {
        salt: &record.key_salt,
        worker: &record.worker_id,
        device: record.device_uuid,
    };
    let key = root.seal_key(&context)?;
    record.key_id = key.id();
    record.tag = key.tag(&record.statement())?;
    let keys = [key];
    let [key] = &keys;
    let made = cost("tag of a record, made", None, CALLS, plan.runs, || {
        repeat(|| Ok(key.tag(&record.statement())?))
    })?;
    let checked = cost(
        "tag of a record, checked",
        Some(2000.0),
        CALLS,
        plan.runs,
        || {
            repeat(|| {
                let _ = authenticate(black_box(&record), &keys)?;
                Ok(())
            })
        },
    )?;
    Ok(vec![made, checked])
}

/// Times [`CALLS`] calls.
fn repeat<T>(mut call: impl FnMut() -> Result<T, Failure>) -> Result<Duration, Failure> {
    timed(|| {
        for _ in 0..CALLS {
            black_box(call()?);
        }
        Ok(())
    })
}

fn seals(manager: &VramManager) -> Result<Duration, Failure> {
    let bytes = [7; SMALL];
    let mut shards = Vec::new();
    timed(|| {
        for _ in 0..SEALS {
            shards.push(manager.seal(SealRequest::bytes(&bytes))?);
        }
        Ok(())
    })
}
