//! Keeping shards resident and proving them again and again.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use vram_residency::verify::Verification;
use vram_residency::{Mode, VramManager};

use super::report;
use super::run::Held;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::text;

/// Redraw of the live view, and how soon a signal is noticed at the latest.
const TICK: Duration = Duration::from_secs(1);

/// One verification of a held shard.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    file: &'a str,
    shard_id: &'a str,
    verification: &'a Verification,
}

/// When and how held shards are verified again.
pub(super) struct Rounds {
    pub(super) every: Duration,
    pub(super) mode: Mode,
}

/// Verifies every shard in rounds, until a signal arrives or one fails.
pub(super) fn hold(
    rounds: &Rounds,
    manager: &VramManager,
    held: &[Held],
    interrupt: &Interrupt,
    output: &Output,
) -> Result<(), Failure> {
    let view = View::new(output);
    // A person at a terminal sees the view; programs read the lines.
    let lines = view.is_none() || output.is_json() || !std::io::stdout().is_terminal();
    loop {
        if rest(rounds.every, manager, held, interrupt, view.as_ref()) {
            return Ok(());
        }
        for one in held {
            let verified = manager.verify_sealed(&one.shard, rounds.mode);
            let verified = verified.map_err(|error| Failure::about(&one.file, error))?;
            if lines {
                line(one, verified.verification(), output)?;
            }
        }
    }
}

/// Waits for the next round; true when a signal ended it.
fn rest(
    every: Duration,
    manager: &VramManager,
    held: &[Held],
    interrupt: &Interrupt,
    view: Option<&View>,
) -> bool {
    let started = Instant::now();
    loop {
        let left = every.saturating_sub(started.elapsed());
        if left.is_zero() {
            return false;
        }
        if let Some(view) = view {
            view.draw(manager, held, left);
        }
        if interrupt.wait(left.min(TICK)) {
            return true;
        }
    }
}

fn line(one: &Held, verification: &Verification, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&Report {
            schema: "vram-residency/verification/v1",
            file: &one.file,
            shard_id: one.shard.id().as_str(),
            verification,
        });
    }
    let what = report::verification(verification);
    output.line(format!(
        "verified  {} {} {what}",
        verification.at,
        one.shard.id()
    ))
}

/// The live view on stderr.
struct View(ProgressBar);

impl View {
    fn new(output: &Output) -> Option<Self> {
        if !output.is_live() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Some(Self(bar))
    }

    fn draw(&self, manager: &VramManager, held: &[Held], left: Duration) {
        self.0.set_message(screen(manager, held, left));
        self.0.tick();
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Devices, budget, shards, and how old the proof is.
fn screen(manager: &VramManager, held: &[Held], left: Duration) -> String {
    let metrics = manager.metrics();
    let mut lines = Vec::new();
    for device in &metrics.devices {
        let budget = &device.capacity;
        let age = device.oldest_verification_nanos.map_or_else(
            || "not verified yet".to_owned(),
            |nanos| format!("verified {} s ago", nanos / 1_000_000_000),
        );
        lines.push(format!(
            "{}:{}  {} of {} in use ({:.1} %), {} shards, {} leases, {age}",
            device.device_kind,
            budget.ordinal,
            text::size(budget.used),
            text::size(budget.total),
            device.utilization_percent,
            device.shards,
            device.leases,
        ));
    }
    for one in held {
        let record = one.shard.record();
        let (file, size) = (text::printable(&one.file), text::size(record.vram_bytes));
        lines.push(format!(
            "  {}  {size}  sha256:{}  {file}",
            record.shard_id, record.digest
        ));
    }
    lines.push(format!(
        "{} verifications passed; the next in {} s; interrupt to free",
        metrics.verify_operations_total,
        left.as_secs().saturating_add(1),
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vram_residency::SealRequest;
    use vram_residency::key::RootKey;
    use vram_residency::random::OsRandom;
    use vram_residency::sim::SimDevice;

    #[test]
    fn the_screen_shows_devices_budget_shards_and_age() {
        let manager = VramManager::builder()
            .device(SimDevice::new(1 << 20))
            .key(RootKey::generate(&OsRandom).unwrap())
            .build()
            .unwrap();
        let shard = manager
            .seal(SealRequest::bytes(&[7; 1 << 19]).id("one"))
            .unwrap();
        let verified = manager.verify_sealed(&shard, Mode::Full).unwrap();
        let held = [Held {
            file: "model".to_owned(),
            shard,
            verification: verified.into_verification(),
        }];
        let screen = screen(&manager, &held, Duration::from_secs(9));
        for part in [
            "simulated:0",
            "512.0 KiB of 1.0 MiB in use (50.0 %), 1 shards",
            "verified 0 s ago",
            "one  512.0 KiB  sha256:",
            "1 verifications passed; the next in 10 s",
        ] {
            assert!(screen.contains(part), "{part} in {screen}");
        }
    }
}
