//! The machine's own limits, measured like everything else in this run.

use vram_residency_cuda::Cuda;

use crate::Options;
use crate::raw::{Argument, Raw};
use crate::report::{Report, Times};

/// Bytes of one host copy.
const COPY: u64 = 256 << 20;
const RUNS: usize = 7;

pub(crate) fn measure(options: &Options, cuda: &Cuda, report: &mut Report) {
    report.time(
        "driver JIT of the committed PTX, context included",
        jit(options, cuda),
    );
    let raw = match Raw::open(cuda, options.ordinal) {
        Ok(raw) => raw,
        Err(error) => return report.failure("raw context", &error.to_string()),
    };
    let copy = COPY.min(options.main_size());
    host_copies(&raw, copy, report);
    device_roofs(&raw, options.main_size(), report);
}

fn jit(options: &Options, cuda: &Cuda) -> Result<Times, String> {
    Times::cold(3, || Raw::open(cuda, options.ordinal).map(drop))
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
    match (raw.alloc(half), raw.alloc(half)) {
        (Ok(a), Ok(b)) => {
            let times = Times::of(RUNS, || raw.dtod(&a, &b, half));
            report.rate(
                "roof: device copy (payload; traffic is twice that)",
                half,
                times,
            );
        }
        (Err(error), _) | (_, Err(error)) => {
            report.failure("roof: device copy", &error.to_string());
        }
    }
    report.rate("roof: device read (vram_sum)", size, read_roof(raw, size));
}

/// Time to read `size` bytes of random data with the plainest kernel.
pub(crate) fn read_roof(raw: &Raw, size: u64) -> Result<Times, String> {
    let text = |error: vram_residency_cuda::driver::DriverError| error.to_string();
    let data = raw.alloc(size).map_err(text)?;
    let result = raw.alloc(256).map_err(text)?;
    let mut fill = [
        Argument::U64(data.at.0),
        Argument::U64(size),
        Argument::U64(7),
    ];
    raw.launch("vram_random", (4096, 256), &mut fill)
        .map_err(text)?;
    Times::of(RUNS, || {
        let mut sum = [
            Argument::U64(data.at.0),
            Argument::U64(size),
            Argument::U64(result.at.0),
        ];
        raw.launch("vram_sum", (4096, 256), &mut sum)?;
        raw.sync()
    })
}
