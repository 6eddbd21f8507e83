//! The `vram` command.
#![forbid(unsafe_code)]

fn main() {}
