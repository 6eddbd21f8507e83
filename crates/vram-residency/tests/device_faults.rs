//! Every call of the device fails once, at every place where an operation
//! makes it, in three ways. Whatever happens: the right kind of error, no
//! panic, the budget exact, the event emitted, and a lost device stays lost.
//!
//! requirement: TP-6, FF-8, MS-004, MS-005

mod common;

use common::{Rig, rig_of, weights};
use vram_residency::device::DeviceError;
use vram_residency::error::{Code, Error};
use vram_residency::manager::RunState;
use vram_residency::policy::OnFailure;
use vram_residency::sim::Op;
use vram_residency::{Mode, Policy, SealRequest, SealedShard};

/// Two runs of an export, and a bit.
const LEN: usize = (1 << 20) + 5000;
/// Three chunks of an upload.
const LONG: usize = (4 << 20) + 5000;
const CODE: u32 = 12_345;

fn faults() -> [DeviceError; 3] {
    [
        DeviceError::OutOfMemory { requested: 77 },
        DeviceError::Driver {
            op: "cuSomething",
            code: CODE,
            name: "unknown".to_owned(),
            text: "a code that nobody knows".to_owned(),
        },
        DeviceError::Lost {
            op: "cuSomething",
            code: 700,
            text: "an illegal memory access was encountered".to_owned(),
        },
    ]
}

fn world() -> Rig {
    let policy = Policy {
        allow_repair: true,
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    };
    rig_of(2, 16 << 20, policy)
}

/// What is done while the fault strikes. Shards that still live come back.
type Outcome = (Result<(), Error>, Vec<SealedShard>);

struct Scenario {
    name: &'static str,
    /// Seals a shard before the fault is scripted.
    sealed: bool,
    /// Flips a bit of it.
    damaged: bool,
    act: fn(&Rig, Option<SealedShard>) -> Outcome,
    /// The event that a failure must leave.
    event: Option<&'static str>,
}

fn seal(rig: &Rig, bytes: &[u8]) -> Result<SealedShard, Error> {
    rig.manager.seal(SealRequest::bytes(bytes).id("shard"))
}

/// What shards are sealed and repaired from; made once.
fn good() -> &'static [u8] {
    static GOOD: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    GOOD.get_or_init(|| weights(LEN, 1))
}

fn keep(answer: Result<(), Error>, shard: SealedShard) -> Outcome {
    (answer, vec![shard])
}

const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "seal",
        sealed: false,
        damaged: false,
        act: |rig, _| match seal(rig, &vec![3; LONG]) {
            Ok(shard) => (Ok(()), vec![shard]),
            Err(error) => (Err(error), Vec::new()),
        },
        event: Some("failed"),
    },
    Scenario {
        name: "verify",
        sealed: true,
        damaged: false,
        act: |rig, shard| {
            let shard = shard.unwrap();
            keep(
                rig.manager.verify_sealed(&shard, Mode::Full).map(drop),
                shard,
            )
        },
        event: Some("seal.verification_failed"),
    },
    Scenario {
        name: "lease",
        sealed: true,
        damaged: false,
        act: |rig, shard| {
            let shard = shard.unwrap();
            keep(rig.manager.lease(&shard, Mode::Full).map(drop), shard)
        },
        event: Some("seal.verification_failed"),
    },
    Scenario {
        name: "migrate",
        sealed: true,
        damaged: false,
        act: |rig, shard| {
            let shard = shard.unwrap();
            match rig.manager.migrate_shard(&shard, 1) {
                Ok(moved) => (Ok(()), vec![shard, moved]),
                Err(error) => keep(Err(error), shard),
            }
        },
        event: Some("shard.migration_failed"),
    },
    Scenario {
        name: "repair",
        sealed: true,
        damaged: true,
        act: |rig, shard| {
            let shard = shard.unwrap();
            keep(rig.manager.repair(&shard, &good()).map(|_| ()), shard)
        },
        event: None,
    },
    Scenario {
        name: "export",
        sealed: true,
        damaged: false,
        act: |rig, shard| {
            let shard = shard.unwrap();
            keep(rig.manager.unseal_model(&shard).map(drop), shard)
        },
        event: Some("shard.exported"),
    },
    Scenario {
        name: "free",
        sealed: true,
        damaged: false,
        act: |rig, shard| {
            let shard = shard.unwrap();
            keep(rig.manager.deallocate(&shard), shard)
        },
        event: Some("vram.stranded"),
    },
];

fn prepare(scenario: &Scenario) -> (Rig, Option<SealedShard>) {
    let rig = world();
    let shard = scenario.sealed.then(|| seal(&rig, good()).unwrap());
    if let Some(shard) = shard.as_ref().filter(|_| scenario.damaged) {
        rig.flip_newest(shard, 4096, 3);
    }
    (rig, shard)
}

/// How often each device is asked for `op` when nothing fails.
fn calls(scenario: &Scenario, op: Op) -> [u64; 2] {
    let (rig, shard) = prepare(scenario);
    let before = [0, 1].map(|device| rig.devices[device].calls(op));
    let (answer, shards) = (scenario.act)(&rig, shard);
    answer.unwrap_or_else(|error| panic!("{} without a fault: {error}", scenario.name));
    let after = [0, 1].map(|device| rig.devices[device].calls(op));
    drop(shards);
    rig.assert_empty();
    [after[0] - before[0], after[1] - before[1]]
}

fn strike(scenario: &Scenario, op: Op, device: usize, nth: u64, fault: &DeviceError) {
    let what = format!(
        "{}: call {nth} of {op:?} on device {device}: {fault}",
        scenario.name
    );
    let (rig, shard) = prepare(scenario);
    let before = rig.devices[device].calls(op);
    rig.devices[device].fail(op, nth, fault.clone());
    let (answer, shards) = (scenario.act)(&rig, shard);
    if rig.devices[device].calls(op) < before + nth {
        // The number of staging calls depends on how the threads run.
        assert!(op == Op::Slot || op == Op::Submit, "{what}: never called");
        return;
    }
    match &answer {
        Err(error) => {
            assert_kind(error, op, fault, &what);
            let types = rig.sink.types();
            let expected = scenario.event.unwrap_or("vram.sealed");
            assert!(
                types.iter().any(|t| t.contains(expected)),
                "{what}: {types:?}"
            );
        }
        // The move stands when only the source could not be scrubbed.
        Ok(()) => assert!(
            scenario.name == "migrate" && op == Op::Free,
            "{what}: no error"
        ),
    }
    // A fault is no proof, but damage that a repair found and could not heal is.
    assert!(
        scenario.damaged || !shards.iter().any(SealedShard::is_quarantined),
        "{what}: a fault is no proof"
    );
    after_fault(&rig, shards, op, device, fault, &what);
}

fn assert_kind(error: &Error, op: Op, fault: &DeviceError, what: &str) {
    let device_error = match error {
        Error::Device(inner) => inner,
        Error::Free(free) => {
            assert!(op == Op::Free && free.stranded > 0, "{what}: {error}");
            &free.source
        }
        other => panic!("{what}: {other}"),
    };
    match (device_error, fault) {
        (DeviceError::Lost { code, .. }, DeviceError::Lost { .. }) => assert_eq!(*code, 700),
        (found, fault) => assert_eq!(found, fault, "{what}"),
    }
    let freeing = matches!(error, Error::Free(_));
    assert_eq!(error.is_fatal(), fault.is_loss(), "{what}");
    assert_eq!(
        error.is_retriable(),
        fault.is_retriable() && !freeing,
        "{what}"
    );
    let oom = fault.is_retriable() && !freeing;
    assert_eq!(error.code() == Code::VramOom, oom, "{what}");
    if matches!(fault, DeviceError::Driver { .. }) {
        assert!(error.to_string().contains("12345"), "{what}: {error}");
    }
}

/// The budget, the latch and the record of the loss.
fn after_fault(
    rig: &Rig,
    shards: Vec<SealedShard>,
    op: Op,
    device: usize,
    fault: &DeviceError,
    what: &str,
) {
    rig.assert_balanced();
    let lost = fault.is_loss();
    if lost {
        // By the very operation that met it, not by a later one.
        assert_eq!(
            rig.count("device.lost"),
            1,
            "{what}: the loss was not recorded"
        );
        let error = rig.manager.driver_memory(device as u32).unwrap_err();
        assert!(error.is_fatal(), "{what}: the loss was not latched");
        let request = SealRequest::bytes(b"more").device(device as u32);
        assert!(
            rig.manager.seal(request).is_err(),
            "{what}: a lost device took a seal"
        );
        assert!(
            matches!(rig.manager.state(), RunState::Stopped { .. }),
            "{what}"
        );
        assert_eq!(rig.count("device.lost"), 1, "{what}: recorded exactly once");
    } else {
        assert_eq!(rig.manager.state(), RunState::Running, "{what}");
        for shard in shards.iter().filter(|shard| shard.is_sealed()) {
            // It was a passing fault: a repair may have to be repeated.
            if !rig.manager.verify_shard_integrity(shard).unwrap() {
                assert!(what.starts_with("repair"), "{what}");
                let _ = rig.manager.repair(shard, &good()).unwrap();
            }
        }
    }
    let before = rig.assert_balanced();
    drop(shards);
    for capacity in rig.assert_balanced() {
        assert_eq!(capacity.used, 0, "{what}");
        let here = capacity.ordinal == device as u32;
        let struck = here && (op == Op::Free || lost);
        if struck && lost {
            // Nothing on a lost device can be scrubbed any more.
            let taken = before[device].used + before[device].stranded;
            assert_eq!(capacity.stranded, taken, "{what}");
        } else if struck {
            assert_eq!(capacity.stranded, LEN as u64, "{what}");
        } else {
            assert_eq!(capacity.stranded, 0, "{what}");
        }
    }
    assert!(
        rig.devices.iter().all(|device| device.buffers().is_empty()),
        "{what}"
    );
}

fn sweep(name: &str) {
    let scenario = SCENARIOS
        .iter()
        .find(|scenario| scenario.name == name)
        .unwrap();
    let mut struck = 0;
    for op in Op::ALL {
        let counts = calls(scenario, op);
        for (device, count) in counts.into_iter().enumerate() {
            for nth in 1..=count {
                for fault in &faults() {
                    strike(scenario, op, device, nth, fault);
                    struck += 1;
                }
            }
        }
    }
    println!("{name}: {struck} faults");
    assert!(struck >= 3, "{name}: nothing was struck");
}

// requirement: WORKER-4113, AU-5, ER-2, WORKER-4952
#[test]
fn faults_while_sealing() {
    sweep("seal");
}

// requirement: AU-3, EXP-VRAM-7001
#[test]
fn faults_while_verifying() {
    sweep("verify");
}

#[test]
fn faults_while_leasing() {
    sweep("lease");
}

// requirement: PM-4
#[test]
fn faults_while_migrating() {
    sweep("migrate");
}

#[test]
fn faults_while_repairing() {
    sweep("repair");
}

#[test]
fn faults_while_exporting() {
    sweep("export");
}

// requirement: ER-3, AU-6
#[test]
fn faults_while_freeing() {
    sweep("free");
}
