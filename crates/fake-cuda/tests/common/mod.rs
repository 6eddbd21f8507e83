//! The driver as a C caller sees it: symbols looked up by name in a library
//! that was opened by path.
#![allow(
    dead_code,
    non_snake_case,
    unreachable_pub,
    missing_docs,
    clippy::macro_metavars_in_unsafe,
    reason = "test code; each test file uses its part of the table"
)]

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;

use fake_cuda::Ctl;
use libloading::Library;

pub type Code = u32;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prop {
    pub kind: u32,
    pub handle_types: u32,
    pub location_kind: u32,
    pub location_id: i32,
    pub win32: usize,
    pub flags: [u8; 8],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Access {
    pub location_kind: u32,
    pub location_id: i32,
    pub flags: u32,
}

macro_rules! symbols {
    ($($name:ident($($arg:ty),*);)*) => {
        /// Every symbol that the tests call.
        pub struct Cu {
            $(pub $name: unsafe extern "C" fn($($arg),*) -> Code,)*
            _library: Library,
        }

        impl Cu {
            pub fn open(path: &Path) -> Cu {
                // SAFETY: the file is the fake driver.
                let library = unsafe { Library::new(path) }.unwrap();
                Cu {
                    $($name: {
                        // SAFETY: the signature is the one that cuda.h gives for the name.
                        let symbol = unsafe { library.get(stringify!($name).as_bytes()) };
                        *symbol.unwrap()
                    },)*
                    _library: library,
                }
            }
        }
    };
}

symbols! {
    cuInit(c_uint);
    cuDriverGetVersion(*mut c_int);
    cuGetErrorName(u32, *mut *const c_char);
    cuGetErrorString(u32, *mut *const c_char);
    cuDeviceGetCount(*mut c_int);
    cuDeviceGet(*mut c_int, c_int);
    cuDeviceGetName(*mut c_char, c_int, c_int);
    cuDeviceGetUuid_v2(*mut [u8; 16], c_int);
    cuDeviceTotalMem_v2(*mut usize, c_int);
    cuDeviceGetAttribute(*mut c_int, c_uint, c_int);
    cuDeviceGetPCIBusId(*mut c_char, c_int, c_int);
    cuDeviceCanAccessPeer(*mut c_int, c_int, c_int);
    cuDevicePrimaryCtxRetain(*mut u64, c_int);
    cuDevicePrimaryCtxRelease_v2(c_int);
    cuDevicePrimaryCtxReset_v2(c_int);
    cuDevicePrimaryCtxGetState(c_int, *mut c_uint, *mut c_int);
    cuCtxPushCurrent_v2(u64);
    cuCtxPopCurrent_v2(*mut u64);
    cuCtxGetCurrent(*mut u64);
    cuCtxSetCurrent(u64);
    cuCtxGetDevice(*mut c_int);
    cuCtxSynchronize();
    cuCtxEnablePeerAccess(u64, c_uint);
    cuCtxDisablePeerAccess(u64);
    cuStreamCreate(*mut u64, c_uint);
    cuStreamDestroy_v2(u64);
    cuStreamSynchronize(u64);
    cuStreamQuery(u64);
    cuStreamWaitEvent(u64, u64, c_uint);
    cuEventCreate(*mut u64, c_uint);
    cuEventDestroy_v2(u64);
    cuEventRecord(u64, u64);
    cuEventQuery(u64);
    cuEventSynchronize(u64);
    cuEventElapsedTime(*mut f32, u64, u64);
    cuMemGetInfo_v2(*mut usize, *mut usize);
    cuMemAlloc_v2(*mut u64, usize);
    cuMemFree_v2(u64);
    cuMemAllocManaged(*mut u64, usize, c_uint);
    cuMemGetAddressRange_v2(*mut u64, *mut usize, u64);
    cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
    cuMemFreeHost(*mut c_void);
    cuMemHostRegister_v2(*mut c_void, usize, c_uint);
    cuMemHostUnregister(*mut c_void);
    cuMemHostGetDevicePointer_v2(*mut u64, *mut c_void, c_uint);
    cuMemcpyHtoD_v2(u64, *const c_void, usize);
    cuMemcpyDtoH_v2(*mut c_void, u64, usize);
    cuMemcpyDtoD_v2(u64, u64, usize);
    cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, u64);
    cuMemcpyDtoHAsync_v2(*mut c_void, u64, usize, u64);
    cuMemcpyDtoDAsync_v2(u64, u64, usize, u64);
    cuMemcpyPeer(u64, u64, u64, u64, usize);
    cuMemcpyPeerAsync(u64, u64, u64, u64, usize, u64);
    cuMemsetD8_v2(u64, u8, usize);
    cuMemsetD8Async(u64, u8, usize, u64);
    cuMemsetD32_v2(u64, c_uint, usize);
    cuMemsetD32Async(u64, c_uint, usize, u64);
    cuMemGetAllocationGranularity(*mut usize, *const Prop, c_uint);
    cuMemCreate(*mut u64, usize, *const Prop, u64);
    cuMemRelease(u64);
    cuMemRetainAllocationHandle(*mut u64, *mut c_void);
    cuMemGetAllocationPropertiesFromHandle(*mut Prop, u64);
    cuMemAddressReserve(*mut u64, usize, usize, u64, u64);
    cuMemAddressFree(u64, usize);
    cuMemMap(u64, usize, usize, u64, u64);
    cuMemUnmap(u64, usize);
    cuMemSetAccess(u64, usize, *const Access, usize);
    cuMemGetAccess(*mut u64, *const [i32; 2], u64);
    cuMemExportToShareableHandle(*mut c_void, u64, c_uint, u64);
    cuMemImportFromShareableHandle(*mut u64, *mut c_void, c_uint);
    cuPointerGetAttribute(*mut c_void, c_uint, u64);
    cuPointerGetAttributes(c_uint, *mut c_uint, *mut *mut c_void, u64);
    cuModuleLoadData(*mut u64, *const c_void);
    cuModuleLoadDataEx(*mut u64, *const c_void, c_uint, *const c_uint, *const *mut c_void);
    cuModuleUnload(u64);
    cuModuleGetFunction(*mut u64, u64, *const c_char);
    cuFuncGetAttribute(*mut c_int, c_uint, u64);
    cuFuncSetAttribute(u64, c_uint, c_int);
    cuLaunchKernel(u64, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, u64, *mut *mut c_void, *mut *mut c_void);
}

/// Calls a symbol: `cu!(machine, cuInit(0))` is its code.
#[macro_export]
macro_rules! cu {
    ($m:expr, $name:ident($($arg:expr),* $(,)?)) => {{
        let function = $m.cu.$name;
        // SAFETY: the arguments are live locals of the test, of the types of cuda.h.
        unsafe { function($($arg),*) }
    }};
}

/// The small kernels of `testdata/fixture.ptx`.
pub const FIXTURE: &str = include_str!("../../testdata/fixture.ptx");
pub const BLOCKING: c_uint = 0;
pub const NON_BLOCKING: c_uint = 1;
pub const MIB: usize = 1 << 20;
/// Granularity of the virtual memory API.
pub const PAGE: usize = 2 << 20;

/// A private machine with one retained, current context on device 0.
pub struct Machine {
    pub cu: Cu,
    pub ctl: Ctl,
    pub context: u64,
}

impl Machine {
    pub fn new(options: &str) -> Machine {
        let ctl = Ctl::open_private().unwrap();
        Machine::with(ctl, options)
    }

    pub fn with(ctl: Ctl, options: &str) -> Machine {
        let mut m = Machine {
            cu: Cu::open(ctl.path()),
            ctl,
            context: 0,
        };
        m.restart(options);
        m
    }

    /// A fresh machine in the place of this one.
    pub fn restart(&mut self, options: &str) {
        self.ctl.run(&format!("reset {options}")).unwrap();
        assert_eq!(cu!(self, cuInit(0)), 0);
        self.context = self.retain(0);
        self.push(self.context);
    }

    pub fn retain(&self, device: c_int) -> u64 {
        let mut context = 0;
        assert_eq!(
            cu!(self, cuDevicePrimaryCtxRetain(&raw mut context, device)),
            0
        );
        context
    }

    pub fn push(&self, context: u64) {
        assert_eq!(cu!(self, cuCtxPushCurrent_v2(context)), 0);
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        let mut address = 0;
        assert_eq!(cu!(self, cuMemAlloc_v2(&raw mut address, bytes)), 0);
        address
    }

    pub fn stream(&self, flags: c_uint) -> u64 {
        let mut stream = 0;
        assert_eq!(cu!(self, cuStreamCreate(&raw mut stream, flags)), 0);
        stream
    }

    pub fn event(&self) -> u64 {
        let mut event = 0;
        assert_eq!(cu!(self, cuEventCreate(&raw mut event, 0)), 0);
        event
    }

    /// Pinned bytes.
    pub fn pinned(&self, bytes: usize) -> *mut u8 {
        let mut pointer = std::ptr::null_mut();
        assert_eq!(cu!(self, cuMemHostAlloc(&raw mut pointer, bytes, 0)), 0);
        pointer.cast()
    }

    pub fn put(&self, address: u64, bytes: &[u8]) {
        assert_eq!(
            cu!(
                self,
                cuMemcpyHtoD_v2(address, bytes.as_ptr().cast(), bytes.len())
            ),
            0
        );
    }

    pub fn get(&self, address: u64, len: usize) -> Vec<u8> {
        self.try_get(address, len).unwrap()
    }

    pub fn try_get(&self, address: u64, len: usize) -> Result<Vec<u8>, Code> {
        let mut out = vec![0; len];
        match cu!(self, cuMemcpyDtoH_v2(out.as_mut_ptr().cast(), address, len)) {
            0 => Ok(out),
            code => Err(code),
        }
    }

    pub fn sync(&self) -> Code {
        cu!(self, cuCtxSynchronize())
    }

    pub fn function(&self, name: &str) -> u64 {
        let text = CString::new(FIXTURE).unwrap();
        let name = CString::new(name).unwrap();
        let (mut module, mut function) = (0, 0);
        assert_eq!(
            cu!(
                self,
                cuModuleLoadData(&raw mut module, text.as_ptr().cast())
            ),
            0
        );
        assert_eq!(
            cu!(
                self,
                cuModuleGetFunction(&raw mut function, module, name.as_ptr())
            ),
            0
        );
        function
    }

    /// Launches one block of `threads` with 64-bit arguments.
    pub fn launch(&self, function: u64, threads: u32, stream: u64, values: &[u64]) -> Code {
        let mut values = values.to_vec();
        let mut pointers: Vec<*mut c_void> = values
            .iter_mut()
            .map(|v| std::ptr::from_mut(v).cast())
            .collect();
        let none = std::ptr::null_mut();
        let pointers = pointers.as_mut_ptr();
        cu!(
            self,
            cuLaunchKernel(function, 1, 1, 1, threads, 1, 1, 0, stream, pointers, none)
        )
    }

    pub fn free_bytes(&self) -> usize {
        let (mut free, mut total) = (0, 0);
        assert_eq!(cu!(self, cuMemGetInfo_v2(&raw mut free, &raw mut total)), 0);
        free
    }

    pub fn report(&self) -> serde_json::Value {
        serde_json::from_str(&self.ctl.report().unwrap()).unwrap()
    }

    /// A number of the report.
    pub fn count(&self, key: &str) -> u64 {
        self.report()[key]
            .as_u64()
            .unwrap_or_else(|| panic!("no {key} in the report"))
    }

    pub fn trace(&self) -> serde_json::Value {
        serde_json::from_str(&self.ctl.trace().unwrap()).unwrap()
    }
}

/// One mapped and accessible allocation of the virtual memory API.
pub struct Mapped {
    pub handle: u64,
    pub address: u64,
}

impl Machine {
    pub fn prop(device: i32) -> Prop {
        Prop {
            kind: 1,
            handle_types: 1,
            location_kind: 1,
            location_id: device,
            ..Prop::default()
        }
    }

    pub fn create(&self, bytes: usize, prop: &Prop) -> u64 {
        let mut handle = 0;
        assert_eq!(cu!(self, cuMemCreate(&raw mut handle, bytes, prop, 0)), 0);
        handle
    }

    pub fn map(&self, handle: u64, bytes: usize) -> u64 {
        let mut address = 0;
        assert_eq!(
            cu!(self, cuMemAddressReserve(&raw mut address, bytes, 0, 0, 0)),
            0
        );
        assert_eq!(cu!(self, cuMemMap(address, bytes, 0, handle, 0)), 0);
        address
    }

    pub fn protect(&self, address: u64, bytes: usize, device: i32, flags: u32) -> Code {
        let access = Access {
            location_kind: 1,
            location_id: device,
            flags,
        };
        cu!(self, cuMemSetAccess(address, bytes, &raw const access, 1))
    }

    pub fn mapped(&self, bytes: usize) -> Mapped {
        let handle = self.create(bytes, &Machine::prop(0));
        let address = self.map(handle, bytes);
        assert_eq!(self.protect(address, bytes, 0, 3), 0);
        Mapped { handle, address }
    }

    pub fn unmap(&self, mapped: &Mapped, bytes: usize) {
        assert_eq!(cu!(self, cuMemUnmap(mapped.address, bytes)), 0);
        assert_eq!(cu!(self, cuMemAddressFree(mapped.address, bytes)), 0);
        assert_eq!(cu!(self, cuMemRelease(mapped.handle)), 0);
    }
}
