//! A sealed load of a file beside the same reads and copies without sealing.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use vram_residency::SealRequest;
use vram_residency_cuda::driver::DriverError;

use crate::Machine;
use crate::raw::Raw;
use crate::report::Report;
use crate::sealing;
use crate::times::Times;

/// Bytes of one read and copy of the plain load.
const CHUNK: usize = 16 << 20;
/// Largest model file.
const LARGEST: u64 = 8 << 30;
const RUNS: usize = 3;
/// Issue bar: sealing adds at most three percent to a load.
const SEALED_SHARE: f64 = 1.0 / 1.03;

/// A file that goes when this does, also half written.
struct ModelFile {
    path: PathBuf,
    bytes: u64,
}

impl Drop for ModelFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(crate) fn measure(machine: &Machine<'_>, report: &mut Report) {
    let model = match ModelFile::write(&machine.options.scratch, machine.main_size()) {
        Ok(model) => model,
        Err(why) => return report.failure("model file", &why),
    };
    if model.bytes < machine.main_size().min(LARGEST) {
        let why = format!("{} MiB, for want of room", model.bytes >> 20);
        report.skip("a larger model file", &why);
    }
    let manager = match sealing::manager(machine) {
        Ok(manager) => manager,
        Err(why) => return report.failure("manager", &why),
    };
    let (path, size) = (&model.path, model.bytes);
    let name = |what: &str| format!("{what}, {} MiB", size >> 20);
    let plain = Times::of(RUNS, || plain_load(machine, path, size));
    let plain = report.rate(
        &name("load without sealing: page cache to VRAM"),
        size,
        plain,
    );
    let sealed = Times::of(RUNS, || {
        let shard = manager.seal(SealRequest::file(path))?;
        manager.deallocate(&shard)
    });
    report.rate(&name("seal a file and free it again"), size, sealed);
    let mut shards = Vec::new();
    let sealed = Times::cold(RUNS, || {
        shards.push(manager.seal(SealRequest::file(path))?);
        Ok::<(), vram_residency::Error>(())
    });
    let sealed = report.rate(&name("seal a file from the page cache"), size, sealed);
    let share = if plain > 0.0 { sealed / plain } else { 0.0 };
    let unit = "of the load without sealing";
    report.at_least(&name("sealed load"), (share, unit), SEALED_SHARE);
}

impl ModelFile {
    /// As large as `size`, [`LARGEST`] and half of the folder's room allow.
    fn write(folder: &Path, size: u64) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("{}: {error}", folder.display());
        let room = rustix::fs::statvfs(folder).map_err(|error| say(error.into()))?;
        let room = room.f_bavail.saturating_mul(room.f_frsize) / 2;
        let bytes = size.min(LARGEST).min(room) >> 20 << 20;
        if bytes == 0 {
            return Err(format!("{} has no room", folder.display()));
        }
        let name = format!("gpu-probe-model-{}", std::process::id());
        let model = Self {
            path: folder.join(name),
            bytes,
        };
        let mut file = File::create(&model.path).map_err(say)?;
        let mut piece = vec![0_u8; 1 << 20];
        for (i, byte) in piece.iter_mut().enumerate() {
            *byte = (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        }
        for i in 0..bytes >> 20 {
            piece[..8].copy_from_slice(&i.to_le_bytes());
            file.write_all(&piece).map_err(say)?;
        }
        Ok(model)
    }
}

/// The same reads and copies, and nothing else: threads with a pinned slot and
/// a stream each.
fn plain_load(machine: &Machine<'_>, path: &Path, size: u64) -> Result<(), String> {
    let threads = std::thread::available_parallelism()
        .map_or(1, std::num::NonZeroUsize::get)
        .min(12);
    let file = File::open(path).map_err(|error| error.to_string())?;
    let next = AtomicU64::new(0);
    let work = || -> Result<(), String> {
        let text = |error: DriverError| error.to_string();
        let raw = Raw::bare(&machine.cuda, machine.options.ordinal).map_err(text)?;
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
