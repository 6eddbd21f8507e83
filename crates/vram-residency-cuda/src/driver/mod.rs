//! One thin function per driver call.
//!
//! A failure carries the call, the driver's number, and the driver's own name
//! and text for it ([`DriverError`]). Nothing here panics, retries, logs, or
//! clears an earlier error (requirement: FF-7, FF-8). Calls that could break memory safety when given a
//! dead handle or a wrong pointer are `unsafe` and say what the caller must
//! keep; calls that the driver validates by itself are safe.

mod context;
mod device;
mod error;
mod host;
mod memory;
mod module;
mod vmm;

use std::ffi::{CStr, OsStr, c_char};

pub use error::DriverError;
pub use memory::PointerFacts;

use crate::sys::{CuResult, LoadError, Table};

/// A loaded driver library.
pub struct Driver {
    table: Table,
    library: String,
}

impl Driver {
    /// Opens `library`: a path, or a name such as [`crate::sys::DEFAULT_LIBRARY`]
    /// for the loader's normal search. The driver is not initialised yet.
    ///
    /// # Errors
    /// [`LoadError`] with the loader's reason, or the symbol that is missing.
    pub fn load(library: impl AsRef<OsStr>) -> Result<Self, LoadError> {
        let (table, library) = Table::load(library.as_ref())?;
        Ok(Self { table, library })
    }

    /// Path of the file that the loader really opened.
    #[must_use]
    pub fn library(&self) -> &str {
        &self.library
    }

    /// The raw symbols.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// `cuInit`. May be called often.
    ///
    /// # Errors
    /// [`DriverError`], for example when there is no device.
    pub fn init(&self) -> Result<(), DriverError> {
        // SAFETY: takes a number only; 0 is the one defined value.
        let code = unsafe { (self.table.init)(0) };
        self.check("cuInit", code)
    }

    /// `cuDriverGetVersion`: 1000 * major + 10 * minor of the newest CUDA that
    /// the driver offers, for example 12040.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn driver_get_version(&self) -> Result<i32, DriverError> {
        let mut version = 0;
        // SAFETY: `version` is a live local that the call writes.
        let code = unsafe { (self.table.driver_get_version)(&raw mut version) };
        self.check("cuDriverGetVersion", code)?;
        Ok(version)
    }

    /// The answer of `op` as a `Result`, with the driver's words on failure.
    fn check(&self, op: &'static str, code: CuResult) -> Result<(), DriverError> {
        if code.is_success() {
            return Ok(());
        }
        let name = self
            .words(self.table.get_error_name, code)
            .unwrap_or_else(|| "unknown".into());
        let text = self
            .words(self.table.get_error_string, code)
            .unwrap_or_else(|| "the driver has no text for this code".into());
        Err(DriverError::Call {
            op,
            code,
            name,
            text,
        })
    }

    /// Asks the driver for its name or text of a code; unknown codes have none.
    fn words(
        &self,
        ask: unsafe extern "C" fn(CuResult, *mut *const c_char) -> CuResult,
        code: CuResult,
    ) -> Option<String> {
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: `text` is a live local that the call writes; any code is allowed.
        let answer = unsafe { ask(code, &raw mut text) };
        if !answer.is_success() || text.is_null() {
            return None;
        }
        // SAFETY: on success the driver points to a constant, NUL-terminated
        // string inside its library, which is never unloaded.
        let text = unsafe { CStr::from_ptr(text) };
        Some(text.to_string_lossy().into_owned())
    }
}

/// The function behind an optional symbol, or an error that names it.
fn need<F: Copy>(op: &'static str, symbol: Option<F>) -> Result<F, DriverError> {
    symbol.ok_or(DriverError::Missing { op })
}
