//! The driver: its state, and the C symbols over it.

mod codes;
mod contexts;
mod control;
mod ffi;
mod memory;
mod options;
mod physical;
mod plan;
mod queue;
mod raw;
mod report;
mod space;
mod state;
mod visible;
mod vmm;
mod work;
