//! The machine's own limits, measured like everything else in this run.

use crate::Machine;
use crate::raw::{Argument, Device, Raw};
use crate::report::Report;
use crate::times::Times;

/// Bytes of one host copy.
const COPY: u64 = 256 << 20;
const RUNS: usize = 7;

/// What loading the kernels costs when the driver compiles them each time:
/// `run.sh` sets `CUDA_CACHE_DISABLE=1` for this section.
pub(crate) fn jit(machine: &Machine<'_>, report: &mut Report) {
    let (cuda, ordinal) = (&machine.cuda, machine.options.ordinal);
    let context = Times::cold(3, || Raw::bare(cuda, ordinal).map(drop));
    report.time("context made and given back", context);
    let times = Raw::bare(cuda, ordinal)
        .map_err(|error| error.to_string())
        .and_then(|raw| Times::cold(3, || raw.load_and_unload()));
    report.time("kernels loaded, driver JIT of the committed PTX", times);
    let device = Times::cold(3, || cuda.device(ordinal).map(drop));
    report.time("device opened by the library, with JIT", device);
}

/// The same with the driver's own cache, as users have it.
pub(crate) fn cached(machine: &Machine<'_>, report: &mut Report) {
    let device = Times::of(3, || machine.cuda.device(machine.options.ordinal).map(drop));
    report.time("device opened by the library, kernels cached", device);
}

pub(crate) fn measure(machine: &Machine<'_>, report: &mut Report) {
    let raw = match Raw::open(&machine.cuda, machine.options.ordinal) {
        Ok(raw) => raw,
        Err(error) => return report.failure("raw context", &error.to_string()),
    };
    host_copies(&raw, COPY.min(machine.main_size()), report);
    device_roofs(&raw, machine.main_size(), report);
}

fn host_copies(raw: &Raw, copy: u64, report: &mut Report) {
    let device = match raw.alloc(copy) {
        Ok(device) => device,
        Err(error) => return report.failure("host copies", &error.to_string()),
    };
    match raw.pinned(copy as usize) {
        Ok(mut pinned) => {
            pinned.bytes_mut().fill(0x5a);
            let times = Times::of(RUNS, || raw.htod(&device, pinned.bytes_mut()));
            report.rate("roof: htod, pinned", copy, times);
            let times = Times::of(RUNS, || raw.dtoh(pinned.bytes_mut(), &device));
            report.rate("roof: dtoh, pinned", copy, times);
        }
        Err(error) => report.failure("roof: htod, pinned", &error.to_string()),
    }
    let pageable = vec![0x5a_u8; copy as usize];
    let times = Times::of(RUNS, || raw.htod(&device, &pageable));
    report.rate("roof: htod, pageable", copy, times);
}

fn device_roofs(raw: &Raw, size: u64, report: &mut Report) {
    let half = size / 2;
    match (raw.zeroed(half), raw.zeroed(half)) {
        (Ok(a), Ok(b)) => {
            let times = Times::of(RUNS, || raw.dtod(&a, &b, half));
            let name = "roof: device copy (payload; traffic is twice that)";
            report.rate(name, half, times);
        }
        (Err(error), _) | (_, Err(error)) => {
            report.failure("roof: device copy", &error.to_string());
        }
    }
    let read = raw
        .zeroed(size)
        .map_err(|error| error.to_string())
        .and_then(|data| read_roof(raw, &data));
    report.rate("roof: device read (vram_sum)", size, read);
}

/// Time to read random data with the plainest kernel; the data stays.
pub(crate) fn read_roof(raw: &Raw, data: &Device<'_>) -> Result<Times, String> {
    let text = |error: vram_residency_cuda::driver::DriverError| error.to_string();
    let result = raw.zeroed(256).map_err(text)?;
    random(raw, data, 7).map_err(text)?;
    Times::of(RUNS, || {
        let mut sum = [
            Argument::U64(data.at.0),
            Argument::U64(data.bytes),
            Argument::U64(result.at.0),
        ];
        raw.launch("vram_sum", (4096, 256), &mut sum)?;
        raw.sync()
    })
}

/// Fills with SplitMix64 of `seed`.
pub(crate) fn random(
    raw: &Raw,
    data: &Device<'_>,
    seed: u64,
) -> Result<(), vram_residency_cuda::driver::DriverError> {
    let mut fill = [
        Argument::U64(data.at.0),
        Argument::U64(data.bytes),
        Argument::U64(seed),
    ];
    raw.launch("vram_random", (4096, 256), &mut fill)?;
    raw.sync()
}
