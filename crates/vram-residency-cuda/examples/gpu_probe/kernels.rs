//! Every kernel at every size, on random data, beside the read roof.

use vram_digest::nh;
use vram_residency_cuda::Cuda;
use vram_residency_cuda::driver::DriverError;

use crate::Options;
use crate::raw::{Argument, Device, Raw};
use crate::report::{Report, Times};
use crate::roofs::read_roof;

const RUNS: usize = 5;
const BLOCK: u64 = 4096;
const SEGMENT: u64 = nh::SEGMENT_BYTES as u64;

pub(crate) fn measure(options: &Options, cuda: &Cuda, report: &mut Report) {
    for size in &options.sizes {
        if let Err(why) = at_size(options, cuda, *size, report) {
            report.failure(&format!("kernels at {} MiB", size >> 20), &why);
        }
    }
}

fn at_size(options: &Options, cuda: &Cuda, size: u64, report: &mut Report) -> Result<(), String> {
    let text = |error: DriverError| error.to_string();
    let raw = Raw::open(cuda, options.ordinal).map_err(text)?;
    let roof = report.rate(&name("read roof", size), size, read_roof(&raw, size));
    let data = raw.alloc(size).map_err(text)?;
    let out = raw.alloc(size.div_ceil(BLOCK) * 32).map_err(text)?;
    let small = raw.alloc(8192).map_err(text)?;
    let mut random = [
        Argument::U64(data.at.0),
        Argument::U64(size),
        Argument::U64(3),
    ];
    raw.launch("vram_random", (4096, 256), &mut random)
        .map_err(text)?;

    let sha = Times::of(RUNS, || sha256(&raw, &data, &out, &small));
    report.rate(&name("vram_sha256_blocks", size), size, sha);
    for keys in [1_u32, 2] {
        let times = Times::of(RUNS, || tags(&raw, &data, &out, &small, keys));
        let rate = report.rate(&name(&format!("vram_nh_tags_{keys}"), size), size, times);
        let bar = if keys == 1 { 0.90 } else { 0.75 };
        report.ratio(
            &name(&format!("vram_nh_tags_{keys} / read roof"), size),
            rate,
            roof,
            bar,
        );
    }
    let fill = Times::of(RUNS, || {
        let mut arguments = [
            Argument::U64(data.at.0),
            Argument::U64(size),
            Argument::U32(0),
        ];
        raw.launch("vram_fill", (4096, 256), &mut arguments)?;
        raw.sync()
    });
    report.rate(&name("vram_fill", size), size, fill);
    let check = Times::of(RUNS, || {
        let mut arguments = [
            Argument::U64(data.at.0),
            Argument::U64(size),
            Argument::U32(0),
            Argument::U64(small.at.0),
        ];
        raw.launch("vram_check", (4096, 256), &mut arguments)?;
        raw.sync()
    });
    report.rate(&name("vram_check", size), size, check);
    Ok(())
}

fn name(what: &str, size: u64) -> String {
    format!("{what}, {} MiB", size >> 20)
}

/// One record of the segment table at the start of `small`.
fn table(
    raw: &Raw,
    small: &Device<'_>,
    data: &Device<'_>,
    out: &Device<'_>,
) -> Result<(), DriverError> {
    let words = [data.at.0, data.bytes, 0, out.at.0];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    raw.htod(small, &bytes)
}

fn sha256(
    raw: &Raw,
    data: &Device<'_>,
    out: &Device<'_>,
    small: &Device<'_>,
) -> Result<(), DriverError> {
    table(raw, small, data, out)?;
    let items = data.bytes.div_ceil(BLOCK);
    let mut arguments = [
        Argument::U64(small.at.0),
        Argument::U32(1),
        Argument::U64(items),
        Argument::U32(1),
    ];
    let grid = u32::try_from(items.div_ceil(128)).expect("a grid of 32 bits");
    raw.launch("vram_sha256_blocks", (grid, 128), &mut arguments)?;
    raw.sync()
}

fn tags(
    raw: &Raw,
    data: &Device<'_>,
    out: &Device<'_>,
    small: &Device<'_>,
    keys: u32,
) -> Result<(), DriverError> {
    table(raw, small, data, out)?;
    let items = data.bytes.div_ceil(SEGMENT);
    // Whatever lies behind the table is as good a key as any for a timing.
    let key = small.at.0 + 1024;
    let mut arguments = vec![
        Argument::U64(small.at.0),
        Argument::U32(1),
        Argument::U64(items),
        Argument::U64(key),
    ];
    if keys == 2 {
        arguments.push(Argument::U64(key + 2048));
    }
    let grid = u32::try_from(items.clamp(1, 264)).expect("a small grid");
    raw.launch(&format!("vram_nh_tags_{keys}"), (grid, 256), &mut arguments)?;
    raw.sync()
}
