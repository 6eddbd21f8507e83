//! The command on a real terminal: tmux plays one, and says what a person sees.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Session, skipped};

/// Longest wait for the screen to show something.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal with a shell in it; gone when dropped.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// `None`, and a loud word, where there is no tmux.
    fn new(session: &Session, columns: u16) -> Option<Self> {
        let socket = session.path("tmux").to_str().unwrap().to_owned();
        let terminal = Self { socket };
        let columns = columns.to_string();
        let words = ["-f", "/dev/null", "new-session", "-d", "-y", "24", "-x"];
        let mut start = terminal.tmux(&words);
        start.arg(columns).arg("exec sh");
        let start = start.current_dir(session.path("")).env("PS1", "$ ");
        if start.output().is_ok_and(|made| made.status.success()) {
            return Some(terminal);
        }
        skipped("tmux (Debian package tmux) is not there: nothing was drawn on a terminal");
        None
    }

    fn tmux(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-S", &self.socket]).args(words);
        command
    }

    fn ask(&self, words: &[&str]) -> String {
        let output = self.tmux(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types a line of the shell.
    fn types(&self, line: &str) {
        self.ask(&["send-keys", "-l", line]);
        self.ask(&["send-keys", "Enter"]);
    }

    /// What a person sees now.
    fn screen(&self) -> String {
        self.ask(&["capture-pane", "-p"]).trim_end().to_owned()
    }

    /// Waits until the screen is as wanted, and gives it.
    fn wait(&self, wanted: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(started.elapsed() < PATIENCE, "the screen stays:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]).output();
    }
}

/// A hold of a model with a long name, on a cleared screen.
fn hold(terminal: &Terminal, session: &Session) {
    session.file(&"m".repeat(90), 3 << 20);
    let vram = env!("CARGO_BIN_EXE_vram");
    let options = "--format raw --device sim --hold --every 1h";
    terminal.types(&format!(
        "clear; {vram} seal m* {options} >out; echo ended $?"
    ));
}

fn lines_with<'s>(screen: &'s str, text: &str) -> Vec<&'s str> {
    screen.lines().filter(|line| line.contains(text)).collect()
}

#[test]
fn the_live_view_is_drawn_in_place_and_leaves_nothing() {
    let session = Session::new();
    let Some(terminal) = Terminal::new(&session, 80) else {
        return;
    };
    hold(&terminal, &session);
    // Redrawn several times: the age of the proof moves.
    let screen = terminal.wait(|screen| screen.contains("verified in full 2 s ago"));
    assert!(screen.starts_with("simulated:0  verified in full 2 s ago, 3.0 MiB of 8.0 GiB"));
    assert_eq!(screen.lines().count(), 4, "{screen}");
    assert!(
        screen.contains("1 verification passed; the next in "),
        "{screen}"
    );
    terminal.ask(&["send-keys", "C-c"]);
    let screen = terminal.wait(|screen| screen.contains("ended "));
    assert!(screen.starts_with("ended 0\n"), "{screen}");
    assert_eq!(
        terminal.ask(&["display-message", "-p", "#{cursor_flag}"]),
        "1\n"
    );
    assert!(
        session
            .read("out")
            .ends_with("freed     wiped; 0 of 8589934592 bytes in use\n")
    );
}

#[test]
fn a_narrow_or_resized_terminal_shows_each_line_once() {
    let session = Session::new();
    let Some(terminal) = Terminal::new(&session, 100) else {
        return;
    };
    hold(&terminal, &session);
    terminal.wait(|screen| screen.contains("verified in full 1 s ago"));
    for columns in ["30", "120", "17"] {
        terminal.ask(&["resize-window", "-x", columns, "-y", "24"]);
        let width: usize = columns.parse().unwrap();
        let screen = terminal.wait(|screen| {
            // Drawn again at the new width: the longest line is cut to it.
            screen.lines().map(|line| line.chars().count()).max() == Some(width - 1)
        });
        assert_eq!(lines_with(&screen, "simulated:0").len(), 1, "{screen}");
        assert_eq!(screen.lines().count(), 4, "{screen}");
    }
    terminal.ask(&["send-keys", "C-c"]);
    let screen = terminal.wait(|screen| screen.contains("ended "));
    assert!(screen.starts_with("ended 0\n"), "{screen}");
}

#[test]
fn a_terminal_that_cannot_draw_gets_plain_lines() {
    let session = Session::new();
    let Some(terminal) = Terminal::new(&session, 100) else {
        return;
    };
    terminal.types("export TERM=dumb NO_COLOR=1");
    session.file("model", 3 << 20);
    terminal.ask(&["pipe-pane", "cat >raw"]);
    let vram = env!("CARGO_BIN_EXE_vram");
    let options = "--format raw --device sim --hold --every 50ms";
    terminal.types(&format!("{vram} seal model {options}"));
    terminal.wait(|screen| screen.matches("verified  2").count() > 3);
    terminal.ask(&["send-keys", "C-c"]);
    terminal.wait(|screen| screen.contains("freed     wiped; 0 of"));
    let raw = session.read("raw");
    assert!(raw.contains("verified  full: "), "{raw}");
    assert!(!raw.contains('\u{1b}'), "{raw:?}");
}

#[test]
fn several_files_show_how_far_each_and_all_are() {
    let session = Session::new();
    let Some(terminal) = Terminal::new(&session, 160) else {
        return;
    };
    // Sparse: long enough to be watched, and no byte of the disk.
    for name in ["one", "two"] {
        let file = std::fs::File::create(session.path(name)).unwrap();
        file.set_len(64 << 30).unwrap();
    }
    let vram = env!("CARGO_BIN_EXE_vram");
    for group in ["", "--group"] {
        let options = format!("--format raw --device sim:130GiB,discard {group}");
        terminal.types(&format!(
            "clear; {vram} seal one two {options} 2>&1 >out; echo ended $?"
        ));
        let screen = terminal.wait(|screen| {
            let one = screen.split("loading 2 files; one: ").nth(1);
            screen.contains("of 128.0 GiB, ")
                && one.is_some_and(|one| one.contains("of 64.0 GiB, ") && one.ends_with(" left"))
        });
        assert_eq!(screen.lines().count(), 1, "{screen}");
        assert_eq!(screen.matches(" GB/s, ").count(), 2, "{screen}");
        terminal.ask(&["send-keys", "C-c"]);
        terminal.wait(|screen| screen.contains("ended 1"));
    }
}

#[test]
fn the_progress_bar_is_one_line_at_any_width() {
    let session = Session::new();
    let Some(terminal) = Terminal::new(&session, 80) else {
        return;
    };
    // Sparse: long enough to be watched, and no byte of the disk.
    let file = std::fs::File::create(session.path(&"m".repeat(90))).unwrap();
    file.set_len(64 << 30).unwrap();
    let vram = env!("CARGO_BIN_EXE_vram");
    for (columns, shows) in [("80", "of 64.0 GiB, "), ("30", " %, ")] {
        terminal.ask(&["resize-window", "-x", columns, "-y", "24"]);
        let options = "--format raw --device sim:65GiB,discard";
        terminal.types(&format!(
            "clear; {vram} seal m* {options} 2>&1 >out; echo ended $?"
        ));
        let screen = terminal.wait(|screen| screen.contains(shows));
        assert_eq!(screen.lines().count(), 1, "{screen}");
        assert!(
            screen.contains(" left  ") && screen.ends_with("mmm"),
            "{screen}"
        );
        terminal.ask(&["send-keys", "C-c"]);
        let screen = terminal.wait(|screen| screen.contains("ended 1"));
        // Nothing of it is left, not even where the terminal showed ^C.
        assert!(screen.starts_with("vram: error: loading "), "{screen}");
        assert!(!screen.contains(" left  "), "{screen}");
    }
}
