//! Many schedules of one model; the CUDA crate's models use this file as well.

use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Threads that a schedule of the second kind changes priorities among.
const DEPTH: usize = 3;
/// Ours need more than the scheduler's 32 KiB.
const STACK_BYTES: usize = 1 << 20;

/// Runs `model` in as many schedules as asked for: half of them choose at random
/// at every step, the others seldom, which finds other bugs (probabilistic
/// concurrency testing). The seed is printed and repeats a run.
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    let seed = number("VRAM_RACES_SEED", 1);
    let schedules = usize::try_from(number("VRAM_RACES_SCHEDULES", 100)).unwrap();
    println!("seed {seed}, {schedules} schedules");
    let (model, half) = (Arc::new(model), schedules.div_ceil(2));
    run(&model, RandomScheduler::new_from_seed(seed, half), half);
    run(&model, PctScheduler::new_from_seed(seed, DEPTH, half), half);
}

fn run<M: Fn() + Send + Sync + 'static>(
    model: &Arc<M>,
    scheduler: impl Scheduler + 'static,
    schedules: usize,
) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.silence_warnings = true;
    let model = Arc::clone(model);
    let ran = Runner::new(scheduler, config).run(move || model());
    assert_eq!(ran, schedules, "not every schedule ran");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
