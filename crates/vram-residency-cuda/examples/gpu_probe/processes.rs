//! Virtual memory between processes: what a file descriptor keeps alive, what a
//! read-only mapping stops, and what attaching costs. Each experiment runs in
//! processes of its own, because some end their context.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use vram_residency::device::{Device as _, Extent, Protection};
use vram_residency_cuda::Cuda;
use vram_residency_cuda::driver::{Driver, DriverError};
use vram_residency_cuda::sys::{CuAccessDesc, CuDevicePtr, CuMemLocation, access, location};

use crate::Options;
use crate::raw::{Argument, Raw};
use crate::report::Report;

/// Bytes of the shared allocation.
const SHARED: u64 = 64 << 20;
/// Handles and bytes of the attach experiment.
const HANDLES: u64 = 35;
const HANDLE_BYTES: u64 = 4 << 30;

pub(crate) fn measure(options: &Options, cuda: &Cuda, report: &mut Report) {
    report.finding(
        "fd export to another process",
        in_process(options, "export"),
    );
    report.finding(
        "memory after its exporter died, only the fd held",
        in_process(options, "orphan"),
    );
    report.finding(
        "a kernel writes to a read-only mapping",
        in_process(options, "read-only"),
    );
    report.finding("attach 4 GiB handles", attach(options, cuda));
}

/// Runs a role in a process of its own; its last line is the finding.
fn in_process(options: &Options, role: &str) -> Result<String, String> {
    let mut command = again(options, role);
    let output = command
        .stdout(Stdio::piped())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default().to_owned();
    if output.status.success() {
        Ok(last)
    } else {
        Err(format!("{} {last}", output.status))
    }
}

/// This program again, in a role.
fn again(options: &Options, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    let library = options.library.clone().unwrap_or_default();
    command.args(["--role", role, &options.ordinal.to_string(), &library]);
    command
}

/// Entry of the processes started by [`measure`].
pub(crate) fn role(args: &[String]) -> ExitCode {
    let library = Some(args[2].clone()).filter(|library| !library.is_empty());
    let options = Options {
        library,
        ordinal: args[1].parse().expect("an ordinal"),
        sizes: vec![SHARED],
        out: ".".into(),
        scratch: ".".into(),
    };
    let answer = match args[0].as_str() {
        "export" => export(&options, false),
        "orphan" => orphan(&options),
        "orphan-exporter" => export(&options, true),
        "import" => import(&options, &args[3]),
        "read-only" => read_only(&options),
        other => Err(format!("unknown role {other}")),
    };
    match answer {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn pattern() -> Vec<u8> {
    (0..SHARED as usize)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect()
}

/// Allocates, fills and exports; a child imports by the inherited descriptor.
/// With `abandon` this process dies as soon as the child holds it.
fn export(options: &Options, abandon: bool) -> Result<String, String> {
    let text = |error: vram_residency::device::DeviceError| error.to_string();
    let device = options.cuda()?.device(options.ordinal).map_err(text)?;
    let buffer = device.allocate(SHARED).map_err(text)?.id;
    let extent = Extent {
        buffer,
        start: 0,
        len: SHARED,
    };
    device.write(extent, 0, &pattern()).map_err(text)?;
    let fd = device.export_fd(buffer).map_err(text)?;
    // A duplicate without close-on-exec under a number that the child is told.
    let inherited = rustix::io::dup(&fd).map_err(|error| error.to_string())?;
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty())
        .map_err(|error| error.to_string())?;
    let mut child = again(options, "import");
    child.arg(inherited.as_raw_fd().to_string());
    if abandon {
        let child = child
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        // Dying closes the pipe; the child waits for that.
        std::mem::drop(child.stdin);
        std::process::abort();
    }
    let started = Instant::now();
    let output = child
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    device.free(buffer).map_err(|error| error.to_string())?;
    let took = started.elapsed();
    if output.status.success() {
        Ok(format!("{said}; whole child took {took:.1?}"))
    } else {
        Err(said)
    }
}

/// Starts an exporter that dies, and passes on what its orphan finds.
fn orphan(options: &Options) -> Result<String, String> {
    let mut exporter = again(options, "orphan-exporter");
    let output = exporter
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    // The orphan inherited our pipe, so `output` waited for both.
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if said.is_empty() {
        Err("the orphan said nothing".to_owned())
    } else {
        Ok(said)
    }
}

/// Imports a descriptor, maps it read-only and compares what lies there.
fn import(options: &Options, number: &str) -> Result<String, String> {
    let text = |error: DriverError| error.to_string();
    // Returns at once without a pipe; with one, when the exporter has died.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let fd = inherited(number).map_err(|error| format!("descriptor {number}: {error}"))?;
    let cuda = options.cuda()?;
    let raw = Raw::bare(&cuda, options.ordinal).map_err(text)?;
    let driver: &Driver = &raw.driver;
    let handle = driver.mem_import_fd(fd.as_fd()).map_err(text)?;
    let at = map(driver, handle, SHARED, options.ordinal, access::READ).map_err(text)?;
    let mut bytes = vec![0_u8; SHARED as usize];
    raw.dtoh_at(&mut bytes, at).map_err(text)?;
    if bytes == pattern() {
        Ok("intact".to_owned())
    } else {
        Err("other bytes".to_owned())
    }
}

/// The descriptor that the parent left open for us, duplicated.
fn inherited(number: &str) -> std::io::Result<OwnedFd> {
    let number = number.parse::<i32>().map_err(std::io::Error::other)?;
    // SAFETY: the parent made this descriptor for us, told us its number, and
    // nothing in this process closes it before we duplicate it.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    borrowed.try_clone_to_owned()
}

fn map(
    driver: &Driver,
    handle: vram_residency_cuda::sys::CuMemHandle,
    bytes: u64,
    ordinal: u32,
    rights: u32,
) -> Result<CuDevicePtr, DriverError> {
    let len = bytes as usize;
    let at = driver.mem_address_reserve(len, 0)?;
    // SAFETY: the range was reserved a line above and the handle is live.
    unsafe { driver.mem_map(at, len, handle) }?;
    let place = CuMemLocation {
        kind: location::DEVICE,
        id: ordinal.cast_signed(),
    };
    let rights = CuAccessDesc {
        location: place,
        flags: rights,
    };
    // SAFETY: the range was mapped a line above and nothing uses it yet.
    unsafe { driver.mem_set_access(at, len, &rights) }?;
    Ok(at)
}

/// Seals a buffer read-only and lets a kernel write to it.
fn read_only(options: &Options) -> Result<String, String> {
    let text = |error: vram_residency::device::DeviceError| error.to_string();
    let cuda = options.cuda()?;
    let device = cuda.device(options.ordinal).map_err(text)?;
    let buffer = device.allocate(SHARED).map_err(text)?.id;
    let extent = Extent {
        buffer,
        start: 0,
        len: SHARED,
    };
    device.write(extent, 0, &pattern()).map_err(text)?;
    device.protect(buffer, Protection::ReadOnly).map_err(text)?;
    let address = device.address(extent).map_err(text)?.ok_or("no address")?;
    let raw = Raw::open(&cuda, options.ordinal).map_err(|error| error.to_string())?;
    let mut arguments = [
        Argument::U64(address.raw()),
        Argument::U64(4096),
        Argument::U32(0xff),
    ];
    let launched = raw.launch("vram_fill", (1, 256), &mut arguments);
    let synced = launched.and_then(|()| raw.sync());
    let mut bytes = [0_u8; 4096];
    let read = device.read(extent, 0, &mut bytes);
    let kept = bytes[..] == pattern()[..4096];
    let end = match (&synced, read) {
        (Err(error), _) => format!("the write faulted: {error}"),
        (Ok(()), Ok(())) if kept => "the write was ignored".to_owned(),
        (Ok(()), _) => "THE WRITE WENT THROUGH: read-only mappings do not protect here".to_owned(),
    };
    println!("{end}");
    // The context may be dead; do not wait for its orderly end.
    let _ = std::io::stdout().flush();
    std::process::exit(0)
}

/// How long importing and mapping handles takes, in one process.
fn attach(options: &Options, cuda: &Cuda) -> Result<String, String> {
    let text = |error: vram_residency::device::DeviceError| error.to_string();
    let device = cuda.device(options.ordinal).map_err(text)?;
    let free = device.memory().map_err(text)?.free;
    let each = if free > 2 * HANDLE_BYTES {
        HANDLE_BYTES
    } else {
        device.info().granularity
    };
    // Half: not every driver counts an imported handle as the exporter's memory.
    let count = (free / each / 2).clamp(1, HANDLES);
    let mut fds = Vec::new();
    for _ in 0..count {
        let buffer = device.allocate(each).map_err(text)?.id;
        fds.push((buffer, device.export_fd(buffer).map_err(text)?));
    }
    let raw = Raw::bare(cuda, options.ordinal).map_err(|error| error.to_string())?;
    let mut mapped = Vec::new();
    let started = Instant::now();
    for (_, fd) in &fds {
        let attached = raw.driver.mem_import_fd(fd.as_fd()).and_then(|handle| {
            let at = map(&raw.driver, handle, each, options.ordinal, access::READ)?;
            Ok((handle, at))
        });
        mapped.push(attached.map_err(|error| error.to_string())?);
    }
    let took = started.elapsed();
    for (handle, at) in mapped {
        // SAFETY: mapped above, never used by any work.
        let _ = unsafe { raw.driver.mem_unmap(at, each as usize) };
        // SAFETY: imported above; its mapping is gone.
        let _ = unsafe { raw.driver.mem_release(handle) };
        // SAFETY: reserved by `map`, unmapped two lines above.
        let _ = unsafe { raw.driver.mem_address_free(at, each as usize) };
    }
    for (buffer, _) in &fds {
        device.free(*buffer).map_err(|error| error.to_string())?;
    }
    let per = took
        .checked_div(u32::try_from(count).unwrap_or(1).max(1))
        .unwrap_or(Duration::ZERO);
    Ok(format!(
        "{count} handles of {} MiB in {took:.1?}, {per:.1?} each",
        each >> 20
    ))
}
