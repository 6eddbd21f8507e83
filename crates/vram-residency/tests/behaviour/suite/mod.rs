//! The behaviour scenarios: features in `../features`, steps in `steps`. The CUDA
//! backend's tests include this folder too, so nothing here names a backend.
#![allow(dead_code, reason = "each feature uses its part")]

mod features;
#[path = "../../common/forward.rs"]
mod forward;
mod run;
mod stage;
mod steps;
mod tap;

pub(crate) use run::run;
pub(crate) use stage::{Machine, Setting};
