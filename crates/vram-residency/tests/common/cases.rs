//! How many cases a property gets, and what they follow from.

use proptest::test_runner::{Config, RngSeed};

/// Property tests: `cases` of them unless `PROPTEST_CASES` says otherwise, from
/// a fixed seed that a failure prints.
pub(crate) fn cases(cases: u32) -> Config {
    const SEED: u64 = 0x5EA1_ED5E;
    let chosen = std::env::var_os("PROPTEST_CASES").is_some();
    let base = Config::default();
    let seeded = std::env::var_os("PROPTEST_RNG_SEED").is_some();
    let config = Config {
        cases: if chosen { base.cases } else { cases },
        rng_seed: if seeded {
            base.rng_seed
        } else {
            RngSeed::Fixed(SEED)
        },
        failure_persistence: None,
        ..base
    };
    // Shown by the test harness when the test fails.
    println!("seed {:?}, {} cases", config.rng_seed, config.cases);
    config
}
