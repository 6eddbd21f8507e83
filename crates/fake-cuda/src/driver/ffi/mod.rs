//! The exported symbols, named and typed as in `cuda.h`. A call that is not
//! here does not exist in this library: looking it up fails.
//!
//! Every function counts itself, obeys the test's plan, and refuses to work
//! before `cuInit`. Handles are numbers in pointers' clothing; none is ever
//! dereferenced. The safety contract of each function is the one of `cuda.h`:
//! out-parameters point to objects of the caller's, host ranges are as long as
//! the call says, strings end with NUL.

// The names are NVIDIA's.
#![allow(non_snake_case, reason = "the C names of the driver's symbols")]

mod context;
mod control;
mod copy;
mod device;
mod event;
mod host;
mod memory;
mod module;
mod nvml;
mod pointer;
mod stream;
mod vmm;

use super::codes::{CuError, SUCCESS};
use super::state::{Driver, with};

/// Calls that work before `cuInit`.
const NEEDS_NO_INIT: [&str; 4] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
];

/// Runs one exported call.
fn call(name: &str, f: impl FnOnce(&mut Driver) -> Result<(), CuError>) -> u32 {
    let result = with(|driver| {
        let later = driver.enter(name)?;
        if !NEEDS_NO_INIT.contains(&name) {
            if !driver.initialised {
                return Err(CuError::NOT_INITIALIZED);
            }
            driver.breathe();
        }
        let result = f(driver);
        for action in later {
            driver.act(&action);
        }
        result
    });
    match result.and_then(|r| r) {
        Ok(()) => SUCCESS,
        Err(CuError(code)) => code,
    }
}
