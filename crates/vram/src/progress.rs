//! How far a long operation is: a bar on a terminal, a line now and then elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Output, terminal_size};
use crate::text;

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Redraws a second.
const REDRAWS: u8 = 8;
/// Columns from which on there is room for a bar.
const WIDE: usize = 76;
/// What the bar shows. The name comes last and is cut to what is left.
const BAR: &str = "[{bar:20}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left  {wide_msg}";
/// The same where there is little room.
const NARROW: &str = "{percent} %, {eta} left  {wide_msg}";
/// The same where the end is not known.
const COUNTER: &str = "{bytes}, {bytes_per_sec}  {wide_msg}";

/// Progress of one file. Shared by threads.
pub(crate) struct Progress {
    shown: Shown,
    name: String,
    done: AtomicU64,
    total: Option<u64>,
    started: Instant,
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    /// Milliseconds since the start at which the next line is due.
    Lines(AtomicU64),
}

impl Progress {
    /// Starts to show `what` is done with `name`; `total` bytes when known.
    pub(crate) fn start(output: &Output, what: &str, name: &str, total: Option<u64>) -> Self {
        let name = format!("{what} {}", text::printable(name));
        let shown = if output.is_live() {
            Shown::Bar(bar(&name, total))
        } else if output.is_quiet() {
            Shown::Nothing
        } else {
            Shown::Lines(AtomicU64::new(millis(LINE_EVERY)))
        };
        Self {
            shown,
            name,
            done: AtomicU64::new(0),
            total,
            started: Instant::now(),
        }
    }

    /// `bytes` more are done.
    pub(crate) fn advance(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        self.set(before.saturating_add(bytes));
    }

    /// `done` bytes are done in all.
    pub(crate) fn set(&self, done: u64) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Lines(next) => {
                let now = millis(self.started.elapsed());
                let due = next.load(Ordering::Relaxed);
                let later = now.saturating_add(millis(LINE_EVERY));
                let mine = now >= due
                    && next
                        .compare_exchange(due, later, Ordering::Relaxed, Ordering::Relaxed)
                        .is_ok();
                if mine {
                    crate::output::say("progress", &self.line(done));
                }
            }
        }
    }

    fn line(&self, done: u64) -> String {
        let elapsed = self.started.elapsed();
        let rate = text::rate(done, elapsed);
        let (name, size) = (&self.name, text::size(done));
        let Some(total) = self.total.filter(|_| done > 0) else {
            return format!("{name}: {size}, {rate}");
        };
        let left = u128::from(total.saturating_sub(done)).saturating_mul(elapsed.as_millis());
        let left = left.checked_div(u128::from(done)).unwrap_or(0) / 1000;
        format!(
            "{name}: {size} of {}, {rate}, {left} s left",
            text::size(total)
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(REDRAWS);
    let bar = ProgressBar::with_draw_target(total, target);
    let template = match total {
        None => COUNTER,
        Some(_) if terminal_size().0 < WIDE => NARROW,
        Some(_) => BAR,
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_message(name.to_owned())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_file_and_how_far_it_is() {
        let output = Output::new(false, true);
        let progress = Progress::start(&output, "loading", "a\nb", Some(4 << 20));
        assert!(
            matches!(progress.shown, Shown::Nothing),
            "quiet shows nothing"
        );
        let line = progress.line(1 << 20);
        assert!(
            line.starts_with("loading a?b: 1.0 MiB of 4.0 MiB, "),
            "{line}"
        );
        assert!(line.ends_with(" s left"), "{line}");
    }
}
