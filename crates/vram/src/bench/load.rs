//! `vram bench load`: a sealed load beside the roofs of its parts.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use serde::Serialize;
use vram_digest::{BLOCK_BYTES, BlockHash, hash_blocks_parallel, nh};
use vram_residency::{SealRequest, SealedShard, VramManager};

use super::sample::{Rate, rate, timed};
use super::{Show, ours, roofs};
use crate::device::DeviceSpec;
use crate::failure::Failure;
use crate::measure::cores;
use crate::output::Output;
use crate::{regular, text};

/// Most of the file that the roofs of memory work on.
const SAMPLE: u64 = 1 << 30;

/// Measure a sealed load of a file beside the roofs of its parts
///
/// Reads of the file, cold and from the page cache, a copy of memory, the
/// digest and the keyed hash, each on all cores and in the same run; then the
/// load on the simulated device, which copies, hashes and tags every byte. The
/// last line holds it against what those roofs allow.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram synth model.safetensors --size 4GiB
  vram bench load model.safetensors
  vram bench load model.safetensors --runs 9 --json
  vram bench load model.safetensors --device cuda:0

Memory use is the file twice. Cold reads ask the system to forget the file,
which it does for clean pages only.

Exit codes: 0 fine, 1 failure, 2 usage.")]
pub(super) struct Args {
    /// The model file to load
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Runs of each measurement
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Also load onto this device: cuda:N
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceSpec>,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    model: String,
    bytes: u64,
    cores: usize,
    runs: u32,
    rates: &'a [Rate],
    allowed_bytes_per_second: f64,
    ratio: f64,
}

/// The file and the part of it that the roofs of memory work on.
struct Subject {
    path: PathBuf,
    file: File,
    bytes: usize,
    sample: Vec<u8>,
    team: NonZeroUsize,
    runs: u32,
}

impl Args {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        let subject = Subject::open(self.model, self.runs)?;
        let mut rates = Vec::new();
        let mut show = |rate: Rate| {
            if !output.is_json() {
                output.line(rate.line())?;
            }
            rates.push(rate);
            Ok(())
        };
        subject.reads(&mut show)?;
        let (copy, digest, keyed) = (subject.copy()?, subject.digest()?, subject.keyed()?);
        // One copy into staging memory, one to the device; both hashes there,
        // and the keyed one on the way.
        let times = digest.time_per_byte() + keyed.time_per_byte() + 2.0 * copy.time_per_byte();
        for roof in [copy, digest, keyed] {
            show(roof)?;
        }
        subject.cold_load(&mut show)?;
        let load = subject.load()?;
        let ratio = times / load.time_per_byte();
        show(load)?;
        if let Some(spec) = &self.device {
            show(subject.device_load(spec)?)?;
        }
        if output.is_json() {
            return output.json(&Report {
                schema: "vram-residency/bench-load/v1",
                model: subject.path.to_string_lossy().into_owned(),
                bytes: subject.bytes as u64,
                cores: subject.team.get(),
                runs: subject.runs,
                rates: &rates,
                allowed_bytes_per_second: 1.0 / times,
                ratio,
            });
        }
        output.line(format!(
            "1/(1/digest + 1/keyed + 2/copy) is {:.2} GB/s; the warm load is {ratio:.2} of it",
            1e-9 / times,
        ))
    }
}

impl Subject {
    fn open(path: PathBuf, runs: u32) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(format!(
                "cannot read {}: {error}",
                text::printable(&path.to_string_lossy())
            ))
        };
        let (file, meta) = regular::open(&path).map_err(failed)?;
        if meta.len() < 1 << 20 {
            return Err(Failure::new(format!(
                "{} is not a file of at least 1 MiB",
                text::printable(&path.to_string_lossy())
            ))
            .hint("vram synth model.safetensors --size 4GiB makes one"));
        }
        let too_long = |_| Failure::new("the file is longer than this machine can address");
        let bytes = usize::try_from(meta.len()).map_err(too_long)?;
        let mut sample = vec![0; usize::try_from(meta.len().min(SAMPLE)).map_err(too_long)?];
        file.read_exact_at(&mut sample, 0).map_err(failed)?;
        Ok(Self {
            path,
            file,
            bytes,
            sample,
            team: cores(),
            runs,
        })
    }

    fn failed(&self, error: impl std::fmt::Display) -> Failure {
        Failure::new(format!(
            "cannot read {}: {error}",
            text::printable(&self.path.to_string_lossy())
        ))
    }

    fn forget(&self) -> Result<(), Failure> {
        fadvise(&self.file, 0, None, Advice::DontNeed).map_err(|error| self.failed(error))
    }

    /// The file, cold first, so that the warm reads find it.
    fn reads(&self, show: Show<'_>) -> Result<(), Failure> {
        let read = || {
            timed(|| {
                let read = roofs::read_file(&self.file, self.bytes, self.team);
                read.map_err(|failure| failure.naming(&self.path.to_string_lossy()))
            })
        };
        let cold = || {
            self.forget()?;
            read()
        };
        let measure = |name, work: &dyn Fn() -> Result<Duration, Failure>| {
            rate(name, self.team.get(), self.bytes, self.runs, work)
        };
        show(measure("file read, cold", &cold)?)?;
        show(measure("file read, cached", &read)?)
    }

    /// A roof over the sample in memory.
    fn roof(
        &self,
        name: &'static str,
        mut work: impl FnMut() -> Result<(), Failure>,
    ) -> Result<Rate, Failure> {
        let (cores, bytes) = (self.team.get(), self.sample.len());
        rate(name, cores, bytes, self.runs, || timed(&mut work))
    }

    fn copy(&self) -> Result<Rate, Failure> {
        let mut target = vec![1_u8; self.sample.len()];
        let part = self.sample.len().div_ceil(self.team.get());
        self.roof("memory copy", || {
            roofs::copy_all(&self.sample, &mut target, part)?;
            std::hint::black_box(&target);
            Ok(())
        })
    }

    fn digest(&self) -> Result<Rate, Failure> {
        let mut hashes = vec![BlockHash::default(); self.sample.len().div_ceil(BLOCK_BYTES)];
        self.roof("digest of memory", || {
            let hashed = hash_blocks_parallel(&self.sample, &mut hashes, self.team);
            hashed.map_err(|error| Failure::new(error.to_string()))
        })
    }

    fn keyed(&self) -> Result<Rate, Failure> {
        let key = nh::Key::from_bytes(&[7; nh::KEY_BYTES]);
        let part = self.sample.len().div_ceil(self.team.get());
        let part = part.next_multiple_of(nh::SEGMENT_BYTES);
        self.roof("keyed hash of memory", || {
            roofs::each_on_its_thread(self.sample.chunks(part), |bytes| {
                let mut tags = vec![nh::Tag::ZERO; nh::tag_count(bytes.len())];
                // The lengths agree by construction; nothing is hidden.
                let _ = nh::tags(&key, bytes, &mut tags);
                std::hint::black_box(tags);
            })
        })
    }

    /// Seals from the page cache.
    fn load(&self) -> Result<Rate, Failure> {
        self.seals("sealed load, cached", &self.simulated()?, &|| Ok(()))
    }

    /// The same onto a device that the user named.
    fn device_load(&self, spec: &DeviceSpec) -> Result<Rate, Failure> {
        let name = "sealed load, cached, named device";
        self.seals(name, &ours::manager_of(spec)?, &|| Ok(()))
    }

    /// A manager of a simulated device that holds the file.
    fn simulated(&self) -> Result<VramManager, Failure> {
        ours::manager((self.bytes as u64).saturating_add(1 << 20), self.team)
    }

    fn cold_load(&self, show: Show<'_>) -> Result<(), Failure> {
        show(self.seals("sealed load, cold", &self.simulated()?, &|| self.forget())?)
    }

    fn seals(
        &self,
        name: &'static str,
        manager: &VramManager,
        before: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<Rate, Failure> {
        let mut last: Option<SealedShard> = None;
        rate(name, self.team.get(), self.bytes, self.runs, || {
            // The one before is wiped outside the time.
            drop(last.take());
            before()?;
            timed(|| {
                last = Some(manager.seal(SealRequest::file(&self.path))?);
                Ok(())
            })
        })
    }
}
