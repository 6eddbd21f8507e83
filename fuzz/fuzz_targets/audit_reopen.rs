//! See the target `audit_reopen` in the crate `fuzz-targets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_targets::run("audit_reopen", data);
});
