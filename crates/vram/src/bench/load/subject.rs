//! The file, the roofs, and the load on the simulated device.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use vram_digest::{BLOCK_BYTES, BlockHash, hash_blocks_parallel, nh};
use vram_residency::device::{Device as _, Extent};
use vram_residency::format::Format;
use vram_residency::format::gguf::PartName;
use vram_residency::load::FormatChoice;
use vram_residency::sim::SimDevice;
use vram_residency::{SealRequest, SealedShard, VramManager};

use super::super::roofs;
use super::super::sample::{Turn, timed};
use super::{Show, in_turn, ours};
use crate::failure::Failure;
use crate::measure::cores;
use crate::{regular, text};

/// Most of the file that the roofs of memory work on.
const SAMPLE: u64 = 1 << 30;

pub(super) const COPY: &str = "memory copy";
pub(super) const DIGEST: &str = "digest of memory";
pub(super) const KEYED: &str = "keyed hash of memory";
pub(super) const LOAD: &str = "sealed load, cached";

/// The file and the part of it that the roofs of memory work on.
pub(super) struct Subject {
    path: PathBuf,
    file: File,
    bytes: usize,
    sample: Vec<u8>,
    team: NonZeroUsize,
    runs: u32,
}

impl Subject {
    pub(super) fn open(path: PathBuf, runs: u32) -> Result<Self, Failure> {
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

    pub(super) fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn team(&self) -> NonZeroUsize {
        self.team
    }

    pub(super) const fn runs(&self) -> u32 {
        self.runs
    }

    /// Everything that needs no GPU: cold reads and loads, then the warm ones
    /// with their roofs.
    pub(super) fn simulated(&self, show: Show<'_>) -> Result<(), Failure> {
        let room = (self.bytes as u64).saturating_add(1 << 20);
        let manager = ours::manager(room, self.team)?;
        let cold = vec![
            self.turn("file read, cold", || {
                self.forget()?;
                self.read()
            }),
            self.turn("sealed load, cold", || {
                self.forget()?;
                self.seal(&manager, &mut None, self.request())
            }),
        ];
        in_turn(self.runs, cold)?
            .into_iter()
            .try_for_each(&mut *show)?;
        let mut hashes = vec![BlockHash::default(); self.sample.len().div_ceil(BLOCK_BYTES)];
        let mut target = vec![1_u8; self.sample.len()];
        let fresh = SimDevice::new(self.sample.len() as u64);
        let mut last = None;
        let warm = vec![
            // First in each round: a cold load may have left the file on disk,
            // for it reads past the page cache where that is faster.
            self.turn("file read, cached", || self.read()),
            self.roof(COPY, || self.copy(&mut target)),
            self.roof(DIGEST, || self.digest(&mut hashes)),
            self.roof(KEYED, || self.keyed()),
            self.roof("first touch of device memory", || self.touch(&fresh)),
            self.turn(LOAD, || self.seal(&manager, &mut last, self.request())),
        ];
        in_turn(self.runs, warm)?.into_iter().try_for_each(show)
    }

    /// A measurement of the whole file.
    pub(super) fn turn<'t>(
        &self,
        name: &'static str,
        work: impl FnMut() -> Result<Duration, Failure> + 't,
    ) -> Turn<'t> {
        Turn {
            name,
            cores: self.team.get(),
            bytes: self.bytes,
            work: Box::new(work),
        }
    }

    /// A roof over the sample in memory.
    fn roof<'t>(
        &self,
        name: &'static str,
        work: impl FnMut() -> Result<Duration, Failure> + 't,
    ) -> Turn<'t> {
        Turn {
            bytes: self.sample.len(),
            ..self.turn(name, work)
        }
    }

    fn forget(&self) -> Result<(), Failure> {
        let forgotten = fadvise(&self.file, 0, None, Advice::DontNeed);
        forgotten.map_err(|error| {
            Failure::new(format!(
                "cannot read {}: {error}",
                text::printable(&self.name())
            ))
        })
    }

    /// Reads the file on all cores.
    pub(super) fn read(&self) -> Result<Duration, Failure> {
        timed(|| {
            let read = roofs::read_file(&self.file, self.bytes, self.team);
            read.map_err(|failure| failure.naming(&self.name()))
        })
    }

    fn copy(&self, target: &mut [u8]) -> Result<Duration, Failure> {
        let part = self.sample.len().div_ceil(self.team.get());
        timed(|| {
            roofs::copy_all(&self.sample, target, part)?;
            std::hint::black_box(&target);
            Ok(())
        })
    }

    fn digest(&self, hashes: &mut [BlockHash]) -> Result<Duration, Failure> {
        timed(|| {
            let hashed = hash_blocks_parallel(&self.sample, hashes, self.team);
            hashed.map_err(|error| Failure::new(error.to_string()))
        })
    }

    fn keyed(&self) -> Result<Duration, Failure> {
        let key = nh::Key::from_bytes(&[7; nh::KEY_BYTES]);
        let part = self.sample.len().div_ceil(self.team.get());
        let part = part.next_multiple_of(nh::SEGMENT_BYTES);
        timed(|| {
            roofs::each_on_its_thread(self.sample.chunks(part), |bytes| {
                let mut tags = vec![nh::Tag::ZERO; nh::tag_count(bytes.len())];
                // The lengths agree by construction; nothing is hidden.
                let _ = nh::tags(&key, bytes, &mut tags);
                std::hint::black_box(tags);
            })
        })
    }

    /// Fills memory that the device has just been given by the system.
    fn touch(&self, device: &SimDevice) -> Result<Duration, Failure> {
        let len = self.sample.len() as u64;
        let buffer = device.allocate(len)?.id;
        let part = usize::try_from(len).unwrap_or(usize::MAX);
        let part = part.div_ceil(self.team.get()).next_multiple_of(2 << 20);
        let parts = (0..len).step_by(part).map(|start| Extent {
            buffer,
            start,
            len: (part as u64).min(len.saturating_sub(start)),
        });
        let time = timed(|| {
            roofs::each_on_its_thread(parts, |extent| {
                // It fails only where memory ends, and then so does the load.
                let _ = device.fill(extent, 1);
            })
        });
        device.free(buffer).map_err(|error| error.source)?;
        time
    }

    /// Seals into memory that was wiped outside the time.
    pub(super) fn seal(
        &self,
        manager: &VramManager,
        last: &mut Option<SealedShard>,
        request: SealRequest<'_>,
    ) -> Result<Duration, Failure> {
        drop(last.take());
        timed(|| {
            *last = Some(manager.seal(request)?);
            Ok(())
        })
    }

    /// What a user asks for: the file, its format found by what it holds. A part of a
    /// split model is measured as the bytes that it is; nothing is claimed of a model.
    pub(super) fn request(&self) -> SealRequest<'static> {
        let request = SealRequest::file(&self.path);
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        match PartName::parse(&name).is_some_and(|part| part.count > 1) {
            true => request.format(FormatChoice::Exactly(Format::Raw)),
            false => request,
        }
    }
}
