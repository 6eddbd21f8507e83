//! Virtual memory between processes: what a file descriptor keeps alive, what a
//! read-only mapping stops. Each experiment runs in processes of its own,
//! because some end their context and one is killed.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use vram_residency::device::{BufferId, Device as _, DeviceError, Extent, Protection};
use vram_residency_cuda::CudaDevice;
use vram_residency_cuda::driver::{Driver, DriverError};
use vram_residency_cuda::sys::{
    CuAccessDesc, CuDevicePtr, CuMemHandle, CuMemLocation, access, location,
};

use crate::Machine;
use crate::attach;
use crate::options::Options;
use crate::raw::{Argument, Raw};
use crate::report::Report;

/// Bytes of the shared allocation.
const SHARED: u64 = 64 << 20;
/// Longest that one experiment may take.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn measure(machine: &Machine<'_>, report: &mut Report) {
    for (role, name) in [
        ("export", "fd export to another process"),
        (
            "orphan-exporter",
            "VRAM survives its exporter, only the fd held",
        ),
        ("read-only", "a kernel writes to a read-only mapping"),
    ] {
        let said = in_process(machine.options, role).and_then(|(status, text)| {
            // The exporter of the orphan is killed; what counts is what is said.
            let last = text.lines().last().unwrap_or_default().to_owned();
            match (
                status.success() || role == "orphan-exporter",
                last.is_empty(),
            ) {
                (true, false) => Ok(last),
                _ => Err(format!("{status} {last}")),
            }
        });
        let said = said.and_then(|text| match text.strip_prefix("error: ") {
            Some(why) => Err(why.to_owned()),
            None => Ok(text),
        });
        report.finding(name, said);
    }
    attach::measure(machine, report);
}

/// Runs a role in a process of its own: how it ended, and all that it and its
/// children said.
pub(crate) fn in_process(options: &Options, role: &str) -> Result<(ExitStatus, String), String> {
    let say = |error: std::io::Error| error.to_string();
    let mut command = again(options, role);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(say)?;
    let mut output = child.stdout.take().ok_or("no pipe")?;
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = output.read_to_string(&mut text);
        let _ = send.send(text);
    });
    let started = Instant::now();
    let status = loop {
        // Reaped at once, so that an orphan sees it gone.
        if let Some(status) = child.try_wait().map_err(say)? {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().map_err(say)?;
            child.wait().map_err(say)?;
            return Err(format!("no end within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let left = PATIENCE.saturating_sub(started.elapsed());
    let text = receive.recv_timeout(left);
    let text = text.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
    Ok((status, text))
}

/// This program again, in a role.
pub(crate) fn again(options: &Options, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    let library = options.library.clone().unwrap_or_default();
    command.args(["role", role, &options.ordinal.to_string(), &library]);
    command
}

/// Entry of the processes that the experiments start.
pub(crate) fn role(args: &[String]) -> ExitCode {
    let options = Options {
        ordinal: args[1].parse().expect("an ordinal"),
        library: Some(args[2].clone()).filter(|library| !library.is_empty()),
        ..Options::default()
    };
    let answer = match args[0].as_str() {
        "export" => export(&options),
        "import" => import(&options, &args[3]).map(str::to_owned),
        "orphan-exporter" => orphan_exporter(&options),
        "orphan" => orphan(&options, &args[3], &args[4]),
        "read-only" => read_only(&options),
        "attach-exporter" => attach::exporter(&options),
        "attach" => attach::attacher(&options, &args[3]),
        other => Err(format!("unknown role {other}")),
    };
    let (text, code) = match answer {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(why) => (format!("error: {why}"), ExitCode::FAILURE),
    };
    println!("{text}");
    code
}

fn pattern() -> Vec<u8> {
    (0..SHARED as usize)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect()
}

/// A device with one buffer that holds the pattern.
fn filled(options: &Options) -> Result<(CudaDevice, BufferId, Extent), String> {
    let text = |error: DeviceError| error.to_string();
    let device = options.cuda()?.device(options.ordinal).map_err(text)?;
    let buffer = device.allocate(SHARED).map_err(text)?.id;
    let extent = Extent {
        buffer,
        start: 0,
        len: SHARED,
    };
    device.write(extent, 0, &pattern()).map_err(text)?;
    Ok((device, buffer, extent))
}

/// A duplicate that children inherit; they are told its number.
pub(crate) fn inheritable(fd: &OwnedFd) -> Result<OwnedFd, String> {
    let say = |error: rustix::io::Errno| error.to_string();
    let fd = rustix::io::dup(fd).map_err(say)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).map_err(say)?;
    Ok(fd)
}

/// The descriptor that the parent left open for us, duplicated.
pub(crate) fn inherited(number: &str) -> Result<OwnedFd, String> {
    let say = |error: std::io::Error| format!("descriptor {number}: {error}");
    let number = number
        .parse::<i32>()
        .map_err(|error| say(std::io::Error::other(error)))?;
    // SAFETY: the parent made this descriptor for us, told us its number, and
    // nothing in this process closes it before we duplicate it.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    borrowed.try_clone_to_owned().map_err(say)
}

/// Allocates, fills and exports; a child imports by the inherited descriptor.
fn export(options: &Options) -> Result<String, String> {
    let (device, buffer, _) = filled(options)?;
    let fd = device
        .export_fd(buffer)
        .map_err(|error| error.to_string())?;
    let fd = inheritable(&fd)?;
    let mut child = again(options, "import");
    child.arg(fd.as_raw_fd().to_string()).stdin(Stdio::null());
    let started = Instant::now();
    let output = child.output().map_err(|error| error.to_string())?;
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    device.free(buffer).map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(format!("yes: {said}; the whole child took {took:.1?}"))
    } else {
        Err(said)
    }
}

/// Exports to a child and dies without any clean-up, as if killed.
fn orphan_exporter(options: &Options) -> Result<String, String> {
    let (device, buffer, _) = filled(options)?;
    let fd = device
        .export_fd(buffer)
        .map_err(|error| error.to_string())?;
    let fd = inheritable(&fd)?;
    let mut child = again(options, "orphan");
    child.arg(fd.as_raw_fd().to_string());
    child.arg(std::process::id().to_string());
    // Its output goes where ours goes. The destructors that would free the
    // memory never run.
    child.stdin(Stdio::null());
    let _child = child.spawn().map_err(|error| error.to_string())?;
    let me = rustix::process::getpid();
    let killed = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    Err(format!("this process could not end itself: {killed:?}"))
}

/// Waits until the exporter is gone, its address space and descriptors with it,
/// and looks for the bytes. Only the descriptor is left of them.
fn orphan(options: &Options, number: &str, exporter: &str) -> Result<String, String> {
    let folder = PathBuf::from("/proc").join(exporter);
    let started = Instant::now();
    while folder.exists() {
        if started.elapsed() > PATIENCE / 2 {
            return Err(format!("process {exporter} did not go away"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    // The driver may free the memory a little later than the process goes.
    std::thread::sleep(Duration::from_millis(300));
    Ok(match import(options, number) {
        Ok(said) => format!("yes: {said} after the exporter was killed and reaped"),
        Err(why) => format!("no: {why}"),
    })
}

/// Imports a descriptor, maps it read-only and compares what lies there.
fn import(options: &Options, number: &str) -> Result<&'static str, String> {
    let text = |error: DriverError| error.to_string();
    let fd = inherited(number)?;
    let cuda = options.cuda()?;
    let raw = Raw::bare(&cuda, options.ordinal).map_err(text)?;
    let handle = raw.driver.mem_import_fd(fd.as_fd()).map_err(text)?;
    let at = map(&raw.driver, handle, SHARED, options.ordinal).map_err(text)?;
    let mut bytes = vec![0_u8; SHARED as usize];
    raw.dtoh_at(&mut bytes, at).map_err(text)?;
    if bytes == pattern() {
        Ok("64 MiB intact")
    } else {
        Err("the memory holds other bytes".to_owned())
    }
}

/// Maps a handle at a fresh address: read-only, or writable where the driver
/// refuses that, which is another row's finding.
pub(crate) fn map(
    driver: &Driver,
    handle: CuMemHandle,
    bytes: u64,
    ordinal: u32,
) -> Result<CuDevicePtr, DriverError> {
    let len = bytes as usize;
    let at = driver.mem_address_reserve(len, 0)?;
    // SAFETY: the range was reserved a line above and the handle is live.
    unsafe { driver.mem_map(at, len, handle) }?;
    let place = CuMemLocation {
        kind: location::DEVICE,
        id: ordinal.cast_signed(),
    };
    let set = |flags| {
        let rights = CuAccessDesc {
            location: place,
            flags,
        };
        // SAFETY: the range was mapped above and nothing uses it yet.
        unsafe { driver.mem_set_access(at, len, &rights) }
    };
    set(access::READ).or_else(|_| set(access::READ_WRITE))?;
    Ok(at)
}

/// Seals a buffer read-only and lets a kernel write to it.
fn read_only(options: &Options) -> Result<String, String> {
    let text = |error: DeviceError| error.to_string();
    let (device, buffer, extent) = filled(options)?;
    device.protect(buffer, Protection::ReadOnly).map_err(text)?;
    let address = device.address(extent).map_err(text)?.ok_or("no address")?;
    let cuda = options.cuda()?;
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
    println!(
        "{}",
        match (&synced, read) {
            (Err(error), _) => format!("stopped: {error}"),
            (Ok(()), Ok(())) if kept => "ignored: no fault, and the bytes are as before".to_owned(),
            (Ok(()), Ok(())) =>
                "WENT THROUGH: read-only mappings do not protect on this machine".to_owned(),
            (Ok(()), Err(error)) => format!("error: the read behind it failed: {error}"),
        }
    );
    // The context may be dead; do not wait for its orderly end.
    let _ = std::io::stdout().flush();
    std::process::exit(0)
}
