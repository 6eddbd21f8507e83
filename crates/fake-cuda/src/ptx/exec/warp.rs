//! One warp: lanes in lock-step, divergence by lowest program counter first.

use super::collective::{self, together};
use super::lanes::lanes_of;
use super::mem::Frame;
use super::regs::Regs;
use super::{Block, Raise, alu, select};
use crate::ptx::decode::Code;
use crate::ptx::error::FaultKind;
use crate::ptx::inst::{Inst, Kind, Width};

/// Which lanes run the current instruction, and which have not exited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    pub(super) mask: u32,
    pub(super) live: u32,
}

/// Why a warp stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Waits at the block barrier of this number.
    Barrier(u32),
    Done,
}

/// What an instruction does to the flow.
enum Flow {
    Next,
    /// These lanes go there, the others go on.
    Jump(u32, u32),
    /// Every lane goes its own way; program counters are set.
    Scatter,
    Exit(u32),
    Barrier(u32),
}

pub(super) struct Warp {
    pub(super) index: u32,
    pub(super) regs: Regs,
    local: Vec<u8>,
    pcs: [u32; 32],
    live: u32,
    active: u32,
    pc: u32,
    /// Lowest program counter among live lanes that are not active.
    others: u32,
    epoch: u32,
}

impl Warp {
    pub(super) fn new(index: u32, lanes: u32, regs: Regs, local: Vec<u8>) -> Warp {
        Warp {
            index,
            regs,
            local,
            pcs: [0; 32],
            live: lanes,
            active: lanes,
            pc: 0,
            others: u32::MAX,
            epoch: 0,
        }
    }

    /// Hands the storage back for the next warp.
    pub(super) fn into_storage(self) -> (Regs, Vec<u8>) {
        (self.regs, self.local)
    }

    /// The first active lane and the line it is at, for fault messages.
    pub(super) fn position(&self, code: &Code) -> (u32, u32) {
        let inst = code.insts.get(self.pc as usize);
        (
            inst.map_or(0, |i| i.line),
            self.active.trailing_zeros().min(31),
        )
    }

    /// Runs until the warp waits at a block barrier or all its lanes have exited.
    pub(super) fn run(&mut self, code: &Code, block: &mut Block<'_>) -> Result<Pause, Raise> {
        loop {
            if self.pc >= self.others || self.active == 0 {
                self.park();
                if !self.pick() {
                    return Ok(Pause::Done);
                }
            }
            if block.budget == 0 {
                return Err(Raise::here(FaultKind::Timeout(block.limit)));
            }
            block.budget = block.budget.wrapping_sub(1);
            let Some(inst) = code.insts.get(self.pc as usize) else {
                return Err(Raise::here(FaultKind::Trap));
            };
            match self.step(inst, block)? {
                Flow::Next => self.pc = self.pc.wrapping_add(1),
                Flow::Jump(taken, target) => self.jump(taken, target),
                Flow::Scatter => {
                    self.active = 0;
                    self.others = 0;
                }
                Flow::Exit(gone) => {
                    self.live &= !gone;
                    self.active &= !gone;
                    self.pc = self.pc.wrapping_add(1);
                }
                Flow::Barrier(id) => {
                    self.pc = self.pc.wrapping_add(1);
                    return Ok(Pause::Barrier(id));
                }
            }
        }
    }

    /// Writes the program counter of the active lanes down.
    fn park(&mut self) {
        for lane in lanes_of(self.active) {
            if let Some(pc) = self.pcs.get_mut(lane) {
                *pc = self.pc;
            }
        }
    }

    /// Activates the live lanes with the lowest program counter; false: none is left.
    fn pick(&mut self) -> bool {
        let at = |lane: usize| self.pcs.get(lane).copied().unwrap_or(u32::MAX);
        let Some(lowest) = lanes_of(self.live).map(at).min() else {
            return false;
        };
        let active = lanes_of(self.live)
            .filter(|&l| at(l) == lowest)
            .fold(0, |m, l| m | 1 << l);
        let others = lanes_of(self.live & !active).map(at).min();
        self.pc = lowest;
        self.active = active;
        self.others = others.unwrap_or(u32::MAX);
        true
    }

    fn jump(&mut self, taken: u32, target: u32) {
        if taken == self.active {
            self.pc = target;
            return;
        }
        self.pc = self.pc.wrapping_add(1);
        if taken == 0 {
            return;
        }
        self.active &= !taken;
        for lane in lanes_of(taken) {
            if let Some(pc) = self.pcs.get_mut(lane) {
                *pc = target;
            }
        }
        self.others = self.others.min(target);
    }

    fn step(&mut self, inst: &Inst, block: &mut Block<'_>) -> Result<Flow, Raise> {
        let guard = inst.guard.map_or(u32::MAX, |g| self.regs.pred_src(g));
        let mask = self.active & guard;
        if mask == 0 {
            return Ok(Flow::Next);
        }
        if alu::run(&mut self.regs, &inst.kind, mask)
            || select::run(&mut self.regs, &inst.kind, mask)
        {
            return Ok(Flow::Next);
        }
        self.flow(inst, block, mask)
    }

    fn flow(&mut self, inst: &Inst, block: &mut Block<'_>, mask: u32) -> Result<Flow, Raise> {
        let who = Active {
            mask,
            live: self.live,
        };
        let mut frame = Frame {
            local: &mut self.local,
            first_thread: u16::try_from(self.index.saturating_mul(32)).unwrap_or(u16::MAX),
            warp_epoch: self.epoch,
        };
        match inst.kind {
            Kind::Ld {
                space,
                ty,
                ref dst,
                addr,
            } => {
                frame.load(&mut self.regs, block, (space, ty, addr), dst, mask)?;
            }
            Kind::St {
                space,
                ty,
                ref src,
                addr,
            } => {
                frame.store(&self.regs, block, (space, ty, addr), src, mask)?;
            }
            Kind::Atom(ref atom) => frame.atomic(&mut self.regs, block, atom, mask)?,
            Kind::Bra { target } => return Ok(Flow::Jump(mask, target)),
            Kind::Brx { index, ref targets } => return self.scatter(index, targets, mask),
            Kind::Exit => return Ok(Flow::Exit(mask)),
            Kind::Trap => return Err(Raise::here(FaultKind::Trap)),
            Kind::Nop => {}
            Kind::Bar { id } => return self.barrier(id, who),
            Kind::BarWarp { mask: named } => {
                together(&self.regs, named, who, "bar.warp.sync")?;
                self.epoch = self.epoch.wrapping_add(1);
            }
            ref kind => {
                if !collective::run(&mut self.regs, kind, who)? {
                    return Err(Raise::here(FaultKind::Trap));
                }
            }
        }
        Ok(Flow::Next)
    }

    fn barrier(&self, id: u32, who: Active) -> Result<Flow, Raise> {
        if who.mask != self.live {
            let kind = FaultKind::Divergent {
                what: "bar.sync",
                active: who.mask,
                expected: self.live,
            };
            return Err(Raise::here(kind));
        }
        let ids = self.regs.get_any(crate::ptx::inst::Reg {
            width: Width::W32,
            slot: id,
        });
        let mut named = lanes_of(who.mask).filter_map(|l| ids.get(l).copied());
        let first = named.next().unwrap_or(0);
        if first > 15 || named.any(|other| other != first) {
            let kind = FaultKind::Divergent {
                what: "bar.sync number",
                active: who.mask,
                expected: self.live,
            };
            return Err(Raise::here(kind));
        }
        Ok(Flow::Barrier(first as u32))
    }

    fn scatter(&mut self, index: u32, targets: &[u32], mask: u32) -> Result<Flow, Raise> {
        let next = self.pc.wrapping_add(1);
        let choice = *self.regs.get::<u32>(index);
        for lane in lanes_of(self.active) {
            let chosen = choice
                .get(lane)
                .and_then(|&i| targets.get(i as usize))
                .copied();
            let target = match (mask >> lane & 1, chosen) {
                (0, _) => next,
                (_, Some(target)) => target,
                (_, None) => return Err(Raise::at(FaultKind::Trap, lane)),
            };
            if let Some(pc) = self.pcs.get_mut(lane) {
                *pc = target;
            }
        }
        Ok(Flow::Scatter)
    }
}
