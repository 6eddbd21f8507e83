//! The CUDA driver's symbols, types and numbers, as its ABI has them.
//!
//! The table is this crate's own, where FF-9 asks for an existing binding: those
//! abort the process when the driver or a symbol is missing, or hold a Rust enum
//! where the driver may return any number (requirement: FF-9). Here a symbol that
//! an older driver lacks is `None` or an error, a result code that a newer driver
//! invents is a number ([`CuResult`]), and no Rust enum crosses the boundary.
//! Names with `_v2` are the ones that the ABI has used since CUDA 3.2; a plain
//! `dlsym` of the short name would find the 32-bit predecessors.

mod consts;
pub(crate) mod library;
mod result;
mod table;
mod types;

pub use consts::{
    ALLOCATION_TYPE_PINNED, GRANULARITY_MINIMUM, MANAGED_ATTACH_GLOBAL, STREAM_NON_BLOCKING,
    memory_type, pointer_attribute,
};
pub use consts::{access, attribute, event, handle_type, host_alloc, host_register, location};
pub use library::{DEFAULT_LIBRARY, LoadError};
pub use result::CuResult;
pub use table::Table;
pub use types::{
    CuAccessDesc, CuAllocationProp, CuContext, CuDevice, CuDevicePtr, CuEvent, CuFunction,
    CuMemHandle, CuMemLocation, CuModule, CuStream, CuUuid,
};
