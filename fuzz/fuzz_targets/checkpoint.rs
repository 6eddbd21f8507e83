//! See `checkpoint` in the tests' `fuzz_support`, which replays the seeds on stable.
#![no_main]

#[path = "../../crates/vram-residency/tests/fuzz_support/mod.rs"]
#[allow(dead_code, reason = "each target uses one of them")]
mod fuzz_support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz_support::checkpoint(data));
