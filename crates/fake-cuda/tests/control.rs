//! Everything a test can make go wrong, and what can be seen of it.
#![allow(clippy::macro_metavars_in_unsafe, reason = "test code")]

mod common;

use std::ffi::{CStr, CString, c_char, c_void};

use common::{Machine, NON_BLOCKING, PAGE};
use fake_cuda::{Ctl, CtlError};

#[test]
fn calls_fail_by_name_and_count_and_unknown_codes_survive() {
    let m = Machine::new("");
    m.ctl.run("fail cuMemAlloc 2 12345").unwrap();
    m.ctl.run("fail cuStreamCreate 1+ 2").unwrap();
    m.alloc(1);
    let mut out = 77;
    assert_eq!(cu!(m, cuMemAlloc_v2(&raw mut out, 1)), 12345);
    assert_eq!(out, 77, "a call that fails writes nothing");
    m.alloc(1);
    for _ in 0..3 {
        assert_eq!(cu!(m, cuStreamCreate(&raw mut out, 0)), 2);
    }
    let mut name = std::ptr::null();
    assert_eq!(cu!(m, cuGetErrorName(12345, &raw mut name)), 1);
    assert!(name.is_null());
    assert_eq!(cu!(m, cuGetErrorName(700, &raw mut name)), 0);
    // SAFETY: the driver's names are static and end with NUL.
    let name = unsafe { CStr::from_ptr(name) };
    assert_eq!(name, c"CUDA_ERROR_ILLEGAL_ADDRESS");
    m.ctl.run("fail cuGetErrorName 1 7").unwrap();
    let mut text = std::ptr::null();
    assert_eq!(cu!(m, cuGetErrorName(2, &raw mut text)), 7);
    m.ctl.run("clear").unwrap();
    m.stream(NON_BLOCKING);
    assert_eq!(m.trace()["cuMemAlloc_v2"], 3);
    assert_eq!(m.trace()["cuStreamCreate"], 4);
    m.ctl.run("untrace").unwrap();
    assert_eq!(m.trace(), serde_json::json!({}));
}

#[test]
fn sticky_errors_stay_until_the_context_is_destroyed() {
    let m = Machine::new("");
    m.ctl.run("fail cuMemcpyDtoH_v2 1 214 sticky").unwrap();
    let buffer = m.alloc(1);
    assert_eq!(m.try_get(buffer, 1), Err(214));
    assert_eq!(m.sync(), 214);
    assert_eq!(cu!(m, cuMemFree_v2(buffer)), 214);
    assert_eq!(m.count("device_allocations"), 1);
    assert_eq!(cu!(m, cuDevicePrimaryCtxRelease_v2(0)), 0);
    assert_eq!(m.count("device_allocations"), 0);
    let context = m.retain(0);
    m.push(context);
    assert_eq!(m.sync(), 0);
    m.ctl.run("sticky 0 719").unwrap();
    assert_eq!(m.sync(), 719);
}

#[test]
fn queued_work_can_fail_be_skipped_and_be_tampered_with() {
    let m = Machine::new("");
    let buffer = m.alloc(512);
    let increment = m.function("increment");
    let zero = || assert_eq!(cu!(m, cuMemsetD8_v2(buffer, 0, 512)), 0);
    zero();
    m.ctl.run("skip exec.launch.increment 1").unwrap();
    assert_eq!(m.launch(increment, 128, 0, &[buffer, 128]), 0);
    assert_eq!((m.sync(), m.get(buffer, 1)), (0, vec![0]));
    assert_eq!(m.launch(increment, 128, 0, &[buffer, 128]), 0);
    assert_eq!((m.sync(), m.get(buffer, 1)), (0, vec![1]));

    // A flip right before the kernel reads, and one right after it wrote.
    let serial = serial_of(&m, buffer);
    zero();
    m.ctl
        .run(&format!("before exec.launch.* 1 flip {serial} 4 3"))
        .unwrap();
    m.ctl
        .run(&format!("after exec.launch.* 1 flip {serial} 9 0"))
        .unwrap();
    assert_eq!(m.launch(increment, 128, 0, &[buffer, 128]), 0);
    assert_eq!(m.sync(), 0);
    assert_eq!(m.get(buffer, 12), [1, 0, 0, 0, 9, 0, 0, 0, 1, 1, 0, 0]);
    // A flip at once.
    m.ctl.run(&format!("flip {serial} 0 7")).unwrap();
    assert_eq!(m.get(buffer, 1), [129]);
    // A copy that is stuck.
    m.ctl.run("skip exec.dtoh 1").unwrap();
    assert_eq!(m.get(buffer, 1), [0]);

    m.ctl.run("fail exec.launch.* 1 999").unwrap();
    assert_eq!(m.launch(increment, 128, 0, &[buffer, 128]), 0);
    assert_eq!(m.sync(), 999);
}

/// Serial number of the physical memory behind an address.
fn serial_of(m: &Machine, address: u64) -> u64 {
    let report = m.report();
    let shows = |p: &&serde_json::Value| {
        p["places"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["address"] == address)
    };
    report["physical"]
        .as_array()
        .unwrap()
        .iter()
        .find(shows)
        .unwrap()["serial"]
        .as_u64()
        .unwrap()
}

#[test]
fn addresses_can_answer_from_elsewhere() {
    let m = Machine::new("");
    let (a, b) = (m.mapped(PAGE), m.mapped(PAGE));
    m.put(a.address, &[1]);
    m.put(b.address, &[2]);
    assert_eq!(m.sync(), 0);
    let (from, to) = (serial_of(&m, a.address), serial_of(&m, b.address));
    m.ctl.run(&format!("remap {from} {to}")).unwrap();
    assert_eq!(m.get(a.address, 1), [2]);
    m.unmap(&a, PAGE);
    m.unmap(&b, PAGE);
    assert_eq!(m.report()["physical"], serde_json::json!([]));
    m.ctl.run("remap 77 78").unwrap();
    assert!(m.ctl.log().unwrap().contains("missed"));
}

#[test]
fn the_driver_lies_when_told_to() {
    let m = Machine::new("vram=64M");
    m.ctl.run("meminfo 1M 2G").unwrap();
    assert_eq!(m.free_bytes(), 1 << 20);
    m.ctl.run("attribute 0 18 1").unwrap();
    let mut value = 0;
    assert_eq!(cu!(m, cuDeviceGetAttribute(&raw mut value, 18, 0)), 0);
    assert_eq!(value, 1);
    let a = m.mapped(PAGE);
    m.ctl.run("access 0").unwrap();
    m.ctl.run("location 2").unwrap();
    let mut rights = 9;
    let place = [1, 0];
    assert_eq!(
        cu!(
            m,
            cuMemGetAccess(&raw mut rights, &raw const place, a.address)
        ),
        0
    );
    let mut prop = Machine::prop(0);
    assert_eq!(
        cu!(
            m,
            cuMemGetAllocationPropertiesFromHandle(&raw mut prop, a.handle)
        ),
        0
    );
    assert_eq!((rights, prop.location_kind), (0, 2));
    m.ctl.run("clear").unwrap();
    assert_eq!(m.free_bytes(), 62 << 20);
}

#[test]
fn hidden_symbols_do_not_exist() {
    let ctl = Ctl::open_without(&["cuMemCreate", "cuStreamQuery"]).unwrap();
    // SAFETY: the file is the fake driver.
    let library = unsafe { libloading::Library::new(ctl.path()) }.unwrap();
    let has = |name: &str| {
        // SAFETY: the symbol is only looked up, never called.
        unsafe { library.get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_ok()
    };
    assert!(!has("cuMemCreate") && !has("cuStreamQuery"));
    assert!(has("cuInit") && has("cuMemMap") && has("cuMemRelease") && has("cuStreamCreate"));
    // What nobody implemented does not exist either.
    assert!(!has("cuGraphCreate") && !has("cuMemAlloc") && !has("cuIpcGetMemHandle"));
    let error = Ctl::open_without(&["cuGraphCreate"]).err().unwrap();
    assert!(matches!(error, CtlError::Hide { .. }), "{error}");
    ctl.run("reset").unwrap();
}

#[test]
fn a_private_machine_does_not_answer_to_the_drivers_name() {
    let _m = Machine::new("");
    // SAFETY: the real driver of this machine, if it has one.
    let by_name = unsafe { libloading::Library::new("libcuda.so.1") };
    let fake = by_name.is_ok_and(|library| {
        // SAFETY: the symbol is only looked up, never called.
        unsafe { library.get::<unsafe extern "C" fn()>(b"fakecuda_ctl") }.is_ok()
    });
    assert!(!fake);
}

#[test]
fn machines_are_private_and_commands_are_checked() {
    let (one, two) = (Machine::new(""), Machine::new(""));
    one.alloc(16);
    assert_eq!(
        (
            one.count("device_allocations"),
            two.count("device_allocations")
        ),
        (1, 0)
    );
    for bad in [
        "",
        "rest",
        "reset gpus=x",
        "fail cuInit",
        "fail cuInit 0 1",
        "fail cuInit 1 x",
        "fail cuInit 1 1 stick",
        "skip cuInit 1",
        "before cuInit 1",
        "after cuInit 1 dance 1",
        "flip 0 0 8",
        "flip 0 0",
        "meminfo 1",
        "clear now",
        "sticky 0",
    ] {
        assert!(
            matches!(one.ctl.run(bad), Err(CtlError::Command(_))),
            "{bad}"
        );
    }
    // The same file opened again is the same machine.
    let again = Ctl::open(one.ctl.path()).unwrap();
    assert_eq!(again.report().unwrap(), one.ctl.report().unwrap());
}

#[test]
fn modules_are_checked_when_they_are_loaded() {
    let load = |options: &str, text: &str| {
        let m = Machine::new(options);
        let text = CString::new(text).unwrap();
        let mut log = vec![0_u8; 200];
        let options = [5_u32, 6];
        let values = [
            log.as_mut_ptr().cast::<c_void>(),
            std::ptr::without_provenance_mut(200),
        ];
        let mut module = 0;
        let text = text.as_ptr().cast();
        let code = cu!(
            m,
            cuModuleLoadDataEx(&raw mut module, text, 2, options.as_ptr(), values.as_ptr())
        );
        let end = log.iter().position(|b| *b == 0).unwrap();
        (code, String::from_utf8(log[..end].to_vec()).unwrap())
    };
    let good = common::FIXTURE;
    assert_eq!(load("", good).0, 0);
    let (code, log) = load("ptx=6.4", good);
    assert_eq!(code, 222);
    assert!(log.contains("7.0"), "{log}");
    assert_eq!(load("cc=5.2", good).0, 209);
    let (code, log) = load("", &good.replace("add.s32", "add.sat.s32"));
    assert_eq!(code, 218);
    assert!(
        log.contains("add.sat.s32") && log.contains("unsupported"),
        "{log}"
    );
    assert_eq!(load("", "\x7fELF").0, 200);
    assert_eq!(load("", "hello").0, 218);
}

#[test]
fn functions_launches_and_handles_are_checked() {
    let m = Machine::new("");
    let text = CString::new(common::FIXTURE).unwrap();
    let (mut module, mut function) = (0, 0);
    assert_eq!(
        cu!(m, cuModuleLoadData(&raw mut module, text.as_ptr().cast())),
        0
    );
    let find = |name: &CStr, out: &mut u64| cu!(m, cuModuleGetFunction(out, module, name.as_ptr()));
    assert_eq!(find(c"nothing", &mut function), 500);
    assert_eq!(find(c"increment", &mut function), 0);
    let mut value = 0;
    assert_eq!(cu!(m, cuFuncGetAttribute(&raw mut value, 0, function)), 0);
    assert_eq!(value, 128);
    assert_eq!(
        cu!(m, cuFuncGetAttribute(&raw mut value, 4, function)),
        1,
        "registers are not known"
    );
    assert_eq!(
        m.launch(function, 129, 0, &[0, 0]),
        1,
        "more threads than .maxntid"
    );
    assert_eq!(m.launch(function, 0, 0, &[0, 0]), 1);
    assert_eq!(m.launch(function, 1, 4711, &[0, 0]), 400);
    assert_eq!(m.launch(function, 1, 0, &[0, 0]), 0);
    assert_eq!(m.sync(), 0, "a thread past the end touches nothing");
    assert_eq!(m.count("device_allocations"), 1, "the module's variable");
    assert_eq!(cu!(m, cuModuleUnload(module)), 0);
    assert_eq!(m.count("device_allocations"), 0);
    assert_eq!(m.launch(function, 1, 0, &[0, 0]), 400);
    assert_eq!(cu!(m, cuModuleUnload(module)), 400);
    for code in [
        cu!(m, cuStreamSynchronize(3)),
        cu!(m, cuStreamDestroy_v2(0)),
        cu!(m, cuEventQuery(3)),
        cu!(m, cuEventDestroy_v2(3)),
    ] {
        assert_eq!(code, 400);
    }
}

#[test]
fn devices_say_what_they_are() {
    let m = Machine::new("gpus=3 cc=8.6 vram=5G driver_version=11040 integrated");
    let mut count = 0;
    assert_eq!(cu!(m, cuDeviceGetCount(&raw mut count)), 0);
    let mut device = 0;
    assert_eq!((count, cu!(m, cuDeviceGet(&raw mut device, 3))), (3, 101));
    let mut name = [0 as c_char; 64];
    assert_eq!(cu!(m, cuDeviceGetName(name.as_mut_ptr(), 64, 2)), 0);
    // SAFETY: the call ended the text with NUL.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    assert_eq!(name, c"vram-residency fake CUDA device 2");
    let mut short = [1 as c_char; 5];
    assert_eq!(cu!(m, cuDeviceGetName(short.as_mut_ptr(), 5, 0)), 0);
    assert_eq!(short.map(|c| c as u8), *b"vram\0");
    let mut bus = [0 as c_char; 16];
    assert_eq!(cu!(m, cuDeviceGetPCIBusId(bus.as_mut_ptr(), 16, 1)), 0);
    // SAFETY: as above.
    let bus = unsafe { CStr::from_ptr(bus.as_ptr()) };
    assert_eq!(bus, c"0000:02:00.0");
    let mut uuids = [[0; 16]; 3];
    for (device, uuid) in (0..).zip(&mut uuids) {
        assert_eq!(cu!(m, cuDeviceGetUuid_v2(uuid, device)), 0);
    }
    assert!(uuids[0] != uuids[1] && uuids[1] != uuids[2]);
    let attribute = |number| {
        let mut value = -1;
        let code = cu!(m, cuDeviceGetAttribute(&raw mut value, number, 0));
        (code, value)
    };
    assert_eq!(attribute(18), (0, 1));
    assert_eq!((attribute(75), attribute(76)), ((0, 8), (0, 6)));
    assert_eq!((attribute(102), attribute(103)), ((0, 1), (0, 1)));
    assert_eq!(attribute(4000).0, 1, "not modelled");
    let (mut total, mut version, mut peer) = (0, 0, 0);
    assert_eq!(cu!(m, cuDeviceTotalMem_v2(&raw mut total, 1)), 0);
    assert_eq!(cu!(m, cuDriverGetVersion(&raw mut version)), 0);
    assert_eq!(cu!(m, cuDeviceCanAccessPeer(&raw mut peer, 0, 1)), 0);
    assert_eq!((total, version, peer), (5 << 30, 11040, 1));
}

#[test]
fn contexts_are_counted_and_belong_to_threads() {
    let m = Machine::new("gpus=2");
    assert_eq!(m.retain(0), m.context, "one primary context per device");
    assert_eq!(m.count("retained"), 2);
    let other = m.retain(1);
    m.push(other);
    let mut current = 0;
    assert_eq!(cu!(m, cuCtxGetCurrent(&raw mut current)), 0);
    assert_eq!(current, other);
    let mut device = -1;
    assert_eq!((cu!(m, cuCtxGetDevice(&raw mut device)), device), (0, 1));
    assert_eq!(cu!(m, cuCtxPopCurrent_v2(&raw mut current)), 0);
    assert_eq!(current, other);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut current = 9;
            assert_eq!(cu!(m, cuCtxGetCurrent(&raw mut current)), 0);
            assert_eq!(current, 0);
            assert_eq!(m.sync(), 201, "no context is current here");
            assert_eq!(cu!(m, cuCtxSetCurrent(m.context)), 0);
            assert_eq!(m.sync(), 0);
        });
    });
    assert_eq!(cu!(m, cuCtxPushCurrent_v2(5)), 201);
    let buffer = m.alloc(16);
    let stream = m.stream(NON_BLOCKING);
    assert_eq!(cu!(m, cuDevicePrimaryCtxRelease_v2(0)), 0);
    assert_eq!(m.get(buffer, 1), [0xa5]);
    assert_eq!(cu!(m, cuDevicePrimaryCtxRelease_v2(0)), 0);
    assert_eq!(m.sync(), 709, "the last release destroyed it");
    assert_eq!(cu!(m, cuStreamDestroy_v2(stream)), 400);
    assert_eq!(cu!(m, cuDevicePrimaryCtxRelease_v2(0)), 201);
    let (mut flags, mut active) = (0, 9);
    assert_eq!(
        cu!(
            m,
            cuDevicePrimaryCtxGetState(0, &raw mut flags, &raw mut active)
        ),
        0
    );
    assert_eq!(active, 0);
    m.ctl.run("reset gpus=0").unwrap();
    assert_eq!(
        cu!(m, cuDeviceGetCount(&raw mut device)),
        3,
        "not initialised"
    );
    assert_eq!(cu!(m, cuInit(0)), 100);
}
