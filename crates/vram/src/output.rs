//! Where lines go: results to stdout, messages to stderr.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use crate::environment;
use crate::failure::Failure;
use crate::text::printable;

/// How this run talks.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// Lines of a log go to stderr as well.
    logs: bool,
}

impl Output {
    pub(crate) const fn new(json: bool, quiet: bool, logs: bool) -> Self {
        Self { json, quiet, logs }
    }

    /// Results are wanted as JSON.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// No progress and no notes are wanted.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A person watches stderr and wants to see movement.
    pub(crate) fn is_live(&self) -> bool {
        !self.quiet
            && !self.logs
            && std::io::stderr().is_terminal()
            && !environment::terminal_is_dumb()
    }

    /// One line of the result, byte for byte.
    pub(crate) fn line(&self, line: impl AsRef<[u8]>) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let written = out
            .write_all(line.as_ref())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush());
        written.map_err(|error| Failure::stdout(&error))
    }

    /// A result as one line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_vec(value);
        let text = text.map_err(|error| Failure::new(format!("cannot write JSON: {error}")))?;
        self.line(text)
    }

    /// A result: with --json the value, and else the line.
    pub(crate) fn result(&self, value: &impl Serialize, line: &str) -> Result<(), Failure> {
        if self.json {
            return self.json(value);
        }
        self.line(line)
    }

    /// Something that people should know and programs need not.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            say("note", text);
        }
    }
}

/// One line on stderr: `vram: KIND: TEXT`.
pub(crate) fn say(kind: &str, text: &str) {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(
        std::io::stderr().lock(),
        "vram: {kind}: {}",
        printable(text)
    );
}

/// Draws a line over the one that took `drawn` columns; an empty one leaves
/// nothing. A line that a narrower terminal wrapped since is wiped whole.
pub(crate) fn draw(drawn: &mut usize, columns: usize, line: &str) {
    let up = drawn.div_ceil(columns.max(1)).saturating_sub(1);
    let back = match up {
        0 => String::from("\r\x1b[J"),
        up => format!("\r\x1b[{up}A\x1b[J"),
    };
    *drawn = line.chars().count();
    show(&(back + line));
}

/// In one piece, so that nothing is seen half drawn.
pub(crate) fn show(text: &str) {
    // Without a stderr there is nobody to show it to.
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Columns and rows of the terminal behind stderr now; 80 by 24 where it does
/// not say.
pub(crate) fn terminal_size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok();
    let known = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}
