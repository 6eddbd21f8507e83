//! See the target `seal_verification` in the crate `fuzz-targets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::run("seal_verification", data);
});
