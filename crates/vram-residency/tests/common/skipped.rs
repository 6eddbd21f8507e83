//! What a test says that it leaves out.

use std::io::Write as _;

/// Says that `what` was not tested where nobody can miss it: the harness hides what a passing
/// test prints by `eprintln`. `cargo xtask ci` lists it as well.
pub(crate) fn skipped(what: &str) {
    let text = format!("\n*** SKIPPED: {what} ***\n\n");
    std::io::stderr().lock().write_all(text.as_bytes()).unwrap();
}
