//! The live view of a hold, on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vram_residency::VramManager;

use super::run::Held;
use super::scrubbing::Scrubbing;
use crate::output::Output;
use crate::text;

/// Columns where the terminal does not say.
const COLUMNS: usize = 80;

/// Lines that are drawn again and again; gone when dropped.
pub(super) struct View(ProgressBar);

impl View {
    /// `None` where nobody watches.
    pub(super) fn new(output: &Output) -> Option<Self> {
        if !output.is_live() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Some(Self(bar))
    }

    pub(super) fn draw(
        &self,
        manager: &VramManager,
        held: &[Held],
        left: Duration,
        scrubbing: Option<&Scrubbing>,
    ) {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok();
        let columns = size.map(|size| usize::from(size.ws_col));
        let columns = columns.filter(|columns| *columns > 0).unwrap_or(COLUMNS);
        let lines = screen(manager, held, left, scrubbing);
        // A line that wraps cannot be taken back when the terminal is resized.
        let lines = lines.iter().map(|line| cut(line, columns));
        self.0.set_message(lines.collect::<Vec<_>>().join("\n"));
        self.0.tick();
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The part of a line that fits, one column left free.
fn cut(line: &str, columns: usize) -> String {
    let fits = columns.saturating_sub(1);
    if line.chars().count() <= fits {
        return line.to_owned();
    }
    let kept = line.chars().take(fits.saturating_sub(2));
    kept.chain("..".chars()).collect()
}

/// Devices, budget, shards, and how old the proof is.
fn screen(
    manager: &VramManager,
    held: &[Held],
    left: Duration,
    scrubbing: Option<&Scrubbing>,
) -> Vec<String> {
    let metrics = manager.metrics();
    let mut lines = Vec::new();
    for device in &metrics.devices {
        let budget = &device.capacity;
        let age = device.oldest_verification_nanos.map_or_else(
            || "not verified yet".to_owned(),
            |nanos| format!("verified {} s ago", nanos / 1_000_000_000),
        );
        lines.push(format!(
            "{}:{}  {age}, {} of {} in use ({:.1} %), {} shards, {} leases",
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
            "  {file}  {size}  {}  sha256:{}",
            record.shard_id, record.digest
        ));
    }
    let bytes = held.iter().map(|one| one.shard.record().vram_bytes);
    let bytes = bytes.fold(0, u64::saturating_add);
    lines.extend(scrubbing.map(|scrubbing| scrubbing.line(bytes)));
    lines.push(format!(
        "{} verifications passed; the next in {} s; interrupt to free",
        metrics.verify_operations_total,
        left.as_secs().saturating_add(1),
    ));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use vram_residency::key::RootKey;
    use vram_residency::random::OsRandom;
    use vram_residency::sim::SimDevice;
    use vram_residency::{Mode, SealRequest};

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
        let scrubbing = Scrubbing::start(&manager, 1 << 20).unwrap();
        let screen = screen(&manager, &held, Duration::from_secs(9), scrubbing.as_ref());
        let screen = screen.join("\n");
        for part in [
            "simulated:0  verified 0 s ago, ",
            "512.0 KiB of 1.0 MiB in use (50.0 %), 1 shards",
            "model  512.0 KiB  one  sha256:",
            "1.0 MiB a second, everything every 1 s",
            "verifications passed; the next in 10 s",
        ] {
            assert!(screen.contains(part), "{part} in {screen}");
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        assert_eq!(cut("short", 80), "short");
        assert_eq!(cut("0123456789", 8), "01234..");
        assert_eq!(cut("0123456", 8), "0123456");
        assert_eq!(cut("0123456", 0), "..");
    }
}
