//! See the target `vram_allocation` in the crate `fuzz-targets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::run("vram_allocation", data);
});
