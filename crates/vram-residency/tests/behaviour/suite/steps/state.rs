//! The budget, the devices and the worker's state.

use std::collections::BTreeSet;

use cucumber::then;
use vram_residency::capacity::Capacity;
use vram_residency::manager::RunState;

use super::size::Size;
use crate::suite::stage::Stage;

fn capacities(stage: &mut Stage) -> Vec<Capacity> {
    let manager = stage.manager();
    let ordinals = manager.devices().into_iter().map(|info| info.ordinal);
    ordinals
        .map(|ordinal| manager.capacity(ordinal).unwrap())
        .collect()
}

/// The models' lengths are what the step says; the budget counts what the
/// device hands out for them.
#[then(expr = "{size} of VRAM are in use")]
fn in_use(stage: &mut Stage, stated: Size) {
    let used: u64 = capacities(stage).iter().map(|c| c.used).sum();
    let held = stage.held().into_iter().filter(|shard| shard.is_sealed());
    let records: Vec<_> = held.map(|shard| shard.record()).collect();
    assert_eq!(records.iter().map(|r| r.vram_bytes).sum::<u64>(), stated.0);
    let granularity = stage.taps[0].info.granularity;
    let rounded = records
        .iter()
        .map(|r| r.vram_bytes.next_multiple_of(granularity));
    assert_eq!(used, rounded.sum::<u64>());
}

#[then("no VRAM is available")]
fn none_available(stage: &mut Stage) {
    assert!(capacities(stage).iter().all(|c| c.available == 0));
}

/// The device handed out what is counted as used; the tap has seen it.
#[then("the budget balances")]
fn balances(stage: &mut Stage) {
    for (c, tap) in capacities(stage).into_iter().zip(&stage.taps) {
        let live: u64 = tap.script().live.iter().map(|a| a.granted).sum();
        assert_eq!(c.used - c.reserved, live, "{c:?}");
        assert_eq!(c.used + c.free + c.stranded, c.total, "{c:?}");
    }
}

#[then(expr = "{size} of VRAM are stranded")]
fn stranded(stage: &mut Stage, bytes: Size) {
    let all: u64 = capacities(stage).iter().map(|c| c.stranded).sum();
    assert_eq!(all, bytes.0);
}

#[then(expr = "device {int} holds nothing")]
fn holds_nothing(stage: &mut Stage, ordinal: usize) {
    assert_eq!(capacities(stage)[ordinal].used, 0);
    assert_eq!(stage.taps[ordinal].script().live, []);
}

#[then(expr = "{int} shards are held")]
fn held(stage: &mut Stage, count: usize) {
    assert_eq!(stage.manager().shards().len(), count);
    assert_eq!(stage.held().len(), count);
}

#[then("no two shards have the same name")]
fn unique(stage: &mut Stage) {
    let names: BTreeSet<_> = stage.held().iter().map(|s| s.id().clone()).collect();
    assert!(names.len() > 1 && names.len() == stage.held().len());
}

#[then("the worker is stopped")]
fn stopped(stage: &mut Stage) {
    assert!(matches!(stage.manager().state(), RunState::Stopped { .. }));
}

#[then(expr = "only {string} is quarantined")]
fn only_quarantined(stage: &mut Stage, name: String) {
    for (other, shard) in &stage.shards {
        assert_eq!(shard.is_quarantined(), *other == name, "{other}");
    }
}
