//! The few NVML symbols that reports need.

use std::ffi::{OsStr, c_char, c_int, c_uint};

use crate::sys::LoadError;
use crate::sys::library::SharedLibrary;

/// `nvmlReturn_t`, a number like the driver's result codes.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NvmlResult(pub u32);

impl NvmlResult {
    /// The call did its work.
    pub const SUCCESS: Self = Self(0);
    /// The device does not have what was asked for.
    pub const NOT_SUPPORTED: Self = Self(3);
}

/// `nvmlDevice_t`: a token of the library's.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct NvmlDevice(pub(crate) usize);

type TwoNumbers = unsafe extern "C" fn(NvmlDevice, *mut c_uint, *mut c_uint) -> NvmlResult;
type FourNumbers = unsafe extern "C" fn(
    NvmlDevice,
    *mut c_uint,
    *mut c_uint,
    *mut c_uint,
    *mut c_uint,
) -> NvmlResult;
type ErrorCount = unsafe extern "C" fn(NvmlDevice, c_int, c_int, *mut u64) -> NvmlResult;

/// Pointers to the library's functions; `None` where it is too old.
pub(crate) struct Table {
    pub(crate) init: unsafe extern "C" fn() -> NvmlResult,
    pub(crate) shutdown: unsafe extern "C" fn() -> NvmlResult,
    pub(crate) error_string: unsafe extern "C" fn(NvmlResult) -> *const c_char,
    pub(crate) driver_version: unsafe extern "C" fn(*mut c_char, c_uint) -> NvmlResult,
    pub(crate) by_pci: unsafe extern "C" fn(*const c_char, *mut NvmlDevice) -> NvmlResult,
    pub(crate) ecc_mode: TwoNumbers,
    pub(crate) ecc_errors: ErrorCount,
    pub(crate) mig_mode: Option<TwoNumbers>,
    pub(crate) remapped_rows: Option<FourNumbers>,
}

impl Table {
    pub(crate) fn load(name: &OsStr) -> Result<Self, LoadError> {
        let library = SharedLibrary::open(name)?;
        Ok(Self {
            // SAFETY: the signature is the one that nvml.h gives for this name.
            init: unsafe { library.required("nvmlInit_v2") }?,
            // SAFETY: the signature is the one that nvml.h gives for this name.
            shutdown: unsafe { library.required("nvmlShutdown") }?,
            // SAFETY: the signature is the one that nvml.h gives for this name.
            error_string: unsafe { library.required("nvmlErrorString") }?,
            // SAFETY: the signature is the one that nvml.h gives for this name.
            driver_version: unsafe { library.required("nvmlSystemGetDriverVersion") }?,
            // SAFETY: the signature is the one that nvml.h gives for this name.
            by_pci: unsafe { library.required("nvmlDeviceGetHandleByPciBusId_v2") }?,
            // SAFETY: the signature is the one that nvml.h gives for this name.
            ecc_mode: unsafe { library.required("nvmlDeviceGetEccMode") }?,
            // SAFETY: the signature is the one that nvml.h gives for this name.
            ecc_errors: unsafe { library.required("nvmlDeviceGetTotalEccErrors") }?,
            // SAFETY: the signature is the one that nvml.h gives for this name.
            mig_mode: unsafe { library.optional("nvmlDeviceGetMigMode") },
            // SAFETY: the signature is the one that nvml.h gives for this name.
            remapped_rows: unsafe { library.optional("nvmlDeviceGetRemappedRows") },
        })
    }
}
