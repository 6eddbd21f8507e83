//! The CUDA backend of `vram-residency`, in three levels.
//!
//! * [`sys`]: the driver's own symbols, found with `dlopen` when the program
//!   runs. No toolkit, header or stub library is needed to build.
//! * [`driver`]: one thin function per driver call. Failures are values with
//!   the driver's own name and text; a code that this crate does not know
//!   survives as its number.
//!
//! All `unsafe` code of the backend is in this crate.

pub mod driver;
pub mod sys;
