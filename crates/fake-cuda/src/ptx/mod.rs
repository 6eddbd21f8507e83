//! A PTX interpreter: executes the very PTX text that ships, on the CPU.
//!
//! ```
//! use fake_cuda::ptx::{DEFAULT_INSTRUCTION_LIMIT, HostMemory, Launch, Module};
//!
//! let text = "
//! .version 7.0
//! .target sm_60
//! .address_size 64
//! .visible .entry double_it(.param .u64 p) {
//!     .reg .b32 %r<2>;
//!     .reg .b64 %rd<3>;
//!     ld.param.u64 %rd0, [p];
//!     mov.u32 %r0, %tid.x;
//!     mul.wide.u32 %rd1, %r0, 4;
//!     add.u64 %rd0, %rd0, %rd1;
//!     ld.global.u32 %r1, [%rd0];
//!     shl.b32 %r1, %r1, 1;
//!     st.global.u32 [%rd0], %r1;
//!     ret;
//! }";
//! let module = Module::parse(text)?;
//! let kernel = module.kernel("double_it").ok_or("no such kernel")?;
//! let mut memory = HostMemory::new();
//! let buffer = memory.alloc(&[1, 0, 0, 0, 21, 0, 0, 0]);
//! let params = kernel.pack(&[buffer]).ok_or("one parameter")?;
//! kernel.launch(&mut memory, &Launch {
//!     grid: [1, 1, 1],
//!     block: [2, 1, 1],
//!     shared_bytes: 0,
//!     params: &params,
//!     global_base: 0,
//!     instruction_limit: DEFAULT_INSTRUCTION_LIMIT,
//! })?;
//! assert_eq!(memory.bytes(buffer), Some(&[2, 0, 0, 0, 42, 0, 0, 0][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Covered: the integer instructions of PTX ISA 7.0 as NVRTC and clang emit
//! them, and 32-bit float add, subtract, multiply, fused multiply-add and
//! compare. Everything else (calls, textures, other float types, `cp.async`,
//! tensor cores, clocks) is refused when the module is loaded, by name.
//!
//! Stricter than hardware: accesses are checked to the byte, alignment always,
//! shared-memory races are faults, registers, shared and local memory start
//! poisoned, barriers must be reached by all live threads together, and
//! warp-wide operations by exactly the lanes of their mask.

// An instruction set is about changing widths; each cast here is one PTX defines.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "width and sign changes are the semantics of the instructions"
)]

mod ast;
mod cursor;
mod decode;
mod error;
mod exec;
mod inst;
mod lex;
mod memory;
mod module;
mod operand;
mod parse;

pub use error::{Access, Fault, FaultKind, MemoryError, PtxError};
pub use memory::{GlobalMemory, HostMemory};
pub use module::{DEFAULT_INSTRUCTION_LIMIT, Kernel, Launch, Module};
