//! Handles and structures of the driver's ABI.
//!
//! A handle is a token of the driver's that this side never dereferences, so it
//! is kept as a pointer-sized number: it has no lifetime to violate and may
//! cross threads, which the driver allows for all of them.

use std::mem::{align_of, offset_of, size_of};

/// `CUdevice`: ordinal-like number of a device.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CuDevice(pub i32);

/// `CUdeviceptr`: an address on the device. No `Debug`, so that it reaches no log.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CuDevicePtr(pub u64);

impl CuDevicePtr {
    /// The address `bytes` further on; saturates at the end of the address
    /// space, where nothing is ever mapped.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

/// `CUmemGenericAllocationHandle`: physical memory of the virtual memory API.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CuMemHandle(pub u64);

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub usize);

        impl $name {
            /// The null handle.
            pub const NULL: Self = Self(0);
        }
    )*};
}

handles! {
    /// `CUcontext`.
    CuContext
    /// `CUstream`.
    CuStream
    /// `CUevent`.
    CuEvent
    /// `CUmodule`.
    CuModule
    /// `CUfunction`.
    CuFunction
}

/// `CUuuid`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CuUuid(pub [u8; 16]);

/// `CUmemLocation`: what kind of place, and which one of them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CuMemLocation {
    /// One of [`super::location`].
    pub kind: u32,
    /// Device ordinal or NUMA node.
    pub id: i32,
}

/// `CUmemAllocationProp`: properties of physical memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CuAllocationProp {
    /// [`super::ALLOCATION_TYPE_PINNED`].
    pub kind: u32,
    /// Bits of [`super::handle_type`].
    pub requested_handle_types: u32,
    /// Where the memory lies.
    pub location: CuMemLocation,
    /// Windows only; zero here.
    pub win32_handle_meta_data: usize,
    /// Compression, RDMA, usage and reserved bytes; zero here.
    pub flags: [u8; 8],
}

/// `CUmemAccessDesc`: who may do what.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CuAccessDesc {
    /// Whose rights.
    pub location: CuMemLocation,
    /// One of [`super::access`].
    pub flags: u32,
}

// Sizes and offsets of the driver's header (cuda.h 11.0 to 13.0, 64 bit).
const _: () = assert!(size_of::<CuDevicePtr>() == 8 && size_of::<CuMemHandle>() == 8);
const _: () = assert!(size_of::<CuStream>() == size_of::<*mut u8>());
const _: () = assert!(size_of::<CuUuid>() == 16 && align_of::<CuUuid>() == 1);
const _: () = assert!(size_of::<CuMemLocation>() == 8 && align_of::<CuMemLocation>() == 4);
const _: () = assert!(offset_of!(CuMemLocation, id) == 4);
const _: () = assert!(size_of::<CuAllocationProp>() == 32 && align_of::<CuAllocationProp>() == 8);
const _: () = assert!(offset_of!(CuAllocationProp, requested_handle_types) == 4);
const _: () = assert!(offset_of!(CuAllocationProp, location) == 8);
const _: () = assert!(offset_of!(CuAllocationProp, win32_handle_meta_data) == 16);
const _: () = assert!(offset_of!(CuAllocationProp, flags) == 24);
const _: () = assert!(size_of::<CuAccessDesc>() == 12 && align_of::<CuAccessDesc>() == 4);
const _: () = assert!(offset_of!(CuAccessDesc, flags) == 8);
