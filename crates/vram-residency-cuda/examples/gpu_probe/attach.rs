//! What it costs a process to attach memory that another process exported.

use std::os::fd::{AsFd, AsRawFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use vram_residency::device::DeviceKind;
use vram_residency_cuda::driver::DriverError;
use vram_residency_cuda::sys::{
    ALLOCATION_TYPE_PINNED, CuAllocationProp, CuMemLocation, handle_type, location,
};

use crate::Machine;
use crate::options::Options;
use crate::processes::{again, in_process, inheritable, inherited, map};
use crate::raw::Raw;
use crate::report::Report;
use crate::times::Times;

/// Attached handles, and bytes of each.
const HANDLES: usize = 35;
const HANDLE_BYTES: u64 = 4 << 30;
/// Left for the attaching process's own context.
const SPARE: u64 = 1 << 30;

pub(crate) fn measure(machine: &Machine<'_>, report: &mut Report) {
    let said = in_process(machine.options, "attach-exporter");
    let text = match said {
        Ok((status, text)) if status.success() => text,
        Ok((status, text)) => {
            let last = text.lines().last().unwrap_or_default();
            return report.failure("attach handles", &format!("{status} {last}"));
        }
        Err(why) => return report.failure("attach handles", &why),
    };
    let times = |what: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(what));
        let nanos = lines.filter_map(|nanos| nanos.trim().parse().ok());
        Times::from_list(nanos.map(Duration::from_nanos).collect())
    };
    let what = text.lines().find_map(|line| line.strip_prefix("handles "));
    let what = what.unwrap_or("handles").to_owned();
    let whole = times("whole ").map(|whole| {
        let ms = whole.median() * 1e3;
        format!("{ms:.3} ms for {what}")
    });
    report.finding("attach 35 x 4 GiB handles of another process", whole);
    report.time(
        "attach one handle (import, reserve, map, rights)",
        times("attach "),
    );
    report.time("detach one handle", times("detach "));
}

/// Makes as many handles as fit and hands their descriptors to a child.
pub(crate) fn exporter(options: &Options) -> Result<String, String> {
    let text = |error: DriverError| error.to_string();
    let cuda = options.cuda()?;
    let info = cuda
        .info(options.ordinal)
        .map_err(|error| error.to_string())?;
    let raw = Raw::bare(&cuda, options.ordinal).map_err(text)?;
    let free = raw.free().map_err(text)?;
    // A pretended device is small, and counts what is imported a second time.
    let (each, fit) = match info.kind {
        DeviceKind::Cuda => (HANDLE_BYTES, free.saturating_sub(SPARE) / HANDLE_BYTES),
        _ => (info.granularity, free / info.granularity / 2),
    };
    let count = HANDLES.min(fit as usize);
    if count == 0 {
        return Err(format!("{} MiB are free", free >> 20));
    }
    let prop = CuAllocationProp {
        kind: ALLOCATION_TYPE_PINNED,
        requested_handle_types: handle_type::POSIX_FD,
        location: CuMemLocation {
            kind: location::DEVICE,
            id: options.ordinal.cast_signed(),
        },
        ..CuAllocationProp::default()
    };
    let (mut handles, mut fds) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let handle = raw.driver.mem_create(each as usize, &prop).map_err(text)?;
        // SAFETY: created a line above for export as a descriptor.
        let fd = unsafe { raw.driver.mem_export_fd(handle) }.map_err(text)?;
        fds.push(inheritable(&fd)?);
        handles.push(handle);
    }
    println!(
        "handles {HANDLES} attaches of {} MiB each over {count} allocations, {} MiB were free",
        each >> 20,
        free >> 20
    );
    let numbers: Vec<String> = fds.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut child = again(options, "attach");
    child
        .arg(format!("{each}:{}", numbers.join(",")))
        .stdin(Stdio::null());
    let status = child.status().map_err(|error| error.to_string())?;
    for handle in handles {
        // SAFETY: created above, never mapped by this process.
        unsafe { raw.driver.mem_release(handle) }.map_err(text)?;
    }
    if status.success() {
        Ok("done".to_owned())
    } else {
        Err(format!("the attaching process: {status}"))
    }
}

/// Attaches and detaches [`HANDLES`] times, going round over the descriptors.
pub(crate) fn attacher(options: &Options, list: &str) -> Result<String, String> {
    let text = |error: DriverError| error.to_string();
    let (each, numbers) = list.split_once(':').ok_or("no list")?;
    let each: u64 = each.parse().map_err(|_| "no size")?;
    let fds: Result<Vec<_>, String> = numbers.split(',').map(inherited).collect();
    let fds = fds?;
    let cuda = options.cuda()?;
    let raw = Raw::bare(&cuda, options.ordinal).map_err(text)?;
    let mut mapped = Vec::new();
    let whole = Instant::now();
    for fd in fds.iter().cycle().take(HANDLES) {
        let started = Instant::now();
        let handle = raw.driver.mem_import_fd(fd.as_fd()).map_err(text)?;
        let at = map(&raw.driver, handle, each, options.ordinal).map_err(text)?;
        mapped.push((handle, at, started.elapsed()));
    }
    println!("whole {}", whole.elapsed().as_nanos());
    for (handle, at, took) in mapped {
        // Reading proves that something is mapped there.
        raw.dtoh_at(&mut [0; 16], at).map_err(text)?;
        println!("attach {}", took.as_nanos());
        let started = Instant::now();
        // SAFETY: mapped above; the copy above has ended.
        unsafe { raw.driver.mem_unmap(at, each as usize) }.map_err(text)?;
        // SAFETY: imported above; its mapping is gone.
        unsafe { raw.driver.mem_release(handle) }.map_err(text)?;
        // SAFETY: reserved by `map`, unmapped above.
        unsafe { raw.driver.mem_address_free(at, each as usize) }.map_err(text)?;
        println!("detach {}", started.elapsed().as_nanos());
    }
    Ok("done".to_owned())
}
