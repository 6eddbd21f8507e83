//! The worker of a scenario, before it starts.

use std::time::Duration;

use cucumber::given;
use vram_residency::audit::AuditMode;
use vram_residency::capacity::Sharing;
use vram_residency::device::Device as _;
use vram_residency::policy::{OnFailure, OnGroupFailure};

use super::size::Size;
use crate::suite::stage::Stage;

#[given(expr = "a worker with {size} of VRAM")]
fn a_worker(stage: &mut Stage, budget: Size) {
    stage.budget = budget.0;
}

#[given(expr = "a worker with {size} of VRAM on each of {int} devices")]
fn a_worker_of_devices(stage: &mut Stage, budget: Size, devices: u32) {
    (stage.budget, stage.devices) = (budget.0, devices);
}

#[given(expr = "a worker with {size} of VRAM, {size} of it kept free")]
fn a_shared_worker(stage: &mut Stage, budget: Size, headroom: Size) {
    stage.budget = budget.0;
    stage.sharing = Sharing::Headroom(headroom.0);
}

#[given(expr = "a worker with {size} of VRAM and the token {string}")]
fn a_worker_with_token(stage: &mut Stage, budget: Size, token: String) {
    (stage.budget, stage.token) = (budget.0, token.into_bytes());
}

#[given(expr = "a worker with {size} of VRAM whose events must be kept")]
fn a_worker_with_required_events(stage: &mut Stage, budget: Size) {
    (stage.budget, stage.audit) = (budget.0, AuditMode::Required);
}

#[given("failures are isolated")]
fn isolate(stage: &mut Stage) {
    stage.policy.on_failure = OnFailure::Isolate;
    stage.policy.on_group_failure = OnGroupFailure::IsolateMember;
}

#[given("repair is allowed")]
fn allow_repair(stage: &mut Stage) {
    stage.policy.allow_repair = true;
}

#[given(expr = "seals may be at most {int} seconds old")]
fn max_age(stage: &mut Stage, seconds: u64) {
    stage.policy.max_seal_age = Some(Duration::from_secs(seconds));
}

/// For scenarios that must fail: what is left at their end is looked for.
#[given("an allocation that nobody frees")]
fn leak(stage: &mut Stage) {
    let _worker = stage.manager();
    let _left = stage.taps[0].allocate(4096).unwrap();
}
