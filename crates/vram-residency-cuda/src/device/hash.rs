//! Block hashes and keyed tags of bytes that lie on the device.

use std::ops::Range;

use vram_digest::{BLOCK_BYTES, BlockHash, HASH_BYTES, nh};
use vram_residency::device::{DeviceError, Extent};

use super::buffer::Buffer;
use super::convert::out_of_range;
use super::kernels::Kernels;
use super::lane::Lane;
use super::lanes::{Lanes, RUNS};
use super::launch::Run;

/// Bytes whose block hashes fill one block of the level above.
const GROUP_BYTES: usize = BLOCK_BYTES / HASH_BYTES * BLOCK_BYTES;
/// Keys that one launch takes.
const KEYS_PER_LAUNCH: usize = 2;

/// SHA-256 of blocks `blocks` of the extent, into `out`.
pub(crate) fn block_digests(
    (lanes, kernels): (&Lanes, &Kernels),
    buffer: &Buffer,
    extent: Extent,
    blocks: Range<u64>,
    out: &mut [BlockHash],
) -> Result<(), DeviceError> {
    let block = BLOCK_BYTES as u64;
    let total = extent.len.div_ceil(block);
    let count = blocks.end.saturating_sub(blocks.start);
    if blocks.end > total || count != out.len() as u64 || blocks.start > blocks.end {
        return Err(out_of_range(blocks.start, count, total));
    }
    let start = blocks.start.saturating_mul(block);
    let len = blocks
        .end
        .saturating_mul(block)
        .min(extent.len)
        .saturating_sub(start);
    let whole = buffer.part(extent, start, len)?;
    let _open = buffer.open()?;
    let per_launch = (lanes.room() / HASH_BYTES).max(1);
    let jobs = out
        .chunks_mut(per_launch)
        .zip(pieces(whole, per_launch, BLOCK_BYTES));
    let jobs: Vec<_> = jobs.collect();
    let queue = |lane: &mut Lane, (_, run): &mut (&mut [BlockHash], Run)| {
        let staged = lane.stage_hashes(*run)?;
        lane.queue_control(&[&staged])?;
        // SAFETY: the gate is held open until the pipeline has waited for every lane.
        unsafe { lane.queue_hashes(kernels, &staged) }?;
        lane.queue_results(staged.results())
    };
    lanes.pipeline(jobs.into_iter(), queue, |lane, (out, _)| {
        lane.take_hashes(0, out)
    })
}

/// Root of the SHA-256 tree over the extent. The device hashes the blocks and
/// the level above, so that one byte in 16384 comes to the host.
pub(crate) fn tree_root(
    (lanes, kernels): (&Lanes, &Kernels),
    buffer: &Buffer,
    extent: Extent,
) -> Result<BlockHash, DeviceError> {
    let blocks = extent.len.div_ceil(BLOCK_BYTES as u64);
    if blocks <= 1 {
        let mut only = vec![[0; HASH_BYTES]; usize::from(blocks == 1)];
        block_digests((lanes, kernels), buffer, extent, 0..blocks, &mut only)?;
        return Ok(vram_digest::root(&only));
    }
    let whole = buffer.part(extent, 0, extent.len)?;
    let _open = buffer.open()?;
    let groups = whole.items(GROUP_BYTES);
    let refused = |_| DeviceError::HostOutOfMemory { requested: groups };
    let mut level = vec![[0; HASH_BYTES]; usize::try_from(groups).map_err(refused)?];
    // Each group takes its 128 hashes and one more of the room.
    let per_launch = (lanes.room() / (BLOCK_BYTES + HASH_BYTES)).max(1);
    let jobs: Vec<_> = level
        .chunks_mut(per_launch)
        .zip(pieces(whole, per_launch, GROUP_BYTES))
        .map(|(out, run)| (out, run, 0))
        .collect();
    let queue = |lane: &mut Lane, job: &mut (&mut [BlockHash], Run, usize)| {
        let (blocks, groups) = lane.stage_groups(job.1)?;
        job.2 = groups.results().start;
        lane.queue_control(&[&blocks, &groups])?;
        // SAFETY: the gate is held open until the pipeline has waited for every lane.
        unsafe { lane.queue_hashes(kernels, &blocks) }?;
        // SAFETY: it hashes the lane's own results, in the lane's own stream.
        unsafe { lane.queue_hashes(kernels, &groups) }?;
        lane.queue_results(groups.results())
    };
    lanes.pipeline(jobs.into_iter(), queue, |lane, (out, _, at)| {
        lane.take_hashes(at, out)
    })?;
    Ok(vram_digest::root(&level))
}

/// Tags of the listed segments under each key, all keys of a segment together.
pub(crate) fn keyed_tags(
    (lanes, kernels): (&Lanes, &Kernels),
    buffer: &Buffer,
    extent: Extent,
    segments: &[u64],
    keys: &[&nh::Key],
) -> Result<Vec<nh::Tag>, DeviceError> {
    let total = extent.len.div_ceil(nh::SEGMENT_BYTES as u64);
    if let Some(outside) = segments.iter().find(|segment| **segment >= total) {
        return Err(out_of_range(*outside, 1, total));
    }
    if keys.len() > KEYS_PER_LAUNCH {
        return Err(out_of_range(0, keys.len() as u64, KEYS_PER_LAUNCH as u64));
    }
    let mut tags = vec![nh::Tag::ZERO; segments.len().saturating_mul(keys.len())];
    if tags.is_empty() {
        return Ok(tags);
    }
    let _open = buffer.open()?;
    // Who waits for the device waits for a launch, so none takes long.
    let per_launch = (lanes.room() / (KEYS_PER_LAUNCH * nh::TAG_BYTES)).clamp(1, RUNS);
    let mut jobs = Vec::new();
    let (mut left, mut places) = (segments, tags.as_mut_slice());
    while !left.is_empty() {
        let (count, runs) = gather(buffer, extent, left, per_launch)?;
        let (mine, rest) = places.split_at_mut(count.saturating_mul(keys.len()).min(places.len()));
        jobs.push((mine, runs));
        places = rest;
        left = left.get(count..).unwrap_or_default();
    }
    let queue = |lane: &mut Lane, (_, runs): &mut (&mut [nh::Tag], Vec<Run>)| {
        let staged = lane.stage_tags(runs, keys, 0)?;
        lane.queue_control(&[&staged])?;
        // SAFETY: the gate is held open until the pipeline has waited for every lane.
        unsafe { lane.queue_tags(kernels, &staged) }?;
        lane.queue_results(staged.results())
    };
    lanes.pipeline(jobs.into_iter(), queue, |lane, (out, _)| {
        lane.take_tags(0, out)
    })?;
    Ok(tags)
}

/// Runs of neighbouring segments from the front of `segments`, as many as one
/// launch takes, and how many segments they hold (at least one).
fn gather(
    buffer: &Buffer,
    extent: Extent,
    segments: &[u64],
    most: usize,
) -> Result<(usize, Vec<Run>), DeviceError> {
    let unit = nh::SEGMENT_BYTES as u64;
    let mut runs: Vec<Run> = Vec::new();
    let mut count = 0_usize;
    let mut next = None;
    for segment in segments.iter().take(most) {
        let start = segment.saturating_mul(unit);
        let len = extent.len.saturating_sub(start).min(unit);
        let full = runs.len() == RUNS;
        match runs.last_mut() {
            Some(run) if next == Some(*segment) => run.len = run.len.saturating_add(len),
            _ if full => break,
            _ => runs.push(buffer.part(extent, start, len)?),
        }
        next = segment.checked_add(1);
        count = count.saturating_add(1);
    }
    Ok((count, runs))
}

/// Cuts a run into pieces of `per_launch` units of `unit` bytes.
pub(super) fn pieces(whole: Run, per_launch: usize, unit: usize) -> impl Iterator<Item = Run> {
    let step = (per_launch.saturating_mul(unit) as u64).max(1);
    (0..whole.len.div_ceil(step)).map(move |turn| {
        let offset = turn.saturating_mul(step);
        Run {
            at: whole.at.offset(offset),
            len: whole.len.saturating_sub(offset).min(step),
        }
    })
}
