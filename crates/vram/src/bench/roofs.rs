//! What the machine itself can do.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::sample::{in_turn, timed};
use super::teams::turns;
use super::{Plan, Show};
use crate::environment;
use crate::failure::Failure;

/// Bytes read from a file at a time.
const READ: usize = 1 << 20;

/// Reading and copying memory, on one core and on all.
pub(super) fn memory(plan: &Plan, show: Show<'_>) -> Result<(), Failure> {
    memory_by(plan, |_| true, show)
}

/// The same on `team` cores alone.
pub(super) fn memory_on(plan: &Plan, team: NonZeroUsize, show: Show<'_>) -> Result<(), Failure> {
    memory_by(plan, |cores| cores == team.get(), show)
}

fn memory_by(plan: &Plan, wanted: impl Fn(usize) -> bool, show: Show<'_>) -> Result<(), Failure> {
    let source = words(plan);
    let mut target = vec![1_u64; source.len()];
    let mut rows = turns(plan, "memory read", |team| read_all(&source, team));
    rows.extend(turns(plan, "memory copy", |team| {
        timed(|| copy_all(&source, &mut target, source.len().div_ceil(team.get())))
    }));
    rows.retain(|row| wanted(row.cores));
    in_turn(plan.runs, rows)?.into_iter().try_for_each(show)
}

/// Memory of the plan's size that was touched.
pub(super) fn words(plan: &Plan) -> Vec<u64> {
    vec![0x0123_4567_89AB_CDEF; plan.bytes.div_ceil(size_of::<u64>())]
}

/// Reads every word on `team` threads.
pub(super) fn read_all(source: &[u64], team: NonZeroUsize) -> Result<Duration, Failure> {
    let part = source.len().div_ceil(team.get());
    let sum = |words: &[u64]| {
        let sum = |sum: u64, word: &u64| sum.wrapping_add(*word);
        black_box(words.iter().fold(0, sum));
    };
    timed(|| each_on_its_thread(source.chunks(part.max(1)), sum))
}

/// Copies on as many threads as there are parts.
pub(super) fn copy_all<T: Copy + Send + Sync>(
    source: &[T],
    target: &mut [T],
    part: usize,
) -> Result<(), Failure> {
    let part = part.max(1);
    let parts = source.chunks(part).zip(target.chunks_mut(part));
    each_on_its_thread(parts, |(from, to)| to.copy_from_slice(from))
}

/// Does `work` on every part, each on a thread of its own. Fewer threads than
/// parts would be another measurement: it fails instead.
pub(super) fn each_on_its_thread<T: Send>(
    parts: impl Iterator<Item = T>,
    work: impl Fn(T) + Sync,
) -> Result<(), Failure> {
    let work = &work;
    std::thread::scope(|scope| {
        for part in parts {
            let thread = std::thread::Builder::new();
            let started = thread.spawn_scoped(scope, move || work(part));
            started.map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
        }
        Ok(())
    })
}

/// A file of the plan's size in the page cache; removed when dropped.
pub(super) struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    /// Writes it.
    pub(super) fn new(plan: &Plan) -> Result<Self, Failure> {
        let name = format!("vram-bench-{}", std::process::id());
        let path = environment::temporary_directory().join(name);
        let mut options = File::options();
        let created = options.read(true).write(true).create_new(true).open(&path);
        let failed = |path: &Path, error: std::io::Error| {
            Failure::new(format!("cannot use {}: {error}", path.display()))
                .hint("--size-mib makes the file smaller, TMPDIR puts it elsewhere")
        };
        let file = created.map_err(|error| failed(&path, error))?;
        let scratch = Self { path, file };
        let written = fill(&scratch.file, plan.bytes);
        written.map_err(|error| failed(&scratch.path, error))?;
        Ok(scratch)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Reads and digests from the page cache: the file was just written.
pub(super) fn file(plan: &Plan, scratch: &Scratch, show: Show<'_>) -> Result<(), Failure> {
    let mut rows = turns(plan, "file read, cached", |team| {
        timed(|| read_file(&scratch.file, plan.bytes, team))
    });
    rows.extend(turns(plan, "digest of a file, cached", |team| {
        timed(|| Ok(crate::measure::file(scratch.path(), team, &|_| {})?))
    }));
    in_turn(plan.runs, rows)?.into_iter().try_for_each(show)
}

fn fill(mut file: &File, bytes: usize) -> std::io::Result<()> {
    let chunk = vec![0xA5; READ];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(READ);
        file.write_all(chunk.get(..now).unwrap_or_default())?;
        left = left.saturating_sub(now);
    }
    Ok(())
}

/// Reads a file on `team` threads.
pub(super) fn read_file(file: &File, bytes: usize, team: NonZeroUsize) -> Result<(), Failure> {
    let part = bytes.div_ceil(team.get()).next_multiple_of(READ);
    let failed = Mutex::new(None);
    let starts = (0..bytes).step_by(part.max(1));
    each_on_its_thread(starts, |start| {
        let len = part.min(bytes.saturating_sub(start));
        if let Err(error) = read_part(file, start, len) {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    })?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |error| {
        Err(Failure::new(format!("cannot read the file: {error}")))
    })
}

fn read_part(file: &File, start: usize, len: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; READ];
    let end = start.saturating_add(len);
    for at in (start..end).step_by(READ) {
        let want = end.saturating_sub(at).min(READ);
        file.read_exact_at(buffer.get_mut(..want).unwrap_or_default(), at as u64)?;
        black_box(&buffer);
    }
    Ok(())
}
