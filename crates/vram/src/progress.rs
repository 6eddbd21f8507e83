//! How far a long operation is: a line that is drawn again and again on a
//! terminal, a line now and then elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::output::{Output, draw, terminal_size};
use crate::text;

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time between two redraws.
const REDRAW_EVERY: Duration = Duration::from_millis(125);
/// Columns from which on there is room for a bar.
const WIDE: usize = 76;
/// Columns inside the bar's brackets.
const BAR: usize = 12;
/// Columns left free: a terminal shows `^C` there without wrapping the line.
const FREE: usize = 3;

/// Progress of one operation, on one file or several. Shared by threads.
pub(crate) struct Progress {
    shown: Shown,
    what: &'static str,
    name: String,
    done: AtomicU64,
    total: Option<u64>,
    started: Instant,
    /// Milliseconds since the start at which something is shown next.
    due: AtomicU64,
}

enum Shown {
    Nothing,
    /// Columns of the line on the screen.
    Drawn(Mutex<usize>),
    Lines,
}

/// One of several files.
pub(crate) struct Part {
    name: String,
    /// When its first bytes were done, and how many these were.
    begun: OnceLock<(Instant, u64)>,
}

impl Part {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: text::printable(name),
            begun: OnceLock::new(),
        }
    }
}

impl Progress {
    /// Starts to show that `what` is done with `name`; `total` bytes when known.
    pub(crate) fn start(
        output: &Output,
        what: &'static str,
        name: &str,
        total: Option<u64>,
    ) -> Self {
        let (shown, due) = if output.is_live() {
            (Shown::Drawn(Mutex::default()), Duration::ZERO)
        } else if output.is_quiet() {
            (Shown::Nothing, Duration::MAX)
        } else {
            (Shown::Lines, LINE_EVERY)
        };
        Self {
            shown,
            what,
            name: text::printable(name),
            done: AtomicU64::new(0),
            total,
            started: Instant::now(),
            due: AtomicU64::new(millis(due)),
        }
    }

    /// `bytes` more are done.
    pub(crate) fn advance(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        self.set(before.saturating_add(bytes));
    }

    /// `done` bytes are done in all.
    pub(crate) fn set(&self, done: u64) {
        self.show(done, None);
    }

    /// `done` bytes are done of all files, and so many of this one.
    pub(crate) fn set_part(&self, done: u64, part: &Part, (of_part, total): (u64, u64)) {
        let (begun, first) = *part.begun.get_or_init(|| (Instant::now(), of_part));
        let state = State {
            done: of_part,
            first: first.min(of_part),
            total: Some(total),
            elapsed: begun.elapsed(),
        };
        self.show(done, Some((&part.name, &state)));
    }

    fn show(&self, done: u64, part: Option<(&str, &State)>) {
        let every = match self.shown {
            Shown::Nothing => return,
            Shown::Drawn(_) => REDRAW_EVERY,
            Shown::Lines => LINE_EVERY,
        };
        let elapsed = self.started.elapsed();
        let (now, due) = (millis(elapsed), self.due.load(Ordering::Relaxed));
        let later = now.saturating_add(millis(every));
        let relaxed = Ordering::Relaxed;
        let turn = || self.due.compare_exchange(due, later, relaxed, relaxed);
        if now < due || turn().is_err() {
            return;
        }
        let state = State {
            done,
            first: 0,
            total: self.total,
            elapsed,
        };
        let name = format!("{} {}", self.what, self.name);
        match &self.shown {
            Shown::Drawn(drawn) => {
                // A line that another thread draws now is as good.
                if let Ok(mut drawn) = drawn.try_lock() {
                    let columns = terminal_size().0;
                    let line = state.drawn(&name, part, columns);
                    draw(&mut drawn, columns, &line);
                }
            }
            _ => {
                let part = part.map(|(name, state)| format!("; {name}: {}", state.said()));
                let part = part.unwrap_or_default();
                crate::output::say("progress", &format!("{name}: {}{part}", state.said()));
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Drawn(drawn) = &mut self.shown
            && let Ok(drawn) = drawn.get_mut()
            && *drawn > 0
        {
            draw(drawn, terminal_size().0, "");
        }
    }
}

/// How far it is now.
struct State {
    done: u64,
    /// Of these, bytes that were done before the time began.
    first: u64,
    total: Option<u64>,
    elapsed: Duration,
}

impl State {
    /// Bytes, rate, and the time that is left if it goes on like this.
    fn said(&self) -> String {
        let rate = text::rate(self.timed(), self.elapsed);
        let size = text::size(self.done);
        match self.total.filter(|_| self.timed() > 0) {
            None => format!("{size}, {rate}"),
            Some(total) => {
                let left = self.left(total);
                format!("{size} of {}, {rate}, {left} s left", text::size(total))
            }
        }
    }

    /// Bytes that took the time.
    fn timed(&self) -> u64 {
        self.done.saturating_sub(self.first)
    }

    fn left(&self, total: u64) -> u128 {
        let left = u128::from(total.saturating_sub(self.done));
        let left = left.saturating_mul(self.elapsed.as_millis());
        left.checked_div(u128::from(self.timed())).unwrap_or(0) / 1000
    }

    /// A line that fits, with as much of the end of the name as there is room
    /// for: that is what tells one file from the next. Of one of several files
    /// it says as much as of all, or how far it is where there is less room.
    fn drawn(&self, name: &str, part: Option<(&str, &Self)>, columns: usize) -> String {
        let fits = columns.saturating_sub(FREE);
        let figures = match self.total {
            Some(total) if columns < WIDE => {
                format!(
                    "{} %, {} s left",
                    percent(self.done, total),
                    self.left(total)
                )
            }
            Some(total) => format!("{} {}", bar(percent(self.done, total)), self.said()),
            None => self.said(),
        };
        let room = fits.saturating_sub(figures.chars().count().saturating_add(2));
        let name = match part {
            None => name.to_owned(),
            Some((part, state)) => {
                let long = format!("{name}; {part}: {}", state.said());
                let percent = percent(state.done, state.total.unwrap_or(0));
                let short = || format!("{name}; {part} {percent} %");
                Some(long)
                    .filter(|long| long.chars().count() <= room)
                    .unwrap_or_else(short)
            }
        };
        let line = format!("{figures}  {}", tail(&name, room));
        line.chars().take(fits).collect()
    }
}

/// `[=====>      ]`.
fn bar(percent: u64) -> String {
    let full = usize::try_from(percent.saturating_mul(BAR as u64) / 100).unwrap_or(BAR);
    let head = if full < BAR { ">" } else { "" };
    let text = format!("{}{head}", "=".repeat(full.min(BAR)));
    format!("[{text:<BAR$}]")
}

fn percent(done: u64, total: u64) -> u64 {
    let hundred = u128::from(done).saturating_mul(100);
    let percent = hundred.checked_div(u128::from(total)).unwrap_or(100);
    u64::try_from(percent.min(100)).unwrap_or(100)
}

/// The end of a text, marked as such where it is not all of it.
fn tail(text: &str, room: usize) -> String {
    let skip = text.chars().count().saturating_sub(room);
    if skip == 0 {
        return text.to_owned();
    }
    let kept = text.chars().skip(skip.saturating_add(2));
    "..".chars().take(room).chain(kept).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(done: u64, total: Option<u64>) -> State {
        State {
            done,
            first: 0,
            total,
            elapsed: Duration::from_secs(2),
        }
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let half = state(2 << 30, Some(4 << 30));
        assert_eq!(half.said(), "2.0 GiB of 4.0 GiB, 1.07 GB/s, 2 s left");
        assert_eq!(state(2 << 30, None).said(), "2.0 GiB, 1.07 GB/s");
        // Nothing done says nothing about the rest.
        assert_eq!(state(0, Some(4)).said(), "0 bytes, 0.00 GB/s");
    }

    #[test]
    fn a_drawn_line_fits_and_keeps_the_end_of_the_name() {
        let half = state(2 << 30, Some(4 << 30));
        let name = "loading /models/of/the/house/model-00003-of-00007.safetensors";
        for columns in [0, 1, 10, 40, 75, 76, 80, 120, 300] {
            let line = half.drawn(name, None, columns);
            assert!(line.chars().count() <= columns.saturating_sub(3), "{line}");
        }
        let line = half.drawn(name, None, 100);
        let bar = "[======>     ] 2.0 GiB of 4.0 GiB, 1.07 GB/s, 2 s left  ..";
        assert!(line.starts_with(bar), "{line}");
        assert!(line.ends_with("00003-of-00007.safetensors"), "{line}");
        let line = half.drawn(name, None, 40);
        assert_eq!(line, "50 %, 2 s left  ..f-00007.safetensors");
        assert!(half.drawn(name, None, 200).ends_with(name));
    }

    #[test]
    fn one_of_several_files_has_figures_of_its_own() {
        let all = state(2 << 30, Some(8 << 30));
        let part = State {
            first: 1 << 29,
            ..state(1 << 30, Some(2 << 30))
        };
        // 512 MiB of it took the 2 s.
        let said = "1.0 GiB of 2.0 GiB, 0.27 GB/s, 4 s left";
        assert_eq!(part.said(), said);
        let drawn = |columns| all.drawn("loading 3 files", Some(("dir/a.gguf", &part)), columns);
        let wide = format!("loading 3 files; dir/a.gguf: {said}");
        assert!(drawn(160).ends_with(&wide), "{}", drawn(160));
        assert!(drawn(160).contains("2.0 GiB of 8.0 GiB, 1.07 GB/s, 6 s left"));
        assert!(
            drawn(100).ends_with("files; dir/a.gguf 50 %"),
            "{}",
            drawn(100)
        );
        for columns in [0, 1, 10, 40, 75, 76, 80, 120, 300] {
            let line = drawn(columns);
            assert!(line.chars().count() <= columns.saturating_sub(3), "{line}");
        }
    }

    #[test]
    fn bars_and_shares_end_where_they_should() {
        assert_eq!(bar(0), "[>           ]");
        assert_eq!(bar(100), "[============]");
        assert_eq!(
            (percent(1, 3), percent(0, 0), percent(9, 3)),
            (33, 100, 100)
        );
        assert_eq!(
            (tail("abcdef", 6), tail("abcdef", 1)),
            ("abcdef".into(), ".".into())
        );
        assert_eq!(tail("abcdef", 4), "..ef");
    }

    #[test]
    fn who_wants_quiet_gets_nothing() {
        let output = Output::new(false, true, false);
        let progress = Progress::start(&output, "loading", "a\nb", Some(4 << 20));
        assert!(matches!(progress.shown, Shown::Nothing));
        assert_eq!(progress.name, "a\\nb");
    }
}
