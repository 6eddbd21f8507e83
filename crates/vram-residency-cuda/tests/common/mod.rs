//! Shared by the integration tests.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "test code; not every test uses every helper"
)]

pub mod fake;
pub mod machine;
pub mod readers;
#[path = "../../../vram-residency/tests/common/skipped.rs"]
mod skipped;

pub use machine::{Machine, assert_restored, free, sample, take};
pub use readers::readers;
pub(crate) use skipped::skipped;
