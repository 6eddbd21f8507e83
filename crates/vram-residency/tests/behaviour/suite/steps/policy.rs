//! What the driver says, and what the policy makes of it.

use cucumber::{then, when};
use vram_residency::device::{DeviceKind, MemoryKind, Protection, Witness};

use crate::suite::stage::Stage;

#[when(regex = "^the driver begins to call the memory (.+)$")]
fn lie(stage: &mut Stage, kind: String) {
    let lie: fn(Witness) -> Witness = match kind.as_str() {
        "managed" => |w| Witness { managed: true, ..w },
        "host-mapped" => |w| Witness {
            host_pointer: true,
            ..w
        },
        "host memory" => |w| Witness {
            memory: MemoryKind::Host,
            ..w
        },
        "writable" => |w| Witness {
            protection: Protection::ReadWrite,
            ..w
        },
        other => panic!("no such memory: {other}"),
    };
    stage.plug_in();
    stage.taps[0].script().lie = Some(lie);
}

#[when("another device answers in its place")]
fn replace(stage: &mut Stage) {
    stage.taps[0].script().replaced = true;
}

#[when("the policy is enforced")]
fn enforce(stage: &mut Stage) {
    stage.outcome = Some(stage.manager().enforce_vram_only_policy());
}

#[then("the worker is VRAM-only")]
fn vram_only(stage: &mut Stage) {
    let manager = stage.manager();
    assert!(manager.is_vram_only() && manager.is_policy_enforced(0).unwrap());
}

#[then(expr = "the driver's witness for {string} shows no managed, host-mapped or writable memory")]
fn witness_is_good(stage: &mut Stage, name: String) {
    let witness = stage.record(&name).witness;
    assert!(!witness.managed && !witness.host_pointer);
    assert_eq!(witness.protection, Protection::ReadOnly);
    assert!(matches!(
        witness.memory,
        MemoryKind::Device | MemoryKind::Simulated
    ));
}

#[when("a worker is started on an integrated GPU")]
fn integrated(stage: &mut Stage) {
    stage.budget = 10 << 20;
    stage.plug_in();
    let info = &mut stage.taps[0].info;
    (info.kind, info.integrated) = (DeviceKind::Cuda, true);
    info.compute_capability = Some((9, 0));
    let answer = stage.start().map(drop);
    stage.outcome = Some(answer);
}
