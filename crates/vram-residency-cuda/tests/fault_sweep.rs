//! Every driver call that sealing, verifying, leasing, migrating and freeing
//! make is failed at its first, second, ... use, as out of memory, as a sticky
//! fault, and with a code that nobody knows (requirement: FF-7, FF-8, MS-004,
//! TP-6).
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test code"
)]

mod common;

use std::sync::Arc;

use common::fake::Fake;
use common::{Machine, sample};
use vram_residency::audit::{MemorySink, Severity};
use vram_residency::capacity::Sharing;
use vram_residency::device::{Device, DeviceError};
use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;
use vram_residency::{Error, Mode, Result, SealRequest, SealedShard, VramManager};
use vram_residency_cuda::{Cuda, CudaDevice, FinishAfter as _};

const OUT_OF_MEMORY: u32 = 2;
const STICKY: u32 = 700;
const UNKNOWN: u32 = 12345;

/// Small granules and rooms, because every case scrubs them on the interpreter.
const OPTIONS: &str = "gpus=2 vram=256M granularity=64K nopoison";

/// What every allocation of the scenario takes under these options.
const GRANULE: u64 = 64 << 10;

/// What one run of the scenario came to.
struct Run {
    error: Option<Error>,
    /// Bytes that the managers' ledgers count as stranded.
    stranded: u64,
    /// Events that tell of a failure.
    alarms: Vec<String>,
    /// The devices were opened.
    opened: bool,
    /// One of them was found to offer a weaker kind of memory than it has.
    weaker: bool,
    /// Uses of each call before the devices were closed.
    uses: Vec<(String, u64)>,
}

/// Two devices in one manager.
struct House {
    manager: VramManager,
    first: Arc<CudaDevice>,
    sink: Arc<MemorySink>,
    weaker: bool,
}

fn open(cuda: &Cuda) -> Result<House> {
    let first = Arc::new(cuda.device(0)?);
    let second = Arc::new(cuda.device(1)?);
    let sink = Arc::new(MemorySink::new());
    let weaker = !(first.can_export() && second.can_export());
    let manager = VramManager::builder()
        .device_with(
            Arc::clone(&first) as Arc<dyn Device>,
            None,
            Sharing::Dedicated,
        )
        .device_with(second as Arc<dyn Device>, None, Sharing::Dedicated)
        .key(RootKey::generate(&OsRandom)?)
        .sink(Arc::clone(&sink) as Arc<dyn vram_residency::audit::Sink>)
        .build()?;
    Ok(House {
        manager,
        first,
        sink,
        weaker,
    })
}

/// Seals, verifies, leases, migrates, verifies again; keeps the shard in `held`.
fn work(house: &House, bytes: &[u8], held: &mut Option<SealedShard>) -> Result<()> {
    let manager = &house.manager;
    let shard = held.insert(manager.seal(SealRequest::bytes(bytes))?);
    let _ = manager.verify_sealed(shard, Mode::Full)?;
    let _ = manager.verify_sealed(shard, Mode::Keyed)?;
    let lease = manager.lease(shard, Mode::Full)?;
    let event = house.first.event()?;
    lease.finish_after(&event).map_err(|failed| failed.source)?;
    drop(event);
    let moved = manager.migrate_shard(shard, 1)?;
    let moved = held.insert(moved);
    let _ = manager.verify_sealed(moved, Mode::Full)?;
    Ok(())
}

/// The whole scenario; the first error ends the work, and freeing follows.
fn play(fake: &Fake, cuda: &Cuda, bytes: &[u8]) -> Run {
    let house = match open(cuda) {
        Ok(house) => house,
        Err(error) => {
            return Run {
                error: Some(error),
                stranded: 0,
                alarms: Vec::new(),
                opened: false,
                weaker: false,
                uses: fake.trace(),
            };
        }
    };
    let mut held = None;
    let worked = work(&house, bytes, &mut held);
    let freed = held.map_or(Ok(()), |shard| house.manager.deallocate(&shard));
    let mut stranded = 0;
    for ordinal in 0..2 {
        let capacity = house.manager.capacity(ordinal).unwrap();
        assert_eq!(
            capacity.used + capacity.free + capacity.stranded,
            capacity.total
        );
        assert_eq!(capacity.used, 0, "the budget is not restored: {capacity:?}");
        stranded += capacity.stranded;
    }
    let events = house.sink.events();
    let alarms = events
        .iter()
        .filter(|event| event.body.severity() != Severity::Info);
    let alarms = alarms.map(|event| event.body.event_type()).collect();
    Run {
        error: worked.and(freed).err(),
        stranded,
        alarms,
        opened: true,
        weaker: house.weaker,
        uses: fake.trace(),
    }
}

/// The device error inside, whichever operation it met.
fn cause(error: &Error) -> Option<&DeviceError> {
    match error {
        Error::Device(source) => Some(source),
        Error::Free(free) => Some(&free.source),
        _ => None,
    }
}

/// Calls whose failure no caller can be told: they give back what is gone anyway.
fn only_gives_back(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "cuStreamDestroy",
        "cuEventDestroy",
        "cuModuleUnload",
        "cuMemFree",
        "cuMemFreeHost",
        "cuDevicePrimaryCtxRelease",
        "cuCtxPopCurrent",
    ];
    NAMES.contains(&name)
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

/// Calls by which a device is asked what kinds of memory it offers.
const PROBES: [&str; 3] = [
    "cuMemGetAllocationGranularity",
    "cuMemCreate",
    "cuMemExportToShareableHandle",
];

/// One case of the sweep.
struct Fault<'n> {
    name: &'n str,
    nth: u64,
    code: u32,
    /// This use belongs to dropping the devices, which can tell nobody.
    closing: bool,
}

/// Plays the scenario with one fault and judges how it ended.
fn judge(fake: &Fake, cuda: &Cuda, bytes: &[u8], fault: &Fault<'_>) {
    let Fault {
        name,
        nth,
        code,
        closing,
    } = *fault;
    let sticky = if code == STICKY { " sticky" } else { "" };
    fake.tell(&format!("reset {OPTIONS}"));
    cuda.driver().init().unwrap();
    fake.tell(&format!("fail {name} {nth} {code}{sticky}"));
    let run = play(fake, cuda, bytes);
    let at = format!(
        "{name} use {nth} code {code}: {:?} {:?}",
        run.error, run.alarms
    );
    let reached = fake
        .trace()
        .into_iter()
        .any(|(call, count)| call == name && count >= nth);
    assert!(reached, "the fault was not reached: {at}");
    // Giving back tries to enter the context twice: no harm, and nobody to tell.
    let harmless = name == "cuCtxPushCurrent" && fake.held().is_empty();
    // What the probe of a kind of memory meets is answered by a weaker kind.
    let probed = run.weaker && PROBES.contains(&name);
    match &run.error {
        Some(error) => assert!(is_right(name, code, error), "wrong kind: {at}"),
        // A source that cannot be freed after a move does not undo the move.
        None => assert!(
            closing || harmless || probed || only_gives_back(name) || !run.alarms.is_empty(),
            "the fault was swallowed: {at}"
        ),
    }
    let held = fake.held();
    if code == STICKY {
        return;
    }
    // Opening makes one granule and gives it back to see that it can.
    let probe = u64::from(name == "cuMemRelease" && !run.opened) * GRANULE;
    let taken = fake.weights_held() * GRANULE;
    assert_eq!(taken, run.stranded + probe, "{at} {held:?}");
    if run.stranded > 0 {
        assert!(
            run.alarms.iter().any(|alarm| alarm == "vram.stranded"),
            "{at}"
        );
    } else if probe == 0 && !closing && !only_gives_back(name) {
        assert!(
            held.is_empty() || name == "cuMemAddressFree",
            "leak: {at} {held:?}"
        );
    }
    if nth > 1 {
        return;
    }
    fake.tell("clear");
    let again = play(fake, cuda, bytes);
    assert!(
        again.error.is_none(),
        "the machine is not usable afterwards: {at} {:?}",
        again.error
    );
}

/// Plays every case with this code; context calls only at every `stride`-th use.
fn sweep(code: u32, stride: usize) {
    let machine = Machine::fake(OPTIONS);
    let (fake, cuda) = (machine.fake_ctl(), &machine.cuda);
    let bytes = sample(5000, 1);
    let clean = play(fake, cuda, &bytes);
    assert!(
        clean.error.is_none() && clean.stranded == 0,
        "{:?}",
        clean.error
    );
    assert_eq!(fake.held(), [], "{}", fake.log());
    let trace = fake.trace();
    let mut cases = 0;
    for (name, count) in trace
        .iter()
        .filter(|(name, _)| name.starts_with("cu") && name != "cuInit")
    {
        let step = if name.starts_with("cuCtx") { stride } else { 1 };
        for nth in (1..=*count).step_by(step) {
            let told = clean.uses.iter().find(|(call, _)| call == name);
            let closing = told.is_none_or(|(_, uses)| nth > *uses);
            judge(
                fake,
                cuda,
                &bytes,
                &Fault {
                    name,
                    nth,
                    code,
                    closing,
                },
            );
            cases += 1;
        }
    }
    assert!(
        cases > 250,
        "only {cases} cases: the scenario has become empty"
    );
}

/// Context calls are the same two calls around everything else; the long sweep
/// below takes each of them.
const STRIDE: usize = 6;

#[test]
fn every_call_may_run_out_of_memory() {
    sweep(OUT_OF_MEMORY, STRIDE);
}

#[test]
fn every_call_may_lose_the_device() {
    sweep(STICKY, STRIDE);
}

#[test]
fn every_call_may_fail_with_an_unknown_code() {
    sweep(UNKNOWN, STRIDE);
}

#[test]
#[ignore = "takes minutes: every use of the context calls too"]
fn every_use_of_every_call_may_fail() {
    for code in [OUT_OF_MEMORY, STICKY, UNKNOWN] {
        sweep(code, 1);
    }
}
