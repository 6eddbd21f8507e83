//! What a cap does to the whole process. A program of its own: in others the caps
//! of tests that run beside it would hold.

use vram_digest::path::{Path, active, cap_for_tests, detected};

#[test]
fn a_cap_ends_with_its_guard() {
    assert_eq!(active(), detected());
    let cap = cap_for_tests(Path::Portable);
    assert_eq!(active(), Path::Portable);
    drop(cap);
    assert_eq!(active(), detected());
}
