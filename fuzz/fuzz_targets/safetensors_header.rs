//! Safetensors headers: no panic, nothing outside the file, and whatever is
//! accepted the reference crate accepts with the same table.
//!
//! New inputs go to the first folder, the checked-in seeds are the second:
//!
//! ```text
//! mkdir -p fuzz/target/corpus/safetensors_header
//! cargo +nightly fuzz run safetensors_header \
//!     fuzz/target/corpus/safetensors_header fuzz/corpus/safetensors_header -- \
//!     -dict=fuzz/dict/json.dict -malloc_limit_mb=64 -max_total_time=600
//! ```
#![no_main]

#[path = "../../crates/vram-residency/tests/fuzz_support/mod.rs"]
#[allow(dead_code, reason = "each target uses one of them")]
mod fuzz_support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz_support::safetensors_header(data));
