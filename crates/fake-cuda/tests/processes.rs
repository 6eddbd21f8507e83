//! What crosses the border of a process: descriptors, the loader, the environment.
//!
//! Each test starts this very program again in the role of an ignored test.
#![allow(clippy::macro_metavars_in_unsafe, reason = "test code")]

mod common;

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use common::{Cu, MIB, Machine, PAGE};
use fake_cuda::{Ctl, library_path};
use rustix::io::{FdFlags, fcntl_setfd};

const SEGMENTATION_FAULT: i32 = 11;
/// What the parent tells its child.
const MESSAGE: &str = "FAKE_CUDA_TEST_MESSAGE";

/// Runs the ignored test `role` in a new process.
fn child(role: &str, message: &str, prepare: impl Fn(&mut Command)) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", role, "--test-threads=1"])
        .env(MESSAGE, message);
    prepare(&mut command);
    command.output().unwrap()
}

fn succeeded(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

fn message() -> String {
    std::env::var(MESSAGE).expect("run by another test")
}

fn export(m: &Machine, handle: u64) -> OwnedFd {
    let mut fd = -1;
    let code = cu!(
        m,
        cuMemExportToShareableHandle((&raw mut fd).cast(), handle, 1, 0)
    );
    assert_eq!(code, 0);
    // SAFETY: the call opened this descriptor for the caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn import(m: &Machine, fd: i32) -> Result<u64, u32> {
    let mut handle = 0;
    let number = std::ptr::without_provenance_mut::<c_void>(fd as usize);
    match cu!(
        m,
        cuMemImportFromShareableHandle(&raw mut handle, number, 1)
    ) {
        0 => Ok(handle),
        code => Err(code),
    }
}

#[test]
fn exported_memory_is_shared_with_another_process() {
    let m = Machine::new("gpus=2");
    let a = m.mapped(2 * PAGE);
    m.put(a.address + 5, b"owner");
    assert_eq!(m.sync(), 0);
    let fd = export(&m, a.handle);
    fcntl_setfd(&fd, FdFlags::empty()).unwrap();
    succeeded(&child("importer", &fd.as_raw_fd().to_string(), |_| {}));
    // What the other process wrote is seen here, and only there was it unmapped.
    assert_eq!(m.get(a.address + 5, 5), b"guest");
    m.unmap(&a, 2 * PAGE);
    assert_eq!(m.count("driver_descriptors"), 0);
    assert_eq!(m.count("descriptors_exported"), 1);

    // The descriptor alone keeps the bytes.
    let again = import(&m, fd.as_raw_fd()).unwrap();
    let address = m.map(again, 2 * PAGE);
    assert_eq!(m.protect(address, 2 * PAGE, 0, 1), 0);
    assert_eq!(m.get(address + 5, 5), b"guest");
    assert_eq!(m.count("driver_descriptors"), 1);
}

#[test]
fn descriptors_that_nobody_closed_are_counted() {
    let (m, other) = (Machine::new(""), Machine::new(""));
    let open = |m: &Machine| m.count("open_descriptors") - m.count("driver_descriptors");
    let a = m.mapped(PAGE);
    assert_eq!((open(&m), m.count("driver_descriptors")), (0, 1));
    let fd = export(&m, a.handle);
    let copy = fd.try_clone().unwrap();
    assert_eq!((open(&m), open(&other)), (2, 0));
    drop(fd);
    m.unmap(&a, PAGE);
    assert_eq!(open(&m), 1, "it outlives the memory's other owners");
    drop(copy);
    assert_eq!((open(&m), m.count("open_descriptors")), (0, 0));
}

#[test]
#[ignore = "the other process of exported_memory_is_shared_with_another_process"]
fn importer() {
    let m = Machine::new("gpus=2 vram=64M");
    let fd = message().parse().unwrap();
    let handle = import(&m, fd).unwrap();
    assert_eq!(m.free_bytes(), 60 * MIB, "imported memory is charged");
    let address = m.map(handle, 2 * PAGE);
    assert_eq!(m.protect(address, 2 * PAGE, 0, 3), 0);
    assert_eq!(m.get(address + 5, 5), b"owner");
    m.put(address + 5, b"guest");
    assert_eq!(m.sync(), 0);
}

#[test]
fn only_exported_memory_can_be_imported() {
    let m = Machine::new("");
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert_eq!(import(&m, file.as_raw_fd()), Err(1));
    assert_eq!(import(&m, 9999), Err(1));
    let private = common::Prop {
        handle_types: 0,
        ..Machine::prop(0)
    };
    let handle = m.create(PAGE, &private);
    let mut fd = -1;
    let out = (&raw mut fd).cast();
    assert_eq!(cu!(m, cuMemExportToShareableHandle(out, handle, 1, 0)), 1);
    let m = Machine::new("nofd");
    let mut handle = 0;
    let prop = Machine::prop(0);
    assert_eq!(
        cu!(m, cuMemCreate(&raw mut handle, PAGE, &raw const prop, 0)),
        801
    );
    assert_eq!(import(&m, file.as_raw_fd()), Err(801));
}

#[test]
fn the_host_cannot_touch_device_memory() {
    for kind in ["plain", "mapped"] {
        let output = child("toucher", kind, |_| {});
        assert_eq!(
            output.status.signal(),
            Some(SEGMENTATION_FAULT),
            "{kind}: {output:?}"
        );
    }
}

#[test]
#[ignore = "the process that dies in the_host_cannot_touch_device_memory"]
fn toucher() {
    let m = Machine::new("");
    let address = match message().as_str() {
        "plain" => m.alloc(4096),
        _ => m.mapped(PAGE).address,
    };
    let byte = std::ptr::with_exposed_provenance::<u8>(address as usize);
    // SAFETY: there is none: the address is the device's, and the kernel has to
    // end this process here.
    println!("{}", unsafe { byte.read_volatile() });
}

#[test]
fn a_program_finds_it_by_name_and_obeys_the_environment() {
    let folder = library_path()
        .unwrap()
        .with_file_name(format!("by-name-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let link = folder.join("libcuda.so.1");
    let _old = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(library_path().unwrap(), &link).unwrap();
    let run = |script: &str| {
        child("by_name", "3", |c| {
            c.env("LD_LIBRARY_PATH", &folder).env("FAKE_CUDA", script);
        })
    };
    let (good, bad) = (run("reset gpus=3; fail cuMemAlloc 1 2"), run("reset gpu=3"));
    std::fs::remove_dir_all(&folder).unwrap();
    succeeded(&good);
    assert!(!bad.status.success());
    let why = String::from_utf8_lossy(&bad.stderr);
    assert!(why.contains("bad command"), "{why}");
}

#[test]
#[ignore = "the program of a_program_finds_it_by_name_and_obeys_the_environment"]
fn by_name() {
    let cu = Cu::open(Path::new("libcuda.so.1"));
    let ctl = Ctl::open(Path::new("libcuda.so.1")).unwrap();
    let m = Machine {
        cu,
        ctl,
        context: 0,
    };
    assert_eq!(cu!(m, cuInit(0)), 0);
    let mut count = 0;
    assert_eq!(cu!(m, cuDeviceGetCount(&raw mut count)), 0);
    assert_eq!(count.to_string(), message());
    m.push(m.retain(0));
    let mut address = 0;
    assert_eq!(cu!(m, cuMemAlloc_v2(&raw mut address, 16)), 2);
    assert_eq!(m.trace()["cuMemAlloc_v2"], 1);
}
