//! Driver errors as device errors, and locks that survive a panicking caller.

use tracing::debug;
use vram_residency::audit::Text;
use vram_residency::device::DeviceError;
use vram_residency::sync::{Mutex, MutexGuard, PoisonError};

use crate::driver::DriverError;
use crate::sys::CuResult;

impl From<DriverError> for DeviceError {
    fn from(error: DriverError) -> Self {
        debug!(reason = %Text::new(&error.to_string()), "a call of the driver failed");
        match error {
            DriverError::Call { op, code, text, .. } if code.is_sticky() => Self::Lost {
                op,
                code: code.0,
                text,
            },
            DriverError::Call {
                op,
                code,
                name,
                text,
            } => Self::Driver {
                op,
                code: code.0,
                name,
                text,
            },
            DriverError::Missing { op } => Self::Unsupported { what: op },
        }
    }
}

/// A failed allocation of `requested` bytes of device memory.
pub(crate) fn no_device_memory(error: DriverError, requested: u64) -> DeviceError {
    match error.code() {
        Some(CuResult::OUT_OF_MEMORY) => DeviceError::OutOfMemory { requested },
        _ => error.into(),
    }
}

/// A failed allocation of `requested` bytes of pinned host memory
/// (requirement: WORKER-4952).
pub(crate) fn no_host_memory(error: DriverError, requested: u64) -> DeviceError {
    match error.code() {
        Some(CuResult::OUT_OF_MEMORY) => DeviceError::HostOutOfMemory { requested },
        _ => error.into(),
    }
}

/// A kernel or copy that reported success and did not do its work.
pub(crate) fn silent_failure(op: &'static str, text: &str) -> DeviceError {
    DeviceError::Driver {
        op,
        code: 0,
        name: "no effect".into(),
        text: text.into(),
    }
}

/// A range of `len` bytes at `offset` that is not within `size`.
pub(crate) const fn out_of_range(offset: u64, len: u64, size: u64) -> DeviceError {
    DeviceError::OutOfRange { offset, len, size }
}

/// Locks `mutex`; what it guards is valid even when a holder panicked, because
/// no update here is left half done across a call that can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(code: u32) -> DriverError {
        DriverError::Call {
            op: "cuMemCreate",
            code: CuResult(code),
            name: "NAME".into(),
            text: "text".into(),
        }
    }

    #[test]
    fn out_of_memory_is_told_apart_by_what_was_allocated() {
        assert_eq!(
            no_device_memory(call(2), 7),
            DeviceError::OutOfMemory { requested: 7 }
        );
        assert_eq!(
            no_host_memory(call(2), 7),
            DeviceError::HostOutOfMemory { requested: 7 }
        );
        let other = no_device_memory(call(1), 7);
        assert!(matches!(other, DeviceError::Driver { code: 1, .. }));
    }

    #[test]
    fn sticky_codes_are_losses_and_unknown_codes_survive() {
        assert!(DeviceError::from(call(700)).is_loss());
        let unknown = DeviceError::from(call(12345));
        assert!(
            matches!(unknown, DeviceError::Driver { code: 12345, .. }),
            "{unknown}"
        );
    }
}
