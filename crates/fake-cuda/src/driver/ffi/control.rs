//! The two symbols that are not NVIDIA's: commands of tests, and answers.

use std::ffi::{CStr, c_char, c_int};

use crate::driver::control::command;
use crate::driver::raw;
use crate::driver::report::query;
use crate::driver::state::{Driver, with};

/// Carries out one command (see the crate's documentation); 0, or -1 when it is
/// not understood.
///
/// # Safety
/// `text` is null or ends with NUL.
#[unsafe(no_mangle)]
unsafe extern "C" fn fakecuda_ctl(text: *const c_char) -> c_int {
    if text.is_null() {
        return -1;
    }
    // SAFETY: not null, and the caller vouches for the NUL.
    let Ok(text) = unsafe { CStr::from_ptr(text) }.to_str() else {
        return -1;
    };
    let obey = |driver: &mut Driver| {
        // Whoever commands a machine says what it is like, all of it.
        driver.environment = None;
        command(driver, text)
    };
    match with(obey) {
        Ok(Ok(())) => 0,
        _ => -1,
    }
}

/// Answers `report`, `trace` or `log` in JSON: writes at most `len` bytes, NUL
/// included, and returns the bytes needed; -1 when the question is not known.
///
/// # Safety
/// `what` is null or ends with NUL; `out` is null or has `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn fakecuda_query(what: *const c_char, out: *mut c_char, len: usize) -> isize {
    if what.is_null() {
        return -1;
    }
    // SAFETY: not null, and the caller vouches for the NUL.
    let Ok(what) = unsafe { CStr::from_ptr(what) }.to_str() else {
        return -1;
    };
    let Ok(Some(mut answer)) = with(|driver| query(driver, what)) else {
        return -1;
    };
    answer.push('\0');
    if !out.is_null() && answer.len() <= len {
        // SAFETY: `out` has `len` bytes, and the answer is no longer.
        unsafe { raw::copy(out.cast(), answer.as_ptr(), answer.len()) };
    }
    isize::try_from(answer.len()).unwrap_or(-1)
}
