//! See the target `lfs_pointer` in the crate `fuzz-targets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::run("lfs_pointer", data);
});
