//! Every kernel at every size, on random data, beside the read roof; hashes,
//! tags and comparisons are held against the host's own.

use vram_digest::{hash_block, nh};
use vram_residency_cuda::driver::DriverError;
use vram_residency_cuda::sys::CuDevicePtr;

use crate::Machine;
use crate::raw::{Argument, Device, Raw};
use crate::report::Report;
use crate::roofs::{random, read_roof};
use crate::times::Times;

const RUNS: usize = 5;
const BLOCK: u64 = 4096;
const SEGMENT: u64 = nh::SEGMENT_BYTES as u64;
const SEED: u64 = 3;
/// Bars bind from this size on: data that no cache holds.
const LARGE: u64 = 16 << 30;
/// Rates of design 4.2 for an H200, in GB/s and as shares of the read roof.
const SHA_BAR: f64 = 700.0;
const ONE_KEY_BAR: f64 = 0.90;
const TWO_KEYS_BAR: f64 = 0.75;
/// Where the keys lie behind the segment table.
const KEYS: u64 = 1024;
/// Results that are held against the host's.
const SAMPLES: u64 = 16;

pub(crate) fn measure(machine: &Machine<'_>, report: &mut Report) {
    for size in machine.sizes() {
        if let Err(why) = at_size(machine, size, report) {
            report.failure(&format!("kernels at {} MiB", size >> 20), &why);
        }
    }
}

/// What the kernels of one size work on.
struct Bench<'r> {
    raw: &'r Raw,
    data: Device<'r>,
    out: Device<'r>,
    small: Device<'r>,
    multiprocessors: u32,
}

fn at_size(machine: &Machine<'_>, size: u64, report: &mut Report) -> Result<(), String> {
    let text = |error: DriverError| error.to_string();
    let raw = Raw::open(&machine.cuda, machine.options.ordinal).map_err(text)?;
    let out = size.div_ceil(BLOCK) * 32;
    let (free, needed) = (raw.free().map_err(text)?, size + out + (64 << 20));
    if free < needed {
        let why = format!("{} MiB are free, {} are needed", free >> 20, needed >> 20);
        report.skip(&format!("kernels at {} MiB", size >> 20), &why);
        return Ok(());
    }
    let bench = Bench {
        raw: &raw,
        data: raw.alloc(size).map_err(text)?,
        out: raw.zeroed(out).map_err(text)?,
        small: raw.zeroed(8192).map_err(text)?,
        multiprocessors: raw.multiprocessors().map_err(text)?,
    };
    let times = Times::of(RUNS, || random(&raw, &bench.data, SEED));
    report.rate(&name("vram_random (write)", size), size, times);
    let roof = read_roof(&raw, &bench.data);
    let roof = report.rate(&name("read roof (vram_sum)", size), size, roof);
    random(&raw, &bench.data, SEED).map_err(text)?;
    bench.hashes(report);
    bench.tags(report, roof);
    bench.scrub(report);
    Ok(())
}

fn name(what: &str, size: u64) -> String {
    format!("{what}, {} MiB", size >> 20)
}

impl Bench<'_> {
    fn hashes(&self, report: &mut Report) {
        let size = self.data.bytes;
        let times = Times::of(RUNS, || self.sha256());
        let rate = report.rate(&name("vram_sha256_blocks", size), size, times);
        if size >= LARGE {
            let name = name("SHA-256 tree kernel", size);
            report.at_least(&name, (rate, "GB/s"), SHA_BAR);
        }
        report.finding(&name("hashes equal the host's", size), self.check_hashes());
    }

    /// With one block per multiprocessor and two: the library launches one key
    /// with two and two keys with one.
    fn tags(&self, report: &mut Report, roof: f64) {
        let size = self.data.bytes;
        for (keys, blocks, ours) in [(1, 2, true), (1, 4, false), (2, 1, true), (2, 2, false)] {
            let times = Times::of(RUNS, || self.nh_tags(keys, blocks));
            let own = if ours {
                " as the library launches it"
            } else {
                ""
            };
            let what = format!("vram_nh_tags_{keys}, {blocks} per SM{own}");
            let rate = report.rate(&name(&what, size), size, times);
            let share = if roof > 0.0 { rate / roof } else { 0.0 };
            let bar = if keys == 1 { ONE_KEY_BAR } else { TWO_KEYS_BAR };
            if ours && size >= LARGE {
                let name = name(&format!("keyed tags, {keys} key(s)"), size);
                report.at_least(&name, (share, "of the read roof"), bar);
            }
            if ours {
                let name = name(&format!("tags of {keys} key(s) equal the host's"), size);
                report.finding(&name, self.check_tags(keys));
            }
        }
    }

    /// Fill, scrub check and compare, of all bytes, as freeing does.
    fn scrub(&self, report: &mut Report) {
        let (raw, size) = (self.raw, self.data.bytes);
        let fill = Times::of(RUNS, || {
            let mut arguments = [
                Argument::U64(self.data.at.0),
                Argument::U64(size),
                Argument::U32(0),
            ];
            raw.launch("vram_fill", (4096, 256), &mut arguments)?;
            raw.sync()
        });
        report.rate(&name("vram_fill (write)", size), size, fill);
        let check = Times::of(RUNS, || {
            self.counted("vram_check", |result| {
                vec![
                    Argument::U64(self.data.at.0),
                    Argument::U64(size),
                    Argument::U32(0),
                    Argument::U64(result),
                ]
            })
        });
        report.rate(&name("vram_check", size), size, check);
        let half = size / 2;
        let compare = Times::of(RUNS, || {
            self.counted("vram_compare", |result| {
                vec![
                    Argument::U64(self.data.at.0),
                    Argument::U64(self.data.at.0 + half),
                    Argument::U64(half),
                    Argument::U64(result),
                ]
            })
        });
        report.rate(&name("vram_compare of the halves", size), size, compare);
    }

    /// Launches a kernel that counts differences, of which there must be none.
    fn counted(
        &self,
        kernel: &str,
        arguments: impl Fn(u64) -> Vec<Argument>,
    ) -> Result<(), String> {
        let text = |error: DriverError| error.to_string();
        let clean = [[0; 8], [0xff; 8]].concat();
        self.raw.htod(&self.small, &clean).map_err(text)?;
        let grid = (self.multiprocessors * 16, 256);
        let mut arguments = arguments(self.small.at.0);
        self.raw
            .launch(kernel, grid, &mut arguments)
            .map_err(text)?;
        let mut found = [0_u8; 16];
        self.raw.dtoh(&mut found, &self.small).map_err(text)?;
        if found[..] == clean[..] {
            Ok(())
        } else {
            Err(format!("{kernel} found differences in equal bytes"))
        }
    }

    /// One record of the segment table, at the start of `small`.
    fn table(&self) -> Result<(), DriverError> {
        let words = [self.data.at.0, self.data.bytes, 0, self.out.at.0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.raw.htod(&self.small, &bytes)
    }

    fn sha256(&self) -> Result<(), DriverError> {
        self.table()?;
        let items = self.data.bytes.div_ceil(BLOCK);
        let mut arguments = [
            Argument::U64(self.small.at.0),
            Argument::U32(1),
            Argument::U64(items),
            Argument::U32(1),
        ];
        let grid = u32::try_from(items.div_ceil(128)).expect("a grid of 32 bits");
        self.raw
            .launch("vram_sha256_blocks", (grid, 128), &mut arguments)?;
        self.raw.sync()
    }

    fn nh_tags(&self, keys: u32, per_multiprocessor: u32) -> Result<(), DriverError> {
        let mut bytes = vec![0; KEYS as usize];
        let words = [self.data.at.0, self.data.bytes, 0, self.out.at.0];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        for number in 0..keys {
            bytes.extend_from_slice(key(number).as_bytes());
        }
        self.raw.htod(&self.small, &bytes)?;
        let items = self.data.bytes.div_ceil(SEGMENT);
        let mut arguments = vec![
            Argument::U64(self.small.at.0),
            Argument::U32(1),
            Argument::U64(items),
        ];
        for number in 0..keys {
            let offset = KEYS + u64::from(number) * nh::KEY_BYTES as u64;
            arguments.push(Argument::U64(self.small.at.0 + offset));
        }
        let most = u64::from(self.multiprocessors * per_multiprocessor);
        let grid = u32::try_from(items.clamp(1, most)).expect("a small grid");
        let kernel = format!("vram_nh_tags_{keys}");
        self.raw.launch(&kernel, (grid, 256), &mut arguments)?;
        self.raw.sync()
    }

    fn check_hashes(&self) -> Result<String, String> {
        self.sampled(BLOCK, 32, |bytes| {
            let hash = hash_block(bytes).map_err(|error| error.to_string())?;
            Ok(hash.to_vec())
        })
    }

    fn check_tags(&self, keys: u32) -> Result<String, String> {
        let each = nh::TAG_BYTES * keys as usize;
        self.sampled(SEGMENT, each, |bytes| {
            let tags = (0..keys).map(|number| *nh::tag(&key(number), bytes).as_bytes());
            Ok(tags.flatten().collect())
        })
    }

    /// Compares results spread over the whole range, the last one included,
    /// with what the host makes of the same random bytes.
    fn sampled(
        &self,
        item: u64,
        each: usize,
        host: impl Fn(&[u8]) -> Result<Vec<u8>, String>,
    ) -> Result<String, String> {
        let items = self.data.bytes.div_ceil(item);
        let picked = items.min(SAMPLES);
        for i in 0..picked {
            let index = (i + 1) * items / picked - 1;
            let start = index * item;
            let len = item.min(self.data.bytes - start) as usize;
            let expected = host(&random_bytes(start, len))?;
            let mut found = vec![0; each];
            let at = CuDevicePtr(self.out.at.0 + index * each as u64);
            let copied = self.raw.dtoh_at(&mut found, at);
            copied.map_err(|error| error.to_string())?;
            if found != expected {
                return Err(format!("result {index} of {items} is wrong"));
            }
        }
        Ok(format!("{picked} of {items} compared, equal"))
    }
}

/// A key of the bench's own.
fn key(number: u32) -> nh::Key {
    let bytes = random_bytes(u64::from(number) << 40, nh::KEY_BYTES);
    nh::Key::from_bytes(&bytes.try_into().expect("a key's length"))
}

/// What `vram_random` leaves in the range, from byte `start`, a multiple of 8.
fn random_bytes(start: u64, len: usize) -> Vec<u8> {
    let word = |index: u64| {
        let step = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut z = SEED.wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    let words = (start / 8..).take(len.div_ceil(8));
    words.flat_map(word).take(len).collect()
}
