//! Loads, stores and atomics of one warp.

use super::lanes::{Lanes, Word, lanes_of};
use super::regs::Regs;
use super::select::window_of;
use super::shared::Toucher;
use super::{Block, CONST_WINDOW, LOCAL_WINDOW, Raise, SHARED_WINDOW};
use crate::ptx::error::{Access, FaultKind, MemoryError};
use crate::ptx::inst::{Addr, Atom, AtomOp, Reg, Space, Ty, Width};

/// What one warp adds to the block's memories.
pub(super) struct Frame<'a> {
    /// Local memory of the 32 lanes, one after the other.
    pub(super) local: &'a mut [u8],
    /// First thread of the warp in its block.
    pub(super) first_thread: u16,
    pub(super) warp_epoch: u32,
}

/// Largest access of one lane.
const MAX_ACCESS: usize = 16;

fn addresses(r: &Regs, addr: Addr) -> Lanes<u64> {
    r.get_any(addr.base)
        .map(|a| a.wrapping_add_signed(addr.offset))
}

fn bytes_of(ty: Ty, count: usize) -> usize {
    (ty.bytes() as usize).saturating_mul(count).min(MAX_ACCESS)
}

impl Frame<'_> {
    fn toucher(&self, lane: usize, block: &Block<'_>) -> Toucher {
        let lane = u16::try_from(lane).unwrap_or(0);
        Toucher {
            thread: self.first_thread.saturating_add(lane),
            block_epoch: block.epoch,
            warp_epoch: self.warp_epoch,
        }
    }

    pub(super) fn load(
        &mut self,
        r: &mut Regs,
        block: &mut Block<'_>,
        (space, ty, addr): (Space, Ty, Addr),
        dst: &[Option<Reg>],
        mask: u32,
    ) -> Result<(), Raise> {
        let len = bytes_of(ty, dst.len());
        let at = addresses(r, addr);
        let mut values = [[0_u64; 32]; 4];
        for lane in lanes_of(mask) {
            let mut buf = [0_u8; MAX_ACCESS];
            let Some(out) = buf.get_mut(..len) else {
                continue;
            };
            let addr = at.get(lane).copied().unwrap_or(0);
            self.read(block, space, lane, addr, out)
                .map_err(|kind| Raise::at(kind, lane))?;
            for (column, chunk) in values.iter_mut().zip(out.chunks_exact(ty.bytes() as usize)) {
                if let Some(place) = column.get_mut(lane) {
                    *place = extend(chunk, ty);
                }
            }
        }
        for (reg, column) in dst.iter().zip(&values) {
            if let Some(reg) = reg {
                r.set_any(*reg, column, mask);
            }
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        r: &Regs,
        block: &mut Block<'_>,
        (space, ty, addr): (Space, Ty, Addr),
        src: &[Reg],
        mask: u32,
    ) -> Result<(), Raise> {
        let len = bytes_of(ty, src.len());
        let at = addresses(r, addr);
        let mut columns = [[0_u64; 32]; 4];
        for (column, reg) in columns.iter_mut().zip(src) {
            *column = r.get_any(*reg);
        }
        for lane in lanes_of(mask) {
            let mut buf = [0_u8; MAX_ACCESS];
            for (column, chunk) in columns
                .iter()
                .zip(buf.chunks_exact_mut(ty.bytes() as usize))
            {
                let value = column.get(lane).copied().unwrap_or(0).to_le_bytes();
                for (o, v) in chunk.iter_mut().zip(value) {
                    *o = v;
                }
            }
            let addr = at.get(lane).copied().unwrap_or(0);
            let bytes = buf.get(..len).unwrap_or(&[]);
            self.write(block, space, lane, addr, bytes)
                .map_err(|kind| Raise::at(kind, lane))?;
        }
        Ok(())
    }

    pub(super) fn atomic(
        &mut self,
        r: &mut Regs,
        block: &mut Block<'_>,
        atom: &Atom,
        mask: u32,
    ) -> Result<(), Raise> {
        let at = addresses(r, atom.addr);
        let reg = |slot| Reg {
            width: atom.w,
            slot,
        };
        let b = r.get_any(reg(atom.b));
        let c = atom.c.map_or([0; 32], |c| r.get_any(reg(c)));
        let mut old = [0_u64; 32];
        for lane in lanes_of(mask) {
            let pick = |v: &Lanes<u64>| v.get(lane).copied().unwrap_or(0);
            let value = self
                .atomic_lane(block, atom, lane, pick(&at), (pick(&b), pick(&c)))
                .map_err(|kind| Raise::at(kind, lane))?;
            if let Some(place) = old.get_mut(lane) {
                *place = value;
            }
        }
        if let Some(d) = atom.d {
            r.set_any(reg(d), &old, mask);
        }
        Ok(())
    }

    fn atomic_lane(
        &mut self,
        block: &mut Block<'_>,
        atom: &Atom,
        lane: usize,
        addr: u64,
        operands: (u64, u64),
    ) -> Result<u64, FaultKind> {
        let (space, addr) = resolve(atom.space, addr);
        let len = atom.w.bytes() as usize;
        aligned(space, addr, len, Access::Atomic)?;
        let mut buf = [0_u8; 8];
        let bytes = buf.get_mut(..len).unwrap_or_default();
        match space {
            Space::Shared => block.shared.peek(addr, bytes)?,
            Space::Global => block
                .memory
                .read(addr, bytes)
                .map_err(|e| refused(e, Access::Atomic, addr, len))?,
            _ => return Err(outside(space, addr, len, Access::Atomic)),
        }
        let old = u64::from_le_bytes(buf);
        let new = combine(atom, old, operands).to_le_bytes();
        let bytes = new.get(..len).unwrap_or(&[]);
        if space == Space::Shared {
            block
                .shared
                .write(self.toucher(lane, block), addr, bytes, Access::Atomic)?;
        } else {
            block
                .memory
                .write(addr, bytes)
                .map_err(|e| refused(e, Access::Atomic, addr, len))?;
        }
        Ok(old)
    }

    fn read(
        &self,
        block: &mut Block<'_>,
        space: Space,
        lane: usize,
        addr: u64,
        out: &mut [u8],
    ) -> Result<(), FaultKind> {
        let (space, addr) = resolve(space, addr);
        let len = out.len();
        aligned(space, addr, len, Access::Read)?;
        let from = match space {
            Space::Global => {
                return block
                    .memory
                    .read(addr, out)
                    .map_err(|e| refused(e, Access::Read, addr, len));
            }
            Space::Shared => return block.shared.read(self.toucher(lane, block), addr, out),
            Space::Local => slice(self.lane_local(lane, addr, len)?, self.local),
            Space::Const => slice(span(addr, len), block.constant),
            _ => slice(span(addr, len), block.params),
        };
        let from = from.ok_or_else(|| outside(space, addr, len, Access::Read))?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn write(
        &mut self,
        block: &mut Block<'_>,
        space: Space,
        lane: usize,
        addr: u64,
        bytes: &[u8],
    ) -> Result<(), FaultKind> {
        let (space, addr) = resolve(space, addr);
        let len = bytes.len();
        aligned(space, addr, len, Access::Write)?;
        match space {
            Space::Global => block
                .memory
                .write(addr, bytes)
                .map_err(|e| refused(e, Access::Write, addr, len)),
            Space::Shared => {
                block
                    .shared
                    .write(self.toucher(lane, block), addr, bytes, Access::Write)
            }
            Space::Local => {
                let range = self.lane_local(lane, addr, len)?;
                let place = range.and_then(|r| self.local.get_mut(r));
                place
                    .ok_or_else(|| outside(space, addr, len, Access::Write))?
                    .copy_from_slice(bytes);
                Ok(())
            }
            _ => Err(FaultKind::Protected {
                access: Access::Write,
                addr,
                len: len as u32,
            }),
        }
    }

    /// Where a lane's local bytes lie in the warp's block of local memory.
    fn lane_local(
        &self,
        lane: usize,
        addr: u64,
        len: usize,
    ) -> Result<Option<std::ops::Range<usize>>, FaultKind> {
        let each = self.local.len() / 32;
        let range = span(addr, len).filter(|r| r.end <= each);
        let range = range.ok_or_else(|| outside(Space::Local, addr, len, Access::Read))?;
        let base = each.saturating_mul(lane);
        Ok(Some(
            range.start.saturating_add(base)..range.end.saturating_add(base),
        ))
    }
}

fn span(addr: u64, len: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(addr).ok()?;
    Some(start..start.checked_add(len)?)
}

fn slice(range: Option<std::ops::Range<usize>>, bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(range?)
}

/// A generic address becomes an address in the space that it points into.
fn resolve(space: Space, addr: u64) -> (Space, u64) {
    if space != Space::Generic {
        return (space, addr);
    }
    let space = window_of(addr);
    let base = match space {
        Space::Shared => SHARED_WINDOW,
        Space::Local => LOCAL_WINDOW,
        Space::Const => CONST_WINDOW,
        _ => 0,
    };
    (space, addr.wrapping_sub(base))
}

fn name(space: Space) -> &'static str {
    match space {
        Space::Generic => "generic",
        Space::Global => "global",
        Space::Shared => "shared",
        Space::Local => "local",
        Space::Const => "constant",
        Space::Param => "parameter",
    }
}

fn aligned(space: Space, addr: u64, len: usize, access: Access) -> Result<(), FaultKind> {
    if addr.is_multiple_of(len.max(1) as u64) {
        return Ok(());
    }
    Err(FaultKind::Misaligned {
        access,
        space: name(space),
        addr,
        len: len as u32,
    })
}

fn outside(space: Space, addr: u64, len: usize, access: Access) -> FaultKind {
    FaultKind::OutOfBounds {
        access,
        space: name(space),
        addr,
        len: len as u32,
    }
}

fn refused(error: MemoryError, access: Access, addr: u64, len: usize) -> FaultKind {
    match error {
        MemoryError::OutOfBounds => outside(Space::Global, addr, len, access),
        MemoryError::Protected => FaultKind::Protected {
            access,
            addr,
            len: len as u32,
        },
    }
}

fn extend(bytes: &[u8], ty: Ty) -> u64 {
    let mut word = [0_u8; 8];
    for (o, v) in word.iter_mut().zip(bytes) {
        *o = *v;
    }
    let value = u64::from_le_bytes(word);
    let drop = 64_u32.saturating_sub(ty.bits);
    if ty.signed() {
        ((value << drop).cast_signed() >> drop).cast_unsigned()
    } else {
        value
    }
}

fn combine(atom: &Atom, old: u64, operands: (u64, u64)) -> u64 {
    if atom.w == Width::W64 {
        combine_words(atom, old, operands)
    } else {
        let operands = (operands.0 as u32, operands.1 as u32);
        u64::from(combine_words(atom, old as u32, operands))
    }
}

fn combine_words<T: Word>(atom: &Atom, old: T, (b, c): (T, T)) -> T {
    match atom.op {
        AtomOp::Add => old.add(b),
        AtomOp::Min if b.less(old, atom.signed) => b,
        AtomOp::Max if old.less(b, atom.signed) => b,
        AtomOp::Min | AtomOp::Max => old,
        AtomOp::And => old.and(b),
        AtomOp::Or => old.or(b),
        AtomOp::Xor => old.xor(b),
        AtomOp::Exch => b,
        AtomOp::Cas if old == b => c,
        AtomOp::Cas => old,
        AtomOp::Inc if old >= b => T::default(),
        AtomOp::Inc => old.add(T::from_u64(1)),
        AtomOp::Dec if old == T::default() || old > b => b,
        AtomOp::Dec => old.sub(T::from_u64(1)),
    }
}
