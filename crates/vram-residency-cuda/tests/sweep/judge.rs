//! How a run with one fault must end.

use vram_residency::Error;
use vram_residency::device::{Device as _, DeviceError};
use vram_residency_cuda::Cuda;

use super::holdings::{Holdings, WORKERS, broken};
use super::house::{Run, Stage, play};
use super::{Fault, OUT_OF_MEMORY, STICKY, Scenario, UNKNOWN};
use crate::common::fake::Fake;

/// A fresh machine on which the host application has a context of its own.
pub fn prepare(fake: &Fake, cuda: &Cuda, scenario: &Scenario) {
    fake.tell(&format!("reset gpus=3 {}", scenario.options));
    let driver = cuda.driver();
    driver.init().unwrap();
    let device = driver.device_get(scenario.application).unwrap();
    let context = driver.primary_ctx_retain(device).unwrap();
    // SAFETY: retained above, and given back by the next reset only.
    unsafe { driver.ctx_push_current(context) }.unwrap();
    fake.tell("untrace");
}

/// Plays the scenario with one fault and judges how it ended. False when the
/// fault was not met, and the run was as clean as one without it.
pub fn judge(fake: &Fake, cuda: &Cuda, scenario: &Scenario, fault: &Fault<'_>) -> bool {
    let Fault { name, nth, code } = *fault;
    prepare(fake, cuda, scenario);
    let before = Holdings::of(fake, scenario.granule);
    let sticky = if code == STICKY { " sticky" } else { "" };
    fake.tell(&format!("fail {name} {nth} {code}{sticky}"));
    let mut run = play(fake, cuda, scenario, Some(fault));
    // Closing may have broken another.
    run.broken.extend(broken(fake));
    let after = Holdings::of(fake, scenario.granule);
    let uses = fake.trace().into_iter();
    let met = uses
        .into_iter()
        .any(|(call, uses)| call == name && uses >= nth);
    if !met {
        assert!(run.error.is_none() && run.alarms().is_empty(), "{run:?}");
        assert_eq!(after, before, "{fault:?}");
        return false;
    }
    judge_answer(&run, fault, scenario);
    judge_stranding(&run, fault, scenario, &after);
    judge_rest(&run, fault, &before, &after);
    judge_loss(&run, fault);
    fake.tell("clear");
    judge_reopened(fake, cuda, fault);
    true
}

/// An error of the right kind, with an event; nothing is swallowed.
fn judge_answer(run: &Run, fault: &Fault<'_>, scenario: &Scenario) {
    let Fault { name, nth, code } = *fault;
    let alarms = run.alarms();
    let uses = |stage: &std::collections::BTreeMap<String, u64>| {
        stage.get(name).copied().unwrap_or(0) >= nth
    };
    match &run.error {
        Some((stage, error)) => {
            assert!(
                is_right(name, code, error),
                "{fault:?}: wrong kind: {error:?}"
            );
            let recorded = *stage != Stage::Manager || !alarms.is_empty();
            assert!(recorded, "{fault:?}: {error}: no event");
        }
        None if !uses(&run.worked) => {} // Met while closing, which can tell nobody.
        None if uses(&run.opened) => assert!(is_probe(name, code), "{fault:?}: swallowed"),
        // What gives back, or returns to the application's context, has no
        // caller; what it leaves is judged below. A source that cannot be freed
        // after a move does not undo the move, but is recorded.
        None => assert!(
            harmless(name) || is_room(fault, scenario) || !alarms.is_empty(),
            "{fault:?}: swallowed"
        ),
    }
}

/// Memory for one more slot, or a large one: an upload goes on with fewer or
/// smaller ones.
fn is_room(fault: &Fault<'_>, scenario: &Scenario) -> bool {
    let room = ["cuMemAlloc", "cuMemHostAlloc"].contains(&fault.name);
    room && fault.code == OUT_OF_MEMORY && scenario.bytes > 1 << 20
}

/// Calls whose failure changes no answer: they give back, return to the
/// application's context, or ask for the words of an error.
fn harmless(name: &str) -> bool {
    leaves(name).is_some() || name.starts_with("cuCtx") || name.starts_with("cuGetError")
}

/// Questions about kinds of memory: a refusal means the next weaker kind.
fn is_probe(name: &str, code: u32) -> bool {
    const NAMES: [&str; 3] = [
        "cuMemGetAllocationGranularity",
        "cuMemCreate",
        "cuMemExportToShareableHandle",
    ];
    (code == UNKNOWN && NAMES.contains(&name)) || harmless(name)
}

/// The device error inside, whichever operation it met.
fn cause(error: &Error) -> Option<&DeviceError> {
    match error {
        Error::Device(source) => Some(source),
        Error::Free(free) => Some(&free.source),
        _ => None,
    }
}

fn is_right(name: &str, code: u32, error: &Error) -> bool {
    let Some(cause) = cause(error) else {
        return false;
    };
    match (code, name) {
        (OUT_OF_MEMORY, "cuMemHostAlloc") => matches!(cause, DeviceError::HostOutOfMemory { .. }),
        (OUT_OF_MEMORY, "cuMemAlloc" | "cuMemCreate" | "cuMemAddressReserve" | "cuMemMap") => {
            matches!(cause, DeviceError::OutOfMemory { requested } if *requested > 0)
        }
        (OUT_OF_MEMORY, _) => matches!(
            cause,
            DeviceError::OutOfMemory { .. }
                | DeviceError::Driver {
                    code: OUT_OF_MEMORY,
                    ..
                }
        ),
        (STICKY, _) => matches!(cause, DeviceError::Lost { code: STICKY, .. }),
        _ => matches!(cause, DeviceError::Driver { code, .. } if *code == UNKNOWN),
    }
}

/// The budgets lack exactly the bytes that the driver still holds, and the
/// events say as many.
fn judge_stranding(run: &Run, fault: &Fault<'_>, scenario: &Scenario, after: &Holdings) {
    if let Some(open) = &run.open_holdings {
        assert_eq!(open.weights, run.stranded, "{fault:?}: {run:?}");
        let recorded = run.told_stranded();
        let stranded: u64 = run.stranded.iter().sum();
        let outside = run.error.as_ref().is_some_and(|(s, _)| *s == Stage::Device);
        assert!(recorded == stranded || outside, "{fault:?}: {run:?}");
        // Whole allocations, of which a single fault strands two at most.
        let most = scenario.granule * (scenario.bytes as u64).div_ceil(scenario.granule) * 2;
        assert!(stranded <= most, "{fault:?}: {run:?}");
        assert!(
            stranded == 0 || strands(fault),
            "{fault:?} strands nothing by itself: {run:?}"
        );
        return;
    }
    // Opening makes one granule and gives it back to see that it can.
    let probe = u64::from(fault.name == "cuMemRelease") * scenario.granule;
    let left: u64 = after.weights.iter().sum();
    assert!(left == 0 || left == probe, "{fault:?}: {after:?}");
}

/// Calls of scrubbing, unmapping and releasing, and whatever loses a device.
fn strands(fault: &Fault<'_>) -> bool {
    const NAMES: [&str; 9] = [
        "cuMemsetD8Async",
        "cuMemcpyHtoDAsync",
        "cuMemcpyDtoHAsync",
        "cuLaunchKernel",
        "cuStreamSynchronize",
        "cuMemSetAccess",
        "cuMemUnmap",
        "cuMemRelease",
        "cuMemFree",
    ];
    fault.code == STICKY || NAMES.contains(&fault.name) || fault.name.starts_with("cuCtx")
}

/// Calls that give one thing back, and of what one is left when they fail.
fn leaves(name: &str) -> Option<fn(&mut Holdings) -> &mut u64> {
    Some(match name {
        "cuStreamDestroy" => |h| &mut h.streams,
        "cuEventDestroy" => |h| &mut h.events,
        "cuModuleUnload" => |h| &mut h.modules,
        "cuMemFree" => |h| &mut h.plain,
        "cuMemFreeHost" => |h| &mut h.pinned,
        "cuMemAddressFree" => |h| &mut h.reservations,
        "cuDevicePrimaryCtxRelease" => |h| &mut h.retained,
        _ => return None,
    })
}

/// Nothing is left but what the failing call itself was to give back, and what
/// belongs to stranded bytes or to a lost device.
fn judge_rest(run: &Run, fault: &Fault<'_>, before: &Holdings, after: &Holdings) {
    assert_eq!(
        after.descriptors, before.descriptors,
        "{fault:?}: open files"
    );
    let ours = |device: &u64| *device < WORKERS as u64;
    for device in 0..WORKERS {
        if !run.broken.contains(&(device as u64)) {
            let kept = after.used[device] - after.weights[device];
            let plain = leaves(fault.name).is_some() || before.used[device] > 0;
            assert!(kept == 0 || plain, "{fault:?}: device {device}: {after:?}");
        }
    }
    if run.broken.iter().any(ours) {
        return;
    }
    // Stranded allocations keep their addresses.
    let stranded = u64::from(after.weights.iter().any(|bytes| *bytes > 0)) * 2;
    let extra = after.reservations - before.reservations;
    assert!(
        extra <= stranded + u64::from(fault.name == "cuMemAddressFree"),
        "{fault:?}: {after:?}"
    );
    let mut left = Holdings {
        reservations: before.reservations,
        weights: before.weights,
        used: before.used,
        ..after.clone()
    };
    if let Some(kind) = leaves(fault.name) {
        let (was, is) = (*kind(&mut before.clone()), kind(&mut left));
        assert!(*is <= was + 1, "{fault:?}: {after:?}");
        *is = was;
    }
    assert_eq!(left, *before, "{fault:?}: leaked");
}

/// A lost device is recorded once; another code loses none.
fn judge_loss(run: &Run, fault: &Fault<'_>) {
    let lost = run.lost();
    let mut once = lost.clone();
    once.dedup();
    assert_eq!(lost, once, "{fault:?}: recorded twice");
    let met = run.worked.get(fault.name).copied().unwrap_or(0) >= fault.nth;
    match fault.code {
        STICKY if met && run.open_holdings.is_some() => {
            // A broken context that nobody used again is found out at its next use.
            let ours = |device: &u64| *device < WORKERS as u64;
            let during_work = run.opened.get(fault.name).copied().unwrap_or(0) < fault.nth;
            let broken = run.broken.iter().copied().filter(ours);
            if during_work {
                for device in broken {
                    let told = lost.iter().any(|lost| u64::from(*lost) == device);
                    assert!(
                        told,
                        "{fault:?}: the loss of {device} is not recorded: {run:?}"
                    );
                }
            }
        }
        STICKY => {}
        _ => assert!(lost.is_empty(), "{fault:?}: {run:?}"),
    }
}

/// Opened anew, every device works, but for one whose context is still broken:
/// that one says so.
fn judge_reopened(fake: &Fake, cuda: &Cuda, fault: &Fault<'_>) {
    let broken = broken(fake);
    for ordinal in 0..2_u32 {
        let used = cuda.device(ordinal).and_then(|device| {
            let buffer = device.allocate(4096)?.id;
            device.free(buffer).map_err(|failed| failed.source)?;
            device.close().map_err(|failed| failed.source)
        });
        let is_broken = broken.contains(&u64::from(ordinal));
        match used {
            Ok(()) => assert!(!is_broken, "{fault:?}: device {ordinal} was latched"),
            Err(error) => assert!(
                is_broken && error.is_loss(),
                "{fault:?}: device {ordinal} is not usable: {error}"
            ),
        }
    }
}
