//! The behaviour scenarios: features in `../features`, steps in `steps`. The CUDA
//! backend's tests include this folder too, so nothing here names a backend.
#![allow(dead_code, unused_imports, reason = "each program uses its part")]

mod features;
#[path = "../../common/forward.rs"]
mod forward;
mod refused;
mod run;
mod stage;
mod steps;
mod tap;

pub(crate) use refused::bad_features_fail;
pub(crate) use run::run;
pub(crate) use stage::{Machine, Setting};
