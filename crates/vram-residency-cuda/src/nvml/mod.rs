//! What NVML knows about a device, for reports. Nothing here is needed to seal
//! or to verify, and a machine without `libnvidia-ml` gives an error value.

mod table;

use std::ffi::{CStr, CString, OsStr, c_char, c_uint};

use self::table::{NvmlDevice, Table};
use crate::sys::LoadError;

pub use self::table::NvmlResult;

/// The name that the loader's normal search resolves.
pub const NVML_LIBRARY: &str = "libnvidia-ml.so.1";

/// Room for the driver's version text, as NVML documents it.
const VERSION_BYTES: c_uint = 80;
/// `NVML_MEMORY_ERROR_TYPE_UNCORRECTED`.
const UNCORRECTED: i32 = 1;
/// `NVML_VOLATILE_ECC`: since the driver was loaded.
const VOLATILE: i32 = 0;

/// NVML could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NvmlError {
    /// The library is not there, or is none.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The PCI address has a NUL.
    #[error("not a PCI address: it has a NUL")]
    BadAddress,
    /// A call failed.
    #[error("{op} failed ({}): {text}", code.0)]
    Call {
        /// The call.
        op: &'static str,
        /// NVML's number.
        code: NvmlResult,
        /// NVML's text.
        text: String,
    },
}

/// Rows of memory that were replaced by spare ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemappedRows {
    /// Because of correctable errors.
    pub correctable: u32,
    /// Because of uncorrectable errors.
    pub uncorrectable: u32,
    /// A replacement waits for a reset.
    pub pending: bool,
    /// A replacement failed.
    pub failed: bool,
}

/// Facts about one device; `None` where the device does not have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmlFacts {
    /// Version of the kernel driver, for example `570.86.15`.
    pub driver_version: String,
    /// ECC is on now.
    pub ecc: Option<bool>,
    /// Uncorrected memory errors since the driver was loaded.
    pub uncorrected_errors: Option<u64>,
    /// MIG is on now.
    pub mig: Option<bool>,
    /// Replaced rows.
    pub remapped_rows: Option<RemappedRows>,
}

/// The library, initialised; shut down when dropped.
pub struct Nvml {
    table: Table,
}

impl Nvml {
    /// Opens `libnvidia-ml.so.1` by the loader's normal search.
    ///
    /// # Errors
    /// [`NvmlError`] with the loader's or the library's reason.
    pub fn open() -> Result<Self, NvmlError> {
        Self::open_library(NVML_LIBRARY)
    }

    /// Like [`Self::open`], for a library that the caller names by its path.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_library(library: impl AsRef<OsStr>) -> Result<Self, NvmlError> {
        Self::start(Table::load(library.as_ref())?)
    }

    fn start(table: Table) -> Result<Self, NvmlError> {
        // SAFETY: takes no argument.
        let code = unsafe { (table.init)() };
        if code != NvmlResult::SUCCESS {
            return Err(failure(&table, "nvmlInit_v2", code));
        }
        Ok(Self { table })
    }

    /// Facts about the device at a PCI address such as `0000:65:00.0`.
    ///
    /// # Errors
    /// [`NvmlError::Call`] for an address without a device, and failures.
    pub fn facts(&self, pci: &str) -> Result<NvmlFacts, NvmlError> {
        let device = self.device(pci)?;
        Ok(NvmlFacts {
            driver_version: self.driver_version()?,
            ecc: self.mode("nvmlDeviceGetEccMode", Some(self.table.ecc_mode), device)?,
            uncorrected_errors: self.uncorrected_errors(device)?,
            mig: self.mode("nvmlDeviceGetMigMode", self.table.mig_mode, device)?,
            remapped_rows: self.remapped_rows(device)?,
        })
    }

    fn device(&self, pci: &str) -> Result<NvmlDevice, NvmlError> {
        let address = CString::new(pci).map_err(|_| NvmlError::BadAddress)?;
        let mut device = NvmlDevice(0);
        // SAFETY: NUL-terminated text, and a live local that the call writes.
        let code = unsafe { (self.table.by_pci)(address.as_ptr(), &raw mut device) };
        self.check("nvmlDeviceGetHandleByPciBusId_v2", code)?;
        Ok(device)
    }

    fn driver_version(&self) -> Result<String, NvmlError> {
        let mut buffer = [0_u8; 80];
        let at: *mut c_char = buffer.as_mut_ptr().cast();
        // SAFETY: `at` has room for the 80 bytes that the call is told of.
        let code = unsafe { (self.table.driver_version)(at, VERSION_BYTES) };
        self.check("nvmlSystemGetDriverVersion", code)?;
        let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
        Ok(text.to_string_lossy().into_owned())
    }

    /// The current one of a pair of modes (current, after a reset).
    fn mode(
        &self,
        op: &'static str,
        ask: Option<unsafe extern "C" fn(NvmlDevice, *mut c_uint, *mut c_uint) -> NvmlResult>,
        device: NvmlDevice,
    ) -> Result<Option<bool>, NvmlError> {
        let Some(ask) = ask else { return Ok(None) };
        let (mut current, mut pending) = (0, 0);
        // SAFETY: a handle of this library, and live locals that the call writes.
        let code = unsafe { ask(device, &raw mut current, &raw mut pending) };
        self.told(op, code, current != 0)
    }

    fn uncorrected_errors(&self, device: NvmlDevice) -> Result<Option<u64>, NvmlError> {
        let mut count = 0;
        // SAFETY: a handle of this library, and a live local that the call writes.
        let code =
            unsafe { (self.table.ecc_errors)(device, UNCORRECTED, VOLATILE, &raw mut count) };
        self.told("nvmlDeviceGetTotalEccErrors", code, count)
    }

    fn remapped_rows(&self, device: NvmlDevice) -> Result<Option<RemappedRows>, NvmlError> {
        let Some(ask) = self.table.remapped_rows else {
            return Ok(None);
        };
        let [mut correctable, mut uncorrectable, mut pending, mut failed] = [0; 4];
        // SAFETY: a handle of this library, and live locals that the call writes.
        let code = unsafe {
            ask(
                device,
                &raw mut correctable,
                &raw mut uncorrectable,
                &raw mut pending,
                &raw mut failed,
            )
        };
        let (pending, failed) = (pending != 0, failed != 0);
        let rows = RemappedRows {
            correctable,
            uncorrectable,
            pending,
            failed,
        };
        self.told("nvmlDeviceGetRemappedRows", code, rows)
    }

    fn told<T>(&self, op: &'static str, code: NvmlResult, fact: T) -> Result<Option<T>, NvmlError> {
        if code == NvmlResult::NOT_SUPPORTED {
            return Ok(None);
        }
        self.check(op, code).map(|()| Some(fact))
    }

    fn check(&self, op: &'static str, code: NvmlResult) -> Result<(), NvmlError> {
        if code == NvmlResult::SUCCESS {
            Ok(())
        } else {
            Err(failure(&self.table, op, code))
        }
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        // SAFETY: undoes the one successful initialisation of `start`.
        let code = unsafe { (self.table.shutdown)() };
        // A library that does not shut down holds nothing of ours.
        let NvmlResult(_) = code;
    }
}

fn failure(table: &Table, op: &'static str, code: NvmlResult) -> NvmlError {
    // SAFETY: any number is allowed; the answer is null or a constant string
    // inside the library, which is never unloaded.
    let text = unsafe { (table.error_string)(code) };
    if text.is_null() {
        return NvmlError::Call {
            op,
            code,
            text: "no text for this code".into(),
        };
    }
    // SAFETY: a NUL-terminated constant of the library, as above.
    let text = unsafe { CStr::from_ptr(text) };
    NvmlError::Call {
        op,
        code,
        text: text.to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn ok() -> NvmlResult {
        NvmlResult::SUCCESS
    }
    extern "C" fn text(code: NvmlResult) -> *const c_char {
        if code.0 == 12345 {
            std::ptr::null()
        } else {
            c"some reason".as_ptr()
        }
    }
    extern "C" fn version(at: *mut c_char, _: c_uint) -> NvmlResult {
        // SAFETY: the caller gives 80 bytes.
        unsafe { at.cast::<[u8; 10]>().write(*b"570.86.15\0") };
        NvmlResult::SUCCESS
    }
    extern "C" fn by_pci(pci: *const c_char, device: *mut NvmlDevice) -> NvmlResult {
        // SAFETY: the caller gives NUL-terminated text.
        let known = unsafe { CStr::from_ptr(pci) } == c"0000:65:00.0";
        // SAFETY: the caller gives a place.
        unsafe { device.write(NvmlDevice(7)) };
        if known {
            NvmlResult::SUCCESS
        } else {
            NvmlResult(6)
        }
    }
    extern "C" fn on(_: NvmlDevice, current: *mut c_uint, _: *mut c_uint) -> NvmlResult {
        // SAFETY: the caller gives a place.
        unsafe { current.write(1) };
        NvmlResult::SUCCESS
    }
    extern "C" fn missing(_: NvmlDevice, _: *mut c_uint, _: *mut c_uint) -> NvmlResult {
        NvmlResult::NOT_SUPPORTED
    }
    extern "C" fn errors(_: NvmlDevice, kind: i32, _: i32, count: *mut u64) -> NvmlResult {
        // SAFETY: the caller gives a place.
        unsafe { count.write(if kind == 1 { 3 } else { 0 }) };
        NvmlResult::SUCCESS
    }
    extern "C" fn strange(_: NvmlDevice, _: i32, _: i32, _: *mut u64) -> NvmlResult {
        NvmlResult(12345)
    }

    fn table() -> Table {
        Table {
            init: ok,
            shutdown: ok,
            error_string: text,
            driver_version: version,
            by_pci,
            ecc_mode: on,
            ecc_errors: errors,
            mig_mode: Some(missing),
            remapped_rows: None,
        }
    }

    #[test]
    fn facts_that_a_device_lacks_are_none_and_failures_are_failures() {
        let facts = Nvml::start(table()).unwrap().facts("0000:65:00.0").unwrap();
        assert_eq!(facts.driver_version, "570.86.15");
        assert_eq!((facts.ecc, facts.mig), (Some(true), None));
        assert_eq!(
            (facts.uncorrected_errors, facts.remapped_rows),
            (Some(3), None)
        );

        let unknown = Nvml::start(table())
            .unwrap()
            .facts("0000:66:00.0")
            .unwrap_err();
        assert!(
            unknown.to_string().contains("(6): some reason"),
            "{unknown}"
        );
        let nvml = Nvml::start(table()).unwrap();
        assert_eq!(nvml.facts("0000:\0"), Err(NvmlError::BadAddress));
        let odd = Nvml::start(Table {
            ecc_errors: strange,
            ..table()
        })
        .unwrap();
        let odd = odd.facts("0000:65:00.0").unwrap_err();
        assert!(matches!(odd, NvmlError::Call { code, .. } if code.0 == 12345));
        assert!(odd.to_string().contains("(12345)"), "{odd}");
    }

    #[test]
    fn a_library_that_is_no_nvml_is_an_error_value() {
        let error = Nvml::open_library("libc.so.6").err().unwrap();
        assert!(error.to_string().contains("nvmlInit_v2"), "{error}");
        let error = Nvml::open_library("libno-such-nvml.so.1").err().unwrap();
        assert!(matches!(error, NvmlError::Load(LoadError::Open { .. })));
        assert!(
            error.to_string().contains("libno-such-nvml.so.1"),
            "{error}"
        );
    }
}
