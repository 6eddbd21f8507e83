//! Shared by the integration tests.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code; not every test uses every helper"
)]

pub mod fake;
pub mod machine;

pub use machine::{Machine, assert_restored, free, sample, take};
