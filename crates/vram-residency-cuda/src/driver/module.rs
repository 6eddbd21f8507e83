//! Modules and kernel launches.

use std::ffi::{CStr, c_void};

use super::{Driver, DriverError};
use crate::sys::{CuFunction, CuModule, CuStream};

impl Driver {
    /// `cuModuleLoadData` of PTX text in the current context.
    ///
    /// # Errors
    /// [`DriverError`], for example 222 for PTX that is newer than the driver.
    pub fn module_load_data(&self, ptx: &CStr) -> Result<CuModule, DriverError> {
        let mut module = CuModule::NULL;
        // SAFETY: `ptx` is NUL-terminated text, as the call wants it, and
        // `module` is a live local that the call writes.
        let code = unsafe { (self.table().module_load_data)(&raw mut module, ptx.as_ptr().cast()) };
        self.check("cuModuleLoadData", code)?;
        Ok(module)
    }

    /// `cuModuleUnload`.
    ///
    /// # Safety
    /// `module` is live; neither it nor a function of it is used afterwards.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn module_unload(&self, module: CuModule) -> Result<(), DriverError> {
        // SAFETY: the caller gives up a live module.
        let code = unsafe { (self.table().module_unload)(module) };
        self.check("cuModuleUnload", code)
    }

    /// `cuModuleGetFunction`.
    ///
    /// # Safety
    /// `module` is live.
    ///
    /// # Errors
    /// [`DriverError`] when the module has no such kernel.
    pub unsafe fn module_get_function(
        &self,
        module: CuModule,
        name: &CStr,
    ) -> Result<CuFunction, DriverError> {
        let mut function = CuFunction::NULL;
        // SAFETY: `name` is NUL-terminated, `function` is a live local, and the
        // caller keeps the module alive.
        let code =
            unsafe { (self.table().module_get_function)(&raw mut function, module, name.as_ptr()) };
        self.check("cuModuleGetFunction", code)?;
        Ok(function)
    }

    /// `cuLaunchKernel` with a one-dimensional grid and static shared memory.
    ///
    /// # Safety
    /// `function` and `stream` are live and of one context; `arguments` points
    /// to one value per kernel parameter, each of the parameter's type; what
    /// those values address is good until the stream has done the work.
    ///
    /// # Errors
    /// [`DriverError`].
    pub unsafe fn launch_kernel(
        &self,
        function: CuFunction,
        (grid, block): (u32, u32),
        stream: CuStream,
        arguments: &mut [*mut c_void],
    ) -> Result<(), DriverError> {
        // SAFETY: the caller vouches for handles, arguments and addresses; the
        // driver copies the argument values before it returns.
        let code = unsafe {
            (self.table().launch_kernel)(
                function,
                grid,
                1,
                1,
                block,
                1,
                1,
                0,
                stream,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        self.check("cuLaunchKernel", code)
    }
}
