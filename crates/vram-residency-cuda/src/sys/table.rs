//! The table of driver symbols.

use std::ffi::{OsStr, c_char, c_int, c_uint, c_void};

use super::library::{LoadError, SharedLibrary, resolved_path};
use super::{
    CuAccessDesc, CuAllocationProp, CuContext, CuDevice, CuDevicePtr, CuEvent, CuFunction,
    CuMemHandle, CuMemLocation, CuModule, CuResult, CuStream, CuUuid,
};

/// Declares the table, its loader, and the lists of names.
macro_rules! table {
    (
        required { $($req:ident($($ra:ty),*) = $rs:literal;)* }
        optional { $($opt:ident($($oa:ty),*) = $os:literal;)* }
    ) => {
        /// Pointers to the driver's functions. Required ones are there or loading
        /// fails; optional ones are `None` where the driver is too old for them.
        pub struct Table {
            $(#[doc = concat!("`", $rs, "`")]
            pub $req: unsafe extern "C" fn($($ra),*) -> CuResult,)*
            $(#[doc = concat!("`", $os, "`")]
            pub $opt: Option<unsafe extern "C" fn($($oa),*) -> CuResult>,)*
        }

        impl Table {
            /// Names without which loading fails.
            pub const REQUIRED: &[&str] = &[$($rs),*];
            /// Names that an older driver may lack.
            pub const OPTIONAL: &[&str] = &[$($os),*];

            fn find(library: &SharedLibrary) -> Result<Self, LoadError> {
                Ok(Self {
                    $($req: {
                        // SAFETY: the signature is the one that cuda.h gives for this name.
                        unsafe { library.required($rs) }?
                    },)*
                    $($opt: {
                        // SAFETY: the signature is the one that cuda.h gives for this name.
                        unsafe { library.optional($os) }
                    },)*
                })
            }
        }
    };
}

table! {
    required {
        init(c_uint) = "cuInit";
        driver_get_version(*mut c_int) = "cuDriverGetVersion";
        get_error_name(CuResult, *mut *const c_char) = "cuGetErrorName";
        get_error_string(CuResult, *mut *const c_char) = "cuGetErrorString";

        device_get_count(*mut c_int) = "cuDeviceGetCount";
        device_get(*mut CuDevice, c_int) = "cuDeviceGet";
        device_get_name(*mut c_char, c_int, CuDevice) = "cuDeviceGetName";
        device_get_uuid(*mut CuUuid, CuDevice) = "cuDeviceGetUuid";
        device_total_mem(*mut usize, CuDevice) = "cuDeviceTotalMem_v2";
        device_get_attribute(*mut c_int, c_uint, CuDevice) = "cuDeviceGetAttribute";
        device_get_pci_bus_id(*mut c_char, c_int, CuDevice) = "cuDeviceGetPCIBusId";

        primary_ctx_retain(*mut CuContext, CuDevice) = "cuDevicePrimaryCtxRetain";
        primary_ctx_release(CuDevice) = "cuDevicePrimaryCtxRelease_v2";
        ctx_push_current(CuContext) = "cuCtxPushCurrent_v2";
        ctx_pop_current(*mut CuContext) = "cuCtxPopCurrent_v2";
        ctx_get_current(*mut CuContext) = "cuCtxGetCurrent";

        stream_create(*mut CuStream, c_uint) = "cuStreamCreate";
        stream_destroy(CuStream) = "cuStreamDestroy_v2";
        stream_synchronize(CuStream) = "cuStreamSynchronize";
        event_create(*mut CuEvent, c_uint) = "cuEventCreate";
        event_destroy(CuEvent) = "cuEventDestroy_v2";
        event_record(CuEvent, CuStream) = "cuEventRecord";
        event_synchronize(CuEvent) = "cuEventSynchronize";
        event_query(CuEvent) = "cuEventQuery";

        module_load_data(*mut CuModule, *const c_void) = "cuModuleLoadData";
        module_unload(CuModule) = "cuModuleUnload";
        module_get_function(*mut CuFunction, CuModule, *const c_char) = "cuModuleGetFunction";
        launch_kernel(
            CuFunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CuStream,
            *mut *mut c_void, *mut *mut c_void
        ) = "cuLaunchKernel";

        mem_get_info(*mut usize, *mut usize) = "cuMemGetInfo_v2";
        mem_get_address_range(*mut CuDevicePtr, *mut usize, CuDevicePtr)
            = "cuMemGetAddressRange_v2";
        mem_alloc(*mut CuDevicePtr, usize) = "cuMemAlloc_v2";
        mem_free(CuDevicePtr) = "cuMemFree_v2";
        mem_host_alloc(*mut *mut c_void, usize, c_uint) = "cuMemHostAlloc";
        mem_free_host(*mut c_void) = "cuMemFreeHost";
        memcpy_htod_async(CuDevicePtr, *const c_void, usize, CuStream) = "cuMemcpyHtoDAsync_v2";
        memcpy_dtoh_async(*mut c_void, CuDevicePtr, usize, CuStream) = "cuMemcpyDtoHAsync_v2";
        memcpy_dtod_async(CuDevicePtr, CuDevicePtr, usize, CuStream) = "cuMemcpyDtoDAsync_v2";
        memset_d8_async(CuDevicePtr, u8, usize, CuStream) = "cuMemsetD8Async";
        pointer_get_attributes(c_uint, *mut c_uint, *mut *mut c_void, CuDevicePtr)
            = "cuPointerGetAttributes";
    }
    optional {
        device_get_uuid_v2(*mut CuUuid, CuDevice) = "cuDeviceGetUuid_v2";

        mem_address_reserve(*mut CuDevicePtr, usize, usize, CuDevicePtr, u64)
            = "cuMemAddressReserve";
        mem_address_free(CuDevicePtr, usize) = "cuMemAddressFree";
        mem_create(*mut CuMemHandle, usize, *const CuAllocationProp, u64) = "cuMemCreate";
        mem_release(CuMemHandle) = "cuMemRelease";
        mem_map(CuDevicePtr, usize, usize, CuMemHandle, u64) = "cuMemMap";
        mem_unmap(CuDevicePtr, usize) = "cuMemUnmap";
        mem_set_access(CuDevicePtr, usize, *const CuAccessDesc, usize) = "cuMemSetAccess";
        mem_get_access(*mut u64, *const CuMemLocation, CuDevicePtr) = "cuMemGetAccess";
        mem_get_allocation_granularity(*mut usize, *const CuAllocationProp, c_uint)
            = "cuMemGetAllocationGranularity";
        mem_get_allocation_properties(*mut CuAllocationProp, CuMemHandle)
            = "cuMemGetAllocationPropertiesFromHandle";
        mem_retain_allocation_handle(*mut CuMemHandle, *mut c_void)
            = "cuMemRetainAllocationHandle";
        mem_export_to_shareable_handle(*mut c_void, CuMemHandle, c_uint, u64)
            = "cuMemExportToShareableHandle";
        mem_import_from_shareable_handle(*mut CuMemHandle, *mut c_void, c_uint)
            = "cuMemImportFromShareableHandle";

        device_can_access_peer(*mut c_int, CuDevice, CuDevice) = "cuDeviceCanAccessPeer";
        memcpy_peer_async(CuDevicePtr, CuContext, CuDevicePtr, CuContext, usize, CuStream)
            = "cuMemcpyPeerAsync";

        mem_alloc_managed(*mut CuDevicePtr, usize, c_uint) = "cuMemAllocManaged";
        mem_host_register(*mut c_void, usize, c_uint) = "cuMemHostRegister_v2";
        mem_host_unregister(*mut c_void) = "cuMemHostUnregister";
        mem_host_get_device_pointer(*mut CuDevicePtr, *mut c_void, c_uint)
            = "cuMemHostGetDevicePointer_v2";
    }
}

impl Table {
    /// Opens `library` and looks every symbol up. Also returns the path of the
    /// file that the loader chose.
    ///
    /// # Errors
    /// [`LoadError`] with the loader's reason, or the first missing symbol.
    pub fn load(library: &OsStr) -> Result<(Self, String), LoadError> {
        let opened = SharedLibrary::open(library)?;
        let table = Self::find(&opened)?;
        let path = resolved_path(table.init as usize)
            .unwrap_or_else(|| library.to_string_lossy().into_owned());
        Ok((table, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_without_driver_symbols_is_refused_by_name() {
        let error = Table::load(OsStr::new("libc.so.6")).err().unwrap();
        assert_eq!(
            error,
            LoadError::Symbol {
                library: "libc.so.6".into(),
                symbol: "cuInit"
            },
        );
    }

    #[test]
    fn no_symbol_is_listed_twice_or_with_a_nul() {
        let mut all: Vec<_> = Table::REQUIRED.iter().chain(Table::OPTIONAL).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(
            all.iter()
                .all(|name| name.starts_with("cu") && !name.contains('\0'))
        );
    }
}
