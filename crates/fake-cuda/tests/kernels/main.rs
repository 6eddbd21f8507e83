//! The committed PTX, and that of a second compiler, run in the interpreter and compared with
//! `vram-digest`: same digests, same tags, not one byte read outside the range.
//! requirement: CI-004
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "test code"
)]

mod memory;
mod nhpoly1305;
mod rig;
mod sha256;
