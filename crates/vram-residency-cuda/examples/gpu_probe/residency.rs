//! The library as its users call it: sealing, verifying, leasing.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vram_residency::device::Device as _;
use vram_residency::key::RootKey;
use vram_residency::load::PatternSource;
use vram_residency::random::OsRandom;
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};
use vram_residency_cuda::Cuda;

use crate::Options;
use crate::raw::Raw;
use crate::report::{Report, Times};

const RUNS: usize = 5;
/// Bytes of one read and copy of the plain load.
const CHUNK: usize = 16 << 20;

pub(crate) fn measure(options: &Options, cuda: &Cuda, report: &mut Report) {
    let policy = Policy {
        max_lease_age: None,
        ..Policy::default()
    };
    let manager = match manager(options, cuda, policy) {
        Ok(manager) => manager,
        Err(why) => return report.failure("manager", &why),
    };
    verifying(options, &manager, report);
    loading(options, cuda, &manager, report);
}

fn manager(options: &Options, cuda: &Cuda, policy: Policy) -> Result<VramManager, String> {
    let device = cuda
        .device(options.ordinal)
        .map_err(|error| error.to_string())?;
    let simulated = device.info().kind != vram_residency::device::DeviceKind::Cuda;
    let policy = if simulated {
        Policy {
            min_device_bytes: 0,
            ..policy
        }
    } else {
        policy
    };
    let key = RootKey::generate(&OsRandom).map_err(|error| error.to_string())?;
    let builder = VramManager::builder()
        .device(device)
        .key(key)
        .policy(policy);
    builder.build().map_err(|error| error.to_string())
}

fn verifying(options: &Options, manager: &VramManager, report: &mut Report) {
    let size = options.main_size();
    let sealed = manager.seal(SealRequest::source(PatternSource::new(size, 1)));
    let shard = match sealed {
        Ok(shard) => shard,
        Err(error) => return report.failure("seal of a pattern", &error.to_string()),
    };
    for (name, mode) in [
        ("verify_sealed Full", Mode::Full),
        ("verify_sealed Keyed", Mode::Keyed),
        (
            "verify_sealed Sweep 100 us",
            Mode::Sweep {
                budget: Duration::from_micros(100),
            },
        ),
        ("verify_sealed TagOnly", Mode::TagOnly),
    ] {
        let bytes = manager
            .verify_sealed(&shard, mode)
            .map_or(0, |v| v.verification().bytes_checked);
        let times = Times::of(RUNS, || manager.verify_sealed(&shard, mode).map(drop));
        let name = format!("{name}, {} MiB", size >> 20);
        if bytes == 0 {
            report.time(&name, times);
        } else {
            report.rate(&name, bytes, times);
        }
    }
    lease_overhead(manager, &shard, report);
    report.time(
        "deallocate (scrub, read back, unmap)",
        Times::cold(1, || manager.deallocate(&shard)),
    );
}

/// What a lease costs beyond its check: a keyed lease against the keyed check
/// of the same shard, a small one so that the difference is not lost.
fn lease_overhead(manager: &VramManager, large: &SealedShard, report: &mut Report) {
    let small = match manager.seal(SealRequest::source(PatternSource::new(1 << 20, 2))) {
        Ok(small) => small,
        Err(error) => return report.failure("lease overhead", &error.to_string()),
    };
    let check = Times::of(51, || manager.verify_sealed(&small, Mode::Keyed).map(drop));
    let lease = Times::of(51, || manager.lease(&small, Mode::Keyed).map(drop));
    let text = match (check, lease) {
        (Ok(check), Ok(lease)) => {
            let micros = (lease.median() - check.median()) * 1e6;
            Ok(format!("{micros:.1} us (bar 50)"))
        }
        (Err(why), _) | (_, Err(why)) => Err(why),
    };
    report.finding("lease beyond its check", text);
    report.time(
        "lease of the large shard, TagOnly",
        Times::of(51, || manager.lease(large, Mode::TagOnly).map(drop)),
    );
}

fn loading(options: &Options, cuda: &Cuda, manager: &VramManager, report: &mut Report) {
    let size = options.main_size().min(8 << 30);
    let path = options.scratch.join("gpu-probe-model.bin");
    let written = write_model(&path, size);
    if let Err(error) = written {
        return report.failure("model file", &error.to_string());
    }
    let plain = Times::of(3, || plain_load(options, cuda, &path, size));
    let plain = report.rate("load without sealing: page cache to VRAM", size, plain);
    let sealed = Times::of(3, || {
        let shard = manager.seal(SealRequest::file(&path))?;
        manager.deallocate(&shard)
    });
    report.rate("seal a file and free it again", size, sealed);
    let mut shards = Vec::new();
    let sealed = Times::cold(3, || {
        shards.clear();
        shards.push(manager.seal(SealRequest::file(&path))?);
        Ok::<(), vram_residency::Error>(())
    });
    let sealed = report.rate("seal a file from the page cache", size, sealed);
    report.ratio(
        "sealed load / load without sealing",
        sealed,
        plain,
        1.0 / 1.03,
    );
    drop(shards);
    let _ = std::fs::remove_file(path);
}

fn write_model(path: &std::path::Path, size: u64) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let mut piece = vec![0_u8; 1 << 20];
    for (i, byte) in piece.iter_mut().enumerate() {
        *byte = (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    }
    for i in 0..size.div_ceil(1 << 20) {
        piece[..8].copy_from_slice(&i.to_le_bytes());
        let len = (size - (i << 20)).min(1 << 20) as usize;
        file.write_all(&piece[..len])?;
    }
    Ok(())
}

/// The same reads and copies, and nothing else: threads with a pinned slot and
/// a stream each.
fn plain_load(
    options: &Options,
    cuda: &Cuda,
    path: &std::path::Path,
    size: u64,
) -> Result<(), String> {
    let threads = std::thread::available_parallelism()
        .map_or(1, std::num::NonZeroUsize::get)
        .min(12);
    let file = File::open(path).map_err(|error| error.to_string())?;
    let next = AtomicU64::new(0);
    let work = || -> Result<(), String> {
        let text = |error: vram_residency_cuda::driver::DriverError| error.to_string();
        let raw = Raw::bare(cuda, options.ordinal).map_err(text)?;
        let device = raw.alloc(CHUNK as u64).map_err(text)?;
        let mut slot = raw.pinned(CHUNK).map_err(text)?;
        loop {
            let offset = next.fetch_add(CHUNK as u64, Ordering::Relaxed);
            if offset >= size {
                return Ok(());
            }
            let len = (size - offset).min(CHUNK as u64) as usize;
            let bytes = &mut slot.bytes_mut()[..len];
            file.read_exact_at(bytes, offset)
                .map_err(|error| error.to_string())?;
            raw.htod(&device, bytes).map_err(text)?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a reader thread"))
    })
}
