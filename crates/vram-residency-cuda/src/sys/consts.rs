//! Numbers of the driver's header that this crate passes or compares.

/// `CU_STREAM_NON_BLOCKING`: no implicit ordering with the legacy stream, so
/// that a host application's own work is not disturbed.
pub const STREAM_NON_BLOCKING: u32 = 1;
/// `CU_MEM_ALLOCATION_TYPE_PINNED`: memory that does not migrate.
pub const ALLOCATION_TYPE_PINNED: u32 = 1;
/// `CU_MEM_ALLOC_GRANULARITY_MINIMUM`.
pub const GRANULARITY_MINIMUM: u32 = 0;
/// `CU_MEM_ATTACH_GLOBAL`.
pub const MANAGED_ATTACH_GLOBAL: u32 = 1;

/// Flags of `cuEventCreate`.
pub mod event {
    /// `CU_EVENT_DISABLE_TIMING`.
    pub const DISABLE_TIMING: u32 = 2;
}

/// Flags of `cuMemHostAlloc`.
pub mod host_alloc {
    /// `CU_MEMHOSTALLOC_PORTABLE`: pinned for every context.
    pub const PORTABLE: u32 = 1;
    /// `CU_MEMHOSTALLOC_DEVICEMAP`.
    pub const DEVICE_MAP: u32 = 2;
}

/// Flags of `cuMemHostRegister`.
pub mod host_register {
    /// `CU_MEMHOSTREGISTER_DEVICEMAP`.
    pub const DEVICE_MAP: u32 = 2;
}

/// `CUmemLocationType`.
pub mod location {
    /// On a device.
    pub const DEVICE: u32 = 1;
    /// In host memory.
    pub const HOST: u32 = 2;
    /// In host memory of one NUMA node.
    pub const HOST_NUMA: u32 = 3;
}

/// `CUmemAllocationHandleType`.
pub mod handle_type {
    /// Shareable as a POSIX file descriptor.
    pub const POSIX_FD: u32 = 1;
}

/// `CUmemAccess_flags`.
pub mod access {
    /// No access.
    pub const NONE: u32 = 0;
    /// Read only.
    pub const READ: u32 = 1;
    /// Read and write.
    pub const READ_WRITE: u32 = 3;
}

/// `CUmemorytype`.
pub mod memory_type {
    /// Host memory.
    pub const HOST: u32 = 1;
    /// Device memory.
    pub const DEVICE: u32 = 2;
    /// Array memory.
    pub const ARRAY: u32 = 3;
    /// Unified memory.
    pub const UNIFIED: u32 = 4;
}

/// `CUpointer_attribute`.
pub mod pointer_attribute {
    /// One of [`super::memory_type`], as `u32`.
    pub const MEMORY_TYPE: u32 = 2;
    /// Host address of the same bytes, or null.
    pub const HOST_POINTER: u32 = 4;
    /// Managed memory, as `u32`.
    pub const IS_MANAGED: u32 = 8;
    /// Device ordinal, as `i32`.
    pub const DEVICE_ORDINAL: u32 = 9;
}

/// `CUdevice_attribute`.
pub mod attribute {
    /// Number of multiprocessors.
    pub const MULTIPROCESSOR_COUNT: u32 = 16;
    /// Shares memory with the CPU.
    pub const INTEGRATED: u32 = 18;
    /// 0 default, 2 prohibited, 3 exclusive process.
    pub const COMPUTE_MODE: u32 = 20;
    /// ECC is on.
    pub const ECC_ENABLED: u32 = 32;
    /// Major compute capability.
    pub const COMPUTE_CAPABILITY_MAJOR: u32 = 75;
    /// Minor compute capability.
    pub const COMPUTE_CAPABILITY_MINOR: u32 = 76;
    /// The virtual memory API works.
    pub const VIRTUAL_MEMORY: u32 = 102;
    /// Physical memory can be exported as a POSIX file descriptor.
    pub const POSIX_FD_HANDLES: u32 = 103;
}
