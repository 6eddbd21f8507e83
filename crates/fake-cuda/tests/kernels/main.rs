//! The committed PTX, and that of a second compiler, run in the interpreter and compared with
//! `vram-digest`: same digests, same tags, not one byte read outside the range.

mod memory;
mod nhpoly1305;
mod rig;
mod sha256;
