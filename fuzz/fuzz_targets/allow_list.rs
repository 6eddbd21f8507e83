//! See the target `allow_list` in the crate `fuzz-targets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::run("allow_list", data);
});
