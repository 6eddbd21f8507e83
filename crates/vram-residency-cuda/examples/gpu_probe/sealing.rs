//! The library as its users call it: sealing, verifying, leasing.

use std::time::Duration;

use vram_residency::key::RootKey;
use vram_residency::load::PatternSource;
use vram_residency::random::OsRandom;
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};

use crate::Machine;
use crate::report::Report;
use crate::times::Times;

const RUNS: usize = 9;
/// Bars of a 16 GiB shard on an H200: a full check and a keyed one, in
/// milliseconds, and what a lease adds to its check, in microseconds.
const BAR_BYTES: u64 = 16 << 30;
const FULL_MS: f64 = 25.0;
const KEYED_MS: f64 = 6.0;
const LEASE_US: f64 = 50.0;

pub(crate) fn measure(machine: &Machine<'_>, report: &mut Report) {
    let manager = match manager(machine) {
        Ok(manager) => manager,
        Err(why) => return report.failure("manager", &why),
    };
    let size = machine.main_size();
    let room = manager.driver_memory(machine.options.ordinal);
    if let Some(room) = room.ok().filter(|room| room.free < size + (256 << 20)) {
        let why = format!("{} MiB are free", room.free >> 20);
        return report.skip(&name("sealing", size), &why);
    }
    let mut sealed = Vec::new();
    let times = Times::cold(1, || {
        sealed.push(manager.seal(SealRequest::source(PatternSource::new(size, 1)))?);
        Ok::<(), vram_residency::Error>(())
    });
    report.rate(
        &name("seal of a pattern made on the host", size),
        size,
        times,
    );
    let Some(shard) = sealed.pop() else { return };
    verifying(&manager, &shard, report);
    leasing(&manager, &shard, report);
    let freed = Times::cold(1, || manager.deallocate(&shard));
    report.rate(
        &name("deallocate (scrub, read back, unmap)", size),
        size,
        freed,
    );
}

fn name(what: &str, size: u64) -> String {
    format!("{what}, {} MiB", size >> 20)
}

/// One device under the default policy, every lease verified; a pretended
/// device may be small.
pub(crate) fn manager(machine: &Machine<'_>) -> Result<VramManager, String> {
    let device = machine.cuda.device(machine.options.ordinal);
    let device = device.map_err(|error| error.to_string())?;
    let mut policy = Policy {
        max_lease_age: None,
        ..Policy::default()
    };
    if !machine.is_real() {
        policy.min_device_bytes = 0;
    }
    let key = RootKey::generate(&OsRandom).map_err(|error| error.to_string())?;
    let builder = VramManager::builder().device(device).key(key);
    builder
        .policy(policy)
        .build()
        .map_err(|error| error.to_string())
}

fn verifying(manager: &VramManager, shard: &SealedShard, report: &mut Report) {
    let size = shard.record().vram_bytes;
    let budget = Duration::from_micros(100);
    for (mode, bar_ms) in [
        (Mode::Full, Some(FULL_MS)),
        (Mode::Keyed, Some(KEYED_MS)),
        (Mode::Sweep { budget }, None),
        (Mode::TagOnly, None),
    ] {
        let mut bytes = 0;
        let times = Times::of(RUNS, || {
            let verified = manager.verify_sealed(shard, mode)?;
            bytes = verified.verification().bytes_checked;
            Ok::<(), vram_residency::Error>(())
        });
        let name = name(&format!("verify_sealed {mode}"), size);
        let median = times.as_ref().map_or(f64::INFINITY, Times::median);
        if bytes == 0 {
            report.time(&name, times);
        } else {
            report.rate(&name, bytes, times);
        }
        if let Some(bar) = bar_ms.filter(|_| size == BAR_BYTES) {
            report.at_most(&format!("{name}, time"), (median * 1e3, "ms"), bar);
        }
    }
}

/// What a lease costs beyond its check: a keyed lease against the keyed check
/// of the same shard, a small one so that the difference is not lost.
fn leasing(manager: &VramManager, large: &SealedShard, report: &mut Report) {
    let small = match manager.seal(SealRequest::source(PatternSource::new(1 << 20, 2))) {
        Ok(small) => small,
        Err(error) => return report.failure("lease overhead", &error.to_string()),
    };
    for mode in [Mode::Keyed, Mode::TagOnly] {
        let times = Times::pair(
            101,
            || manager.verify_sealed(&small, mode).map(drop),
            || manager.lease(&small, mode).map(drop),
        );
        match times {
            Ok((check, lease)) => {
                let name = format!("lease beyond its {mode} check, 1 MiB");
                let micros = (lease.median() - check.median()) * 1e6;
                report.at_most(&name, (micros, "us"), LEASE_US);
                report.time(&format!("lease {mode}, 1 MiB"), Ok(lease));
            }
            Err(why) => report.failure(&format!("lease {mode}"), &why),
        }
    }
    let size = large.record().vram_bytes;
    let times = Times::of(RUNS, || manager.lease(large, Mode::Keyed).map(drop));
    report.time(&name("lease keyed", size), times);
}
