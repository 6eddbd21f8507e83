//! Result codes of the driver, with the names and texts that it reports.

use std::ffi::CStr;

/// A failed call's `CUresult`. Any number: tests inject codes nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CuError(pub(crate) u32);

pub(crate) const SUCCESS: u32 = 0;

macro_rules! codes {
    (
        named { $($konst:ident = $code:literal, $name:literal, $text:literal;)* }
        injected { $($other:literal, $other_name:literal, $other_text:literal;)* }
    ) => {
        impl CuError {
            $(pub(crate) const $konst: CuError = CuError($code);)*
        }

        const TABLE: &[(u32, &CStr, &CStr)] = &[
            (SUCCESS, c"CUDA_SUCCESS", c"no error"),
            $(($code, $name, $text),)*
            $(($other, $other_name, $other_text),)*
        ];
    };
}

// `injected`: codes that only faults of kernels and plans of tests produce.
codes! {
    named {
    INVALID_VALUE = 1, c"CUDA_ERROR_INVALID_VALUE", c"invalid argument";
    OUT_OF_MEMORY = 2, c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory";
    NOT_INITIALIZED = 3, c"CUDA_ERROR_NOT_INITIALIZED", c"initialization error";
    NO_DEVICE = 100, c"CUDA_ERROR_NO_DEVICE", c"no CUDA-capable device is detected";
    INVALID_DEVICE = 101, c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal";
    INVALID_IMAGE = 200, c"CUDA_ERROR_INVALID_IMAGE", c"device kernel image is invalid";
    INVALID_CONTEXT = 201, c"CUDA_ERROR_INVALID_CONTEXT", c"invalid device context";
    NO_BINARY = 209, c"CUDA_ERROR_NO_BINARY_FOR_GPU", c"no kernel image is available for execution on the device";
    INVALID_PTX = 218, c"CUDA_ERROR_INVALID_PTX", c"a PTX JIT compilation failed";
    UNSUPPORTED_PTX = 222, c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", c"the provided PTX was compiled with an unsupported toolchain.";
    OPERATING_SYSTEM = 304, c"CUDA_ERROR_OPERATING_SYSTEM", c"OS call failed or operation not supported on this OS";
    INVALID_HANDLE = 400, c"CUDA_ERROR_INVALID_HANDLE", c"invalid resource handle";
    NOT_FOUND = 500, c"CUDA_ERROR_NOT_FOUND", c"named symbol not found";
    NOT_READY = 600, c"CUDA_ERROR_NOT_READY", c"device not ready";
    ILLEGAL_ADDRESS = 700, c"CUDA_ERROR_ILLEGAL_ADDRESS", c"an illegal memory access was encountered";
    PEER_UNSUPPORTED = 217, c"CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", c"peer access is not supported between these two devices";
    PEER_ALREADY_ENABLED = 704, c"CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", c"peer access is already enabled";
    PEER_NOT_ENABLED = 705, c"CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", c"peer access has not been enabled";
    CONTEXT_DESTROYED = 709, c"CUDA_ERROR_CONTEXT_IS_DESTROYED", c"context is destroyed";
    ALREADY_REGISTERED = 712, c"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", c"part or all of the requested memory range is already mapped";
    NOT_REGISTERED = 713, c"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", c"pointer does not correspond to a registered memory region";
    NOT_SUPPORTED = 801, c"CUDA_ERROR_NOT_SUPPORTED", c"operation not supported";
    UNKNOWN = 999, c"CUDA_ERROR_UNKNOWN", c"unknown error";
    }
    injected {
        214, c"CUDA_ERROR_ECC_UNCORRECTABLE", c"uncorrectable ECC error encountered";
        702, c"CUDA_ERROR_LAUNCH_TIMEOUT", c"the launch timed out and was terminated";
        716, c"CUDA_ERROR_MISALIGNED_ADDRESS", c"misaligned address";
        719, c"CUDA_ERROR_LAUNCH_FAILED", c"unspecified launch failure";
        800, c"CUDA_ERROR_NOT_PERMITTED", c"operation not permitted";
    }
}

/// The symbolic name of a code, `None` for one that this driver does not know.
pub(crate) fn name(code: u32) -> Option<&'static CStr> {
    TABLE.iter().find(|row| row.0 == code).map(|row| row.1)
}

/// The text of a code, `None` for one that this driver does not know.
pub(crate) fn text(code: u32) -> Option<&'static CStr> {
    TABLE.iter().find(|row| row.0 == code).map(|row| row.2)
}
