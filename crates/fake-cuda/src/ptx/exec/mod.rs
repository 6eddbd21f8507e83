//! The interpreter: a grid of blocks, block after block, warp after warp.

mod alu;
mod collective;
mod lanes;
mod mem;
mod regs;
mod select;
mod shared;
mod warp;

#[cfg(test)]
mod tests;

use regs::Regs;
use shared::Shared;
use warp::{Pause, Warp};

use super::decode::Code;
use super::error::{Fault, FaultKind};
use super::inst::{Constant, Special, Width};
use super::memory::GlobalMemory;
use super::module::Launch;
use lanes::{Lanes, WARP};

/// Generic addresses from here on point into the block's shared memory.
pub(crate) const SHARED_WINDOW: u64 = 0xffff_f000_0000_0000;
/// Generic addresses from here to the shared window point into local memory.
pub(crate) const LOCAL_WINDOW: u64 = 0xffff_e000_0000_0000;
/// Generic addresses from here to the local window point into constant memory.
pub(crate) const CONST_WINDOW: u64 = 0xffff_d000_0000_0000;

/// A fault of one lane, before the place is known.
#[derive(Debug)]
pub(super) struct Raise {
    kind: FaultKind,
    lane: Option<usize>,
}

impl Raise {
    fn at(kind: FaultKind, lane: usize) -> Raise {
        Raise {
            kind,
            lane: Some(lane),
        }
    }

    fn here(kind: FaultKind) -> Raise {
        Raise { kind, lane: None }
    }
}

/// What the warps of a block share.
pub(super) struct Block<'a> {
    memory: &'a mut dyn GlobalMemory,
    shared: Shared,
    constant: &'a [u8],
    params: &'a [u8],
    /// Block barriers so far, over all blocks of the launch.
    epoch: u32,
    budget: u64,
    limit: u64,
}

/// Everything that one launch needs besides memory.
pub(super) struct Job<'a> {
    pub(super) code: &'a Code,
    pub(super) launch: &'a Launch<'a>,
    pub(super) constant: &'a [u8],
    pub(super) global_base: u64,
}

/// Runs the whole grid; the number of warp instructions executed.
pub(super) fn run(job: &Job<'_>, memory: &mut dyn GlobalMemory) -> Result<u64, Fault> {
    let launch = job.launch;
    let shared = job
        .code
        .static_shared
        .saturating_add(u64::from(launch.shared_bytes));
    let mut block = Block {
        memory,
        shared: Shared::new(usize::try_from(shared).unwrap_or(0)),
        constant: job.constant,
        params: launch.params,
        epoch: 0,
        budget: launch.instruction_limit,
        limit: launch.instruction_limit,
    };
    let mut pool = Vec::new();
    let [nx, ny, nz] = launch.grid;
    for z in 0..nz {
        for y in 0..ny {
            for x in 0..nx {
                run_block(job, [x, y, z], &mut block, &mut pool)?;
            }
        }
    }
    Ok(launch.instruction_limit.wrapping_sub(block.budget))
}

type Storage = (Regs, Vec<u8>);

/// Runs every warp to its next barrier, again and again until all are done.
/// A warp gets its registers when it first runs and gives them back at its end,
/// so without barriers one set of registers stays hot.
fn run_block(
    job: &Job<'_>,
    at: [u32; 3],
    block: &mut Block<'_>,
    pool: &mut Vec<Storage>,
) -> Result<(), Fault> {
    block.shared.refresh();
    block.epoch = block.epoch.wrapping_add(1);
    let threads: u32 = job.launch.block.iter().product();
    let mut waiting = Vec::new();
    let mut barrier = None;
    for index in 0..threads.div_ceil(WARP) {
        let storage = pool.pop();
        let warp = start(job, at, index, threads, storage);
        run_warp(job, at, warp, block, &mut waiting, &mut barrier, pool)?;
    }
    while !waiting.is_empty() {
        block.epoch = block.epoch.wrapping_add(1);
        barrier = None;
        for warp in std::mem::take(&mut waiting) {
            run_warp(job, at, warp, block, &mut waiting, &mut barrier, pool)?;
        }
    }
    Ok(())
}

fn run_warp(
    job: &Job<'_>,
    at: [u32; 3],
    mut warp: Warp,
    block: &mut Block<'_>,
    waiting: &mut Vec<Warp>,
    barrier: &mut Option<u32>,
    pool: &mut Vec<Storage>,
) -> Result<(), Fault> {
    let fault = |warp: &Warp, raise: Raise| {
        let (line, first) = warp.position(job.code);
        let lane = raise
            .lane
            .and_then(|l| u32::try_from(l).ok())
            .unwrap_or(first);
        Fault {
            kind: raise.kind,
            line,
            block: at,
            warp: warp.index,
            lane,
        }
    };
    match warp.run(job.code, block) {
        Err(raise) => Err(fault(&warp, raise)),
        Ok(Pause::Done) => {
            pool.push(warp.into_storage());
            Ok(())
        }
        Ok(Pause::Barrier(id)) => {
            if barrier.get_or_insert(id) != &id {
                let what = "bar.sync: warps wait at different barriers";
                let kind = FaultKind::Divergent {
                    what,
                    active: id,
                    expected: barrier.unwrap_or(id),
                };
                return Err(fault(&warp, Raise::here(kind)));
            }
            waiting.push(warp);
            Ok(())
        }
    }
}

fn start(job: &Job<'_>, at: [u32; 3], index: u32, threads: u32, storage: Option<Storage>) -> Warp {
    let local = usize::try_from(job.code.local_bytes)
        .unwrap_or(0)
        .saturating_mul(32);
    let (mut regs, mut memory) = storage.unwrap_or_else(|| (Regs::new(job.code), vec![0; local]));
    memory.fill(0xcd);
    regs.reset(job.code);
    let first = index.saturating_mul(WARP);
    let lanes = match threads.saturating_sub(first) {
        n if n >= WARP => u32::MAX,
        n => 1_u32.checked_shl(n).unwrap_or(0).wrapping_sub(1),
    };
    for &(width, slot, constant) in &job.code.constants {
        let reg = super::inst::Reg { width, slot };
        let value = match constant {
            Constant::Bits(bits) => [bits; 32],
            Constant::Global(offset) => [job.global_base.wrapping_add(offset); 32],
            Constant::Special(special) => specials(job, at, index, special).map(u64::from),
        };
        debug_assert!(width != Width::W16 || value.iter().all(|v| *v <= 0xffff));
        regs.set_any(reg, &value, u32::MAX);
    }
    Warp::new(index, lanes, regs, memory)
}

/// The value of a special register in every lane.
fn specials(job: &Job<'_>, at: [u32; 3], warp: u32, special: Special) -> Lanes<u32> {
    let launch = job.launch;
    let axis = |v: [u32; 3], i: usize| v.get(i).copied().unwrap_or(0);
    let shared = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let per_lane = |f: &dyn Fn(u32) -> u32| {
        let mut out = [0; 32];
        for (lane, place) in (0..WARP).zip(&mut out) {
            *place = f(lane);
        }
        out
    };
    match special {
        Special::Tid(i) => per_lane(&|lane| {
            let thread = warp.saturating_mul(WARP).saturating_add(lane);
            let [x, y, _] = launch.block;
            let row = thread.checked_div(x).unwrap_or(0);
            axis(
                [
                    thread.checked_rem(x).unwrap_or(0),
                    row.checked_rem(y).unwrap_or(0),
                    row.checked_div(y).unwrap_or(0),
                ],
                i,
            )
        }),
        Special::Ntid(i) => [axis(launch.block, i); 32],
        Special::Ctaid(i) => [axis(at, i); 32],
        Special::Nctaid(i) => [axis(launch.grid, i); 32],
        Special::LaneId => per_lane(&|lane| lane),
        Special::WarpId => [warp; 32],
        Special::NumWarps => [launch.block.iter().product::<u32>().div_ceil(WARP); 32],
        Special::LaneMaskEq => per_lane(&|lane| 1 << lane),
        Special::LaneMaskLe => per_lane(&|lane| u32::MAX >> 31_u32.wrapping_sub(lane)),
        Special::LaneMaskLt => per_lane(&|lane| (1_u32 << lane).wrapping_sub(1)),
        Special::LaneMaskGe => per_lane(&|lane| u32::MAX << lane),
        Special::LaneMaskGt => per_lane(&|lane| u32::MAX << lane << 1),
        Special::WarpSize => [WARP; 32],
        Special::DynamicSharedSize => [launch.shared_bytes; 32],
        Special::TotalSharedSize => {
            [shared(
                job.code
                    .static_shared
                    .saturating_add(u64::from(launch.shared_bytes)),
            ); 32]
        }
    }
}
