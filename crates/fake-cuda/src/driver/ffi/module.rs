//! Modules, functions, launches.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use super::call;
use crate::driver::codes::CuError;
use crate::driver::queue::{Launch, Work};
use crate::driver::raw::{element, need, put};
use crate::driver::state::{Driver, Function, LoadedModule};
use crate::ptx::{self, PtxError};

/// Shared memory of a block before more was asked for (bytes).
const DEFAULT_SHARED: u64 = 48 << 10;

/// Reads PTX text; a cubin or a fat binary is refused.
///
/// # Safety
/// `image`, when not null, is text that ends with NUL, or a binary image.
unsafe fn text<'a>(image: *const c_void) -> Result<&'a str, CuError> {
    need(image)?;
    // SAFETY: cuda.h: PTX images are NUL-terminated, binary images have headers
    // that begin with a byte other than NUL and contain one.
    let bytes = unsafe { CStr::from_ptr(image.cast()) }.to_bytes();
    if bytes.starts_with(b"\x7fELF") || bytes.starts_with(&[0x50, 0xed, 0x55, 0xba]) {
        return Err(CuError::INVALID_IMAGE);
    }
    std::str::from_utf8(bytes).map_err(|_| CuError::INVALID_PTX)
}

/// Loads PTX into the current context. The text says why when it fails.
fn load(d: &mut Driver, text: &str) -> Result<u64, (CuError, String)> {
    let plain = |code: CuError| (code, String::new());
    let context = d.healthy().map_err(plain)?;
    let module = d
        .parse(text)
        .map_err(|e| (CuError::INVALID_PTX, e.to_string()))?;
    let (major, minor) = module.version();
    let (max_major, max_minor) = d.options.ptx;
    if (major, minor) > (max_major, max_minor) {
        let why = PtxError::Version {
            major,
            minor,
            max_major,
            max_minor,
        };
        return Err((CuError::UNSUPPORTED_PTX, why.to_string()));
    }
    let digits = module
        .target()
        .strip_prefix("sm_")
        .map(|t| t.trim_end_matches('a'));
    let target: u32 = digits.and_then(|t| t.parse().ok()).ok_or_else(|| {
        (
            CuError::INVALID_PTX,
            format!("unknown target {}", module.target()),
        )
    })?;
    let (cc_major, cc_minor) = d.options.capability;
    if target > cc_major.saturating_mul(10).saturating_add(cc_minor) {
        let why = format!("target {} is newer than this device", module.target());
        return Err((CuError::NO_BINARY, why));
    }
    let global_base = d
        .place_globals(context, module.global_image())
        .map_err(plain)?;
    let id = d.handle();
    d.modules.insert(
        id,
        LoadedModule {
            context,
            module,
            global_base,
            launched: BTreeSet::new(),
        },
    );
    Ok(id)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadData(out: *mut u64, image: *const c_void) -> u32 {
    call("cuModuleLoadData", |d| {
        need(out)?;
        // SAFETY: cuda.h: `image` is PTX text or a binary image.
        let text = unsafe { text(image) }?;
        let id = load(d, text).map_err(|(code, why)| {
            d.log.push(why);
            code
        })?;
        // SAFETY: cuda.h: `out` points to a CUmodule of the caller's.
        unsafe { put(out, id) }
    })
}

/// Where the JIT's words go, as `cuModuleLoadDataEx` was told.
#[derive(Default)]
struct JitLog {
    buffer: usize,
    len: usize,
}

impl JitLog {
    /// # Safety
    /// `buffer` is the address of `len` writable bytes.
    unsafe fn write(&self, text: &str) {
        if self.buffer == 0 || self.len == 0 {
            return;
        }
        let keep = text.len().min(self.len.saturating_sub(1));
        let to = std::ptr::with_exposed_provenance_mut::<u8>(self.buffer);
        // SAFETY: `keep` is less than `len`, which the caller vouches for.
        unsafe { crate::driver::raw::copy(to, text.as_ptr(), keep) };
        // SAFETY: as above. The place is not null.
        let _terminated = unsafe { put(to.wrapping_add(keep), 0_u8) };
    }
}

/// Options `ERROR_LOG_BUFFER` (5), `ERROR_LOG_BUFFER_SIZE_BYTES` (6) and the
/// info pair (3, 4) are honoured; other tuning options up to 12 are accepted.
///
/// # Safety
/// `options` and `values` have `count` elements.
unsafe fn jit_options(
    count: c_uint,
    options: *const c_uint,
    values: *const *mut c_void,
) -> Result<(JitLog, JitLog), CuError> {
    let (mut info, mut error) = (JitLog::default(), JitLog::default());
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the caller vouches for the arrays.
        let option = unsafe { element(options, index) }?;
        // SAFETY: as above.
        let value = unsafe { element(values, index) }?;
        match option {
            3 => info.buffer = value.expose_provenance(),
            4 => info.len = value.addr(),
            5 => error.buffer = value.expose_provenance(),
            6 => error.len = value.addr(),
            0..=12 => {}
            _ => return Err(CuError::INVALID_VALUE),
        }
    }
    Ok((info, error))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadDataEx(
    out: *mut u64,
    image: *const c_void,
    count: c_uint,
    options: *const c_uint,
    values: *const *mut c_void,
) -> u32 {
    call("cuModuleLoadDataEx", |d| {
        need(out)?;
        // SAFETY: cuda.h: both arrays have `count` elements.
        let (info, error) = unsafe { jit_options(count, options, values) }?;
        // SAFETY: cuda.h: `image` is PTX text or a binary image.
        let text = unsafe { text(image) }?;
        match load(d, text) {
            Ok(id) => {
                // SAFETY: cuda.h: the info buffer is as long as its size option says.
                unsafe { info.write("interpreted by vram-residency fake CUDA") };
                // SAFETY: cuda.h: `out` points to a CUmodule of the caller's.
                unsafe { put(out, id) }
            }
            Err((code, why)) => {
                // SAFETY: cuda.h: the error buffer is as long as its size option says.
                unsafe { error.write(&why) };
                d.log.push(why);
                Err(code)
            }
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleUnload(module: u64) -> u32 {
    call("cuModuleUnload", |d| {
        let found = d.modules.get(&module).ok_or(CuError::INVALID_HANDLE)?;
        let (context, globals) = (found.context, found.global_base);
        d.check(context)?;
        d.modules.remove(&module);
        d.functions.retain(|_, f| f.module != module);
        if globals != 0 {
            d.free(context, globals)
        } else {
            Ok(())
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(out: *mut u64, module: u64, name: *const c_char) -> u32 {
    call("cuModuleGetFunction", |d| {
        need(out)?;
        need(name)?;
        let found = d.modules.get(&module).ok_or(CuError::INVALID_HANDLE)?;
        d.check(found.context)?;
        // SAFETY: cuda.h: `name` ends with NUL.
        let name = unsafe { CStr::from_ptr(name) }
            .to_str()
            .map_err(|_| CuError::NOT_FOUND)?;
        let kernel = found.module.kernel(name).ok_or(CuError::NOT_FOUND)?;
        let room = DEFAULT_SHARED.saturating_sub(kernel.shared_bytes());
        let function = Function {
            module,
            kernel: name.to_owned(),
            max_dynamic: u32::try_from(room).unwrap_or(0),
        };
        let id = d.handle();
        d.functions.insert(id, function);
        // SAFETY: cuda.h: `out` points to a CUfunction of the caller's.
        unsafe { put(out, id) }
    })
}

/// Attributes that an interpreter can know: threads 0, shared 1, local 3, PTX
/// version 5, dynamic shared 8. Registers are ptxas's business.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuFuncGetAttribute(out: *mut c_int, number: c_uint, function: u64) -> u32 {
    call("cuFuncGetAttribute", |d| {
        let function = d.functions.get(&function).ok_or(CuError::INVALID_HANDLE)?;
        let module = d
            .modules
            .get(&function.module)
            .ok_or(CuError::INVALID_HANDLE)?;
        let kernel = module
            .module
            .kernel(&function.kernel)
            .ok_or(CuError::NOT_FOUND)?;
        let value = match number {
            0 => kernel.max_threads(),
            1 => kernel.shared_bytes(),
            3 => kernel.local_bytes(),
            5 => {
                let (major, minor) = module.module.version();
                u64::from(major)
                    .saturating_mul(10)
                    .saturating_add(u64::from(minor))
            }
            8 => u64::from(function.max_dynamic),
            _ => return Err(CuError::INVALID_VALUE),
        };
        // SAFETY: cuda.h: `out` points to an int of the caller's.
        unsafe { put(out, c_int::try_from(value).unwrap_or(c_int::MAX)) }
    })
}

/// Only `MAX_DYNAMIC_SHARED_SIZE_BYTES` (8).
#[unsafe(no_mangle)]
unsafe extern "C" fn cuFuncSetAttribute(function: u64, number: c_uint, value: c_int) -> u32 {
    call("cuFuncSetAttribute", |d| {
        let found = d
            .functions
            .get_mut(&function)
            .ok_or(CuError::INVALID_HANDLE)?;
        let value = u32::try_from(value)
            .ok()
            .filter(|v| number == 8 && *v <= 227 << 10);
        found.max_dynamic = value.ok_or(CuError::INVALID_VALUE)?;
        Ok(())
    })
}

/// Copies the arguments, as the real call does before it returns.
///
/// # Safety
/// `arguments` has one pointer per parameter, each to an object of its size.
unsafe fn parameters(
    kernel: &ptx::Kernel<'_>,
    arguments: *const *mut c_void,
) -> Result<Vec<u8>, CuError> {
    let total = usize::try_from(kernel.param_bytes()).map_err(|_| CuError::INVALID_VALUE)?;
    let mut params = vec![0; total];
    for (index, &(offset, size)) in kernel.params().iter().enumerate() {
        // SAFETY: the caller vouches for one pointer per parameter.
        let from = unsafe { element(arguments, index) }?;
        need(from)?;
        let start = usize::try_from(offset).map_err(|_| CuError::INVALID_VALUE)?;
        let size = usize::try_from(size).map_err(|_| CuError::INVALID_VALUE)?;
        let place = params.get_mut(start..start.saturating_add(size));
        let place = place.ok_or(CuError::INVALID_VALUE)?;
        // SAFETY: the caller vouches for `size` bytes; the place is as long.
        unsafe { crate::driver::raw::copy(place.as_mut_ptr(), from.cast(), size) };
    }
    Ok(params)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    function: u64,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    stream: u64,
    arguments: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> u32 {
    call("cuLaunchKernel", |d| {
        let stream = d.stream(stream)?;
        let function = d
            .functions
            .get(&function)
            .ok_or(CuError::INVALID_HANDLE)?
            .clone();
        let loaded = d
            .modules
            .get(&function.module)
            .ok_or(CuError::INVALID_HANDLE)?;
        let same_context = d
            .queues
            .streams
            .get(&stream)
            .is_some_and(|s| s.context == loaded.context);
        if !same_context || need(extra).is_ok() || shared_bytes > function.max_dynamic {
            return Err(CuError::INVALID_VALUE);
        }
        let kernel = loaded
            .module
            .kernel(&function.kernel)
            .ok_or(CuError::NOT_FOUND)?;
        // SAFETY: cuda.h: one pointer per parameter, each to the argument's value.
        let params = unsafe { parameters(&kernel, arguments) }?;
        let launch = Launch {
            module: Arc::clone(&loaded.module),
            kernel: function.kernel.clone(),
            global_base: loaded.global_base,
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared_bytes,
            params,
        };
        let check = ptx::Launch {
            grid: launch.grid,
            block: launch.block,
            shared_bytes,
            params: &launch.params,
            global_base: launch.global_base,
            instruction_limit: 0,
        };
        kernel
            .check(&check)
            .map_err(|fault| CuError(fault.code()))?;
        d.load_code(function.module, function.kernel)?;
        d.queue(stream, Work::Launch(Box::new(launch)))
    })
}
