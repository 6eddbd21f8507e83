//! The behaviour scenarios: features in `../features`, steps in `steps`. The CUDA
//! backend's tests include this folder too, so nothing here names a backend.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::needless_pass_by_value,
    reason = "test code; steps take what the runner hands them"
)]

mod features;
mod run;
mod stage;
mod steps;
mod tap;

pub(crate) use run::run;
pub(crate) use stage::Machine;
