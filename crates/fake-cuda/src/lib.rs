//! A test-only CUDA driver.
//!
//! Built as a shared library (`libfake_cuda.so`) this crate *is* a
//! `libcuda.so.1` for tests of the CUDA backend on machines without a GPU.
//! As a Rust library it offers the [`ptx`] interpreter, so that kernels can be
//! tested without any driver.
//!
//! It is never published and nothing that ships depends on it.

pub mod ptx;
