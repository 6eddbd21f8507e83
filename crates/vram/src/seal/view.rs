//! The live view of a hold, on stderr.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::Duration;

use vram_residency::VramManager;

use super::run::Held;
use super::scrubbing::Scrubbing;
use crate::output::{Output, show, terminal_size};
use crate::text;

/// Lines that are drawn again and again; gone when dropped.
///
/// The cursor stays visible and rests below them at the start of a line: what a
/// person types meanwhile, Ctrl-C above all, moves nothing.
pub(super) struct View {
    /// Columns that each line took when it was last drawn.
    drawn: RefCell<Vec<usize>>,
}

impl View {
    /// `None` where nobody watches.
    pub(super) fn new(output: &Output) -> Option<Self> {
        output.is_live().then(|| Self {
            drawn: RefCell::default(),
        })
    }

    pub(super) fn draw(
        &self,
        manager: &VramManager,
        held: &[Held],
        left: Duration,
        scrubbing: Option<&Scrubbing>,
    ) {
        let (columns, rows) = terminal_size();
        let lines = screen(manager, held, left, scrubbing);
        let lines: Vec<String> = lines
            .iter()
            .take(rows.saturating_sub(1))
            .map(|line| cut(line, columns))
            .collect();
        let mut text = self.back(columns);
        for line in &lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        show(&text);
        let widths = lines.iter().map(|line| line.chars().count());
        *self.drawn.borrow_mut() = widths.collect();
    }

    /// Back to the first line, and everything from there on wiped. Lines that
    /// were wider than the terminal is now have been wrapped by it.
    fn back(&self, columns: usize) -> String {
        let rows = |width: &usize| width.div_ceil(columns.max(1)).max(1);
        let up: usize = self.drawn.borrow().iter().map(rows).sum();
        let mut text = String::from("\r");
        if up > 0 {
            // A String takes whatever is written.
            let _ = write!(text, "\x1b[{up}A");
        }
        text + "\x1b[J"
    }
}

impl Drop for View {
    fn drop(&mut self) {
        show(&self.back(terminal_size().0));
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
            || "no full verification that counts".to_owned(),
            |nanos| format!("verified in full {} s ago", nanos / 1_000_000_000),
        );
        lines.push(format!(
            "{}:{}  {age}, {} of {} in use ({:.1} %), {}, {}",
            device.device_kind,
            budget.ordinal,
            text::size(budget.used),
            text::size(budget.total),
            device.utilization_percent,
            text::count(device.shards, "shard"),
            text::count(device.leases, "lease"),
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
        "{} passed; the next in {} s; interrupt to free",
        text::count(metrics.verify_operations_total, "verification"),
        left.as_secs().saturating_add(1),
    ));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use vram_residency::key::RootKey;
    use vram_residency::sim::SimDevice;
    use vram_residency::{Mode, SealRequest};

    #[test]
    fn the_screen_shows_devices_budget_shards_and_age() {
        let manager = VramManager::builder()
            .device(SimDevice::new(1 << 20))
            .key(RootKey::from_token(&test_listener::secret()).unwrap())
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
            "simulated:0  verified in full 0 s ago, ",
            "512.0 KiB of 1.0 MiB in use (50.0 %), 1 shard, 0 leases",
            "model  512.0 KiB  one  sha256:",
            "1.0 MiB a second, one round in 1 s or more",
            "1 verification passed; the next in 10 s",
        ] {
            assert!(screen.contains(part), "{part} in {screen}");
        }
    }

    #[test]
    fn lines_that_a_narrower_terminal_wrapped_are_wiped_too() {
        let view = View {
            drawn: RefCell::new(vec![10, 0, 79]),
        };
        assert_eq!(view.back(80), "\r\x1b[3A\x1b[J");
        assert_eq!(view.back(40), "\r\x1b[4A\x1b[J");
        view.drawn.borrow_mut().clear();
        assert_eq!(view.back(80), "\r\x1b[J");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        assert_eq!(cut("short", 80), "short");
        assert_eq!(cut("0123456789", 8), "01234..");
        assert_eq!(cut("0123456", 8), "0123456");
        assert_eq!(cut("0123456", 0), "..");
    }
}
