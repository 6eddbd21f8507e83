//! Seal model weights in VRAM and keep proving that they are the file that was signed off.
#![forbid(unsafe_code)]

pub mod device;
pub mod format;
pub mod sim;
